"""The calls between Envoy and a plugin, as Envoy's log has them at the level `trace`.

`[host->vm] proxy_on_request_headers(2, 6, 1)` calls the plugin, `[vm->host] env.proxy_log(2, 4096, 12)` the
host, and each has a line for its return: `[vm<-host] env.proxy_log return: 0`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import replace

from scaffold.hosts.envoy.log import Line
from scaffold.wasm.floor import Callback, Hostcall

_CALL = re.compile(r"\[(host->vm|vm->host)\] ([\w.]+)\(([-\d, ]*)\)")
_RETURN = re.compile(r"\[(host<-vm|vm<-host)\] ([\w.]+) return: (\S+)")
_ALLOCATORS = ("malloc", "proxy_on_memory_allocate")
_OF_ROOT = ("proxy_on_tick", "proxy_on_queue_ready")  # what may come at any time


def hostcalls(lines: Iterable[Line]) -> list[Hostcall]:
    """All hostcalls that have returned, whoever made them."""
    return [call for callback in callbacks(lines, of_root=True) for call in callback.hostcalls]


def callbacks(lines: Iterable[Line], *, of_root: bool = False) -> list[Callback]:
    """The calls of the plugin that have returned, in their order, with what each asked of the host.

    Timers are left out, unless the root's calls are wanted too.
    """
    made: list[Callback] = []
    name = ""
    arguments: tuple[int, ...] = ()
    done: list[Hostcall] = []
    open_call: Hostcall | None = None
    for line in lines:
        if call := _CALL.match(line.text):
            values = tuple(int(each) for each in call[3].split(",") if each.strip())
            if call[1] == "vm->host":
                open_call = Hostcall(call[2], values)
            elif open_call and call[2] in _ALLOCATORS:
                open_call = replace(open_call, allocated=(*open_call.allocated, *values))
            elif call[2] not in _ALLOCATORS:
                name, arguments, done = call[2], values, []
        elif ended := _RETURN.match(line.text):
            if ended[1] == "vm<-host" and open_call and open_call.name == ended[2]:
                done.append(replace(open_call, result=ended[3]))
                open_call = None
            elif ended[1] == "host<-vm" and ended[2] == name:
                made.append(Callback(name, arguments, tuple(done), ended[3]))
                name = ""
    return [each for each in made if of_root or each.name not in _OF_ROOT]
