"""Foreign functions as Envoy 1.40 has them: values observed on a real one."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.wat_plugins import OUT, SIZE, Run, Wat, get, running

from scaffold.hosts.emulator.vm import Limits
from scaffold.hosts.unsupported import Unsupported

LOG = f"(drop (call $proxy_log (i32.const 2) (i32.load (i32.const {OUT})) (i32.load (i32.const {SIZE}))))"
NAME = "proxy_call_foreign_function"
STARTED = "(i32.const 1) $result"


def text(number: int, value: str | bytes) -> bytes:
    """A string in a message."""
    content = value if isinstance(value, bytes) else value.encode()
    return bytes([number << 3 | 2, len(content)]) + content


def call(wat: Wat, name: bytes, *each: bytes) -> str:
    return "".join(wat.call(NAME, name, content, OUT, SIZE) for content in each)


def read(wat: Wat, *paths: bytes) -> str:
    """Log properties."""
    return "".join(wat.call("proxy_get_property", path, OUT, SIZE) + LOG for path in paths)


def played(folder: Path, wat: Wat, text: str, configured: str = "", **more: object) -> Run:
    callbacks = {"proxy_on_request_headers": text, "proxy_on_configure": configured + STARTED}
    with running(wat.module(callbacks), folder, **more) as run:  # type: ignore[arg-type]
        run.host.play(get())
        return run


def logged(run: Run) -> list[str]:
    return [each.text for each in run.host.log.since(run.mark) if each.of_plugin]


def at_start(run: Run) -> list[int]:
    """The statuses in one VM's on_configure."""
    run.mark = 0
    found = run.statuses(NAME)
    return found[: len(found) // 3]


@pytest.mark.parametrize(
    ("name", "arguments", "statuses"),
    [
        (b"nope", [b""], [1]),
        (b"clear_route_cache", [b"", b"x"], [0, 0]),
        (b"expr_evaluate", [b"", b"\0\0\0", bytes(4)], [2, 2, 1]),
        (b"expr_delete", [b"", b"\0\0\0", bytes(4)], [2, 2, 0]),
        (b"uncompress", [b"", b"xx", zlib.compress(b"hello" * 9)[:-3]], [3, 3, 3]),
        (b"declare_property", [b"", b"", b"\xff", b"\x0a\x01\xff"], [0, 2, 2, 2]),
        (b"set_envoy_filter_state", [b"", b"\xff", text(1, "nope")], [1, 2, 1]),
    ],
)
def test_statuses(tmp_path: Path, name: bytes, arguments: Sequence[bytes], statuses: list[int]) -> None:
    wat = Wat()
    assert played(tmp_path, wat, call(wat, name, *arguments)).statuses(NAME) == statuses


@pytest.mark.parametrize("name", ["expr_create", "sign", "verify_signature"])
def test_those_that_the_emulator_refuses_by_name(tmp_path: Path, name: str) -> None:
    wat = Wat()
    with pytest.raises(Unsupported, match=f"the foreign function {name}"):
        played(tmp_path, wat, call(wat, name.encode(), b""))


@pytest.mark.parametrize(
    ("name", "first"), [("sign", "1.37"), ("verify_signature", "1.30"), ("clear_route_cache", "1.33")]
)
def test_an_envoy_before_a_function_has_none(tmp_path: Path, name: str, first: str) -> None:
    before = f"1.{int(first.removeprefix('1.')) - 1}"
    wat = Wat()
    assert played(tmp_path, wat, call(wat, name.encode(), b""), envoy=before).statuses(NAME) == [1]


@pytest.mark.parametrize("content", [b"hello" * 20, b"", b"a" * 100_000])
def test_what_is_uncompressed(tmp_path: Path, content: bytes) -> None:
    wat = Wat()
    packed = zlib.compress(content) + b"what follows counts as nothing"
    module = wat.module({"proxy_on_request_headers": call(wat, b"uncompress", packed)})
    with running(module, tmp_path) as run:
        run.host.play(get())
        assert (run.statuses(NAME), run.given()) == ([0], content)


@pytest.mark.parametrize("content", [b"hello" * 20, b""])
def test_what_is_compressed(tmp_path: Path, content: bytes) -> None:
    wat = Wat()
    module = wat.module({"proxy_on_request_headers": call(wat, b"compress", content)})
    with running(module, tmp_path) as run:
        run.host.play(get())
        assert run.given() == zlib.compress(content)


def test_a_result_that_the_module_does_not_want(tmp_path: Path) -> None:
    wat = Wat()
    words = wat.call(NAME, b"compress", b"hello", 0, 0) + wat.call(NAME, b"compress", b"hello", 0, SIZE)
    with running(wat.module({"proxy_on_request_headers": words}), tmp_path) as run:
        run.host.play(get())
        assert run.statuses(NAME) == [0, 0]
        assert run.memory(place=SIZE) == len(zlib.compress(b"hello"))


def test_a_bomb_ends_the_callback(tmp_path: Path) -> None:
    wat = Wat()
    bomb = zlib.compress(bytes(10_000_000))
    module = wat.module({"proxy_on_request_headers": call(wat, b"uncompress", bomb)})
    with running(module, tmp_path, limits=Limits(copied=100_000)) as run:
        exchange = run.host.play(get())
        assert exchange.response.status == 503
        assert "more than 100,000 bytes uncompressed" in exchange.logs


def declared(name: str | bytes, *, kind: int = 0, readonly: int = 0, span: int = 0) -> bytes:
    return text(1, name) + bytes([2 << 3, readonly, 3 << 3, kind, 5 << 3, span])


def test_a_readonly_property_is_set_once(tmp_path: Path) -> None:
    wat = Wat()
    names = (b"plain", b"fixed", b"two\0parts")
    sets = "".join(wat.call("proxy_set_property", name, value) for name in names for value in (b"1", b"2"))
    at_once = call(
        wat, b"declare_property", declared("plain"), declared("plain"), declared("fixed", readonly=1)
    )
    at_once += call(wat, b"declare_property", declared(b"two\0parts", readonly=1, span=2))
    run = played(tmp_path, wat, sets + read(wat, b"plain", b"fixed", b"filter_state\0wasm.fixed"), at_once)
    assert run.statuses("proxy_set_property") == [0, 0, 0, 2, 0, 2]
    assert logged(run) == ["2", "1", "1"]
    assert at_start(run) == [0, 2, 0, 0]


def test_what_a_stream_declares_does_not_count(tmp_path: Path) -> None:
    wat = Wat()
    sets = "".join(wat.call("proxy_set_property", b"mine", value) for value in (b"1", b"2"))
    run = played(tmp_path, wat, call(wat, b"declare_property", declared("mine", readonly=1)) + sets)
    assert run.statuses("proxy_set_property") == [0, 0]


@pytest.mark.parametrize(("kind", "name"), [(2, "FlatBuffers"), (3, "Protobuf")])
def test_properties_with_parts_are_refused_by_name(tmp_path: Path, kind: int, name: str) -> None:
    wat = Wat()
    with pytest.raises(Unsupported, match=f"declared properties of the type {name}"):
        played(tmp_path, wat, call(wat, b"declare_property", declared("x", kind=kind)))


def test_a_state_of_envoys(tmp_path: Path) -> None:
    wat = Wat()
    state = text(1, "envoy.string")
    sets = call(wat, b"set_envoy_filter_state", state + text(2, "one"), state + text(2, b"\xff"))
    asks = read(wat, b"filter_state\0envoy.string", b"envoy.string", b"filter_state\0envoy\0string")
    run = played(tmp_path, wat, sets + asks, call(wat, b"set_envoy_filter_state", state))
    assert run.statuses(NAME) == [0, 2]
    assert run.statuses("proxy_get_property") == [0, 1, 1]
    assert logged(run)[0] == "one"
    assert at_start(run) == [1]  # there is no stream that could have it


def test_other_states_of_envoys_are_refused_by_name(tmp_path: Path) -> None:
    wat = Wat()
    with pytest.raises(Unsupported, match=r"the filter state envoy\.tcp_proxy\.cluster"):
        played(tmp_path, wat, call(wat, b"set_envoy_filter_state", text(1, "envoy.tcp_proxy.cluster")))
