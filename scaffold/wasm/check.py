"""Which Envoys load a module, and why others don't: rules over check.toml.

The module isn't compiled: its code may still be broken, or trap when it starts.
Istio, Envoy Gateway and Higress run an Envoy, and load what theirs loads.
Source: proxy-wasm-cpp-host, src/wasm.cc and src/v8/v8.cc.
"""

from __future__ import annotations

import difflib
import functools
import tomllib
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import Any

from scaffold.core.events import Warned, emit
from scaffold.core.text import escaped
from scaffold.core.versions import Version
from scaffold.wasm.module import Extern, WasmFile, WasmModule, readable

MARKER = "proxy_abi_version_"
WASI = ("wasi_snapshot_preview1", "wasi_unstable")
HOSTCALLS = "env"
_LIMIT = 20  # problems of one rule: a broken module can have a million


@dataclass(frozen=True)
class Problem:
    """Why a module isn't loaded, or what looks wrong where it isn't `fatal`; `hint` says what to do.

    `imported` is the import that it is about.
    """

    rule: str
    message: str
    hint: str | None = None
    fatal: bool = True
    imported: Extern | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Verdict:
    """Whether the Envoys from `first` to `last`, such as "1.17", load a module."""

    first: str
    last: str
    loads: bool
    problems: tuple[Problem, ...]

    @property
    def envoys(self) -> str:
        """Their versions, such as "1.17 to 1.20"."""
        return self.first if self.first == self.last else f"{self.first} to {self.last}"


@dataclass(frozen=True)
class Host:
    """What a version of Envoy has for plugins of an ABI.

    `imports` is "module.name" -> signature, `setup` and `callbacks` are name -> signature.
    """

    version: Version
    abi: str
    imports: Mapping[str, str] = field(repr=False)
    setup: Mapping[str, str] = field(repr=False)
    callbacks: Mapping[str, str] = field(repr=False)


def judge(module: WasmFile, version: Version, wasi: Version | None = None) -> tuple[Problem, ...]:
    """What a version of Envoy finds wrong with a module. It loads the module unless a problem is fatal.

    A later Envoy than we know counts as the latest that we know. A changed one has the `wasi` of another.
    """
    if module.component:
        return (
            Problem(
                "component",
                "it is a WebAssembly component, and Envoy loads core modules",
                "compile for wasm32-wasip1, not wasm32-wasip2",
            ),
        )
    if module.abi_version is None:
        return (_no_marker(module),)
    host = offered(Version(version[:2]), module.abi_version, wasi)
    problems: list[Problem] = []
    for rule in RULES:
        broken = list(islice(rule(module, host), _LIMIT + 1))
        problems += broken[:_LIMIT]
        if len(broken) > _LIMIT:
            problems.append(Problem(broken[0].rule, "there are more of these", fatal=broken[0].fatal))
    return tuple(problems)


def blamed(module: WasmFile, problem: Problem) -> Problem:
    """A problem whose hint also says which function brings the import that it is about, if that is known."""
    if problem.imported is None:
        return problem
    from scaffold.wasm import blame

    found = blame.of(module, problem.imported)
    brought = f"it comes from {found}" if found else None
    return replace(problem, hint="; ".join(filter(None, [problem.hint, brought])) or None)


def _of_each_rule(module: WasmFile, version: Version | None = None) -> list[Problem]:
    """One problem of each rule, for an Envoy (the latest): fatal ones, and those with a hint, first."""
    problems = judge(module, version or Version.parse(facts()["envoy"]["last"]))
    by_rule: dict[str, Problem] = {}
    for each in sorted(problems, key=lambda each: (not each.fatal, each.hint is None)):
        by_rule.setdefault(each.rule, each)
    return [blamed(module, each) for each in by_rule.values()]


def fatal_problem(module: WasmFile) -> Problem | None:
    """Why the latest Envoy doesn't load a module; None if it does."""
    return next((each for each in _of_each_rule(module) if each.fatal), None)


def warn_about(module: WasmModule) -> None:
    """Warn about what keeps the latest Envoy from loading a module, or looks wrong in it."""
    name = module.path.name
    for each in _of_each_rule(module.file):
        subject = f"Envoy doesn't load {name}" if each.fatal else f"{name} may not work"
        emit(Warned("; ".join(filter(None, [f"{subject}: {each.message}", each.hint]))))


