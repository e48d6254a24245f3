"""Which function of which crate brings an import: the calls in a module, followed backwards.

A call through a table isn't seen, so the way may end in a function that is only called like that.
"""

from __future__ import annotations

import re
import tomllib
from collections import deque
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from scaffold.core.text import escaped
from scaffold.wasm import symbols
from scaffold.wasm.module import Extern, WasmFile

# what comes with rustc: a program has these whatever its Cargo.toml says
OF_RUST = frozenset(
    "core alloc std compiler_builtins panic_abort panic_unwind std_detect unwind wasi wasip1 dlmalloc __rustc"
    " rustc_demangle rustc_std_workspace_core".split()
)
_CRATE = re.compile(r"[A-Za-z_]\w*(?=::|\[)")
_SHOWN = 4  # functions between the import and the crate's


@dataclass(frozen=True)
class Blame:
    """The functions from an import up to the first one of a crate that isn't Rust's own; "" if none is."""

    chain: tuple[str, ...]
    crate: str = ""
    version: str = ""

    def __str__(self) -> str:
        first, *between, last = self.chain
        if len(between) > _SHOWN:
            between = [*between[:1], "…", *between[1 - _SHOWN :]]
        named = f" ({self.crate} {self.version})" if self.version else ""
        return f"`{' <- '.join([first, *between, last])}`{named}"


def of(module: WasmFile, extern: Extern) -> Blame | None:
    """Who brings an imported function; None if the module has no names, or nobody calls it by name."""
    functions = [each for each in module.imports if each.kind == "function"]
    if extern not in functions:
        return None
    names = module.names
    came_from, last = _backwards(module, functions.index(extern), names)
    way = [last]
    while way[-1] in came_from:
        way.append(came_from[way[-1]])
    chain = [extern.name, *(_shown(names[each]) for each in reversed(way[:-1]) if each in names)]
    chain = [name for at, name in enumerate(chain) if at == 0 or name != chain[at - 1]]
    if len(chain) < 2:
        return None
    crate = crate_of(names.get(last, ""))
    crate = "" if crate in OF_RUST else crate
    _, version = locked_packages(module.path.parent.absolute()).get(crate, ("", ""))
    return Blame(tuple(chain), crate, version)


def _backwards(module: WasmFile, start: int, names: Mapping[int, str]) -> tuple[dict[int, int], int]:
    """From which function each one was reached, and the first of a crate, or else the last with a name."""
    callers = module.code.callers
    came_from: dict[int, int] = {}
    waiting, last = deque([start]), start
    while waiting:
        called = waiting.popleft()
        for caller in sorted(callers.get(called, ())):
            if caller == start or caller in came_from:
                continue
            came_from[caller] = called
            waiting.append(caller)
            last = caller if caller in names else last
            if crate_of(names.get(caller, "")) not in OF_RUST | {""}:
                return came_from, caller
    return came_from, last


def _shown(name: str) -> str:
    return escaped(symbols.readable(name))


def crate_of(name: str) -> str:
    """The crate of a Rust function; "" for any other function."""
    found = _CRATE.search(symbols.readable(name))
    return found[0] if found else ""


@lru_cache(maxsize=16)
def locked_packages(folder: Path) -> dict[str, tuple[str, str]]:
    """The names and versions in the nearest Cargo.lock above a module, of crates with only one version there.

    The keys are their names as Rust code has them.
    """
    with suppress(OSError, ValueError, KeyError, TypeError):
        lock = next(
            (each / "Cargo.lock" for each in (folder, *folder.parents) if (each / "Cargo.lock").is_file()),
            None,
        )
        if lock:
            named: dict[str, set[tuple[str, str]]] = {}
            for each in tomllib.loads(lock.read_text(encoding="utf-8"))["package"]:
                package = str(each["name"]), str(each["version"])
                named.setdefault(package[0].replace("-", "_"), set()).add(package)
            return {name: packages.pop() for name, packages in named.items() if len(packages) == 1}
    return {}
