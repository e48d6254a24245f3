"""What Envoy's own configuration in a repository says of a plugin: root id, configuration, clusters."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any

from scaffold.commands.adopt.committed import Committed
from scaffold.core import host_names, yaml_text
from scaffold.core.events import Noted, Warned, emit
from scaffold.hosts.envoy import user_bootstrap, user_filter
from scaffold.hosts.envoy.resources import Config
from scaffold.hosts.envoy.user_filter import Slot
from scaffold.project.called_clusters import names_in
from scaffold.project.envoy_clusters import GRPC, NAME, UPSTREAM, Address

# an extended regular expression: files with a plugin's place
MENTIONED = r"filters\.(http|network)\.wasm|wasm\.v3\.WasmService"
_SUFFIXES = (".yaml", ".yml", ".json")
_OF_DOCKER = "host.docker.internal"  # how a container calls the machine that it runs on
_HERE = "127.0.0.1"


@dataclass(frozen=True)
class Known:
    """What a bootstrap says of a plugin. `path` is the file; `clusters` is like the setting."""

    path: str = ""
    slot: Slot = field(default_factory=lambda: Slot("", None, None))
    clusters: Mapping[str, str] = field(default_factory=dict)


def read(
    committed: Committed, texts: Mapping[str, str], names: Iterable[str], kind: str, *, alone: bool
) -> Known:
    """What the nearest bootstrap among the texts, path -> content, says of the plugin.

    `names` are what it may be called there; one that is `alone` in the repository may have any name. The
    sources among the texts say which clusters it calls.
    """
    plain = {user_filter.plain(name) for name in names}
    for path, bootstrap in _bootstraps(committed, texts):
        slots = user_bootstrap.slots(bootstrap, kind)
        named = [slot for known, slot in slots if known & plain]
        if named or (alone and len(slots) == 1):
            slot = named[0] if named else slots[0][1]
            sources = [text for each, text in texts.items() if each.endswith(".rs")]
            return Known(path, slot, _clusters(bootstrap, slot, sources, committed.from_crate(path)))
    return Known()


def _bootstraps(committed: Committed, texts: Mapping[str, str]) -> Iterator[tuple[str, Config]]:
    """The bootstraps, those in the crate's own folder first."""
    paths = [path for path in texts if path.endswith(_SUFFIXES) and committed.is_related(path)]
    for path in sorted(
        paths, key=lambda path: (not path.startswith(committed.prefix), path.count("/"), path)
    ):
        try:
            content = yaml_text.parse(texts[path])
        except ValueError:  # of another kind, such as a template, or several documents
            continue
        if isinstance(content, dict) and "static_resources" in content:
            yield path, content


def _clusters(bootstrap: Config, slot: Slot, sources: Iterable[str], path: str) -> dict[str, str]:
    """The clusters that the plugin calls, by name: each is "upstream" or a URL."""
    every = user_bootstrap.clusters(bootstrap)
    routed = user_bootstrap.upstreams(bootstrap)
    for name in sorted(routed & every.keys()):
        host = every[name].host
        if not host_names.is_of_containers(host):
            emit(Noted(f"{path} sends requests on to {_url(every[name])}; `--upstream` takes that URL"))
    called = set().union(*(names_in(text, every) for text in sources)) | _texts_in(slot.configuration, every)
    called = {name for name in called if name != UPSTREAM and NAME.fullmatch(name)}
    places = {name: _place(name, every[name], path, name in routed) for name in sorted(called)}
    return {name: place for name, place in places.items() if place}


def _place(name: str, address: Address, path: str, routed: bool) -> str:
    """Where a cluster is for us; "" if that can't be said."""
    built_in = f"{GRPC}{UPSTREAM}" if address.http2 else UPSTREAM
    if routed:
        return built_in
    if address.host != _OF_DOCKER and host_names.is_of_containers(address.host):
        emit(
            Noted(
                f"{path} has the cluster `{name}` at {address.host}, which only containers know:"
                " the built-in upstream stands in for it"
            )
        )
        return built_in
    if address.tls and address.http2:
        emit(Warned(f"{path} has the cluster `{name}` for gRPC over TLS, which `clusters` can't have"))
        return ""
    return _url(address)


def _url(address: Address) -> str:
    scheme = "https" if address.tls else "grpc" if address.http2 else "http"
    host = _HERE if address.host in (_OF_DOCKER, "0.0.0.0") else address.host  # noqa: S104 - read, not bound
    return f"{scheme}://{f'[{host}]' if ':' in host else host}:{address.port}"


def _texts_in(configuration: bytes | None, names: Iterable[str]) -> set[str]:
    """Those of some names that a configuration has as a text."""
    text = (configuration or b"").decode(errors="replace")
    return {name for name in names if json.dumps(name) in text}


# --- the settings, and the files that they name


@dataclass(frozen=True)
class Settings:
    """Settings for Cargo.toml, and the files that they name: path in the crate -> content."""

    values: Mapping[str, Any]
    files: Mapping[str, str]


def settings(known: Known, committed: Committed) -> Settings:
    """What a bootstrap says, as settings. A file that exists isn't changed."""
    values: dict[str, Any] = {}
    files: dict[str, str] = {}
    for key, content, stem in (
        ("configuration", known.slot.configuration, "config"),
        ("vm-configuration", known.slot.vm_configuration, "vm-config"),
    ):
        if content and (file := _file(content, stem, key, committed)):
            values[key], text = file
            files |= {values[key]: text}
    if known.slot.env:
        values["env"] = list(known.slot.env)
    if known.clusters:
        values["clusters"] = dict(known.clusters)
    return Settings(values, {name: text for name, text in files.items() if name not in committed.own})


def _file(content: bytes, stem: str, key: str, committed: Committed) -> tuple[str, str] | None:
    """The name of a file with a configuration, and its text; a new one, unless one has the same content."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        emit(Warned(f'the plugin\'s {key} is binary: put it into a file, and write `{key} = "FILE"`'))
        return None
    suffix = ".json" if _is_json(text) else ".txt"
    for name in (f"{stem}{suffix}", f"envoy-{stem}{suffix}"):
        if name not in committed.own or committed.read(committed.path(name)) in (text, f"{text}\n"):
            return name, text
    emit(Warned(f"{stem}{suffix} exists, so the plugin's {key} wasn't written anywhere"))
    return None


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True
