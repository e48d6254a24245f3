"""Which Envoys load a module, and why not: rules over check.toml.

Only what can be seen without compiling the module: its code may still be broken, or trap when it starts.
Istio, Envoy Gateway and Higress run an Envoy: they load what theirs loads.
Source: proxy-wasm-cpp-host, src/wasm.cc and src/v8/v8.cc.
"""

from __future__ import annotations

import difflib
import functools
import tomllib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path
from typing import Any

from scaffold.core.versions import Version
from scaffold.wasm.anatomy import Anatomy, Extern, plain, readable

MARKER = "proxy_abi_version_"
WASI = ("wasi_snapshot_preview1", "wasi_unstable")
HOSTCALLS = "env"
_MOST = 20  # of one kind of problem: a broken module can have a million


@dataclass(frozen=True)
class Problem:
    """Why a module isn't loaded, or, where it isn't `fatal`, what is odd about it; `hint` says what helps."""

    rule: str
    message: str
    hint: str | None = None
    fatal: bool = True


@dataclass(frozen=True)
class Verdict:
    """What the Envoys from `first` to `last`, as "1.17", do with a module."""

    first: str
    last: str
    loads: bool
    problems: tuple[Problem, ...]

    @property
    def envoys(self) -> str:
        """Their versions, as people write them."""
        return self.first if self.first == self.last else f"{self.first} to {self.last}"


@dataclass(frozen=True)
class Host:
    """An Envoy of a version, as a plugin of an ABI meets it: signatures by name; imports by "module.name"."""

    version: Version
    abi: str
    imports: Mapping[str, str] = field(repr=False)
    setup: Mapping[str, str] = field(repr=False)
    callbacks: Mapping[str, str] = field(repr=False)


def judge(anatomy: Anatomy, version: Version) -> tuple[Problem, ...]:
    """What an Envoy, as (1, 36), finds wrong with a module: it loads one without a fatal problem.

    One that is newer than those we know is taken for the newest.
    """
    if anatomy.component:
        return (
            Problem(
                "component",
                "it is a WebAssembly component, and Envoy loads core modules",
                "compile for wasm32-wasip1, not wasm32-wasip2",
            ),
        )
    if anatomy.abi_version is None:
        return (_no_marker(anatomy),)
    host = offered(version[:2], anatomy.abi_version)
    found: list[Problem] = []
    for rule in RULES:
        problems = list(islice(rule(anatomy, host), _MOST + 1))
        found += problems[:_MOST]
        if len(problems) > _MOST:
            found.append(Problem(problems[0].rule, "there are more of these", fatal=problems[0].fatal))
    return tuple(found)


def verdicts(anatomy: Anatomy) -> tuple[Verdict, ...]:
    """What every Envoy that has the wasm filter does with a module, the newest first."""
    changes, last = _changes(), _number(_data()["envoy"]["last"])
    found: list[Verdict] = []
    for first, following in zip(changes, [*changes[1:], (last[0], last[1] + 1)], strict=True):
        problems = judge(anatomy, first)
        if found and found[-1].problems == problems:
            first = _number(found.pop().first)
        loads = not any(problem.fatal for problem in problems)
        found.append(Verdict(_text(first), _text((following[0], following[1] - 1)), loads, problems))
    return tuple(reversed(found))


def group(extern: Extern) -> str:
    """What an import is for: "hostcalls", "WASI" or "others"."""
    data = _data()
    if extern.module in WASI and extern.name in data["wasi"]:
        return "WASI"
    return "hostcalls" if extern.module == HOSTCALLS and extern.name in data["hostcalls"] else "others"


def is_callback(name: str) -> bool:
    """Whether an export is one that Envoy calls while traffic flows."""
    return name in _data()["callbacks"]


def _no_marker(anatomy: Anatomy) -> Problem:
    unknown = next((name for name in anatomy.callable if name.startswith(MARKER)), None)
    if unknown:
        return Problem("abi", f"it speaks an ABI that Envoy doesn't know: `{plain(unknown)}`")
    return Problem(
        "abi",
        "it exports no proxy-wasm ABI marker, so it is no plugin",
        "does its src/lib.rs have `proxy_wasm::main!`, and does it depend on proxy-wasm 0.2?",
    )


def _names(anatomy: Anatomy, host: Host) -> Iterator[Problem]:
    if not anatomy.names_readable:
        yield Problem("names", "its section `name` is malformed", "strip it, or build the module anew")


def _imports(anatomy: Anatomy, host: Host) -> Iterator[Problem]:
    for each in anatomy.imports:
        wanted, name = host.imports.get(str(each)), plain(str(each))
        if each.kind in ("memory", "table"):  # which Envoy makes for it
            continue
        if each.kind != "function":
            yield Problem("import", f"it imports the {each.kind} `{name}`, and Envoy has none to give")
        elif wanted is None:
            yield Problem("import", f"it imports `{name}`, which Envoy doesn't have", _elsewhere(each, host))
        elif wanted != each.signature:
            yield Problem(
                "import-type",
                f"it imports `{name}` as {readable(each.signature)}, and Envoy has {readable(wanted)}",
            )


