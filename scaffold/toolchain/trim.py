"""Which callbacks of the SDK a plugin overrides; the linker is told to leave out the others.

The SDK exports every callback, and the host calls each. One that no crate of the plugin overrides does what
the host does without it, so its export, and all code that only it reaches, can go. What decides is rustc's
MIR of each crate that can reach the SDK: all functions after macros were expanded and features chosen. Names
in the linked module say less, as the compiler merges functions that are equal.
Sources: proxy-wasm 0.2.5, src/dispatcher.rs and src/traits.rs; proxy-wasm-cpp-host, src/context.cc.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaffold.core.foreign_files import read_bytes, read_text
from scaffold.project.cargo_toml import NAME

_SIZE_LIMIT = 2**30  # bytes of MIR
# A call whose answer nobody wants is still forgotten when the answer comes, so these callbacks stay, too.
_CALLS = {
    "proxy_on_http_call_response": ("dispatch_http_call",),
    "proxy_on_grpc_receive": ("dispatch_grpc_call",),
    "proxy_on_grpc_close": ("dispatch_grpc_call", "open_grpc_stream"),
}
# what the SDK calls of a context, by the export that does
CALLBACKS: Mapping[str, tuple[str, ...]] = {
    "proxy_on_configure": ("on_configure",),
    "proxy_on_done": ("on_done",),
    "proxy_on_downstream_connection_close": ("on_downstream_close",),
    "proxy_on_downstream_data": ("on_downstream_data",),
    "proxy_on_foreign_function": ("on_foreign_function",),
    "proxy_on_grpc_close": ("on_grpc_call_response", "on_grpc_stream_close"),
    "proxy_on_grpc_receive": ("on_grpc_call_response", "on_grpc_stream_message"),
    "proxy_on_grpc_receive_initial_metadata": ("on_grpc_stream_initial_metadata",),
    "proxy_on_grpc_receive_trailing_metadata": ("on_grpc_stream_trailing_metadata",),
    "proxy_on_http_call_response": ("on_http_call_response",),
    "proxy_on_log": ("on_log",),
    "proxy_on_new_connection": ("on_new_connection",),
    "proxy_on_queue_ready": ("on_queue_ready",),
    "proxy_on_request_body": ("on_http_request_body",),
    "proxy_on_request_headers": ("on_http_request_headers",),
    "proxy_on_request_trailers": ("on_http_request_trailers",),
    "proxy_on_response_body": ("on_http_response_body",),
    "proxy_on_response_headers": ("on_http_response_headers",),
    "proxy_on_response_trailers": ("on_http_response_trailers",),
    "proxy_on_tick": ("on_tick",),
    "proxy_on_upstream_connection_close": ("on_upstream_close",),
    "proxy_on_upstream_data": ("on_upstream_data",),
    "proxy_on_vm_start": ("on_vm_start",),
}
_KNOWN_SDK = re.compile(r"0\.2\.\d+")

Package = tuple[str, str]  # a name and a version


def _that_keep(callback: str) -> tuple[str, ...]:
    """The words that keep a callback, the export's own name among them: another crate may define it."""
    return *CALLBACKS[callback], *_CALLS.get(callback, ()), callback


_WORD = re.compile(
    rb"\b(?:%s)\b" % b"|".join({word.encode() for each in CALLBACKS for word in _that_keep(each)})
)


class Undecided(Exception):
    """Why it can't be said which callbacks a plugin overrides."""


@dataclass(frozen=True)
class Crate:
    """A library that cargo has compiled for a plugin, or for another one in the same call."""

    package: Package
    library: Path


@dataclass(frozen=True)
class Decision:
    """What becomes of each callback; `kept` says by which word, in which crate."""

    dropped: tuple[str, ...]
    kept: Mapping[str, str]


def crate_of(message: Mapping[str, Any]) -> Crate | None:
    """The library that one of cargo's messages is about; None for anything else."""
    source, _, fragment = str(message.get("package_id", "")).partition("#")
    name, at, version = fragment.rpartition("@")
    library = next((name for name in message.get("filenames", ()) if name.endswith(".rlib")), None)
    if library is None:
        return None
    return Crate((name if at else Path(source.partition("?")[0]).name, version), Path(library))


