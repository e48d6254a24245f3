"""The setting `budget`: what a plugin may cost at most, and where it costs more."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

from scaffold.errors import BudgetExceeded, ProjectError, nearest
from scaffold.wasm.module import WasmFile

KEY = "budget"  # in [package.metadata.proxy-wasm]
_HINT = "write a number above 0, such as `module-bytes = 100_000`"
_PAGE = 65_536  # bytes


@dataclass(frozen=True)
class Budget:
    """A limit for each figure that has one. A key of the table ends with its unit, as does a field here.

    `peak_memory_bytes` and `cpu_over_native_us` are measured by `scaffold bench`: the memory that the plugin
    adds to Envoy under load, and the CPU time per request that it adds beyond the native filter
    `header_mutation`.
    """

    module_bytes: int | None = None
    initial_memory_bytes: int | None = None
    peak_memory_bytes: int | None = None
    cpu_over_native_us: float | None = None

    @classmethod
    def parse(cls, value: Any, where: str) -> Self:
        """The setting in the table `where`. Raises `ProjectError` for a key or limit that can't be."""
        if not isinstance(value, dict):
            raise ProjectError(f"`{KEY}` in {where} is not a table", hint=_HINT)
        known = {_key(field.name): field.name for field in fields(cls)}
        for key, limit in value.items():
            if key not in known:
                raise ProjectError(f"unknown key `{key}` in `{KEY}` in {where}", hint=nearest(key, [*known]))
            whole = key.endswith("-bytes")
            if type(limit) not in ((int,) if whole else (int, float)) or not 0 < limit < math.inf:
                kind = "whole number" if whole else "number"
                raise ProjectError(f"`{key}` in `{KEY}` in {where} isn't a {kind} above 0", hint=_HINT)
        return cls(**{known[key]: limit for key, limit in value.items()})


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
        share = self.over / self.limit * 100
        return f"`{self.key} = {self.limit:_}` is exceeded by {over} ({share:.1f} %): it is {value}"


def over_budget(budget: Budget, **measured: float) -> list[Excess]:
    """The lines of a budget that don't hold, in its own order; `measured` has its fields' names."""
    pairs = [(field.name, getattr(budget, field.name)) for field in fields(budget) if field.name in measured]
    return [
        Excess(_key(name), limit, measured[name])
        for name, limit in pairs
        if limit is not None and measured[name] > limit
    ]


def of_module(budget: Budget, module: WasmFile) -> list[Excess]:
    """The lines that a module alone decides. They are exact: every machine finds the same."""
    pages = module.memory_pages
    return over_budget(budget, module_bytes=module.size, initial_memory_bytes=pages * _PAGE)


def refuse(found: Mapping[str, Sequence[Excess]]) -> None:
    """Raise `BudgetExceeded` if a plugin has lines that don't hold; `found` is by the plugin's name."""
    lines = {name: "; ".join(map(str, each)) for name, each in found.items() if each}
    over = [f"{name} is over its budget: {said}" for name, said in lines.items()]
    if over:
        hint = f"make it smaller, or raise the limit in [package.metadata.proxy-wasm.{KEY}] of Cargo.toml"
        raise BudgetExceeded("; ".join(over), hint=hint)


def _key(field: str) -> str:
    return field.replace("_", "-")
