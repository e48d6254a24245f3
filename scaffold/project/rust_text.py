"""Rust source as text: what is code in it, and where its blocks and argument lists end."""

from __future__ import annotations

import re

_NO_CODE = re.compile(  # comments, strings and characters
    r'//[^\n]*|/\*.*?\*/|\bb?r(?P<hashes>#*)".*?"(?P=hashes)|"(?:\\.|[^"\\])*"|\'(?:\\.[^\']*|[^\\\'])\'',
    re.DOTALL,
)
_NO_NEWLINE = re.compile(r"[^\n]")
_PAIRS = {"(": ")", "[": "]", "{": "}"}


def code(text: str) -> str:
    """The text with its comments and literals blanked out; positions and lines stay the same."""
    return _NO_CODE.sub(lambda match: _NO_NEWLINE.sub(" ", match[0]), text)


def line_of(text: str, position: int) -> int:
    """The number of the line that a position is in; the first is 1."""
    return text.count("\n", 0, position) + 1


def end_of_group(masked: str, begin: int) -> int:
    """The end of the group whose bracket is at `begin` of some `code`; `begin` if it doesn't end."""
    depth = 0
    for match in re.compile(r"[(\[{}\])]").finditer(masked, begin):
        depth += 1 if match[0] in _PAIRS else -1
        if depth == 0:
            return match.end()
    return begin


def arguments(masked: str, begin: int) -> list[tuple[int, int]]:
    """The positions of the arguments in the parentheses at `begin`, without the space around them."""
    end = end_of_group(masked, begin) - 1
    found, start, at = [], begin + 1, begin + 1
    while at < end:
        if masked[at] in _PAIRS:
            at = max(end_of_group(masked, at), at + 1)
        elif masked.startswith("::<", at):
            at = _after_angle(masked, at + 2, end)
        elif masked[at] == ",":
            found.append((start, at))
            start = at = at + 1
        else:
            at += 1
    found.append((start, max(start, end)))
    return [
        (first + len(part) - len(part.lstrip()), first + len(part.rstrip()))
        for first, last in found
        if (part := masked[first:last]).strip()
    ]


def _after_angle(masked: str, begin: int, end: int) -> int:
    """The end of the generic arguments whose `<` is at `begin`."""
    depth = 0
    for at in range(begin, end):
        if masked[at] == "<":
            depth += 1
        elif masked[at] == ">" and masked[at - 1] not in "-=":
            depth -= 1
            if depth == 0:
                return at + 1
    return begin + 1