def hint_about(modules: Iterable[WasmModule], version: Version) -> str | None:
    """What to do about the first module that a version of Envoy doesn't load; None if it loads them."""
    problems = (each for module in modules for each in _of_each_rule(module.file, version))
    return next((each.hint or each.message for each in problems if each.fatal), None)


def envoys() -> tuple[Version, ...]:
    """The Envoys that we know, the earliest first."""
    first, last = (Version.parse(facts()["envoy"][end]) for end in ("first", "last"))
    return tuple(Version((1, minor)) for minor in range(first[1], last[1] + 1))


def verdicts(module: WasmFile) -> tuple[Verdict, ...]:
    """Whether each Envoy that has the wasm filter loads a module, the latest first."""
    changes, last = _changes(), Version.parse(facts()["envoy"]["last"])
    listed: list[Verdict] = []
    for first, following in zip(changes, [*changes[1:], Version((last[0], last[1] + 1))], strict=True):
        problems = judge(module, first)
        if listed and listed[-1].problems == problems:
            first = Version.parse(listed.pop().first)
        loads = not any(problem.fatal for problem in problems)
        until = Version((following[0], following[1] - 1))
        listed.append(Verdict(str(first), str(until), loads, problems))
    return tuple(
        replace(each, problems=tuple(blamed(module, problem) for problem in each.problems))
        for each in reversed(listed)
    )


def group(extern: Extern) -> str:
    """The group of an import: "hostcalls", "WASI" or "others"."""
    data = facts()
    if extern.module in WASI and extern.name in data["wasi"]:
        return "WASI"
    return "hostcalls" if extern.module == HOSTCALLS and extern.name in data["hostcalls"] else "others"


def is_callback(name: str) -> bool:
    """Whether Envoy calls an export of this name while traffic flows."""
    return name in facts()["callbacks"]


def _no_marker(module: WasmFile) -> Problem:
    unknown = next((name for name in module.callable if name.startswith(MARKER)), None)
    if unknown:
        return Problem("abi", f"its ABI is unknown to Envoy: `{escaped(unknown)}`")
    return Problem(
        "abi",
        "it exports no proxy-wasm ABI marker, so it isn't a plugin",
        "does its src/lib.rs have `proxy_wasm::main!`, and does it depend on proxy-wasm 0.2?",
    )


def _names(module: WasmFile, host: Host) -> Iterator[Problem]:
    if not module.names_readable:
        yield Problem("names", "its section `name` is malformed", "strip it, or build the module again")


def _imports(module: WasmFile, host: Host) -> Iterator[Problem]:
    for each in module.imports:
        wanted, name = host.imports.get(str(each)), escaped(str(each))
        if each.kind in ("memory", "table"):  # which Envoy makes
            continue
        if each.kind != "function":
            yield Problem("import", f"it imports the {each.kind} `{name}`, and Envoy provides none")
        elif wanted is None:
            message = f"it imports `{name}`, which Envoy doesn't have"
            yield Problem("import", message, _elsewhere(each, host), imported=each)
        elif wanted != each.signature:
            yield Problem(
                "import-type",
                f"it imports `{name}` as {readable(each.signature)}, and Envoy has {readable(wanted)}",
                imported=each,
            )


def _elsewhere(each: Extern, host: Host) -> str | None:
    """Who has what this Envoy lacks."""
    data = facts()
    entry = data["wasi"].get(each.name) if each.module in WASI else None
    entry = data["hostcalls"].get(each.name) if each.module == HOSTCALLS else entry
    if entry and host.abi not in entry.get("abi", [host.abi]):
        return f"it belongs to ABI {' and '.join(entry['abi'])}, and this module is for {host.abi}"
    if entry:
        other = "" if entry["signature"] == each.signature else f", as {readable(entry['signature'])}"
        return f"Envoy {entry['since']} and later have it{other}"
    for beginning, hint in data["foreign"].items():
        if each.module.startswith(beginning) or each.name.startswith(beginning):
            return str(hint)
    if each.module in WASI:
        return "no Envoy has it: a crate for wasm32-unknown-unknown imports nothing of WASI"
    near = difflib.get_close_matches(escaped(str(each)), host.imports, n=1, cutoff=0.75)
    return f"did you mean `{near[0]}`?" if near else None


