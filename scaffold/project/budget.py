"""The setting `budget`: what a plugin may cost at most, and where it costs more."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import Any, Self

from scaffold.errors import BudgetExceeded, ProjectError, nearest
from scaffold.wasm.module import WasmFile

KEY = "budget"  # in [package.metadata.proxy-wasm]
_HINT = "write a number above 0, such as `module-bytes = 100_000`"
TESTS = "tests"
_HINT_OF_TESTS = f"write [package.metadata.proxy-wasm.{KEY}.{TESTS}.test_name], and `request-fuel = 10_000`"
_PAGE = 65_536  # bytes
_MANY_TIMES = 10  # from where on a share isn't told as a percentage


@dataclass(frozen=True)
class Budget:
    """A limit for each figure that has one. A key of the table ends with its unit, as does a field here.

    `peak_memory_bytes` and `cpu_over_native_us` are measured by `scaffold bench`: the memory that the plugin
    adds to Envoy under load, and the CPU time per request that it adds beyond the native filter
    `header_mutation`. What begins with `request_` is for each request of the tests on the emulator, which
    measures exactly: steps of wasm, calls between host and module, and bytes that they copy. `tests` has
    other limits for some of the tests, by the names of their functions.
    """

    module_bytes: int | None = None
    initial_memory_bytes: int | None = None
    peak_memory_bytes: int | None = None
    cpu_over_native_us: float | None = None
    request_fuel: int | None = None
    request_crossings: int | None = None
    request_copied_bytes: int | None = None
    tests: Mapping[str, Budget] = field(default_factory=dict)

    @classmethod
    def parse(cls, value: Any, where: str) -> Self:
        """The setting in the table `where`. Raises `ProjectError` for a key or limit that can't be."""
        if not isinstance(value, dict):
            raise ProjectError(f"`{KEY}` in {where} is not a table", hint=_HINT)
        tests = value.get(TESTS, {})
        if not isinstance(tests, dict):
            raise ProjectError(f"`{TESTS}` in `{KEY}` in {where} is not a table", hint=_HINT_OF_TESTS)
        limits = cls._limits({key: limit for key, limit in value.items() if key != TESTS}, KEY, where)
        by_test = {name: cls._of_test(name, each, where) for name, each in tests.items()}
        return cls(**limits, tests=by_test)

    @classmethod
    def _of_test(cls, name: str, value: Any, where: str) -> Self:
        """The limits of one test."""
        inside = f"{KEY}.{TESTS}.{name}"
        if not isinstance(value, dict):
            raise ProjectError(f"`{inside}` in {where} is not a table", hint=_HINT_OF_TESTS)
        return cls(**cls._limits(value, inside, where, only="request_"))

    @classmethod
    def _limits(cls, value: dict[str, Any], inside: str, where: str, only: str = "") -> dict[str, Any]:
        names = [each.name for each in fields(cls) if each.name != TESTS and each.name.startswith(only)]
        known = {_key(name): name for name in names}
        for key, limit in value.items():
            if key not in known:
                raise ProjectError(
                    f"unknown key `{key}` in `{inside}` in {where}", hint=nearest(key, [*known])
                )
            whole = not key.endswith("-us")
            if type(limit) not in ((int,) if whole else (int, float)) or not 0 < limit < math.inf:
                kind = "whole number" if whole else "number"
                raise ProjectError(f"`{key}` in `{inside}` in {where} isn't a {kind} above 0", hint=_HINT)
        return {known[key]: limit for key, limit in value.items()}

    def of_test(self, name: str) -> Budget:
        """The budget for a test: its own limits, and for the rest those of all."""
        own = self.tests.get(name)
        if own is None:
            return self
        limits = {each.name: getattr(own, each.name) for each in fields(own) if each.name != TESTS}
        return replace(self, **{name: limit for name, limit in limits.items() if limit is not None})


@dataclass(frozen=True)
class Excess:
    """A line of a budget that doesn't hold: its key, the limit, and what was measured."""

    key: str
    limit: float
    value: float

    @property
    def over(self) -> float:
        """By how much the value is too large."""
        return self.value - self.limit

    def __str__(self) -> str:
        value, over = (f"{each:,.1f}".removesuffix(".0") for each in (self.value, self.over))
        share = self.over / self.limit
        much = (
            f"{share:.1%}".replace("%", " %")
            if share < _MANY_TIMES
            else f"{self.value / self.limit:,.0f} times the limit"
        )
        return f"`{self.key} = {self.limit:_}` is exceeded by {over} ({much}): it is {value}"


def over_budget(budget: Budget, **measured: float) -> list[Excess]:
    """The lines of a budget that don't hold, in its own order; `measured` has its fields' names."""
    pairs = [(each.name, getattr(budget, each.name)) for each in fields(budget) if each.name in measured]
    return [
        Excess(_key(name), limit, measured[name])
        for name, limit in pairs
        if limit is not None and measured[name] > limit
    ]


def of_module(budget: Budget, module: WasmFile) -> list[Excess]:
    """The lines that a module alone decides. They are exact: every machine finds the same."""
    pages = module.memory_pages
    return over_budget(budget, module_bytes=module.size, initial_memory_bytes=pages * _PAGE)


def of_request(budget: Budget, *, fuel: int, crossings: int, copied_bytes: int) -> list[Excess]:
    """The lines that one request decides. They are exact, too."""
    return over_budget(
        budget, request_fuel=fuel, request_crossings=crossings, request_copied_bytes=copied_bytes
    )


def refuse(found: Mapping[str, Sequence[Excess]]) -> None:
    """Raise `BudgetExceeded` if a plugin has lines that don't hold; `found` is by the plugin's name."""
    lines = {name: "; ".join(map(str, each)) for name, each in found.items() if each}
    over = [f"{name} is over its budget: {said}" for name, said in lines.items()]
    if over:
        hint = f"make it smaller, or raise the limit in [package.metadata.proxy-wasm.{KEY}] of Cargo.toml"
        raise BudgetExceeded("; ".join(over), hint=hint)


def _key(name: str) -> str:
    return name.replace("_", "-")
