from __future__ import annotations

from scaffold.hosts.envoy.hostcall_trace import callbacks, hostcalls
from scaffold.hosts.envoy.log import Line
from scaffold.wasm.floor import Callback, Hostcall

TRACE = """
[host->vm] proxy_on_context_create(3, 1)
[host<-vm] proxy_on_context_create return: void
[host->vm] proxy_on_request_headers(3, 10, 1)
[vm->host] env.proxy_log(2, 1056896, 26)
Got 10 HTTP headers in #3.
[vm<-host] env.proxy_log return: 0
[vm->host] env.proxy_get_header_map_value(0, 1051117, 10, 1048460, 1048464)
[host->vm] proxy_on_memory_allocate(15)
[host<-vm] proxy_on_memory_allocate return: 1056896
[vm<-host] env.proxy_get_header_map_value return: 0
[vm->host] env.proxy_get_header_map_value(0, 1051117, 9, 1048460, 1048464)
[vm<-host] env.proxy_get_header_map_value return: 1
[host<-vm] proxy_on_request_headers return: 0
[host->vm] proxy_on_tick(1)
[vm->host] env.proxy_get_current_time_nanoseconds(64)
[vm<-host] env.proxy_get_current_time_nanoseconds return: 0
[host<-vm] proxy_on_tick return: void
[host->vm] proxy_on_delete(3)
"""
GET = "env.proxy_get_header_map_value"


def lines(text: str = TRACE) -> list[Line]:
    return [Line("trace", "wasm", each) for each in text.strip().splitlines()]


def test_calls_are_read_with_what_each_asked_of_the_host():
    asked = (
        Hostcall("env.proxy_log", (2, 1056896, 26)),
        Hostcall(GET, (0, 1051117, 10, 1048460, 1048464), (15,)),
        Hostcall(GET, (0, 1051117, 9, 1048460, 1048464), result="1"),
    )
    assert callbacks(lines()) == [  # without the timer, nor what hasn't returned
        Callback("proxy_on_context_create", (3, 1), (), "void"),
        Callback("proxy_on_request_headers", (3, 10, 1), asked, "0"),
    ]
    assert [each.name for each in hostcalls(lines())] == [
        *(each.name for each in asked),
        "env.proxy_get_current_time_nanoseconds",
    ]


def test_what_a_plugin_logs_is_no_call():
    text = "wasm log p: [host->vm] proxy_on_done(3)\nwasm log p: [host<-vm] proxy_on_done return: 1"
    assert callbacks(lines(text)) == []
    assert callbacks(lines("[host->vm] proxy_on_done(3)\n[vm->host] env.proxy_log(x)")) == []