def _memory(module: WasmFile, host: Host) -> Iterator[Problem]:
    limit = facts()["limits"]["memory-pages"]
    if host.version >= Version.parse(limit["since"]) and module.memory_pages > limit["most"]:
        pages, most = module.memory_pages, limit["most"]
        yield Problem(
            "memory",
            f"it starts with {pages:,} pages of memory, and Envoy allows at most {most:,} (1 GiB)",
        )


def _start_section(module: WasmFile, host: Host) -> Iterator[Problem]:
    if module.start:
        yield Problem(
            "start",
            "it has a start section, and Envoy crashes when that calls a hostcall",
            "export what it does as `_initialize`",
        )


def _allocator(module: WasmFile, host: Host) -> Iterator[Problem]:
    if not {"malloc", "proxy_on_memory_allocate"} & module.callable.keys():
        yield Problem("allocator", "it exports neither `malloc` nor `proxy_on_memory_allocate`")


def _exports(module: WasmFile, host: Host) -> Iterator[Problem]:
    exported = module.callable
    for name, wanted in (*_looked_up(exported, host).items(), *host.callbacks.items()):
        actual = exported.get(name, wanted)
        if actual != wanted:
            yield Problem(
                "export-type",
                f"it exports `{name}` as {readable(actual)}, and Envoy calls it as {readable(wanted)}",
            )


def _looked_up(exported: Mapping[str, str], host: Host) -> dict[str, str]:
    """The exports for the setup that Envoy looks up in a module with these exports."""
    entries = facts()["setup"]
    return {
        name: signature
        for name, signature in host.setup.items()
        if entries[name].get("without") not in exported
        and ("with" not in entries[name] or entries[name]["with"] in exported)
    }


def _setup(module: WasmFile, host: Host) -> Iterator[Problem]:
    exported = module.callable
    if "_initialize" in exported:
        return
    if "_start" not in exported:
        yield Problem(
            "setup",
            "it exports neither `_initialize` nor `_start`, so nothing sets it up",
            "does its src/lib.rs have `proxy_wasm::main!`?",
            fatal=False,
        )
    elif module.sdk.startswith("Rust"):
        yield Problem(
            "setup",
            "it exports `_start` but no `_initialize`: then every call sets up the C library again",
            "use `proxy_wasm::main!` instead",
            fatal=False,
        )


def _features(module: WasmFile, host: Host) -> Iterator[Problem]:
    for name, since in facts()["features"].items():
        if host.version < Version.parse(since) and name in module.code.features:
            yield Problem(
                "features",
                f"its code uses {name}, which Envoy doesn't have",
                f"Envoy {since} and later have it",
            )


# each yields the problems of one kind
RULES: tuple[Callable[[WasmFile, Host], Iterator[Problem]], ...] = (
    _names,
    _imports,
    _start_section,
    _memory,
    _allocator,
    _exports,
    _setup,
    _features,
)


@functools.cache
def facts() -> dict[str, Any]:
    """The tables of check.toml."""
    return tomllib.loads(Path(__file__).with_suffix(".toml").read_text(encoding="utf-8"))


@functools.cache
def offered(version: Version, abi: str, wasi: Version | None = None) -> Host:
    """What a version of Envoy, maybe with the WASI of another, has for plugins of an ABI."""
    data = facts()

    def table(name: str, version: Version = version) -> dict[str, str]:
        return {
            key: entry.get(abi, entry["signature"])
            for key, entry in data[name].items()
            if abi in entry.get("abi", [abi])
            and version >= Version.parse(entry.get("since", data["envoy"]["first"]))
        }

    imports = {f"{HOSTCALLS}.{name}": signature for name, signature in table("hostcalls").items()}
    for module in WASI:
        imports |= {
            f"{module}.{name}": signature for name, signature in table("wasi", wasi or version).items()
        }
    return Host(version, abi, imports, table("setup"), table("callbacks"))


@functools.cache
def _changes() -> list[Version]:
    """The Envoys in which something changed, the earliest first."""
    data = facts()
    tables = (data[name] for name in ("hostcalls", "wasi", "setup", "callbacks", "limits"))
    since = {entry["since"] for table in tables for entry in table.values() if "since" in entry}
    every = {data["envoy"]["first"], *since, *data["features"].values()}
    return sorted(map(Version.parse, every))
