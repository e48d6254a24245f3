"""What instrumented modules have counted in this process, and which of their mutants are played."""

from __future__ import annotations

from array import array
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING, Any

from scaffold.wasm import counters, mutants

if TYPE_CHECKING:
    from scaffold.hosts.emulator.vm import Limits

Counts = dict[str, list[int]]  # by the module's digest


@dataclass
class Probe:
    """All VMs of this process report to one. `playing` is the mutant of a module, by its digest.

    `fuel` is the limit of a callback while mutants are played; `most_fuel` is what one has used so far, and
    `ran_out` whether one would have used more. A wait moves the clock forward if it `hurries`, instead of
    lasting.
    """

    playing: Mapping[str, int] = field(default_factory=dict)
    fuel: int = 0
    most_fuel: int = 0
    ran_out: bool = False
    hurries: bool = False
    _ended: Counts = field(default_factory=dict)
    _live: dict[int, tuple[str, Any, Any]] = field(default_factory=dict)

    def limited(self, limits: Limits) -> Limits:
        """The limits of a VM."""
        return replace(limits, fuel=min(self.fuel, limits.fuel)) if self.fuel else limits

    def attach(self, vm: object, module: str, exports: Mapping[str, Any], store: object) -> None:
        """A VM begins, whose module has that digest: its counters are read, its mutant is set."""
        if counters.MEMORY in exports:
            self._live[id(vm)] = module, exports[counters.MEMORY], store
        if mutants.SWITCH in exports and module in self.playing:
            exports[mutants.SWITCH].set_value(store, self.playing[module])

    def detach(self, vm: object, most_fuel: int) -> None:
        """A VM ends, while its memory can still be read."""
        self.most_fuel = max(self.most_fuel, most_fuel)
        if id(vm) in self._live:
            _add(self._ended, *_counted(*self._live.pop(id(vm))))

    def counts(self) -> Counts:
        """What the counters of all VMs say, those that have ended included."""
        found = {module: list(counts) for module, counts in self._ended.items()}
        for each in self._live.values():
            _add(found, *_counted(*each))
        return found

    def restore(self, counts: Counts) -> None:
        """Forget what has been counted since `counts`, and the VMs."""
        self._ended, self._live = counts, {}


PROBE = Probe()


def _counted(module: str, memory: Any, store: Any) -> tuple[str, list[int]]:
    return module, array("I", bytes(memory.read(store, 0, memory.data_len(store)))).tolist()


def _add(counts: Counts, module: str, more: list[int]) -> None:
    before = counts.get(module)
    counts[module] = [a + b for a, b in zip(before, more, strict=True)] if before else more
