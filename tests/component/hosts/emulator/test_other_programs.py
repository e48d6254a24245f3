"""Clusters that lead elsewhere: to another program, which the emulator refuses by name, or nowhere."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
from support.grpc import service
from support.wat_plugins import Wat, get, pairs, running

from scaffold.hosts.unsupported import Unsupported

REFUSED = (
    "upstream connect error or disconnect/reset before headers. reset reason: remote connection failure"
    "{upstream_reset_before_response_started{remote_connection_failure"
    "|delayed_connect_error:_Connection_refused}}"
)
HEAD = pairs((b":method", b"GET"), (b":path", b"/"), (b":authority", b"a"))


@pytest.mark.parametrize("scheme", ["http", "grpc"])
def test_a_call_to_a_program_that_listens_is_refused_by_name(tmp_path: Path, scheme: str) -> None:
    wat = Wat()
    call = wat.call("proxy_http_call", b"other", HEAD, b"", b"", 1000, 1024)
    if scheme == "grpc":
        call = wat.call("proxy_grpc_call", service("other"), b"a.B", b"C", b"", b"", 1000, 1024)
    module = wat.module({"proxy_on_request_headers": call})
    with socket.create_server(("127.0.0.1", 0)) as server:
        place = f"{scheme}://127.0.0.1:{server.getsockname()[1]}"
        refused = pytest.raises(Unsupported, match=f"the cluster other, which leads to {place}")
        with running(module, tmp_path, clusters={"other": place}) as run, refused:
            run.host.play(get())


def test_a_service_that_does_not_listen(tmp_path: Path) -> None:
    wat = Wat()
    call = wat.call("proxy_grpc_call", service("dead"), b"a.B", b"C", b"", b"", 1000, 1024)
    asks = wat.call("proxy_get_status", 1024, 1028, 1032)
    asks += "(drop (call $proxy_log (i32.const 2) (i32.load (i32.const 1028)) (i32.load (i32.const 1032))))"
    module = wat.module({"proxy_on_request_headers": call, "proxy_on_grpc_close": asks})
    with running(module, tmp_path, clusters={"dead": "grpc://127.0.0.1:1"}) as run:
        run.host.play(get())
        run.host.clock.advance(1)
        logged = [each.text for each in run.host.log.since(run.mark) if each.of_plugin]
        assert (run.callbacks()[-1], logged) == ("grpc_close(1, 5, 14)", [REFUSED])
