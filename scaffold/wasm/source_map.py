"""The `mappings` of a source map whose lines aren't those of a text: which place was which, before a tool.

A tool that rearranges instructions, as wasm-opt does, keeps for each the line that it was given. We give it
places instead, and look the lines up ourselves.
Source: ECMA-426, 4 (mappings) and 6 (base64 VLQ).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

_DIGITS = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
_VALUES = {digit: value for value, digit in enumerate(_DIGITS)}
_MORE = 0x20


def write(places: Iterable[tuple[int, int | None]]) -> str:
    """Pairs of an offset in the file, ascending, and the place that it stands for, if any."""
    entries = []
    last_offset = last_place = 0
    for offset, place in places:
        if place is None:
            entries.append(_number(offset - last_offset))
        else:
            entries.append(f"{_number(offset - last_offset)}A{_number(place - last_place)}A")
            last_place = place
        last_offset = offset
    return ",".join(entries)


def read(mappings: str) -> Iterator[tuple[int, int | None]]:
    """The reverse of `write`. Raises `ValueError` for what isn't a source map's."""
    column = line = 0
    for entry in mappings.split(",") if mappings else ():
        values = _numbers(entry)
        if not values:
            raise ValueError("an empty entry")
        column += values[0]
        if len(values) > 2:
            line += values[2]
        yield column, line if len(values) > 2 else None


def between(mappings: str, first: int, last: int) -> list[int | None]:
    """The places of the entries from one offset to another, both included.

    Raises `ValueError` for what isn't a source map's.
    """
    found = []
    for offset, place in read(mappings):
        if offset > last:
            break
        if offset >= first:
            found.append(place)
    return found


def _number(value: int) -> str:
    value = -value << 1 | 1 if value < 0 else value << 1
    text = ""
    while True:
        digit, value = value & 0x1F, value >> 5
        text += _DIGITS[digit | _MORE if value else digit]
        if not value:
            return text


def _numbers(entry: str) -> list[int]:
    numbers: list[int] = []
    value = shift = 0
    for sign in entry:
        if sign not in _VALUES:
            raise ValueError(f"{sign!r} isn't a digit")
        digit = _VALUES[sign]
        value |= (digit & 0x1F) << shift
        shift += 5
        if not digit & _MORE:
            numbers.append(-(value >> 1) if value & 1 else value >> 1)
            value = shift = 0
    return numbers
