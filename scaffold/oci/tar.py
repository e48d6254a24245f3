"""The files in a tar+gzip layer, read once from start to end; nothing is written to the disk.

`tarfile` isn't made for hostile input: it takes a broken header for the end of the archive, reads an extended
header of any length into memory, and raises `ValueError` for a bad sparse map. This reader refuses whatever
it doesn't understand, so that no consumer can find another module in the same bytes.
Source: POSIX.1-2017, pax (ustar and pax formats); GNU tar manual, "Basic Tar Format"; RFC 1952.
"""

from __future__ import annotations

import re
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import BinaryIO

from scaffold.core.text import quoted
from scaffold.oci.spec import BLOB_LIMIT, ImageError

ENTRY_LIMIT = 1000
_HEADER_LIMIT = 64 * 2**10  # bytes of an extended header
_GZIP_LIMIT = 10_000  # gzip members in a row; eStargz writes one per file, or per 4 MiB
_CHUNK = 256 * 2**10
_BLOCK = 512
_ZEROS = bytes(_CHUNK)
# the positions of mode, user, group, time and device in a header
_NUMBERS = ((100, 108), (108, 116), (116, 124), (136, 148), (329, 337), (337, 345))
_KINDS = {
    b"0": "file",
    b"\0": "file",
    b"1": "hard link",
    b"2": "symbolic link",
    b"3": "character device",
    b"4": "block device",
    b"5": "directory",
    b"6": "fifo",
}


@dataclass(frozen=True)
class Entry:
    """An entry of an archive; `kind` is "file", "directory", "symbolic link"..., `size` is in bytes."""

    name: str
    size: int
    kind: str = "file"


class Archive:
    """A tar+gzip layer. Raises `ImageError` when it is damaged, too large, or has unusual parts."""

    def __init__(self, stream: BinaryIO) -> None:
        self._source = _Source(_inflate(stream))
        self._unread = self._padding = 0

    def entries(self) -> Iterator[Entry]:
        """The entries, in order; `read` returns the content of the latest one."""
        count = 0
        while entry := self._next():
            count += 1
            if count > ENTRY_LIMIT:
                raise ImageError(f"its last layer has more than {ENTRY_LIMIT:,} files")
            self._unread, self._padding = entry.size, -entry.size % _BLOCK
            yield entry
            self._source.skip(self._unread + self._padding)
        self._source.finish()

    def read(self) -> bytes:
        """The content of the latest entry; call it once."""
        size, self._unread = self._unread, 0
        return self._source.take(size)

    def _next(self) -> Entry | None:
        extended: dict[bytes, bytes] = {}  # the extended headers before the entry
        seen: set[bytes] = set()
        while block := self._source.read(_BLOCK):
            if block == _ZEROS[:_BLOCK]:
                break
            _check_header(block)
            flag, size = block[156:157], _number(block[124:136])
            if flag not in (b"x", b"g", b"L", b"K"):
                return _entry(block, flag, extended)
            if flag in seen:
                raise _broken("two extended headers of one kind for one file")
            if size > _HEADER_LIMIT:
                raise _broken(f"an extended header of {size:,} bytes")
            seen.add(flag)
            content = self._source.take(size)
            self._source.skip(-size % _BLOCK)
            _extend(extended, flag, content)
        if seen - {b"g"}:
            raise _broken("an extended header without a file")
        return None


class _Source:
    """A stream of bytes that arrive in pieces."""

    def __init__(self, pieces: Iterator[bytes]) -> None:
        self._pieces = pieces
        self._rest = memoryview(b"")

    def read(self, size: int) -> bytes:
        """That many bytes, or fewer at the end."""
        parts: list[memoryview] = []
        while size:
            self._rest = self._rest or memoryview(next(self._pieces, b""))
            if not self._rest:
                break
            parts.append(self._rest[:size])
            self._rest = self._rest[size:]
            size -= len(parts[-1])
        return b"".join(parts)

    def take(self, size: int) -> bytes:
        content = self.read(size)
        if len(content) < size:
            raise _broken("it is cut short")
        return content

    def skip(self, size: int) -> None:
        for left in range(size, 0, -_CHUNK):
            self.take(min(left, _CHUNK))

    def finish(self) -> None:
        """Require that only zeros follow."""
        while piece := self.read(_CHUNK):
            if piece != _ZEROS[: len(piece)]:
                raise _broken("there is more after its end")