def _elsewhere(each: Extern, host: Host) -> str | None:
    """Who has what this Envoy hasn't."""
    data = _data()
    entry = data["wasi"].get(each.name) if each.module in WASI else None
    entry = data["hostcalls"].get(each.name) if each.module == HOSTCALLS else entry
    if entry and host.abi not in entry.get("abi", [host.abi]):
        return f"it belongs to ABI {' and '.join(entry['abi'])}, and this module says {host.abi}"
    if entry:
        other = "" if entry["signature"] == each.signature else f", as {readable(entry['signature'])}"
        return f"Envoy {entry['since']} and later have it{other}"
    for beginning, hint in data["foreign"].items():
        if each.module.startswith(beginning) or each.name.startswith(beginning):
            return str(hint)
    near = difflib.get_close_matches(plain(str(each)), host.imports, n=1, cutoff=0.75)
    return f"did you mean `{near[0]}`?" if near else None


def _memory(anatomy: Anatomy, host: Host) -> Iterator[Problem]:
    limit = _data()["limits"]["memory-pages"]
    if host.version >= _number(limit["since"]) and anatomy.memory_pages > limit["most"]:
        pages, most = anatomy.memory_pages, limit["most"]
        yield Problem(
            "memory",
            f"it begins with {pages:,} pages of memory, and Envoy gives {most:,} (1 GiB) at the most",
        )


def _start_section(anatomy: Anatomy, host: Host) -> Iterator[Problem]:
    if anatomy.start:
        yield Problem(
            "start",
            "it has a start section, and Envoy crashes when that calls a hostcall",
            "export what it does as `_initialize`",
        )


def _allocator(anatomy: Anatomy, host: Host) -> Iterator[Problem]:
    if not {"malloc", "proxy_on_memory_allocate"} & anatomy.callable.keys():
        yield Problem("allocator", "it exports neither `malloc` nor `proxy_on_memory_allocate`")


def _exports(anatomy: Anatomy, host: Host) -> Iterator[Problem]:
    exported = anatomy.callable
    for name, wanted in (*_looked_up(exported, host).items(), *host.callbacks.items()):
        given = exported.get(name, wanted)
        if given != wanted:
            yield Problem(
                "export-type",
                f"it exports `{name}` as {readable(given)}, and Envoy calls it as {readable(wanted)}",
            )


def _looked_up(exported: Mapping[str, str], host: Host) -> dict[str, str]:
    """What of the setup's exports Envoy looks up in a module that has these."""
    entries = _data()["setup"]
    return {
        name: signature
        for name, signature in host.setup.items()
        if entries[name].get("without") not in exported
        and ("with" not in entries[name] or entries[name]["with"] in exported)
    }


def _beginning(anatomy: Anatomy, host: Host) -> Iterator[Problem]:
    exported = anatomy.callable
    if "_initialize" in exported:
        return
    if "_start" not in exported:
        yield Problem(
            "setup",
            "it exports neither `_initialize` nor `_start`, so nothing of it is set up",
            "does its src/lib.rs have `proxy_wasm::main!`?",
            fatal=False,
        )
    elif anatomy.sdk.startswith("Rust"):
        yield Problem(
            "setup",
            "it exports `_start` but no `_initialize`: then every call sets the C library up anew",
            "write `proxy_wasm::main!` in its place",
            fatal=False,
        )


def _features(anatomy: Anatomy, host: Host) -> Iterator[Problem]:
    for name, since in _data()["features"].items():
        if name in anatomy.features and host.version < _number(since):
            yield Problem(
                "features",
                f"it was compiled with {name}, and may need Envoy {since}",
                fatal=False,
            )


# one that yields the problems of a kind
RULES: tuple[Callable[[Anatomy, Host], Iterator[Problem]], ...] = (
    _names,
    _imports,
    _start_section,
    _memory,
    _allocator,
    _exports,
    _beginning,
    _features,
)


@functools.cache
def _data() -> dict[str, Any]:
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


@functools.cache
def offered(version: Version, abi: str) -> Host:
    """What such an Envoy has for plugins of such an ABI."""
    data = _data()

    def table(name: str) -> dict[str, str]:
        return {
            key: entry.get(abi, entry["signature"])
            for key, entry in data[name].items()
            if abi in entry.get("abi", [abi])
            and version >= _number(entry.get("since", data["envoy"]["first"]))
        }

    imports = {f"{HOSTCALLS}.{name}": signature for name, signature in table("hostcalls").items()}
    for module in WASI:
        imports |= {f"{module}.{name}": signature for name, signature in table("wasi").items()}
    return Host(version, abi, imports, table("setup"), table("callbacks"))


@functools.cache
def _changes() -> list[Version]:
    """The Envoys from which on something is another than before, the oldest first."""
    data = _data()
    tables = (data[name] for name in ("hostcalls", "wasi", "setup", "callbacks", "limits"))
    since = {entry["since"] for table in tables for entry in table.values() if "since" in entry}
    return sorted({_number(text) for text in {data["envoy"]["first"], *since, *data["features"].values()}})


def _number(text: str) -> Version:
    return tuple(int(part) for part in text.split("."))


def _text(version: Version) -> str:
    return ".".join(str(part) for part in version)
