"""A module made to be measured: with counters, and with mutants if they are asked for."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from scaffold.errors import ModuleError
from scaffold.wasm import counters, rewrite, symbols
from scaffold.wasm.counters import Point
from scaffold.wasm.module import WasmFile
from scaffold.wasm.mutants import SWITCH, Finder, Mutant, with_mutants
from scaffold.wasm.own_code import Function, Sources, functions


@dataclass(frozen=True)
class Instrumented:
    """The new module, and what its counters are about: first the points, then the mutants."""

    content: bytes
    functions: Sequence[Function]
    points: Sequence[Point]
    mutants: Sequence[Mutant]


def instrument(module: WasmFile, sources: Sources, *, with_changes: bool) -> Instrumented:
    """Put counters into a module's own functions, and mutants if `with_changes`.

    Raises `ModuleError` if it has no names or lines, or code that we don't know.
    """
    try:
        return _instrument(module, sources, with_changes=with_changes)
    except ValueError as error:
        raise ModuleError(f"{module.path} can't be measured: {error}") from error


def _instrument(module: WasmFile, sources: Sources, *, with_changes: bool) -> Instrumented:
    own = functions(module, sources)
    file = WasmFile.parse(symbols.without_lines(module.content), Path(module.path))
    found = list(counters.points(own))
    memory = rewrite.next_memory(file)
    places = [each.step.begin for each in found]
    finder = Finder(module, sources) if with_changes else None
    mutants = finder.find(own) if finder else []
    places += [each.step.begin for each in mutants]
    edits = [counters.counting(at, number, memory) for number, at in enumerate(places)]
    edits += with_mutants(mutants, rewrite.next_global(file))
    with_room = rewrite.with_parts(
        WasmFile.parse(rewrite.with_bodies(file, rewrite.edited(file, edits)), file.path),
        types=finder.types if finder else (),
        memory=(counters.MEMORY, counters.SIZE * max(1, len(places))),
        switch=SWITCH if with_changes else "",
    )
    return Instrumented(with_room, own, found, mutants)
