"""What an untrusted module may use ends within its bound."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest
from support.wat_plugins import Run, Wat, get, running

from scaffold.errors import HostError, ModuleError
from scaffold.hosts.emulator.vm import Limits

SMALL = Limits(fuel=1_000_000, hostcalls=500, log_bytes=2000, memory=8 << 20)
FOREVER = "(loop $again {} (br $again))"
HEADERS = "proxy_on_request_headers"


def crash(run: Run) -> str:
    """Why the plugin crashed at a request, which was answered with 503."""
    exchange = run.host.play(get())
    assert (exchange.response.status, exchange.trapped) == (503, True)
    return exchange.logs.crash


def test_an_endless_loop(tmp_path: Path) -> None:
    with running(Wat().module({HEADERS: FOREVER.format("")}), tmp_path, limits=SMALL) as run:
        assert "more than 1,000,000 steps" in crash(run)


def test_an_endless_loop_at_the_start(tmp_path: Path) -> None:
    module = Wat().module({"proxy_on_configure": FOREVER.format("")})
    with (
        pytest.raises(ModuleError, match="more than 1,000,000 steps"),
        running(module, tmp_path, limits=SMALL),
    ):
        pass


def test_an_endless_recursion(tmp_path: Path) -> None:
    deep = "(func $deep (call $deep))"
    with running(Wat().module({HEADERS: "(call $deep)"}, deep), tmp_path, limits=SMALL) as run:
        assert "Maximum call stack size exceeded" in crash(run)


@pytest.mark.parametrize("call", ["proxy_log", "proxy_get_current_time_nanoseconds"])
def test_a_flood_of_hostcalls(tmp_path: Path, call: str) -> None:
    wat = Wat()
    arguments: tuple[int | bytes, ...] = (5, b"") if call == "proxy_log" else (1024,)
    module = wat.module({HEADERS: FOREVER.format(wat.call(call, *arguments))})
    with running(module, tmp_path, limits=SMALL) as run:
        assert "more than 500 hostcalls" in crash(run)
        assert len(run.lines()) < 3000


def test_a_flood_of_log(tmp_path: Path) -> None:
    wat = Wat()
    module = wat.module({HEADERS: FOREVER.format(wat.call("proxy_log", 5, b"x" * 100))})
    with running(module, tmp_path, limits=SMALL) as run:
        assert "more than 2,000 bytes of log" in crash(run)
        assert sum(line == "x" * 100 for line in run.lines()) == 20


def test_a_bomb_of_memory_gets_no_more(tmp_path: Path) -> None:
    """Growing beyond the limit fails as in Envoy: the module is told so."""
    grow = FOREVER.format("(br_if 1 (i32.eq (memory.grow (i32.const 16)) (i32.const -1)))")
    store = "(i32.store (i32.const 1024) (memory.size))"
    with running(Wat().module({HEADERS: f"(block {grow}) {store}"}), tmp_path, limits=SMALL) as run:
        assert run.host.play(get()).response.status == 200
        assert run.memory() * 65536 <= SMALL.memory


def test_more_memory_than_allowed_from_the_start(tmp_path: Path) -> None:
    limits = replace(SMALL, memory=65536)
    with pytest.raises(ModuleError, match="Failed to create new Wasm instance"):
        running(Wat().module({}), tmp_path, limits=limits).__enter__()


def test_a_trap_in_the_allocator_ends_the_callback(tmp_path: Path) -> None:
    wat = Wat()
    asks = wat.call("proxy_get_header_map_pairs", 0, 1024, 1028)
    module = wat.module({HEADERS: asks}).replace(b"malloc", b"mallox")
    with pytest.raises(ModuleError, match="missing malloc"), running(module, tmp_path):
        pass


def test_hostcalls_before_anything_has_started(tmp_path: Path) -> None:
    wat = Wat()
    module = wat.module({"_initialize": wat.call("proxy_get_log_level", 1024)})
    with pytest.raises(ModuleError, match="restricted_callback"), running(module, tmp_path):
        pass
    wat = Wat()
    module = wat.module({"_initialize": wat.call("proxy_log", 2, b"early")})
    with running(module, tmp_path) as run:
        run.mark = 0
        assert run.lines().count("early") == 4


def test_a_start_section_that_calls_a_hostcall(tmp_path: Path) -> None:
    wat = Wat()
    early = wat.call("proxy_log", 2, b"early")
    module = wat.module({HEADERS: early}, f"(func $start {early}) (start $start)")
    with (
        pytest.raises(ModuleError, match="Envoy itself would crash: the module's start section"),
        running(module, tmp_path),
    ):
        pass


def test_a_local_reply_in_on_log_would_end_envoy(tmp_path: Path) -> None:
    wat = Wat()
    reply = wat.call("proxy_send_local_response", 403, b"", b"", b"", 0xFFFFFFFF)
    with running(wat.module({"proxy_on_log": reply}), tmp_path) as run, pytest.raises(HostError) as caught:
        run.host.play(get())
    assert "Envoy itself would crash" in caught.value.message
    assert "in a callback of the request" in (caught.value.hint or "")
