"""Compiled modules in the user's cache: used again, unless they are damaged, or nobody may write there."""

from __future__ import annotations

import pytest
import wasmtime

from scaffold.core import files
from scaffold.hosts.emulator import engine
from scaffold.wasm.module import WasmModule

TEXT = """(module (memory (export "memory") 1) (func (export "proxy_abi_version_0_2_1"))
  (func (export "malloc") (param i32) (result i32) (i32.const 1024)))"""


@pytest.fixture
def module(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(engine, "_COMPILED", {})
    path = tmp_path / "plugin.wasm"
    path.write_bytes(wasmtime.wat2wasm(TEXT))
    return WasmModule.read(path)


def again(module: WasmModule) -> wasmtime.Module:
    """As another process compiles it."""
    engine._COMPILED.clear()
    return engine.compiled(module)


def cached():
    (path,) = (files.cache_dir() / "emulator").iterdir()
    return path


def test_it_is_compiled_once_for_this_user_alone(module, monkeypatch):
    engine.compiled(module)
    assert cached().stat().st_mode & 0o777 == 0o600
    assert cached().parent.stat().st_mode & 0o777 == 0o700

    def never(*_):
        raise AssertionError("compiled again")

    monkeypatch.setattr(wasmtime, "Module", type("Module", (wasmtime.Module,), {"__init__": never}))
    assert [each.name for each in again(module).exports] == [
        "memory",
        "proxy_abi_version_0_2_1",
        "malloc",
    ]


@pytest.mark.parametrize("change", ["flipped", "cut", "empty", "foreign"])
def test_a_damaged_one_is_compiled_again_and_replaced(module, change):
    engine.compiled(module)
    whole = cached().read_bytes()
    middle = len(whole) // 2
    damaged = {
        "flipped": whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :],
        "cut": whole[:-1],
        "empty": b"",
        "foreign": b"#!/bin/sh\n",
    }
    cached().write_bytes(damaged[change])
    assert len(again(module).exports) == 3
    assert cached().read_bytes()[: engine._DIGEST] != damaged[change][: engine._DIGEST] or change in (
        "flipped",
        "cut",
    )
    assert len(again(module).exports) == 3


def test_one_of_another_version_of_wasmtime_has_another_name(module, monkeypatch):
    engine.compiled(module)
    earlier = cached()
    monkeypatch.setattr(engine.importlib.metadata, "version", lambda _: "50.9.9")
    again(module)
    names = {path.name for path in earlier.parent.iterdir()}
    assert len(names) == 2 and earlier.name in names


def test_a_cache_that_nobody_can_write_only_costs_time(module):
    folder = files.cache_dir() / "emulator"
    folder.parent.mkdir(parents=True)
    folder.write_text("a file is in the way")
    assert len(engine.compiled(module).exports) == 3
    assert folder.read_text() == "a file is in the way"
