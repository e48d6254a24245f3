from __future__ import annotations

from pathlib import Path

import pytest
from support import wasm_asm as asm

from scaffold.wasm.code import Code
from scaffold.wasm.floor import Callback, Hostcall, NoFloor, assemble
from scaffold.wasm.module import WasmFile

TEXT = b":authority and more"
PLUGIN = asm.plugin(segments=[(5000, TEXT)])
GET = "env.proxy_get_header_map_value"


def parse(content: bytes) -> WasmFile:
    return WasmFile.parse(content, Path("x.wasm"))


def floor(*request: Callback, before=(), names=(), plugin=PLUGIN) -> WasmFile:
    return parse(assemble(parse(plugin), request, before, names))


def headers(*calls: Hostcall, arguments=(3, 10, 1), result="0") -> Callback:
    return Callback("proxy_on_request_headers", arguments, calls, result)


def test_it_has_the_same_callbacks_with_the_same_hostcalls():
    made = floor(
        Callback("proxy_on_context_create", (3, 1), (), "void"),
        headers(
            Hostcall("env.proxy_log", (2, 9000, 26)),
            Hostcall(GET, (0, 5000, 10, 64, 68), (15,)),
            Hostcall("env.proxy_replace_header_map_value", (0, 9000, 7, 9100, 32)),
        ),
        Callback("proxy_on_log", (3,), (), "void"),
    )
    assert made.abi_version == "0.2.1"
    assert {name: kind for name, kind in made.callable.items() if name.startswith("proxy_on")} == {
        "proxy_on_context_create": "ii>-",
        "proxy_on_request_headers": "iii>i",
        "proxy_on_log": "i>-",
    }
    assert [(each.module, each.name, each.signature) for each in made.imports] == [
        ("env", "proxy_log", "iii>i"),
        ("env", "proxy_get_header_map_value", "iiiii>i"),
        ("env", "proxy_replace_header_map_value", "iiiii>i"),
    ]
    callers = Code.read(
        next(each.body(made.content) for each in made.sections if each.kind == "code"), len(made.imports)
    ).callers
    assert set(callers) == {0, 1, 2}
    assert len({caller for each in callers.values() for caller in each}) == 1


def test_what_is_in_the_modules_constant_data_is_passed_as_it_is():
    made = floor(headers(Hostcall(GET, (0, 5000, 10, 64, 68), (15,))))
    assert b":authority" in made.content
    assert TEXT not in made.content


@pytest.mark.parametrize(
    ("call", "content"),
    [
        (Hostcall(GET, (0, 9000, 9, 64, 68), (3,)), b"x-secret2"),  # found, so it is one of the request's
        (Hostcall(GET, (0, 9000, 9, 64, 68), result="1"), b"x" * 9),
        (Hostcall("env.proxy_get_property", (9000, 12, 64, 68), (3,)), b"request\0path"),
        (Hostcall("env.proxy_replace_header_map_value", (0, 9000, 9, 9100, 0)), b"x" * 9),
        (Hostcall("env.proxy_send_local_response", (403, 0, 0, 9000, 30, 9100, 40, 1)), b"x\0" + b"x" * 25),
    ],
)
def test_of_anything_else_the_size_is_kept(call, content):
    made = floor(headers(call), names=[b"x-secret", b"x-secret2"])
    data = next(each.body(made.content) for each in made.sections if each.kind == "data")
    assert content in data


def test_metrics_are_defined_before_they_are_used():
    define = Hostcall("env.proxy_define_metric", (0, 9000, 5, 64))
    other = Hostcall("env.proxy_define_metric", (0, 9100, 5, 64))
    count = Hostcall("env.proxy_increment_metric", (4, -1))
    made = floor(headers(count), before=[define, Hostcall("env.proxy_log", (2, 9, 9)), other, define])
    assert [each.name for each in made.imports] == ["proxy_define_metric", "proxy_increment_metric"]
    assert [each.signature for each in made.imports] == ["iiii>i", "iI>i"]
    assert made.callable["proxy_on_configure"] == "ii>i"
    assert b"00001" in made.content
    assert b"00002" in made.content


def test_a_callback_that_does_different_things_tells_by_its_arguments():
    body = "proxy_on_request_body"
    log = Hostcall("env.proxy_log", (2, 9000, 8))
    twice = floor(Callback(body, (3, 5, 0), (), "1"), Callback(body, (3, 5, 1), (log,), "0"))
    once = floor(Callback(body, (3, 5, 1), (log,), "0"), Callback(body, (3, 6, 1), (log,), "0"))
    compared = b"\x20\x01\x41\x05\x46\x20\x02\x41\x00\x46\x71\x04\x40"
    assert compared in twice.content
    assert b"\x04\x40" not in once.content


def test_memory_is_enough_for_what_the_host_returns():
    assert floor(headers()).memory_pages == 2
    read = Hostcall("env.proxy_get_buffer_bytes", (0, 0, 9, 64, 68), (1_000_000,))
    assert floor(headers(read)).memory_pages * 65_536 > 2_000_000


def test_large_numbers_are_encoded_as_signed():
    made = floor(headers(Hostcall("env.proxy_get_buffer_bytes", (0, 0, 4294967295, 64, 68))))
    assert b"\x41\x00\x41\x00\x41\x7f" in made.content


@pytest.mark.parametrize(
    ("callback", "why"),
    [
        (headers(Hostcall("env.proxy_http_call", (1,) * 10)), "it calls proxy_http_call"),
        (headers(Hostcall("env.proxy_log", (1, 2))), "it calls proxy_log"),
        (headers(Hostcall("wasi_snapshot_preview1.fd_write", (1, 2, 3, 4))), "it calls fd_write"),
        (Callback("proxy_on_http_call_response", (3, 1, 1, 1, 1), (), "void"), "on_http_call_response"),
    ],
)
def test_what_constants_cannot_repeat_has_no_floor(callback, why):
    with pytest.raises(NoFloor, match=why):
        floor(callback)


def test_a_callback_without_arguments_that_tell_has_no_floor():
    log = Hostcall("env.proxy_log", (2, 9000, 8))
    with pytest.raises(NoFloor, match="on_done does something else each time"):
        floor(Callback("proxy_on_done", (3,), (), "1"), Callback("proxy_on_done", (3,), (log,), "1"))


def test_a_plugin_without_callbacks_or_data_has_an_empty_floor():
    made = floor(plugin=asm.plugin("proxy_abi_version_0_1_0"))
    assert (made.abi_version, made.imports) == ("0.1.0", ())
