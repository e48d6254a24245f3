"""`bench --check`: whether the plugin holds its budget, as far as the noise lets that be said."""

from __future__ import annotations

from dataclasses import fields

from scaffold.commands.bench.figures import Estimate, differences
from scaffold.commands.bench.report import NATIVE, PLUGIN, Benchmark, Verdict
from scaffold.errors import ProjectError, UsageError
from scaffold.project.budget import KEY, Budget, of_module, over_budget
from scaffold.project.crate import TABLE, Project
from scaffold.wasm.module import WasmFile

_OF_REQUESTS = ("request_", "tests")  # what the emulator measures
_MODULE = ("module_bytes", "initial_memory_bytes")


def budget_of(project: Project | None) -> Budget:
    """The budget to check. Raises `UsageError` without a project, `ProjectError` without a line to check."""
    if project is None:
        raise UsageError("--check needs a crate: its Cargo.toml has the budget", hint="pass --root")
    budget = project.settings.budget
    names = [each.name for each in fields(budget) if not each.name.startswith(_OF_REQUESTS)]
    if all(getattr(budget, name) is None for name in names):
        keys = ", ".join(name.replace("_", "-") for name in names)
        raise ProjectError(
            f"{project.name} has no budget that `bench` checks", hint=f"[{TABLE}.{KEY}]: {keys}"
        )
    return budget


def judge(budget: Budget, found: Benchmark, module: WasmFile) -> Verdict:
    """Every line that `bench` checks. What is measured is over its limit only if all of its range is."""
    exact = {each.key: str(each) for each in of_module(budget, module)}
    held, over, undecided = [], list(exact.values()), []
    for name in _MODULE:
        limit = getattr(budget, name)
        if limit is not None and name.replace("_", "-") not in exact:
            held.append(_line(name, limit))
    for name, measured in _measured(found).items():
        limit = getattr(budget, name)
        if limit is None or measured is None:
            continue
        low, median, high = (f"{each:,.1f}" for each in (measured.low, measured.median, measured.high))
        said = f"measured {median} ({low} to {high})"
        if measured.low > limit:
            (excess,) = over_budget(budget, **{name: measured.median})
            over.append(f"{excess}, and {low} at least")
        elif measured.high > limit:
            undecided.append(f"{_line(name, limit)}, {said}")
        else:
            held.append(f"{_line(name, limit)}, {said}")
    return Verdict(held, over, undecided)


def _measured(found: Benchmark) -> dict[str, Estimate | None]:
    """What was measured, by the names of the budget's fields."""
    native, plugin = found.side(NATIVE), found.side(PLUGIN)
    assert native and plugin  # noqa: S101 - every benchmark has both
    return {
        "cpu_over_native_us": differences(plugin.cpu_of_rounds, native.cpu_of_rounds),
        "peak_memory_bytes": plugin.memory_added,
    }


def _line(name: str, limit: float) -> str:
    return f"`{name.replace('_', '-')} = {limit:_}`"