def _inflate(stream: BinaryIO) -> Iterator[bytes]:
    """Decompress a gzip stream, all its members, up to `BLOB_LIMIT` bytes."""
    left, data = BLOB_LIMIT, stream.read(_CHUNK)
    _check_gzip(data)
    for _ in range(_GZIP_LIMIT):
        unzip = zlib.decompressobj(wbits=31)
        while not unzip.eof:
            try:
                piece = unzip.decompress(data, _CHUNK)
            except zlib.error as error:
                raise _broken(f"its gzip is damaged ({error})") from error
            left -= len(piece)
            if left < 0:
                raise ImageError(f"its last layer unpacks to more than {BLOB_LIMIT // 2**20} MiB")
            if piece:
                yield piece
            data = unzip.unconsumed_tail
            if not data and len(piece) < _CHUNK and not unzip.eof:
                data = stream.read(_CHUNK)
                if not data:
                    raise _broken("its gzip is cut short")
        data = unzip.unused_data
        if len(data) < 2:
            data += stream.read(_CHUNK)
        if not data:
            return
        if data[:2] != b"\x1f\x8b":
            raise _broken("there is more after its end")
    raise _broken(f"it is more than {_GZIP_LIMIT:,} gzip files in a row")


def _check_gzip(start: bytes) -> None:
    if start[:2] == b"\x1f\x8b":
        return
    what = "empty" if not start else "not gzip"
    if start[:4] == b"\x28\xb5\x2f\xfd":
        what = "compressed with zstd"
    elif start[257:262] == b"ustar":
        what = "a plain tar"
    raise ImageError(
        f"its last layer is {what}, but has the media type of a tar+gzip", hint="compress the layer with gzip"
    )


def _check_header(block: bytes) -> None:
    if len(block) < _BLOCK:
        raise _broken("it is cut short")
    for begin, end in _NUMBERS:
        _number(block[begin:end])
    if sum(block) - sum(block[148:156]) + 8 * 0x20 != _number(block[148:156]):
        raise _broken("a header's checksum is wrong")


def _entry(block: bytes, flag: bytes, extended: dict[bytes, bytes]) -> Entry:
    path = extended.get(b"path")
    if path is None:
        path = block[:100].partition(b"\0")[0]
        prefix = block[345:500].partition(b"\0")[0]
        if prefix and block[257:263] != b"ustar\0":
            raise _broken("a header of an unknown kind")
        path = prefix + b"/" + path if prefix else path
    if not path or b"\0" in path:
        raise _broken("a file without a name")
    name = path.decode(errors="backslashreplace")
    size = _decimal(extended[b"size"]) if b"size" in extended else _number(block[124:136])
    kind = _KINDS.get(flag)
    if kind is None:
        raise ImageError(f"its last layer has {quoted(name)}, an entry of the unknown kind {flag!r}")
    if kind == "file" and name.endswith("/"):
        kind = "directory"  # as in tars before POSIX
    if kind != "file" and size:
        raise _broken(f"{quoted(name)} is a {kind} but has a size")
    if name.startswith("/") or ".." in PurePosixPath(name).parts:
        raise ImageError(f"its last layer has {quoted(name)}, a name that leads out of the image")
    if size > BLOB_LIMIT:
        raise ImageError(f"its last layer has {quoted(name)} with {size:,} bytes: 256 MiB is the limit")
    return Entry(name, size, kind)


def _extend(extended: dict[bytes, bytes], flag: bytes, content: bytes) -> None:
    """Add an extended header: pax's records, or GNU's long name (L) or link target (K)."""
    if flag == b"K":
        return
    records = {b"path": content.partition(b"\0")[0]} if flag == b"L" else dict(_records(content))
    if any(key.startswith(b"GNU.sparse.") for key in records):
        raise ImageError("its last layer has a sparse file, which isn't supported")
    changed = {key: value for key, value in records.items() if key in (b"path", b"size")}
    if flag == b"g" and changed:
        raise _broken("a header sets one name or size for all files")
    if b"path" in changed and b"path" in extended:
        raise _broken("two headers name one file")
    extended |= changed


def _records(content: bytes) -> Iterator[tuple[bytes, bytes]]:
    """pax's records: "LENGTH KEY=VALUE\\n", where LENGTH is that of the whole record."""
    at = 0
    while at < len(content):
        space = content.find(b" ", at, at + 8)
        length = content[at:space] if space > 0 else b""
        end = at + int(length) if length.isdigit() else 0
        key, equals, value = content[space + 1 : end - 1].partition(b"=")
        if not key or not equals or content[end - 1 : end] != b"\n":
            raise _broken("a pax header is damaged")
        yield key, value
        at = end


def _number(field: bytes) -> int:
    """A number in a header: octal digits, or GNU's binary format with the first bit set."""
    if field[0] == 0x80:
        return int.from_bytes(field[1:], "big")
    match = re.fullmatch(rb" *([0-7]*)[ \0]*", field)
    if not match:
        raise _broken("a header has no number where one belongs")
    return int(match[1] or b"0", 8)


def _decimal(text: bytes) -> int:
    if not re.fullmatch(rb"[0-9]{1,20}", text):
        raise _broken("a pax header's size isn't a number")
    return int(text)


def _broken(why: str) -> ImageError:
    return ImageError(f"its last layer can't be read safely as an archive: {why}")
