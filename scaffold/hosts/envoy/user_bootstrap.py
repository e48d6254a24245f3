"""A bootstrap of the user's own: read, and our filters inserted into it.

Source: envoyproxy/data-plane-api, envoy/config/bootstrap/v3; Envoy dropped v2 in 1.18.
"""

from __future__ import annotations

import copy
import itertools
import json
from collections.abc import Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from scaffold.core import yaml_text
from scaffold.core.foreign_files import read_text, remedy
from scaffold.errors import ProjectError
from scaffold.hosts.envoy import resources as envoy_config
from scaffold.hosts.envoy import user_filter
from scaffold.hosts.envoy.resources import Chain, Config
from scaffold.hosts.envoy.user_filter import Slot
from scaffold.project.envoy_clusters import Address

MANAGER = "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager"
ROUTER = "envoy.extensions.filters.http.router.v3.Router"
ROUTER_NAME = "envoy.filters.http.router"
FIRST_PORT = 10000  # for listeners on any port; Envoy's own examples use it
_V2_NAMES = ("envoy.http_connection_manager", "envoy.router")


def read(path: Path) -> Config:
    """The bootstrap in a YAML or JSON file. Raises `ProjectError`, with the position, when it is neither."""
    try:
        content = yaml_text.parse(read_text(path, yaml_text.LARGEST))
    except OSError as error:
        message = f"cannot read the bootstrap {path}: {error.strerror or error}"
        raise ProjectError(message, hint=remedy(error)) from error
    except UnicodeDecodeError as error:
        raise ProjectError(f"cannot read the bootstrap {path}: {error}") from error
    except yaml_text.Endless as error:
        raise ProjectError(f"{path} {error}") from error
    except ValueError as error:
        raise ProjectError(f"{path} is neither YAML nor JSON: {error}") from error
    if not isinstance(content, dict):
        raise ProjectError(
            f"{path} isn't a bootstrap: it contains no mapping", hint="`scaffold bootstrap` prints one"
        )
    return content


def insert(
    bootstrap: Config,
    filters: Chain,
    *,
    access_log: str | None,
    source: Path,
    names: Sequence[str] = (),
) -> Config:
    """A copy of `bootstrap` with `filters` before the router of every HTTP connection manager.

    A plugin that has a place there already keeps it instead; `names` are the plugins', in their order.

    Network filters go before every TCP proxy or, in a chain with HTTP filters, before every manager.
    Services become extensions. What else we need is added if it is missing: the node's names, a watchdog
    that ends a looping plugin, our access log. `source` names the file in errors. Raises `ProjectError`
    when it is for v2, or has no place for the filters.
    """
    changed = copy.deepcopy(bootstrap)
    _refuse_v2(changed, source)
    new = _replaced(changed, filters, names)
    if new.services:
        _list(changed, "bootstrap_extensions").extend(new.services)
    inserted = False
    for listener in dicts(changed.get("static_resources"), "listeners"):
        managers = _before_routers(listener, new, source) if filters.kind == "http" else []
        proxies = _before(envoy_config.TCP_PROXY, listener, new.network) if filters.network else []
        for end in [*managers, *proxies]:
            if access_log:
                _list(end, "access_log").append(envoy_config.access_log(access_log))
        if managers or proxies:
            listener.setdefault("enable_reuse_port", False)
        inserted = inserted or not filters.filters or bool(managers if filters.http else proxies)
    if not inserted:
        raise _no_place(filters, source)
    defaults = envoy_config.bootstrap(listeners=[], clusters=[])
    for key in ("node", "watchdogs"):
        changed.setdefault(key, defaults[key])
    return changed


def _no_place(filters: Chain, source: Path) -> ProjectError:
    """The error for a bootstrap without a listener that filters fit into, or without any."""
    if not filters.filters:
        return ProjectError(f"{source} has no static listener", hint="add one, on any port")
    what = "TCP proxy" if filters.kind == "network" else "HTTP connection manager"
    where = "before one" if filters.kind == "network" else "before the router of one"
    return ProjectError(
        f"{source} has no {what} in a static listener",
        hint=f"the filter goes {where}; listeners from LDS can't be changed",
    )


def slot_of(bootstrap: Config, kind: str, name: str) -> Slot | None:
    """What a bootstrap says of the plugin called `name`, if it runs that already, as `kind` or as another."""
    plain = user_filter.plain(name)
    return next((slot for names, slot in slots(bootstrap, kind) if plain in names), None)


def slots(bootstrap: Config, kind: str) -> list[tuple[frozenset[str], Slot]]:
    """Every place of a plugin, with the names that it is known by; those that run it as `kind` are first."""
    kinds = sorted(envoy_config.TYPES, key=lambda each: each != kind)
    read = copy.deepcopy(bootstrap)
    return [slot for each in kinds for slot in user_filter.every(_chains(read, each), each)]


