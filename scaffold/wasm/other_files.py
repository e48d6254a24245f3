"""What a file is that somebody takes for a wasm module, and how to get the module from there.

Source: file(1)'s magic; POSIX, pax, for tar.
"""

from __future__ import annotations

import re
from dataclasses import dataclass

HEAD = 512  # bytes that tell

BUILD = "`scaffold build` compiles for wasm, and prints where the module is"
_NATIVE = (b"\x7fELF", b"MZ", b"!<arch>", b"\xcf\xfa\xed\xfe", b"\xce\xfa\xed\xfe", b"\xca\xfe\xba\xbe")


@dataclass(frozen=True)
class OtherFile:
    """Another kind of file. `hint` says how to get the module; `{path}` in it stands for the file."""

    what: str
    hint: str


_LIBRARY = OtherFile("a program or library for this kind of machine, not for wasm", BUILD)
_TAR = OtherFile("a tar archive", "unpack it: `tar -xf {path}`")
_IMAGE = OtherFile(
    "an image in a tar archive, as `docker save` writes it",
    "take the module out: `docker load -i {path}`, then"
    ' `docker cp "$(docker create IMAGE x)":/plugin.wasm .`, with the name that `docker load` prints',
)
# what such an archive begins with: files named by their digest, or OCI's
_OF_IMAGE = re.compile(rb"[0-9a-f]{64}[./]|(?:\./)?(?:blobs/|(?:manifest|index)\.json|oci-layout)")
_GZIP = OtherFile("compressed with gzip", "unpack it: `gzip -dc {path} > plugin.wasm`, or `tar -xzf {path}`")
_ZSTD = OtherFile("compressed with zstd", "unpack it: `zstd -d {path} -o plugin.wasm`")
_ZIP = OtherFile("a zip archive", "unpack it: `unzip {path}`")
_WAT = OtherFile("WebAssembly's text format", "translate it: `wat2wasm {path} -o plugin.wasm`")
_HTML = OtherFile("an HTML page", "download the file itself, not the page about it")
_BEGINNINGS = (
    *((magic, _LIBRARY) for magic in _NATIVE),
    (b"\x1f\x8b", _GZIP),
    (b"\x28\xb5\x2f\xfd", _ZSTD),
    (b"PK\x03\x04", _ZIP),
    (b"(module", _WAT),
    (b"(component", _WAT),
    (b"<!doctype html", _HTML),
    (b"<html", _HTML),
)


def recognise(head: bytes) -> OtherFile | None:
    """The kind of file that begins with these bytes, `HEAD` of them or fewer; None for an unknown kind."""
    if head[257:262] == b"ustar":
        return _IMAGE if _OF_IMAGE.match(head) else _TAR
    begins = head.lstrip().lower() if head[:1] in b" \t\r\n<(" else head
    return next((kind for magic, kind in _BEGINNINGS if begins.startswith(magic)), None)
