"""Messages of protocol buffers as their fields, without a schema; and messages made of fields.

Source: protobuf.dev, "Encoding".
"""

from __future__ import annotations

from collections.abc import Iterator

_VARINT, _LONG, _BYTES, _GROUP, _END, _SHORT = range(6)  # wire types
_DEEPEST = 100  # groups within groups, as in the C++ library

Field = tuple[int, int | bytes]


class Malformed(ValueError):
    """Bytes that are no message."""


def fields(content: bytes) -> list[Field]:
    """The fields of a message by number, in their order; a group is left out. Raises `Malformed`."""
    return list(_Reader(content).fields())


def text(fields: list[Field], number: int) -> str:
    """A string, "" by default: the last one counts. Raises `Malformed` where it isn't UTF-8."""
    found = b""
    for each, value in fields:
        if each == number and isinstance(value, bytes):
            _utf8(value)
            found = value
    return _utf8(found)


def _utf8(content: bytes) -> str:
    try:
        return content.decode()
    except UnicodeDecodeError as error:
        raise Malformed("a string isn't UTF-8") from error


def whole(fields: list[Field], number: int) -> int:
    """A whole number, 0 by default."""
    found = [value for each, value in fields if each == number and isinstance(value, int)]
    return found[-1] if found else 0


def merged(fields: list[Field], number: int) -> list[Field] | None:
    """The fields of a message within, whose parts count as one; None without it. Raises `Malformed`."""
    parts = [value for each, value in fields if each == number and isinstance(value, bytes)]
    return [field for part in parts for field in _Reader(part).fields()] if parts else None


class _Reader:
    def __init__(self, content: bytes) -> None:
        self.content, self.at = content, 0

    def fields(self) -> Iterator[Field]:
        while self.at < len(self.content):
            number, kind = self._tag()
            if kind == _GROUP:
                self._skip(number, 1)
            else:
                yield number, self._value(kind)

    def _tag(self) -> tuple[int, int]:
        tag = self._varint()
        if not 0 < tag >> 3 < 1 << 29:
            raise Malformed(f"{tag >> 3} is no field's number")
        return tag >> 3, tag & 7

    def _value(self, kind: int) -> int | bytes:
        if kind == _VARINT:
            return self._varint()
        if kind == _BYTES:
            return self._take(self._varint())
        if kind in (_LONG, _SHORT):
            return int.from_bytes(self._take(8 if kind == _LONG else 4), "little")
        raise Malformed(f"{kind} is no wire type of a field")

    def _skip(self, group: int, depth: int) -> None:
        if depth > _DEEPEST:
            raise Malformed("groups within groups, too deep")
        while True:
            number, kind = self._tag()
            if kind == _GROUP:
                self._skip(number, depth + 1)
            elif kind == _END and number == group:
                return
            else:
                self._value(kind)

    def _take(self, size: int) -> bytes:
        taken = self.content[self.at : self.at + size]
        if len(taken) < size:
            raise Malformed("it ends within a field")
        self.at += size
        return taken

    def _varint(self) -> int:
        value = 0
        for shift in range(0, 70, 7):
            (byte,) = self._take(1)
            value |= (byte & 0x7F) << shift
            if byte < 0x80:
                return value & ((1 << 64) - 1)
        raise Malformed("a number is longer than ten bytes")
