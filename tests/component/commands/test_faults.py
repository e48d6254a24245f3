"""Faults on the emulator, with plugins assembled here: what clients see, and what is a finding."""

from __future__ import annotations

import pytest
from support.wat_plugins import Wat

from scaffold.commands.faults import plan as plans
from scaffold.errors import HostError, UsageError
from scaffold.hosts.client import Conversation
from scaffold.hosts.exchange import Headers, Request, Response
from scaffold.hosts.faults.scenes import Answer, Scene, keep
from scaffold.hosts.options import RunOptions
from scaffold.project.projects import projects_at
from scaffold.wasm.module import WasmModule

CARGO = """[package]
name = "hello"
version = "0.1.0"
[package.metadata.proxy-wasm]
type = "http"
{}
[lib]
crate-type = ["cdylib"]
"""
# many headers are what a client can send, and a test can tell from others without reading memory
MANY = "(i32.gt_u (local.get 1) (i32.const 50))"
GET, POST = Request("GET", "/headers"), Request("POST", "/anything", body=b"hello, hello, hello, hello")


def crate(folder, settings="", kind="http"):
    (folder / "src").mkdir()
    (folder / "src/lib.rs").write_text("")
    (folder / "Cargo.toml").write_text(CARGO.format(settings).replace('"http"', f'"{kind}"'))
    return projects_at(folder)


@pytest.fixture
def play(tmp_path):
    """Play the faults of a module, with these scenes."""

    def play(module: bytes, *scenes: Scene, settings: str = "", kind: str = "http"):
        path = tmp_path / "plugin.wasm"
        path.write_bytes(module)
        kept = tmp_path / "scenes"
        for each in scenes or [Scene(GET)]:
            keep(kept, each)
        plan = plans.planned(crate(tmp_path, settings, kind), "emulator", RunOptions(), deployed=False)
        return plan.play(WasmModule.read(path), kept)

    return play


def denying(wat: Wat) -> str:
    return wat.call("proxy_send_local_response", 401, b"", b"no", b"\0\0\0\0", -1)


def row(faults, name, policy="fail-closed"):
    return [(case.during, case.after) for case in faults.cases if (case.fault, case.policy) == (name, policy)]


def test_a_plugin_that_denies_access_has_a_hole_under_fail_open_alone(play):
    wat = Wat()
    found = play(wat.module({"proxy_on_request_headers": denying(wat), "proxy_on_log": ""}))
    panic = "panic in on_request_headers"
    assert row(found, panic) == row(found, panic, "fail-reload") == [("503", "503")]
    assert row(found, panic, "fail-open") == [("503", "200")]
    assert {(case.policy, case.fault) for case in found.holes} == {
        ("fail-open", panic),
        ("fail-open", "panic in on_log"),
    }
    assert found.exit_code == 1
    assert (
        "hint: don't deploy it with fail-open, and say so in [package.metadata.proxy-wasm]" in found.summary()
    )


def test_a_project_says_which_policies_are_played(play):
    wat = Wat()
    settings = 'failure-policies = ["fail-closed", "fail-reload"]'
    found = play(wat.module({"proxy_on_request_headers": denying(wat)}), settings=settings)
    assert {case.policy for case in found.cases} == {"fail-closed", "fail-reload"}
    assert (found.exit_code, found.holes) == (0, [])


def test_a_plugin_that_lets_requests_pass_while_its_service_is_down_has_a_hole_of_its_own(play):
    wat = Wat()
    # it waits for the service; anything but a short answer of headers (Envoy's own) denies access
    asks = wat.call("proxy_http_call", b"authz", CALL, b"", b"\0\0\0\0", 1000, 1024)
    wait = f"{asks} (i32.const 1) $result"
    effective = wat.call("proxy_set_effective_context", 2)
    decides = (
        f"{effective} (if (i32.gt_u (local.get 2) (i32.const 4)) (then {denying(wat)})"
        f" (else {wat.call('proxy_continue_stream', 0)}))"
    )
    module = wat.module({"proxy_on_request_headers": wait, "proxy_on_http_call_response": decides})
    refusal = Response(403, Headers([(f"x-{number}", "x") for number in range(5)]), b"no")
    scene = Scene(GET, b"", (Answer(refusal, path="/check"),))
    found = play(module, scene, settings='clusters = { authz = "upstream" }')
    assert {case.healthy for case in found.cases} == {"401"}
    own = [case for case in found.holes if case.policy == "fail-closed"]
    assert {case.fault for case in own} == {"authz down", "authz 5 s late", "authz cut off"}
    assert {case.reached for case in own} == {("upstream",)}
    assert "hint: don't deploy it" not in found.summary()


CALL = (
    b"\x03\0\0\0\x05\0\0\0\x06\0\0\0\x07\0\0\0\x03\0\0\0\x0a\0\0\0\x05\0\0\0"
    b":path\0/check\0:method\0GET\0:authority\0authz\0"
)


