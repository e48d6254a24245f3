"""Services in the emulator: as in Envoy 1.40, each has one VM on the main thread, and no requests."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.wat_plugins import Run, Wat, get, running

from scaffold.errors import HostError, ModuleError
from scaffold.hosts.emulator.host import EmulatorHost
from scaffold.hosts.options import RunOptions
from scaffold.hosts.plugin import SERVICE, Plugin
from scaffold.wasm.module import WasmModule

START = ["_initialize()", "context_create(1, 0)", "vm_start(1, 0)", "configure(1, 0)"]


def service(wat: Wat) -> bytes:
    """One with a queue, which it sends a message on start and in each tick."""
    ready = wat.call("proxy_dequeue_shared_queue", 1, 1024, 1028)
    configured = wat.call("proxy_set_tick_period_milliseconds", 200)
    configured += wat.call("proxy_enqueue_shared_queue", 1, b"m") + "(i32.const 1) $result"
    started = wat.call("proxy_register_shared_queue", b"q", 1024) + "(i32.const 1) $result"
    callbacks = {"_initialize": "", "proxy_on_context_create": "", "proxy_on_vm_start": started}
    callbacks |= {"proxy_on_configure": configured, "proxy_on_queue_ready": ready}
    callbacks["proxy_on_tick"] = wat.call("proxy_enqueue_shared_queue", 1, b"t")
    return wat.module(callbacks | {"proxy_on_request_headers": "", "proxy_on_done": "(i32.const 1) $result"})


def test_it_starts_in_one_vm_and_ticks(tmp_path: Path) -> None:
    with running(service(Wat()), tmp_path, type=SERVICE) as run:
        run.mark = 0
        assert run.callbacks() == ["_initialize()", *START, *START]
        run.mark = run.host.log.size()
        run.host.clock.advance(0.45)
        ready = "queue_ready(1, 1)"
        assert run.callbacks() == [ready, ready, "tick(1)", ready, "tick(1)", ready]
        run.mark = run.host.log.size()
    assert run.callbacks() == ["done(1)"]


def test_requests_pass_it_by(tmp_path: Path) -> None:
    with running(service(Wat()), tmp_path, type=SERVICE) as run:
        exchange = run.host.play(get())
        assert (exchange.response.status, exchange.logs) == (200, ())
        assert [(each.fuel, each.crossings) for each in exchange.costs] == [(0, 0)]


def test_a_chain_has_filters_and_services_in_any_order(tmp_path: Path) -> None:
    plugins = [plugin(tmp_path, "http", b"filter"), plugin(tmp_path, SERVICE, b"service")]
    host = EmulatorHost(plugins, RunOptions(port=0, log_level="trace").settings)
    try:
        started = [each.text for each in host.log.since(0) if each.of_plugin]
        assert started == ["service"] * 2 + ["filter"] * 3
        exchange = host.play(get())
        assert [each.crossings for each in exchange.costs] == [2, 0]
    finally:
        host.close()


def plugin(folder: Path, kind: str, name: bytes) -> Plugin:
    wat = Wat()
    says = {"proxy_on_configure": wat.call("proxy_log", 2, name) + "(i32.const 1) $result"}
    asks = {"proxy_on_request_headers": wat.call("proxy_log", 0, b"asked")}
    path = folder / f"{kind}.wasm"
    path.write_bytes(wat.module(says | asks))
    return Plugin(kind, "", WasmModule.read(path), type=kind)


def test_one_that_refuses_its_configuration(tmp_path: Path) -> None:
    module = Wat().module({"proxy_on_configure": "(i32.const 0) $result"})
    with (
        pytest.raises(ModuleError, match="Envoy refused the plugin wat"),
        running(module, tmp_path, type=SERVICE),
    ):
        raise AssertionError("it started")


def test_it_is_replaced_with_its_host_only(tmp_path: Path) -> None:
    with running(service(Wat()), tmp_path, type=SERVICE) as run:
        with pytest.raises(HostError, match="Envoy replaces no service while it runs"):
            run.host.replace(run.host._main[0].plugin)
        assert alive(run)


def alive(run: Run) -> bool:
    run.mark = run.host.log.size()
    run.host.clock.advance(0.3)
    return "tick(1)" in run.callbacks()


def test_a_tick_during_a_request_is_not_what_the_request_costs(tmp_path: Path) -> None:
    wat = Wat()
    paused = wat.call("proxy_set_tick_period_milliseconds", 20) + "(i32.const 1) $result"
    resumed = wat.call("proxy_set_effective_context", 2) + wat.call("proxy_continue_stream", 0)
    resumed += wat.call("proxy_log", 2, b"x") * 50 + wat.call("proxy_set_tick_period_milliseconds", 0)
    module = wat.module({"proxy_on_request_headers": paused, "proxy_on_tick": resumed})
    with running(module, tmp_path) as run:
        (cost,) = run.host.play(get()).costs
        assert run.callbacks()[1:] == ["tick(1)"]
        assert cost.crossings == 2  # the callback about the request's headers, and its hostcall
