"""What a wasm file says of how it was made: in its custom sections, and by the traces of a library.

Sources: WebAssembly/tool-conventions, ProducersSection.md and Linking.md (target features).
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Set
from contextlib import suppress

from scaffold.wasm.module import NotAPlugin, Reader

_REMARK_LIMIT = 1000  # ours: of producers, of features
# a file of the Rust SDK's, which a panic would name: of a registry, a git checkout, a folder
_SOURCE = re.compile(
    rb"proxy-wasm(?:-rust-sdk(?:-\w+)?(?:[\\/]\w+)?|-(\d+\.\d+\.\d+[\w.+-]{0,40}))?"
    rb"[\\/]src[\\/](?:dispatcher|hostcalls|allocator)\.rs"
)
_ASSEMBLYSCRIPT = "~lib/rt/".encode("utf-16-le")  # the files of its runtime, which a trap would name


def names_readable(body: Reader) -> bool:
    """Whether a host can read the names of functions, as it does for backtraces when it loads a module.

    Source: proxy-wasm-cpp-host, src/bytecode_util.cc, getFunctionNameIndex.
    """
    try:
        while body.at < body.end:
            kind, part = body.byte(), body.part(body.number())
            if kind == 1:
                for _ in range(part.count("names")):
                    part.number()
                    part.part(part.number())
                if part.at < part.end:
                    return False
    except NotAPlugin:
        return False
    return True


def producers(body: Reader) -> dict[str, dict[str, str]]:
    """What the tools say that made it, as far as it can be read: versions by name, by field."""
    found: dict[str, dict[str, str]] = {}
    with suppress(NotAPlugin):  # no host reads it
        for _ in range(body.count("fields", _REMARK_LIMIT)):
            values = found.setdefault(body.name(errors="replace"), {})
            for _ in range(body.count("values", _REMARK_LIMIT)):
                name = body.name(errors="replace")
                values[name] = body.name(errors="replace")
    return found


def features(body: Reader) -> tuple[str, ...]:
    """What of wasm its compiler was free to use."""
    found: list[str] = []
    with suppress(NotAPlugin):
        for _ in range(body.count("features", _REMARK_LIMIT)):
            used, name = body.byte() in b"+=", body.name(errors="replace")
            found += [name] if used else []
    return tuple(found)


def sdk(content: bytes, producers: Mapping[str, Mapping[str, str]], names: Set[str]) -> str:
    """What the plugin was written with, or "unknown"; `names` are its imports' and exports'."""
    languages, tools = producers.get("language", {}), producers.get("processed-by", {})
    if source := _SOURCE.search(content):
        return f"Rust, proxy-wasm {(source[1] or b'').decode()}".strip()
    if "TinyGo" in tools:
        return "Go, TinyGo"
    if "Go" in languages:
        return "Go"
    if {"__new", "__pin"} <= names or _ASSEMBLYSCRIPT in content:
        return "AssemblyScript"
    if any("emscripten" in name for name in names):
        return "C++, Emscripten"
    if any(language.startswith("C_plus_plus") for language in languages):
        return "C++"
    return "unknown"