def decide(plugin: Package, mir: Path, crates: Iterable[Crate], lock: Path) -> Decision:
    """Which callbacks to drop from a plugin whose own MIR is in a file.

    Raises `Undecided` if the MIR of a crate that may override one is missing or old, and for another SDK.
    """
    packages = _Packages.read(lock)
    reaching = packages.reaching_sdk(plugin)
    found = [(plugin[0], _words(mir))]
    for crate in crates:
        here = crate.library.parent in (mir.parent, mir.parent.parent)  # not compiled for the machine
        if here and crate.package in reaching and crate.package != plugin:
            name = crate.library.stem.removeprefix("lib")
            found.append((crate.package[0], _words(crate.library.with_name(f"{name}.mir"))))
    kept: dict[str, str] = {}
    for callback in CALLBACKS:
        for word in _that_keep(callback):
            for name, words in found:
                if word in words:
                    kept.setdefault(callback, f"`{word}` in {name}")
    return Decision(tuple(name for name in CALLBACKS if name not in kept), kept)


def _words(mir: Path) -> frozenset[str]:
    """The words of a crate's MIR, if the last rustc that compiled the crate wrote it.

    That rustc has named the file in the list of what it wrote, which is in the first columns of its dep-info.
    """
    try:
        written = read_text(mir.with_suffix(".d")).replace("\\ ", " ")
        if not any(line.startswith(f"{mir}:") for line in written.splitlines()):
            raise Undecided(f"{mir.stem} was compiled without scaffold, by a plain cargo")
        return frozenset(map(bytes.decode, _WORD.findall(read_bytes(mir, _SIZE_LIMIT))))
    except (OSError, ValueError) as error:
        raise Undecided(f"what {mir.stem} overrides isn't known") from error


class _Packages:
    """The packages of a Cargo.lock, and what each depends on."""

    def __init__(self, entries: Sequence[Mapping[str, Any]]) -> None:
        self._by_name: dict[str, list[Package]] = {}
        self._source: dict[Package, str] = {}
        for entry in entries:
            package = str(entry["name"]), str(entry["version"])
            self._by_name.setdefault(package[0], []).append(package)
            self._source[package] = str(entry.get("source", ""))
        self._uses = {
            (str(entry["name"]), str(entry["version"])): [*self._named(entry.get("dependencies", ()))]
            for entry in entries
        }

    @classmethod
    def read(cls, path: Path) -> _Packages:
        """Raises `Undecided` for what isn't a Cargo.lock."""
        try:
            return cls(tomllib.loads(read_text(path))["package"])
        except (OSError, ValueError, LookupError, TypeError) as error:
            raise Undecided(f"{path} can't be read") from error

    def _named(self, words: Iterable[str]) -> Iterator[Package]:
        """What "log", "log 0.4.35" and "log 0.4.35 (registry+…)" stand for, each as short as it may be."""
        for word in words:
            name, version, *_ = [*word.split(), ""]
            yield from (each for each in self._by_name.get(name, ()) if version in ("", each[1]))

    def reaching_sdk(self, plugin: Package) -> set[Package]:
        """The packages below a plugin that depend on the SDK, even by way of others, the plugin included.

        Raises `Undecided` if there is no SDK, or one that `CALLBACKS` doesn't describe.
        """
        below = self._below(plugin)
        for sdk in (each for each in below if each[0] == NAME):
            if not _KNOWN_SDK.fullmatch(sdk[1]) or not self._source[sdk].startswith(("registry+", "sparse+")):
                raise Undecided(f"{NAME} {sdk[1]} isn't the SDK of the registry, in a version 0.2")
        reaching = {
            each for each in below if each[0] != NAME and any(name == NAME for name, _ in self._below(each))
        }
        if plugin not in reaching:
            raise Undecided(f"it doesn't depend on {NAME}")
        return reaching

    def _below(self, package: Package) -> set[Package]:
        """A package and all that it depends on."""
        seen, waiting = set(), [package]
        while waiting:
            each = waiting.pop()
            if each not in seen:
                seen.add(each)
                waiting += self._uses.get(each, ())
        return seen
