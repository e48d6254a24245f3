"""Why an Envoy refuses a module, in its own words.

Source: proxy-wasm-cpp-host, src/wasm.cc and src/v8/v8.cc.
"""

from __future__ import annotations

from collections.abc import Container

from scaffold.hosts.emulator import engine
from scaffold.hosts.unsupported import Unsupported
from scaffold.wasm.check import Host, facts, offered
from scaffold.wasm.module import WasmModule

_TYPES = {"i": "i32", "I": "i64", "f": "f32", "F": "f64"}
_KNOWN = {*_TYPES, ">", "-"}  # letters of signatures that Envoy can read
CRASHES = "Envoy itself would crash"
ALLOCATORS = ("malloc", "proxy_on_memory_allocate")  # the first that is exported counts


def refusal(module: WasmModule, version: tuple[int, ...]) -> str:
    """Why that Envoy doesn't load a module; "" if it does."""
    file = module.file
    if not file.names_readable:
        return "Failed to parse corrupted Wasm module"
    host = offered(version[:2], module.abi_version)
    return _engine(module) or _imports(module, host) or _memory(module) or _exports(module, host)


def _engine(module: WasmModule) -> str:
    import wasmtime

    try:
        engine.compiled(module)
    except wasmtime.WasmtimeError as error:
        if "legacy" in str(error):
            raise Unsupported("exceptions as they were before WebAssembly 3") from error
        return "Failed to load Wasm bytecode"
    return ""


def _imports(module: WasmModule, host: Host) -> str:
    for each in module.file.imports:
        name = f"{each.module}.{each.name}"
        if each.kind == "table" and each.signature:  # which wasmtime's C API can't make: it ends the process
            raise Unsupported("an imported table that isn't of functions")
        if each.kind in ("memory", "table"):
            continue
        if each.kind == "tag" or any(letter not in _KNOWN for letter in each.signature):
            return f"{CRASHES} as it links {name}, whose type it can't read"
        if each.kind != "function" or name not in host.imports:
            return f"Failed to load Wasm module due to a missing import: {name}"
        has = host.imports[name]
        if has != each.signature:
            return (
                f"Failed to load Wasm module due to an import type mismatch: {name},"
                f" want: {_readable(each.signature)}, but host exports: {_readable(has)}"
            )
    return ""


def _memory(module: WasmModule) -> str:
    most: int = facts()["limits"]["memory-pages"]["most"]
    if module.file.memory_pages <= most:
        return ""
    imported = any(each.kind == "memory" for each in module.file.imports)
    return "Failed to initialize Wasm code" if imported else "Failed to create new Wasm instance"


def _exports(module: WasmModule, host: Host) -> str:
    exported = module.file.callable
    wanted = dict(host.setup) | dict(host.callbacks)
    for name in (*host.callbacks, *_looked_up(exported)):
        if name in exported and name in wanted and exported[name] != wanted[name]:
            return (
                f"Bad function signature for: {name}, want: {_readable(wanted[name])},"
                f" but the module exports: {_readable(exported[name])}"
            )
    if not any(name in exported for name in ALLOCATORS):
        return "Wasm module is missing malloc function."
    return ""


def _looked_up(exported: Container[str]) -> list[str]:
    """What Envoy looks up to set a module up; of two for the same, the second where the first is absent."""
    first = next((name for name in ALLOCATORS if name in exported), "malloc")
    if "_initialize" not in exported:
        return [first, "_start"]
    return [first, "_initialize", "main" if "main" in exported else "__main_void"]


def _readable(signature: str) -> str:
    parameters, _, results = signature.partition(">")
    words = [" ".join(_TYPES.get(letter, "?") for letter in each) for each in (parameters, results)]
    return " -> ".join(each if each and each != "?" else "void" for each in words)
