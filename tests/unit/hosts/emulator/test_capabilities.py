"""What Envoy 1.40 does with a plugin whose capabilities are restricted: values observed on a real one."""

from __future__ import annotations

from pathlib import Path

import pytest
import wasmtime
from support.wat_plugins import OUT, SIZE, Run, Wat, get, running

from scaffold.hosts.plugin import Plugin
from scaffold.wasm.module import WasmModule

BASE = ("proxy_on_context_create", "proxy_on_vm_start", "proxy_on_configure", "proxy_on_request_headers")
GET = "proxy_get_header_map_value"
WASI = """(module
  (import "wasi_snapshot_preview1" "fd_write" (func $write (param i32 i32 i32 i32) (result i32)))
  (import "wasi_snapshot_preview1" "proc_exit" (func $exit (param i32)))
  (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 512))
  (func (export "proxy_on_request_headers") (param i32 i32 i32) (result i32)
    (drop (call $write (i32.const 1) (i32.const 0) (i32.const 0) (i32.const 64))) (call $exit (i32.const 1))
    (i32.const 0)))"""


def restricted(*names: str) -> dict[str, object]:
    """The plugin's field that restricts it to these."""
    return {"capability_restriction_config": {"allowed_capabilities": {name: {} for name in names}}}


def played(folder: Path, *names: str) -> Run:
    wat = Wat()
    text = wat.call("proxy_log", 2, b"hello") + wat.call(GET, 0, b"host", OUT, SIZE)
    callbacks = dict.fromkeys(BASE[:1], "") | {BASE[3]: text, "proxy_on_log": ""}
    callbacks |= dict.fromkeys(BASE[1:3], "(i32.const 1) $result")
    with running(wat.module(callbacks), folder, more=restricted(*names)) as run:
        run.mark = 0
        assert run.host.play(get()).response.status == 200
        return run


def refused(run: Run) -> list[str]:
    return [line.partition(": ")[2] for line in run.lines() if "Attempted call to restricted" in line]


def test_without_a_list_everything_is_allowed(tmp_path: Path) -> None:
    run = played(tmp_path)
    assert run.callbacks()[-2:] == ["request_headers(2, 8, 1)", "log(2)"]
    assert (run.statuses(GET), refused(run)) == ([0], [])


def test_a_hostcall_that_is_not_allowed_fails_and_is_logged(tmp_path: Path) -> None:
    run = played(tmp_path, *BASE, "proxy_log")
    assert (run.statuses("proxy_log"), run.statuses(GET), refused(run)) == ([0], [10], [GET])


def test_a_callback_that_is_not_allowed_is_as_if_it_were_not_there(tmp_path: Path) -> None:
    run = played(tmp_path, *BASE[1:])
    assert {each.partition("(")[0] for each in run.callbacks()} == {
        "vm_start",
        "configure",
        "request_headers",
    }


def test_names_are_without_a_module(tmp_path: Path) -> None:
    assert refused(played(tmp_path, *BASE, "env.proxy_log", f"env.{GET}")) == ["proxy_log", GET]


def test_one_that_may_not_refuse_its_configuration_starts(tmp_path: Path) -> None:
    module = Wat().module({"proxy_on_configure": "(i32.const 0) $result"})
    with running(module, tmp_path, more=restricted("proxy_log")) as run:
        assert run.host.play(get()).response.status == 200


def test_the_allocator_needs_no_permission(tmp_path: Path) -> None:
    assert played(tmp_path, *BASE, GET).statuses(GET) == [0]


@pytest.mark.parametrize(("names", "returned"), [((), ["0", "void"]), (BASE, ["76", "void"])])
def test_wasi_has_an_error_of_its_own(tmp_path: Path, names: tuple[str, ...], returned: list[str]) -> None:
    with running(bytes(wasmtime.wat2wasm(WASI)), tmp_path, more=restricted(*names)) as run:
        run.host.play(get())
        lines = [line for line in run.lines() if line.startswith("[vm<-host] wasi")]
        assert [line.rpartition(" ")[2] for line in lines] == returned
        words = "Attempted call to restricted WASI capability: "
        assert [line for line in run.lines() if line.startswith(words)] == (
            [f"{words}fd_write", f"{words}proc_exit"] if names else []
        )


def test_a_plugin_knows_its_capabilities(tmp_path: Path) -> None:
    path = tmp_path / "plugin.wasm"
    path.write_bytes(bytes(wasmtime.wat2wasm(WASI)))
    plugin = Plugin("p", "", WasmModule.read(path), more=restricted("proxy_log"))
    assert plugin.capabilities == {"proxy_log"}
    assert Plugin("p", "", plugin.module).capabilities == frozenset()