def clusters(bootstrap: Config) -> dict[str, Address]:
    """The static clusters that lead to a host and a port, by name; the first endpoint of each.

    `tls` isn't empty where the connection is encrypted.
    """
    found = {}
    for cluster in dicts(copy.deepcopy(bootstrap).get("static_resources"), "clusters"):
        endpoint = next(_endpoints(cluster), None)
        if endpoint and isinstance(cluster.get("name"), str):
            host, port = endpoint
            found[cluster["name"]] = Address(host, port, tls=_tls(cluster), http2=_http2(cluster))
    return found


def _endpoints(cluster: Config) -> Iterator[tuple[str, int]]:
    for group in dicts(cluster.get("load_assignment"), "endpoints"):
        for each in dicts(group, "lb_endpoints"):
            value: Any = each
            for key in ("endpoint", "address", "socket_address"):
                value = value.get(key) if isinstance(value, dict) else None
            host, port = (
                (value.get("address"), str(value.get("port_value")))
                if isinstance(value, dict)
                else (None, "")
            )
            if isinstance(host, str) and host and port.isdecimal():
                yield host, int(port)


def upstreams(bootstrap: Config) -> set[str]:
    """The names of the clusters that the listeners' own routes lead to."""
    return set(_clusters_in((bootstrap.get("static_resources") or {}).get("listeners")))