def test_an_answer_of_the_upstream_that_denies_access_is_no_refusal_of_the_plugin(play):
    wat = Wat()
    routes = wat.call("proxy_add_header_map_value", 0, b"x-cluster", b"beta")
    denied = Scene(GET, b"", (Answer(Response(401, body=b"no")),))
    module = wat.module({"proxy_on_request_headers": routes})
    found = play(module, denied, settings='clusters = { beta = "upstream" }')
    assert {case.healthy for case in found.cases} == {"401"}
    astray = [case for case in found.cases if case.reached]
    assert {(case.policy, case.reached) for case in astray} == {("fail-open", ("upstream",))}
    assert found.holes == []


def test_what_clients_see_of_each_fault(play):
    found = play(Wat().module({"proxy_on_request_headers": ""}), Scene(GET), Scene(POST))
    assert row(found, "upstream down") == [("503", "200")] * 2
    assert row(found, "upstream 5 s late") == [("200", "200")] * 2
    assert row(found, "upstream cut off") == [("200 cut", "200")] * 2
    assert row(found, "client gone") == [("left", "200")] * 2
    assert row(found, "odd chunking") == [("200", "200")]  # of the one that has a body
    for name in ("a huge header", "60 more headers", "non-UTF-8 headers"):
        assert row(found, name) == [("200", "200")] * 2
    assert found.exit_code == 0


def test_a_panic_at_the_start_keeps_the_plugin_from_serving(play):
    module = Wat().module({"proxy_on_configure": "(i32.const 1) $result", "proxy_on_response_headers": ""})
    found = play(module, Scene(GET), Scene(POST))
    assert row(found, "panic in on_configure") == [("refused", "")]
    assert row(found, "panic in on_response_headers") == [("503", "503")] * 2


def test_a_callback_that_no_request_leads_to_is_named(play):
    module = Wat().module({"proxy_on_request_headers": "", "proxy_on_request_trailers": ""})
    found = play(module)
    assert found.left_out["panic in on_request_trailers"] == "no request leads there"


def test_a_plugin_that_a_client_can_crash_is_a_finding(play):
    crashes = f"(if {MANY} (then (unreachable)))"
    found = play(Wat().module({"proxy_on_request_headers": crashes}))
    name = "60 more headers"
    assert [row(found, name, policy) for policy in ("fail-closed", "fail-open", "fail-reload")] == [
        [("503", "503")],
        [("503", "200")],
        [("503", "200")],
    ]
    assert [(case.fault, case.host) for case in found.crashes] == [(name, "emulator")]
    assert found.exit_code == 1
    assert "the plugin crashes: 60 more headers, GET /headers: Function: proxy_on_request_headers" in (
        found.summary()
    )


def test_a_fault_that_makes_the_host_itself_fail_is_an_error_and_no_pass(play):
    wat = Wat()
    remembers = f"(if {MANY} (then (global.set $many (i32.const 1))))"
    replies = wat.call("proxy_send_local_response", 200, b"", b"", b"\0\0\0\0", -1)
    logs = f"(if (global.get $many) (then {replies}))"  # which Envoy doesn't survive
    module = wat.module(
        {"proxy_on_request_headers": remembers, "proxy_on_log": logs},
        "(global $many (mut i32) (i32.const 0))",
    )
    with pytest.raises(HostError) as raised:
        play(module)
    assert raised.value.exit_code == 8
    assert "under the fault `60 more headers`, emulator itself failed: Envoy itself would crash" in str(
        raised.value
    )


def test_a_storm_of_ticks_that_crashes_the_plugin(play):
    wat = Wat()
    starts = f"{wat.call('proxy_set_tick_period_milliseconds', 1000)} (i32.const 1) $result"
    count = "(global.set $ticks (i32.add (global.get $ticks) (i32.const 1)))"
    ticks = f"{count} (if (i32.gt_u (global.get $ticks) (i32.const 100)) (then (unreachable)))"
    module = wat.module(
        {"proxy_on_configure": starts, "proxy_on_tick": ticks, "proxy_on_request_headers": ""},
        "(global $ticks (mut i32) (i32.const 0))",
    )
    found = play(module)
    assert row(found, "200 ticks at once") == [("503", "503")]
    assert row(found, "panic in on_tick") == [("503", "503")]
    assert [case.fault for case in found.crashes] == ["200 ticks at once"]


def test_data_that_others_write_meanwhile(play):
    wat = Wat()
    # it counts in shared data; if somebody else was faster, it gives up
    place, size = wat.text(b"key")
    reads = f"(drop (call $proxy_get_shared_data (i32.const {place}) (i32.const {size}) {OUTS}))"
    writes = (
        f"(call $proxy_set_shared_data (i32.const {place}) (i32.const {size}) (i32.const {place})"
        f" (i32.const {size}) (i32.load (i32.const 1032)))"
    )
    reply = wat.call("proxy_send_local_response", 409, b"", b"", b"\0\0\0\0", -1)
    found = play(wat.module({"proxy_on_request_headers": f"{reads} (if {writes} (then {reply}))"}))
    assert row(found, "CAS contention") == [("409", "")]


