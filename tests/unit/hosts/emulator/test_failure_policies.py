"""What becomes of requests once a plugin has crashed, under each of Envoy's failure policies."""

from __future__ import annotations

import pytest
from support.wat_plugins import Wat, get, post, running

from scaffold.hosts.exchange import Incomplete

# it crashes on a request without a body, and names the callback that another one has reached
CRASHES = "(if (local.get 2) (then (unreachable)))"


def statuses(tmp_path, later, **more):
    """A request that crashes the plugin, one right after it, and one `later` seconds after it."""
    wat = Wat()
    reply = wat.call("proxy_send_local_response", 418, b"", b"", b"\0\0\0\0", -1)
    module = wat.module({"proxy_on_request_headers": CRASHES + reply})
    with running(module, tmp_path, **more) as run:
        found = [run.host.play(get()).status, run.host.play(post()).status]
        run.host.clock.advance(later)
        return [*found, run.host.play(post()).status]


@pytest.mark.parametrize(
    ("fields", "expected"),
    [
        ({"failure_policy": "FAIL_CLOSED"}, [503, 503, 503]),
        ({"failure_policy": "FAIL_OPEN"}, [503, 200, 200]),
        ({"failure_policy": "FAIL_RELOAD"}, [503, 503, 418]),
        ({"fail_open": True}, [200, 200, 200]),
        ({"fail_open": False}, [503, 503, 503]),
        ({}, [503, 503, 418]),
    ],
)
def test_a_crashed_plugin(tmp_path, fields, expected):
    assert statuses(tmp_path, 1, more=fields) == expected


def test_an_envoy_that_reloads_no_plugin_keeps_the_crashed_one(tmp_path):
    assert statuses(tmp_path, 1, envoy="1.32") == [503, 503, 503]


def test_a_crash_in_the_plugin_s_own_answer_cuts_it_off(tmp_path):
    wat = Wat()
    reply = wat.call("proxy_send_local_response", 401, b"", b"no", b"\0\0\0\0", -1)
    callbacks = {"proxy_on_request_headers": reply, "proxy_on_response_body": "(unreachable)"}
    with running(wat.module(callbacks), tmp_path) as run, pytest.raises(Incomplete) as raised:
        run.host.play(get())
    assert (raised.value.exchange.status, raised.value.exchange.response.body) == (401, b"")
