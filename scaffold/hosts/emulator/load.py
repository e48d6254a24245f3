"""Why an Envoy refuses a module, in its own words.

Source: proxy-wasm-cpp-host, src/wasm.cc and src/v8/v8.cc.
"""

from __future__ import annotations

from scaffold.hosts.emulator import engine
from scaffold.wasm.check import Host, facts, offered
from scaffold.wasm.module import WasmModule

_TYPES = {"i": "i32", "I": "i64", "f": "f32", "F": "f64"}
_ALLOCATORS = ("malloc", "proxy_on_memory_allocate")


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
    except wasmtime.WasmtimeError:
        return "Failed to load Wasm bytecode"
    return ""


def _imports(module: WasmModule, host: Host) -> str:
    for each in module.file.imports:
        name = f"{each.module}.{each.name}"
        if each.kind in ("memory", "table"):
            continue
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
    return "Failed to create new Wasm instance" if module.file.memory_pages > most else ""


def _exports(module: WasmModule, host: Host) -> str:
    exported = module.file.callable
    for name, wanted in (dict(host.setup) | dict(host.callbacks)).items():
        if name in exported and exported[name] != wanted:
            return (
                f"Bad function signature for: {name}, want: {_readable(wanted)},"
                f" but the module exports: {_readable(exported[name])}"
            )
    if not any(name in exported for name in _ALLOCATORS):
        return "Wasm module is missing malloc function."
    return ""


def _readable(signature: str) -> str:
    parameters, _, results = signature.partition(">")
    words = [" ".join(_TYPES.get(letter, "?") for letter in each) for each in (parameters, results)]
    return " -> ".join(each if each and each != "?" else "void" for each in words)
