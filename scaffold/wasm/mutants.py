"""Small changes to a plugin's own functions, each of which a good test notices.

All of them are in one module, which is compiled once; a global says which one is played, and with 0 the
plugin is as it was. What is changed is what the author can find again: each change belongs to a line, and
most to something that the line says.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field

from scaffold.wasm import rewrite
from scaffold.wasm.line_table import number
from scaffold.wasm.module import WasmFile
from scaffold.wasm.own_code import Function, Sources, Step
from scaffold.wasm.rewrite import Edit, written, written_signed
from scaffold.wasm.symbols import readable

SWITCH = "scaffold.mutant"  # the name under which the global is exported
_IF, _ELSE, _END, _BR_IF, _RETURN, _CALL, _DROP = 0x04, b"\x05", b"\x0b", 0x0D, b"\x0f", 0x10, b"\x1a"
_I32_CONST, _I64_CONST, _I32_ADD, _I32_SUB = 0x41, 0x42, 0x6A, 0x6B
_EQZ, _EQ, _NE, _XOR, _EXTEND, _I64_ADD = b"\x45", b"\x46", b"\x47", b"\x73", b"\xad", b"\x7c"
_I32, _I64, _F32, _F64 = 0x7F, 0x7E, 0x7D, 0x7C
# a comparison -> the one that differs from it at the bound, or the opposite of an equality
_BOUNDS = {0x48: 0x4C, 0x49: 0x4D, 0x4A: 0x4E, 0x4B: 0x4F, 0x53: 0x57, 0x54: 0x58, 0x55: 0x59, 0x56: 0x5A}
_BOUNDS |= {0x5D: 0x5F, 0x5E: 0x60, 0x63: 0x65, 0x64: 0x66}
_EQUALITIES = {0x46: 0x47, 0x51: 0x52, 0x5B: 0x5C, 0x61: 0x62}
_TURNED = {each: other for pair in (_BOUNDS | _EQUALITIES).items() for each, other in (pair, pair[::-1])}
_UNSIGNED_LESS = {0x49, 0x54}  # which also check an index
_OTHER_BOUND = {"<": "<=", "<=": "<", ">": ">=", ">=": ">"}
_EQUAL = {"==": "!=", "!=": "=="}

# what a line says that has a condition; an ordinary line may have one of the compiler's
_CONDITION = re.compile(r"\b(?:if|while|match|for|matches!)\b|\?|&&|\|\||=> |\.\.|==|!=| [<>]=? ")
_COMPARED = re.compile(r" (<=|>=|<|>|==|!=) ")
_LITERAL = re.compile(r"(?<![\w.\"])(0x[0-9a-fA-F_]+|[0-9][0-9_]*)(?:[iu](?:8|16|32|64|size))?(?![\w.\"])")
_QUOTED = re.compile(r'"(?:[^"\\]|\\.)*"')
_LEAST_LITERAL = 2  # 0 and 1 are everywhere in compiled code
_CALLBACK = re.compile(r"^<.+ as proxy_wasm::traits::\w*Context>::(on_\w+)$")
_YES = {"on_vm_start", "on_configure", "on_done"}  # what the SDK answers itself is `true`; else 0
# methods of the SDK that do something in the host and return nothing
_DOES = re.compile(
    r"proxy_wasm::(?:traits::\w+|hostcalls)(?:>)?::"
    r"((?:set|add|remove|send|resume|reset|close|clear|cancel|done)(?:_\w+)?)$"
)
_EQUALS = re.compile(r"PartialEq(?:<.*>)?>?::(eq|ne)$")
# in this order, so that the most telling ones are played if there isn't time for all
KINDS = ("callback", "call", "condition", "comparison", "constant")


@dataclass(frozen=True)
class Mutant:
    """One change: what it does, in which function, at which line. `edits` get its number.

    `number` is from 1 up.
    """

    kind: str
    what: str
    function: Function
    step: Step
    changed: tuple[int, int, int] = field(repr=False)  # begin, rank and end of what is replaced
    before: bytes = field(default=b"", repr=False)  # of the instructions that ask whether it is played
    after: bytes = field(default=b"", repr=False)

    def edit(self, number: int, switch: int) -> Edit:
        """The change to the code, in force while the global with the index `switch` is `number`."""
        begin, rank, end = self.changed
        asked = b"\x23" + written(switch) + b"\x41" + written_signed(number) + _EQ
        return Edit(begin, rank, end, self.before + asked + self.after)


class Finder:
    """Finds the mutants of a module. `types` are those that they need beside the module's own."""

    def __init__(self, module: WasmFile, sources: Sources) -> None:
        self._module, self._sources = module, sources
        self._own = rewrite.types(module)
        self._of_functions = rewrite.types_of_functions(module)
        self._code = next(each.body(module.content) for each in module.sections if each.kind == "code")
        self.types: list[bytes] = []

    def find(self, functions: Iterable[Function]) -> list[Mutant]:
        """Every mutant of the functions, the most telling kinds first."""
        found = [mutant for function in functions for mutant in self._of(function)]
        return sorted(found, key=lambda each: KINDS.index(each.kind))

    def _of(self, function: Function) -> Iterator[Mutant]:
        yield from self._callback(function)
        lines: set[tuple[str, int]] = set()  # those with a condition: what it compares need not change, too
        known: set[tuple[str, int, int]] = set()
        steps = function.steps
        for place, step in enumerate(steps):
            text = self._sources.text(step.file, step.line) if step.line else ""
            if not text or text.startswith("#"):
                continue
            if step.opcode in (_BR_IF, _IF) and _CONDITION.search(text):
                lines.add((step.file, step.line))
                yield _condition(function, step)
            elif step.opcode in (_I32_CONST, _I64_CONST):
                yield from self._constant(function, place, _QUOTED.sub("", text), known)
        for step in steps:
            text = self._sources.text(step.file, step.line) if step.line else ""
            if step.opcode in _TURNED and text:
                yield from self._comparison(function, step, text, (step.file, step.line) in lines)
            elif step.opcode == _CALL and text:
                yield from self._call(function, step)
                if (step.file, step.line) not in lines:
                    yield from self._equality(function, step, text)

    def _callback(self, function: Function) -> Iterator[Mutant]:
        named = _CALLBACK.match(function.name)
        results = self._results(self._of_functions[function.index])
        if not named or results not in (b"", bytes([_I32])):
            return
        first = function.steps[0]
        answer = b"\x41" + written(int(named[1] in _YES)) if results else b""
        what = f"`{named[1]}` does nothing"
        code = bytes([_IF, 0x40]) + answer + _RETURN + _END
        place = first.begin, -1, first.begin
        yield Mutant("callback", what, function, _at_line(first, function), place, after=code)

    def _constant(
        self, function: Function, place: int, text: str, known: set[tuple[str, int, int]]
    ) -> Iterator[Mutant]:
        step = function.steps[place]
        value, _ = number(self._code, step.begin + 1, signed=True)
        literals = {int(each.replace("_", ""), 0) for each in map(_digits, _LITERAL.findall(text))}
        key = step.file, step.line, value
        if value < _LEAST_LITERAL or value not in literals or key in known or self._is_place(function, place):
            return
        known.add(key)
        wide = step.opcode == _I64_CONST
        code = _EXTEND + _I64_ADD if wide else bytes([_I32_ADD])
        yield Mutant(
            "constant", f"`{value}` became {value + 1}", function, step, (step.end, -1, step.end), after=code
        )

    def _is_place(self, function: Function, place: int) -> bool:
        """Whether a constant is an offset in the function's frame, as far as that shows."""
        after = function.steps[place + 1].opcode if place + 1 < len(function.steps) else 0
        return after in (_I32_ADD, _I32_SUB) and self._value(function.steps[place]) < self._frame(function)

    def _frame(self, function: Function) -> int:
        """The size of a function's frame: what its first instructions take from the stack pointer."""
        constants = [each for each in function.steps[:4] if each.opcode == _I32_CONST]
        return self._value(constants[0]) if constants else 0

    def _value(self, step: Step) -> int:
        return number(self._code, step.begin + 1, signed=True)[0]

    def _comparison(self, function: Function, step: Step, text: str, has_condition: bool) -> Iterator[Mutant]:
        said = _compared(text)
        equality = step.opcode in _EQUALITIES or step.opcode in _EQUALITIES.values()
        wanted = said & (_EQUAL.keys() if equality else _OTHER_BOUND.keys())
        if not wanted or (equality and has_condition) or (step.opcode in _UNSIGNED_LESS and "[" in text):
            return
        other = (_EQUAL | _OTHER_BOUND)[min(wanted)]
        what = f"`{min(wanted)}` became `{other}`" if len(wanted) == 1 else "a comparison turned"
        kinds = next(
            kind
            for last, kind in ((0x4F, _I32), (0x5A, _I64), (0x60, _F32), (0x66, _F64))
            if step.opcode <= last
        )
        number = self._type(bytes([0x60, 2, kinds, kinds, 1, _I32]))
        turned, kept = bytes([_TURNED[step.opcode]]), self._code[step.begin : step.end]
        code = bytes([_IF]) + written_signed(number) + turned + _ELSE + kept + _END
        yield Mutant("comparison", what, function, step, (step.begin, 1, step.end), after=code)

    def _call(self, function: Function, step: Step) -> Iterator[Mutant]:
        name, kind = self._called(step)
        done = _DOES.search(name)
        if done and kind is not None and not self._results(kind):
            parameters, _ = number(self._own[kind], 1)
            kept = self._code[step.begin : step.end]
            code = bytes([_IF]) + written_signed(kind) + _DROP * parameters + _ELSE + kept + _END
            what = f"`{done[1]}` isn't called"
            yield Mutant("call", what, function, step, (step.begin, 1, step.end), after=code)

    def _equality(self, function: Function, step: Step, text: str) -> Iterator[Mutant]:
        """What `==` becomes where a function compares."""
        name, kind = self._called(step)
        equal = _EQUALS.search(name)
        said = {"eq": "==", "ne": "!="}[equal[1]] if equal else ""
        if kind is not None and self._results(kind) == bytes([_I32]) and said in _compared(text):
            what = f"`{said}` became `{_EQUAL[said]}`"
            yield Mutant("comparison", what, function, step, (step.end, -1, step.end), after=_XOR)

    def _called(self, step: Step) -> tuple[str, int | None]:
        """The name and the type of the function that an instruction calls; None for an imported one."""
        called, _ = number(self._code, step.begin + 1)
        return readable(self._module.names.get(called, "")), self._of_functions.get(called)

    def _results(self, kind: int) -> bytes:
        content = self._own[kind]
        parameters, at = number(content, 1)
        return content[number(content, at + parameters)[1] :]

    def _type(self, wanted: bytes) -> int:
        """The index of a type, which is added if the module hasn't it."""
        for place, each in enumerate((*self._own, *self.types)):
            if each == wanted:
                return place
        self.types.append(wanted)
        return len(self._own) + len(self.types) - 1


def _condition(function: Function, step: Step) -> Mutant:
    place = step.begin, 1, step.begin
    return Mutant("condition", "a condition turned", function, step, place, before=_EQZ, after=_EQZ + _XOR)


def _at_line(step: Step, function: Function) -> Step:
    return Step(step.begin, step.end, step.opcode, function.file, function.line, step.first)


def _compared(text: str) -> set[str]:
    """The operators that compare in a line of the source."""
    return set(_COMPARED.findall(_QUOTED.sub("", text)))


def _digits(literal: str) -> str:
    """A literal that Python reads, too: without zeros before it."""
    return literal if literal.startswith("0x") else literal.lstrip("0") or "0"


def with_mutants(mutants: Sequence[Mutant], switch: int) -> list[Edit]:
    """The edits that put mutants into a module, numbered from 1 in their order."""
    return [mutant.edit(place, switch) for place, mutant in enumerate(mutants, 1)]
