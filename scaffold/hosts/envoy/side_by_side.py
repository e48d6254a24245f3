"""One Envoy with several listeners, whose requests meet different filters: a plugin, others, or none.

Sources: envoyproxy/data-plane-api, envoy/extensions/filters/http/{header_mutation,lua,buffer}/v3.
"""

from __future__ import annotations

import copy
import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from scaffold.hosts.envoy import resources
from scaffold.hosts.envoy.local import Local, check, files_in, find_loop
from scaffold.hosts.envoy.resources import EXTENSIONS, Config
from scaffold.hosts.envoy.run_folder import Folder
from scaffold.hosts.envoy.running import EnvoyHost, serve
from scaffold.hosts.options import HostSettings
from scaffold.hosts.plugin import Plugin
from scaffold.project.load_requests import LoadResponse, Traffic

UPSTREAM = "answers"  # the name of the listener that is the upstream
_LARGEST_BODY = 64 << 20  # bytes that it reads before it answers
_HEADER, _GREETING = "x-hello", "Hello world from "
NATIVE: Config = {
    "name": "envoy.filters.http.header_mutation",
    "typed_config": {
        "@type": f"{EXTENSIONS}.filters.http.header_mutation.v3.HeaderMutation",
        "mutations": {
            "request_mutations": [
                {
                    "append": {
                        "header": {"key": _HEADER, "value": f"{_GREETING}%REQ(:AUTHORITY)%"},
                        "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
                    }
                }
            ]
        },
    },
}
LUA: Config = {
    "name": "envoy.filters.http.lua",
    "typed_config": {
        "@type": f"{EXTENSIONS}.filters.http.lua.v3.Lua",
        "default_source_code": {
            "inline_string": "function envoy_on_request(handle)\n"
            "  local headers = handle:headers()\n"
            f'  headers:replace("{_HEADER}", "{_GREETING}" .. (headers:get(":authority") or ""))\n'
            "end\n"
        },
    },
}


@dataclass(frozen=True)
class Listener:
    """A listener by its name, and what its requests meet: a plugin, a filter of Envoy's own, or nothing."""

    name: str
    plugin: Plugin | None = None
    native: Mapping[str, Any] | None = None


@dataclass(frozen=True)
class Side:
    """An Envoy that runs, and the ports of its listeners by their names."""

    host: EnvoyHost
    ports: Mapping[str, int]


@contextmanager
def start(
    listeners: Sequence[Listener],
    folder: Path,
    settings: HostSettings,
    traffic: Traffic,
) -> Iterator[Side]:
    """Run one Envoy with these listeners while the block runs. No access log is written.

    Envoy itself answers, each request alike. If requests have bodies, or the plugins call clusters, the
    upstream is one more listener, which reads a request to its end. Raises like `running.serve`.
    """
    plugins = [each.plugin for each in listeners if each.plugin]
    has_bodies = any(each.body for each in traffic.requests)
    upstream = has_bodies or any(plugin.clusters for plugin in plugins)
    settings = dataclasses.replace(settings, changes=False, port=0, internal=UPSTREAM)
    program = _Program(check(settings), tuple(listeners), traffic.response, upstream)
    looping = partial(find_loop, settings=settings)
    if not plugins:  # an Envoy without settings for plugins would take one to be there
        settings = dataclasses.replace(settings, types=())
    folder.mkdir(mode=0o700, exist_ok=True)
    with serve(program, plugins, files_in(folder.resolve()), settings, looping) as host:
        yield Side(host, host.admin.ports())


@dataclass(frozen=True)
class _Program(Local):
    """An Envoy whose configuration has these listeners in place of the one for a chain of plugins."""

    listeners: tuple[Listener, ...]
    response: LoadResponse
    upstream: bool

    def adapt(self, bootstrap: Config, _folder: Folder) -> Config:
        """Divide the chain among the listeners."""
        (made,) = (
            each for each in bootstrap["static_resources"]["listeners"] if "internal_listener" not in each
        )
        bootstrap["static_resources"]["listeners"].remove(made)
        bootstrap["static_resources"]["listeners"][:0] = [
            self._listener(made, each, slot)
            for each, slot in zip(self.listeners, self._slots(made), strict=True)
        ]
        resources.add_internal(bootstrap, self._answering())
        return bootstrap

    def _slots(self, made: Config) -> list[list[Config]]:
        slots = iter(_manager(made)["http_filters"])
        return [
            [next(slots)] if each.plugin else [dict(each.native)] if each.native else []
            for each in self.listeners
        ]

    def _listener(self, made: Config, listener: Listener, slot: list[Config]) -> Config:
        mine = copy.deepcopy(made) | {"name": listener.name}
        manager = _manager(mine)
        manager.pop("access_log", None)
        manager["http_filters"] = [*slot, resources.router()]
        if not self.upstream:
            manager["route_config"]["virtual_hosts"][0]["routes"] = [_answer(self.response)]
        return mine

    def _answering(self) -> Config:
        """The upstream. It reads a request to its end first: else the answer would end the request."""
        kind = f"{EXTENSIONS}.filters.http.buffer.v3.Buffer"
        buffer = {"@type": kind, "max_request_bytes": _LARGEST_BODY}
        hosts = {"name": "all", "domains": ["*"], "routes": [_answer(self.response)]}
        manager = {
            "stat_prefix": UPSTREAM,
            "route_config": {"name": UPSTREAM, "virtual_hosts": [hosts]},
            "http_filters": [
                {"name": "envoy.filters.http.buffer", "typed_config": buffer},
                resources.router(),
            ],
        }
        filters = [resources.http_manager(manager)]
        return {"name": UPSTREAM, "internal_listener": {}, "filter_chains": [{"filters": filters}]}


def _manager(listener: Config) -> Config:
    """The HTTP connection manager of a listener."""
    manager: Config = listener["filter_chains"][0]["filters"][-1]["typed_config"]
    return manager


def _answer(response: LoadResponse) -> Config:
    """The route by which Envoy answers by itself."""
    route: Config = {
        "match": {"prefix": "/"},
        "direct_response": {"status": response.status, "body": {"inline_string": response.body}},
    }
    if response.headers:
        route["response_headers_to_add"] = [
            {
                "header": {"key": name, "value": value.replace("%", "%%")},
                "append_action": "OVERWRITE_IF_EXISTS_OR_ADD",
            }
            for name, value in response.headers.items()
        ]
    return route
