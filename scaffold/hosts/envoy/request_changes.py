"""Have Envoy record what plugins change in each request: a Lua filter before them, and one after them.

The filters compare the headers that they see, and the access log gets what differs. Without them it has only
what the client sent last and got.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from scaffold.core.versions import Version
from scaffold.hosts.envoy.resources import EXTENSIONS, HTTP_MANAGER, TCP_PROXY, Config, access_log
from scaffold.hosts.envoy.user_bootstrap import dicts, filter_chains

SINCE = Version((1, 36))  # the first Envoy that we have tried this with
LUA = "envoy.filters.http.lua"
WITHOUT_LUA = "this Envoy has no Lua, with which the changes in requests are recorded: pass --no-changes"
_NAMES = ("scaffold-before", "scaffold-after")
_SCRIPT = Path(__file__).with_name("request_changes.lua")
_MICROSECONDS = "%Y-%m-%dT%H:%M:%S.%6f%z"
_FIELDS = {
    "time": f"%START_TIME({_MICROSECONDS})%",
    "ended": f"%EMIT_TIME({_MICROSECONDS})%",
    "microseconds": "%COMMON_DURATION(DS_RX_BEG:DS_TX_END:us)%",
    "changes": "%DYNAMIC_METADATA(scaffold)%",
}


def record(bootstrap: Config, slots: set[str]) -> None:
    """Change a bootstrap that has its access log already; `slots` are the names of the plugins' filters."""
    for end in _ends(bootstrap):
        for each in dicts(end, "access_log"):
            if (fields := _fields(each)) == _fields(access_log("")):  # it is ours, and not the user's
                fields.update(_FIELDS)
        names = [each.get("name") for each in dicts(end, "http_filters")]
        places = [place for place, name in enumerate(names) if name in slots]
        if places:
            before, after = map(_filter, _NAMES)
            end["http_filters"].insert(places[-1] + 1, after)
            end["http_filters"].insert(places[0], before)


def _fields(log: Config) -> Config:
    """What a line of an access log has; empty if it isn't JSON."""
    value: Any = log
    for key in ("typed_config", "log_format", "json_format"):
        value = value.get(key) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def _filter(name: str) -> Config:
    is_first = str(name == _NAMES[0]).lower()
    script = f"local FIRST = {is_first}\n{_SCRIPT.read_text()}"
    kind = f"{EXTENSIONS}.filters.http.lua.v3.Lua"
    return {"name": name, "typed_config": {"@type": kind, "default_source_code": {"inline_string": script}}}


def _ends(bootstrap: Config) -> Iterator[Config]:
    """What ends each chain of network filters: an HTTP connection manager, or a TCP proxy."""
    for listener in dicts(bootstrap.get("static_resources"), "listeners"):
        for each in (one for chain in filter_chains(listener) for one in dicts(chain, "filters")):
            config = each.get("typed_config")
            if isinstance(config, dict) and config.get("@type") in (HTTP_MANAGER, TCP_PROXY):
                yield config