OUTS = "(i32.const 1024) (i32.const 1028) (i32.const 1032)"


def test_without_scenes_a_plain_get_is_played(tmp_path):
    (tmp_path / "plugin.wasm").write_bytes(Wat().module({"proxy_on_request_headers": ""}))
    plan = plans.planned(crate(tmp_path), "emulator", RunOptions(), deployed=False)
    found = plan.play(WasmModule.read(tmp_path / "plugin.wasm"), tmp_path / "none")
    assert found.requests == ("GET /",)


def test_a_table_is_readable_in_100_columns(play):
    callbacks = dict.fromkeys(("proxy_on_request_headers", "proxy_on_response_headers", "proxy_on_log"), "")
    answers = [Response(status, body=b"x") for status in (200, 201, 202, 400, 404, 409, 418, 500, 503)]
    scenes = [Scene(GET, b"", (Answer(each),)) for each in answers]
    found = play(Wat().module(callbacks), *scenes)
    table = found.summary().partition("\n\n")[0].splitlines()
    assert max(map(len, table)) <= 100
    cells = "".join(line[table[0].index("fail-closed") :].partition("  ")[0] for line in table[1:3])
    assert cells.startswith("200/201/202/")


@pytest.mark.parametrize(
    ("host", "options", "deployed", "message"),
    [
        ("docker", {}, False, "--faults plays on the emulator and on Envoy"),
        ("emulator", {}, True, "--faults starts hosts of its own"),
        ("envoy", {"envoy": "1.36,1.40"}, False, "--faults plays on one Envoy, not several"),
        ("envoy", {"tls": True}, False, "--tls"),
    ],
)
def test_what_faults_cannot_be_combined_with(tmp_path, host, options, deployed, message):
    with pytest.raises(UsageError, match=message):
        plans.planned(crate(tmp_path), host, RunOptions(**options), deployed=deployed)


def test_a_service_has_no_client(tmp_path):
    with pytest.raises(UsageError, match="--faults shows what a client sees, and hello is a service"):
        plans.planned(crate(tmp_path, kind="service"), "emulator", RunOptions(), deployed=False)


def test_connections_through_a_network_plugin(play):
    """It closes those that begin with few bytes; a request is a connection, too."""
    wat = Wat()
    closes = f"(if (i32.lt_u (local.get 1) (i32.const 10)) (then {wat.call('proxy_close_stream', 2)}))"
    module = wat.module({"proxy_on_downstream_data": closes, "proxy_on_log": ""})
    whole = Conversation((b"GET /headers HTTP/1.1\r\n", b"host: a\r\n\r\n"))
    scenes = [Scene(each) for each in (Conversation((b"GET",)), whole, Conversation((), True), POST)]
    found = play(module, *scenes, kind="network")
    short, empty, post, http = "TCP GET", "TCP connection", "POST /anything", "TCP GET /headers HTTP/1.1"
    assert found.requests == (short, empty, post, http)
    seen = {(case.fault, case.policy, case.request): (case.during, case.after) for case in found.cases}
    healthy = {case.request: case.healthy for case in found.cases}
    assert healthy == {short: "closed", empty: "closed", post: "200", http: "200"}
    panic = "panic in on_downstream_data"
    assert seen[panic, "fail-closed", short] == seen[panic, "fail-closed", http] == ("closed", "closed")
    assert seen[panic, "fail-open", short] == ("closed", "open")
    assert seen[panic, "fail-open", http] == ("closed", "200")
    assert row(found, "upstream down") == [("no answer", "200"), ("closed", "200")]
    assert seen["client gone", "fail-closed", http] == ("left", "200")
    assert seen["odd chunking", "fail-closed", http] == ("closed", "200")  # its first piece is a short one
    assert row(found, "a huge header") == [("200", "200")]  # of the only one that has headers
    assert {(case.policy, case.fault, case.request) for case in found.holes} == {
        ("fail-open", panic, short),
        ("fail-open", "panic in on_log", short),
    }


def test_nothing_but_connections_has_no_headers(play):
    scene = Scene(Conversation())
    found = play(Wat().module({"proxy_on_downstream_data": ""}), scene, kind="network")
    assert {case.healthy for case in found.cases} == {"open"}
    assert found.left_out["a huge header"] == "no request has headers of its own"


def test_a_workspace_has_several_plugins(tmp_path):
    (tmp_path / "Cargo.toml").write_text('[workspace]\nmembers = ["one"]\n')
    (tmp_path / "one").mkdir()
    crate(tmp_path / "one")
    with pytest.raises(UsageError, match="--faults is for a single plugin, but this is a workspace"):
        plans.planned(projects_at(tmp_path), "emulator", RunOptions(), deployed=False)
