"""Messages without a schema: what is one, and what isn't, as Envoy's own parser has it."""

from __future__ import annotations

import pytest

from scaffold.hosts.emulator import protobuf
from scaffold.hosts.emulator.protobuf import Malformed


@pytest.mark.parametrize(
    ("content", "fields"),
    [
        (b"", []),
        (b"\x08\x96\x01", [(1, 150)]),
        (b"\x12\x02hi", [(2, b"hi")]),
        (b"\x0d\x01\0\0\0\x09\x02" + bytes(7), [(1, 1), (1, 2)]),
        (b"\x0b\x08\x01\x13\x14\x0c\x10\x05", [(2, 5)]),  # a group, with another within, is left out
        (b"auth-grpc", [(12, int.from_bytes(b"uth-grpc", "little"))]),
        (b"\x08" + b"\xff" * 9 + b"\x01", [(1, (1 << 64) - 1)]),
    ],
)
def test_fields(content: bytes, fields: list[protobuf.Field]) -> None:
    assert protobuf.fields(content) == fields


@pytest.mark.parametrize(
    "content",
    [
        b"\x12\x03hi",  # it ends within a string
        b"\x00\x01",  # no field has the number 0
        b"\x0f",  # no such wire type
        b"\x0c",  # the end of a group that hasn't begun
        b"\x0b\x08\x01",  # a group without an end
        b"\x0b\x14",  # that ends another
        b"\x08" + b"\x80" * 10,  # a number without an end
        b"\x08",
        b"\x0b" * 200,
        b"svc",
    ],
)
def test_what_is_no_message(content: bytes) -> None:
    with pytest.raises(Malformed):
        protobuf.fields(content)


def test_the_last_value_counts_and_messages_are_merged() -> None:
    fields = protobuf.fields(b"\x0a\x01a\x0a\x01b\x10\x01\x10\x02\x1a\x02\x08\x01\x1a\x02\x10\x02")
    assert protobuf.text(fields, 1) == "b"
    assert protobuf.whole(fields, 2) == 2
    assert protobuf.merged(fields, 3) == [(1, 1), (2, 2)]
    assert (protobuf.text(fields, 9), protobuf.whole(fields, 9), protobuf.merged(fields, 9)) == ("", 0, None)


def test_a_string_is_utf_8_even_one_that_does_not_count() -> None:
    with pytest.raises(Malformed, match="UTF-8"):
        protobuf.text(protobuf.fields(b"\x0a\x01\xff\x0a\x01b"), 1)
