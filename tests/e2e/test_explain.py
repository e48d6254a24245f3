"""`scaffold explain` with a real Envoy: its traps, each provoked, and a deployed plugin's request."""

from __future__ import annotations

import json
import re
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from support.places import get, until
from support.ports import free_port
from support.trap_plugins import CASES, Case, crashing, plugin

import scaffold
from scaffold.errors import HostError
from scaffold.hosts import host as hosts
from scaffold.hosts import timeline
from scaffold.hosts.envoy import installed
from scaffold.hosts.exchange import Headers, Incomplete, Request
from scaffold.hosts.explanation import Explanation, Explanations, explain_timeline
from scaffold.hosts.host import Running
from scaffold.hosts.options import HostSettings
from scaffold.hosts.plugin import Plugin
from scaffold.hosts.traps import Ending
from scaffold.wasm.floor import constant_data
from scaffold.wasm.module import WasmFile, WasmModule

HERE = scaffold.RunOptions(port=0)


@pytest.fixture(scope="module")
def silent() -> Iterator[int]:
    """The port of a server that never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield server.getsockname()[1]


@pytest.fixture(scope="module")
def trapped(tmp_path_factory: pytest.TempPathFactory, silent: int) -> Iterator[Running]:
    """An Envoy with the plugin of all traps, which traces."""
    folder = tmp_path_factory.mktemp("traps")
    (folder / "traps.wasm").write_bytes(plugin())
    clusters = {"slow": f"http://127.0.0.1:{silent}", "dead": f"http://127.0.0.1:{free_port()}"}
    made = Plugin("traps", "", WasmModule.read(folder / "traps.wasm"), clusters=clusters)
    settings = HostSettings(log_level="trace", clusters=clusters)
    with hosts.find("envoy")(made, folder=folder / "envoy", settings=settings) as host:
        yield host


def explained(host: Running, sent: Request, timeout: float, module: Path) -> Explanation:
    """The last request, once it is over."""
    mark = host.log.size()
    try:
        exchange = host.play(sent, timeout=timeout)
        ending = Ending(exchange.status, "", exchange.details, exchange.response.text)
    except Incomplete as error:
        ending = Ending(error.exchange.status, "", error.message)
    except HostError as error:
        ending = Ending(None, "", error.message)
    constants = constant_data(WasmFile.read(module))

    found: list[timeline.Timeline] = []

    def over() -> bool:
        found[:] = timeline.read(host.log.since(mark), constants)
        return bool(found) and found[-1].is_over

    until(over)
    return explain_timeline(found[-1], ending=ending)


@pytest.mark.parametrize(("name", "case"), CASES.items(), ids=list(CASES))
def test_each_trap_is_named(trapped: Running, name: str, case: Case, tmp_path: Path) -> None:
    (tmp_path / "plugin.wasm").write_bytes(plugin())
    sent = Request(case.method, f"/{case.letter}", Headers({"host": "h"}), case.body)
    found = explained(trapped, sent, case.timeout, tmp_path / "plugin.wasm")
    assert name in [trap.name for trap in found.traps], found.summary()


def test_a_crash_with_words_or_without_and_the_requests_after_it(tmp_path: Path) -> None:
    words = b"panicked at /root/.cargo/registry/src/index.crates.io-1/regex-1.2.3/src/lib.rs:7:9:\nboom"
    for name, said in (("panic", words), ("silent-crash", b"")):
        path = tmp_path / f"{name}.wasm"
        path.write_bytes(crashing(said))
        settings = HostSettings(log_level="trace")
        made = Plugin("crash", "", WasmModule.read(path))
        folder = tmp_path / name
        folder.mkdir()
        with hosts.find("envoy")(made, folder=folder, settings=settings) as host:
            mark = host.log.size()
            exchange = host.play(Request("GET", "/"))
            (found,) = timeline.read(host.log.since(mark))
            (trap,) = explain_timeline(found, ending=Ending(exchange.status, "", exchange.details)).traps
            assert trap.name == name
            assert said == b"" or (" in the crate regex 1.2.3: " in trap.what and "src/lib.rs:7" in trap.what)
            later = host.play(Request("GET", "/"))
            (trap,) = explain_timeline(None, ending=Ending(later.status, "", later.details)).traps
            assert trap.name == "crashed-before"


def levels(root: Path) -> str:
    """The level of the logger `wasm` now."""
    found = re.search(r"wasm: (\w+)", scaffold.admin("/logging", root, post=True))
    return found[1] if found else ""


def test_a_curl_command_is_sent_with_tracing_on_and_off_again(root, hello, run, tmp_path):
    deployed = scaffold.deploy(root, module=hello.path, run=HERE)
    page = tmp_path / "page.html"
    command = [
        "explain",
        "--root",
        root,
        "--html",
        page,
        "--",
        "curl",
        "-H",
        "x-a: 1",
        f"{deployed.url}/anything",
    ]
    shown = run("scaffold", *command).stdout
    assert shown.startswith("GET /anything in ")
    assert 'name ":authority") = ' not in shown, "only the emulator knows what is given"
    assert re.search(r"on_request_headers\(\d+ headers, end of stream\) → Continue", shown)
    assert re.search(
        r'replace_header_map_value\(request headers, name "x-hello", value of \d+ bytes\)', shown
    )
    assert "log [info] " in shown and "HTTP headers in #" in shown
    assert "added request x-hello: Hello world from " in shown and "no known trap" in shown
    assert levels(root) == "info"
    assert "<table>" in page.read_text() and "x-hello" in page.read_text()
    found = json.loads(
        run("scaffold", "explain", "--root", root, "--json", "--", "curl", deployed.url).stdout
    )
    assert found["ending"]["status"] == 200 and found["traps"] == []
    assert {step["kind"] for step in found["steps"]} >= {"callback", "hostcall", "log", "change"}


def test_a_page_needs_its_folder(root, run):
    ran = run(
        "scaffold", "explain", "--root", root, "--html", "/no/such/page.html", "--", "curl", "http://h/"
    )
    assert (ran.returncode, "there is no folder /no/such" in ran.stderr) == (2, True), ran.stderr


def test_two_at_once_take_turns(root, hello, run):
    scaffold.deploy(module=hello.path, root=root, run=HERE)
    words = [
        sys.executable,
        "-m",
        "scaffold",
        "explain",
        "--root",
        str(root),
        "--json",
        "--",
        "curl",
        "http://h/",
    ]
    explained = [subprocess.Popen([*words], stdout=subprocess.PIPE, text=True) for _ in range(3)]
    found = [json.loads(each.communicate(timeout=60)[0]) for each in explained]
    assert [each["ending"]["status"] for each in found] == [200] * 3
    assert all(sum(step["text"].startswith("on_delete") for step in each["steps"]) == 1 for each in found)
    assert [each["notes"] for each in found] == [[]] * 3


def test_an_id_of_the_live_view_tells_what_the_logs_know(root, hello, run):
    deployed = scaffold.deploy(root, module=hello.path, run=HERE)
    get(deployed.url, "/past")
    until(lambda: list(scaffold.requests(root, path="/past")))
    (request,) = scaffold.requests(root, path="/past")
    shown = run("scaffold", "explain", request.id[:8], "--root", root).stdout
    assert shown.startswith("GET /past in ") and "HTTP headers in #" in shown
    assert "added request x-hello: " in shown
    assert "note: Envoy didn't trace its calls then" in shown


def test_an_id_of_a_request_that_was_traced_tells_as_much_as_one_that_is_sent(root, hello, run):
    deployed = scaffold.deploy(root, module=hello.path, run=scaffold.RunOptions(port=0, log_level="trace"))
    for path in ("/first", "/traced"):
        get(deployed.url, path)
    until(lambda: list(scaffold.requests(root, path="/traced")))
    (request,) = scaffold.requests(root, path="/traced")
    shown = run("scaffold", "explain", request.id[:8], "--root", root).stdout
    assert 'get_header_map_value(request headers, name ":authority")' in shown
    assert shown.count("on_request_headers(") == shown.count("on_delete(") == 1
    assert "no known trap" in shown and "note: " not in shown


@pytest.mark.parametrize("version", ["1.36", "1.37", "1.39"])
def test_a_trace_of_another_envoy_is_read(root, hello, run, version):
    scaffold.deploy(root, module=hello.path, run=scaffold.RunOptions(port=0, envoy=version))
    shown = run("scaffold", "explain", "--root", root, "--", "curl", "http://h/headers").stdout
    assert re.search(r"on_request_headers\(\d+ headers, end of stream\) → Continue  \(", shown)
    assert 'get_header_map_value(request headers, name ":authority")' in shown
    assert shown.count("on_delete(") == 1 and "no known trap" in shown and "note: " not in shown


def test_ctrl_c_switches_tracing_off_too(root, trapped, tmp_path):
    (tmp_path / "traps.wasm").write_bytes(plugin())
    deployed = scaffold.deploy(root, module=tmp_path / "traps.wasm", run=HERE)
    argv = ["scaffold", "explain", "--root", str(root), "--", "curl", f"{deployed.url}/a"]
    with subprocess.Popen(argv, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        until(lambda: levels(root) == "trace")
        child.send_signal(signal.SIGINT)
        assert child.wait(20) == 130
    assert levels(root) == "info"


def chain(name: str, **fields: object) -> dict[str, object]:
    """An Envoy extension with its configuration."""
    return {"name": name, "typed_config": {"@type": f"type.googleapis.com/{name}", **fields}}


def test_a_log_as_envoy_writes_it_by_itself_with_two_workers(tmp_path: Path) -> None:
    """Not an Envoy of ours: its own format, and each request to a worker of its own."""
    port = free_port()
    (tmp_path / "traps.wasm").write_bytes(plugin())
    code = {"local": {"filename": str(tmp_path / "traps.wasm")}}
    vm = {"runtime": "envoy.wasm.runtime.v8", "code": code}
    wasm = chain("envoy.extensions.filters.http.wasm.v3.Wasm", config={"name": "traps", "vm_config": vm})
    answer = {"match": {"prefix": "/"}, "direct_response": {"status": 200, "body": {"inline_string": "hi"}}}
    manager = chain(
        "envoy.extensions.filters.network.http_connection_manager.v3.HttpConnectionManager",
        stat_prefix="a",
        route_config={"virtual_hosts": [{"name": "v", "domains": ["*"], "routes": [answer]}]},
        http_filters=[wasm, chain("envoy.extensions.filters.http.router.v3.Router")],
    )
    address = {"socket_address": {"address": "127.0.0.1", "port_value": port}}
    listener = {
        "name": "l",
        "address": address,
        "connection_balance_config": {"exact_balance": {}},
        "filter_chains": [{"filters": [manager]}],
    }
    (tmp_path / "envoy.json").write_text(json.dumps({"static_resources": {"listeners": [listener]}}))
    log = tmp_path / "envoy.log"
    argv = [installed.find(None).path, "-c", tmp_path / "envoy.json", "--disable-hot-restart"]
    argv += ["--concurrency", "2", "--component-log-level", "wasm:trace"]
    with log.open("wb") as file, subprocess.Popen(argv, stdout=file, stderr=file) as envoy:
        try:
            until(lambda: b"starting main dispatch loop" in log.read_bytes())
            with (
                socket.create_connection(("127.0.0.1", port)) as first,
                socket.create_connection(("127.0.0.1", port)) as second,
            ):
                for each, path in ((first, "/r"), (second, "/s")):
                    each.sendall(f"GET {path} HTTP/1.1\r\nhost: a\r\n\r\n".encode())
                for each in (first, second):
                    assert each.recv(4096).startswith(b"HTTP/1.1 200")
            until(lambda: log.read_bytes().count(b"proxy_on_delete return") == 2)
        finally:
            envoy.kill()
    found = scaffold.explain([str(log)], module=tmp_path / "traps.wasm")
    assert isinstance(found, Explanations)
    one, two = found.requests
    assert one.context == two.context and one.thread != two.thread
    assert {trap.name for each in found.requests for trap in each.traps} == {"dead-context", "wrong-stream"}
    assert one.notes == two.notes == ()
    assert 'get_header_map_value(request headers, name ":path")' in one.summary()
    cut = tmp_path / "cut.log"
    cut.write_bytes(log.read_bytes()[: log.read_bytes().index(b"proxy_on_response_headers return")])
    first_half = scaffold.explain([str(cut)], request=1)
    assert isinstance(first_half, Explanation) and first_half.notes == (timeline.CUT_AT_END,)
