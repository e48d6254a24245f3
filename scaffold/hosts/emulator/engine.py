"""wasmtime: modules compiled once, kept in the user's cache, and instances of them."""

from __future__ import annotations

import atexit
import hashlib
import importlib.metadata
import platform
from contextlib import suppress
from functools import lru_cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaffold.core import files
from scaffold.core.foreign_files import read_bytes
from scaffold.errors import MachineError

if TYPE_CHECKING:
    import wasmtime

    from scaffold.wasm.module import WasmModule

MAJOR = 50
_DIGEST = 32  # bytes that begin a cached file: the SHA-256 of the rest
_INSTALL = f"pip install 'wasmtime>={MAJOR},<{MAJOR + 1}'"
_SETTINGS = "fuel, fixed memory"  # part of a cached file's name: what `engine` sets
_COMPILED: dict[str, wasmtime.Module] = {}  # by the module's digest
_IMPORTS: dict[str, list[tuple[str, Any]]] = {}
atexit.register(_IMPORTS.clear)
atexit.register(_COMPILED.clear)  # while wasmtime is still there to free them
_MOST_FILES = 100
_MOST_IN_MEMORY = 16
_LARGEST = 512 * 2**20  # bytes of a compiled module


@lru_cache(maxsize=1)
def engine() -> wasmtime.Engine:
    """The engine of this process. Raises `MachineError` where wasmtime can't run, or is another version."""
    try:
        version = importlib.metadata.version("wasmtime")
    except importlib.metadata.PackageNotFoundError:
        raise MachineError("the emulator needs wasmtime, which isn't installed", hint=_INSTALL) from None
    if version.partition(".")[0] != str(MAJOR):
        raise MachineError(f"the emulator needs wasmtime {MAJOR}, and {version} is installed", hint=_INSTALL)
    try:
        import wasmtime
    except (ImportError, OSError, RuntimeError) as error:  # a platform that has no wheel
        raise MachineError(
            f"wasmtime doesn't run on {platform.system()} {platform.machine()}: {error}",
            hint="test with `--host envoy`",
        ) from error
    config = wasmtime.Config()
    config.consume_fuel = True
    config.memory_may_move = False
    config.wasm_exceptions = True
    return wasmtime.Engine(config)


atexit.register(engine.cache_clear)  # like the modules


def compiled(module: WasmModule) -> wasmtime.Module:
    """A module's code for this machine. Raises `WasmtimeError` if it isn't valid."""
    if module.digest not in _COMPILED:
        while len(_COMPILED) >= _MOST_IN_MEMORY:
            del _COMPILED[next(iter(_COMPILED))]
        _COMPILED[module.digest] = _compiled(module)
    return _COMPILED[module.digest]


def imports(module: WasmModule) -> list[tuple[str, Any]]:
    """The names and types of what a compiled module imports, asked for once."""
    if module.digest not in _IMPORTS:
        while len(_IMPORTS) >= _MOST_IN_MEMORY:
            del _IMPORTS[next(iter(_IMPORTS))]
        _IMPORTS[module.digest] = [
            (f"{each.module}.{each.name}", each.type) for each in compiled(module).imports
        ]
    return _IMPORTS[module.digest]


def _compiled(module: WasmModule) -> wasmtime.Module:
    import wasmtime

    target = engine()
    version = importlib.metadata.version("wasmtime")
    key = f"{module.digest} {version} {_SETTINGS} {platform.machine()}"
    path = files.cache_dir() / "emulator" / f"{hashlib.sha256(key.encode()).hexdigest()}.compiled"
    with suppress(OSError, wasmtime.WasmtimeError, MachineError):
        files.private(path.parent)  # what is in there is run
        content = read_bytes(path, _LARGEST)
        if hashlib.sha256(content[_DIGEST:]).digest() == content[:_DIGEST]:
            # of another processor it is refused: wasmtime looks at the features that it was compiled for
            return wasmtime.Module.deserialize(target, content[_DIGEST:])
    made = wasmtime.Module(target, module.content)
    with suppress(OSError):  # without a cache it only takes longer
        files.private(path.parent)
        code = bytes(made.serialize())
        files.write(path, hashlib.sha256(code).digest() + code, mode=0o600)
        _prune(path.parent)
    return made


def _prune(folder: Path) -> None:
    """Remove the compiled modules that were made first, of too many."""
    found = sorted(folder.iterdir(), key=lambda path: path.stat().st_mtime, reverse=True)
    for path in found[_MOST_FILES:]:
        path.unlink(missing_ok=True)