def _clusters_in(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        yield from (each for each in [value.get("cluster")] if isinstance(each, str))
        yield from (str(each.get("name")) for each in dicts(value.get("weighted_clusters"), "clusters"))
        for key, each in value.items():
            if key != "http_filters":  # those have clusters of their own
                yield from _clusters_in(each)
    elif isinstance(value, list):
        for each in value:
            yield from _clusters_in(each)


def _tls(cluster: Config) -> str:
    return "yes" if "UpstreamTlsContext" in str(cluster.get("transport_socket")) else ""


def _http2(cluster: Config) -> bool:
    options = cluster.get("typed_extension_protocol_options")
    return "http2_protocol_options" in cluster or "'http2_protocol_options'" in str(options)


def line_of(path: Path, text: str) -> int | None:
    """The number of the first line of a file that contains a text."""
    with suppress(OSError, UnicodeDecodeError):
        lines = read_text(path, yaml_text.LARGEST).splitlines()
        return next((number for number, line in enumerate(lines, 1) if text in line), None)
    return None


def without_type(where: str, name: str) -> str:
    """The hint for a filter without `typed_config`, which today's Envoy requires."""
    kind = f"type.googleapis.com/{ROUTER}" if name == ROUTER_NAME else "…"
    return f'{where} has {name} without its type: add `typed_config: {{"@type": {kind}}}`'


def _replaced(bootstrap: Config, filters: Chain, names: Sequence[str]) -> Chain:
    """Put filters where their plugins are already; those that are nowhere are left."""
    named = {envoy_config.filter_name(place): name for place, name in enumerate(names)}

    def left(kind: str, slots: list[Config]) -> list[Config]:
        return [
            slot
            for slot in slots
            if not user_filter.replace(_chains(bootstrap, kind), kind, named.get(slot["name"], ""), slot)
        ]

    by_kind = {"http": filters.http, "network": filters.network, "service": filters.services}
    return Chain(*(left(kind, slots) for kind, slots in by_kind.items()))


def _chains(bootstrap: Config, kind: str) -> Iterator[list[Any]]:
    """The lists of filters, or of extensions, that have plugins of a kind."""
    if kind == "service":
        yield _list(bootstrap, "bootstrap_extensions") if "bootstrap_extensions" in bootstrap else []
        return
    for listener in dicts(bootstrap.get("static_resources"), "listeners"):
        if kind == "http":
            for _, _, manager in _ending_with(MANAGER, listener):
                yield _list(manager, "http_filters")
        else:
            for chain in filter_chains(listener):
                yield _list(chain, "filters")


def elsewhere(bootstrap: Config, folder: Path) -> Config:
    """A copy of `bootstrap` that takes nothing of an Envoy that runs with it: any free ports, other sockets.

    The sockets are in `folder`. It has no admin interface.
    """
    changed = copy.deepcopy(bootstrap)
    changed.pop("admin", None)
    for socket in _sockets(changed):
        socket["port_value"] = 0
    for number, listener in enumerate(dicts(changed.get("static_resources"), "listeners")):
        address = listener.get("address")
        if isinstance(address, dict) and isinstance(address.get("pipe"), dict):
            address["pipe"]["path"] = str(folder / f"listener{number}.sock")
    return changed


def admin(bootstrap: Config, source: Path) -> Config:
    """The admin interface of a bootstrap; empty if there is none. Raises `ProjectError` for what is none."""
    found = bootstrap.get("admin") or {}
    if not isinstance(found, dict) or not isinstance(found.get("address") or {}, dict):
        raise ProjectError(f"the `admin` of {source} isn't an admin interface", hint="leave it out")
    return found


def open_up(bootstrap: Config) -> tuple[Config, dict[int, int]]:
    """A copy of `bootstrap` for a container, where a port is reachable only if it is on all addresses.

    Every listener, and an admin interface on a port, get one of their own there. Also returns, for each of
    these ports, the one that the bootstrap asked for, or 0: the first listener's first, the admin's last.
    """
    changed = copy.deepcopy(bootstrap)
    sockets = _sockets(changed)
    taken = {int(socket["port_value"]) for socket in sockets}
    free = (port for port in itertools.count(FIRST_PORT) if port not in taken)
    asked: dict[int, int] = {}
    for socket in sockets:
        wanted = int(socket["port_value"])
        socket["address"] = "::" if ":" in str(socket.get("address")) else "0.0.0.0"  # noqa: S104 - within
        socket["port_value"] = wanted or next(free)
        asked[socket["port_value"]] = wanted
    return changed, asked


def dump(bootstrap: Config, *, as_json: bool = False) -> str:
    """The bootstrap as the text of a file, YAML or JSON."""
    if as_json:
        return json.dumps(bootstrap, indent=2) + "\n"
    import yaml

    return str(yaml.safe_dump(bootstrap, sort_keys=False, width=110))


def _before_routers(listener: Config, filters: Chain, source: Path) -> list[Config]:
    """Insert filters into, or before, every connection manager. Returns the managers."""
    managers = _before(MANAGER, listener, filters.network)
    for manager in managers:
        if filters.http:
            _insert(manager, filters.http, source)
        manager["preserve_external_request_id"] = True
    return managers


def _before(kind: str, listener: Config, filters: list[Config]) -> list[Config]:
    """Insert network filters before every filter of that kind. Returns the configurations of those."""
    places = _ending_with(kind, listener)
    for chain, place, _ in places:
        chain["filters"][place:place] = copy.deepcopy(filters)
    return [config for _, _, config in places]


def _ending_with(kind: str, listener: Config) -> list[tuple[Config, int, Config]]:
    """The chains that have a filter of that kind, its place, and its configuration."""
    return [
        (chain, place, config)
        for chain in filter_chains(listener)
        for place, network_filter in enumerate(dicts(chain, "filters"))
        if isinstance(config := network_filter.get("typed_config", {}), dict)
        and str(config.get("@type", "")).endswith(kind)
    ]


def filter_chains(listener: Config) -> list[Config]:
    """Those of a listener, the default one last."""
    default = listener.get("default_filter_chain")
    return [*dicts(listener, "filter_chains"), *([default] if isinstance(default, dict) else [])]


def _sockets(bootstrap: Config) -> list[Config]:
    """The sockets of the listeners and, last, of the admin interface. An invalid port is left to Envoy."""
    listeners = dicts(bootstrap.get("static_resources"), "listeners")
    admin = bootstrap.get("admin")
    every = [*listeners, *([admin] if isinstance(admin, dict) else [])]
    addresses = [each.get("address") for each in every]
    sockets = [each.get("socket_address") for each in addresses if isinstance(each, dict)]
    return [each for each in sockets if isinstance(each, dict) and str(each.get("port_value")).isdecimal()]


def _insert(manager: Config, filters: list[Config], source: Path) -> None:
    chain = _list(manager, "http_filters")
    for place, http_filter in enumerate(chain):
        typed = http_filter.get("typed_config") if isinstance(http_filter, dict) else None
        if isinstance(typed, dict) and str(typed.get("@type", "")).endswith(ROUTER):
            chain[place:place] = copy.deepcopy(filters)
            return
    name = manager.get("stat_prefix", "unnamed")
    hint = f"a filter goes before `{ROUTER_NAME}`, which ends every chain"
    if any(each.get("name") == ROUTER_NAME for each in dicts(manager, "http_filters")):
        hint = without_type("the file", ROUTER_NAME)
    raise ProjectError(
        f"the HTTP connection manager `{name}` of {source} has no router among its http_filters", hint=hint
    )


def _refuse_v2(value: Any, source: Path) -> None:
    """Raise for what only v2 had: untyped `config`, its filters' names, its types."""
    if isinstance(value, dict):
        kind, name = str(value.get("@type", "")), value.get("name")
        v2_type = "/envoy.api.v2." in kind or ("/envoy.config.filter." in kind and ".v2" in kind)
        if v2_type or (name in _V2_NAMES and "typed_config" not in value) or (name and "hosts" in value):
            raise ProjectError(
                f"{source} is for Envoy's v2 API ({kind or name}), which Envoy dropped in 1.18",
                hint="convert it to v3; `scaffold bootstrap` prints a working example",
            )
        for item in value.values():
            _refuse_v2(item, source)
    elif isinstance(value, list):
        for item in value:
            _refuse_v2(item, source)


def _list(parent: Config, key: str) -> list[Any]:
    """The list `key`, made if it is missing; a lone object becomes one, as Envoy reads it."""
    items = parent.get(key)
    parent[key] = items if isinstance(items, list) else [] if items is None else [items]
    return parent[key]  # type: ignore[no-any-return]


def dicts(parent: object, key: str) -> list[Config]:
    """The objects in the list `key`, which a lone object becomes; none if there is no such list."""
    if not isinstance(parent, dict) or key not in parent:
        return []
    return [item for item in _list(parent, key) if isinstance(item, dict)]
