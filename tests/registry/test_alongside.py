"""What comes is read while it comes: to its end, and judged only then."""

from __future__ import annotations

import io
import threading

import pytest

from scaffold.registry.alongside import Copied, reading

PIECES = [bytes([number % 251]) * (1000 + number) for number in range(200)]


def test_both_get_every_byte():
    read, file = [], io.BytesIO()
    with reading(lambda stream: read.append(stream.read())) as feed:
        into = Copied(file, feed)
        assert [into.write(piece) for piece in PIECES] == [len(piece) for piece in PIECES]
    assert read == [b"".join(PIECES)] == [file.getvalue()]


def test_a_reader_that_has_enough_holds_nobody_up():
    read = []
    with reading(lambda stream: read.append(stream.read(3))) as feed:
        for piece in PIECES:
            feed(piece)
    assert read == [PIECES[0][:3]]


def test_what_the_reader_found_is_raised_at_the_end():
    fed = []

    def read(stream):
        stream.read(1)
        raise ValueError("no gzip")

    with pytest.raises(ValueError, match="no gzip"), reading(read) as feed:
        for piece in PIECES:
            feed(piece)
            fed.append(piece)
    assert fed == PIECES


def test_what_went_wrong_on_the_way_counts_more():
    def read(stream):
        raise ValueError("cut short")

    with pytest.raises(OSError, match="the line broke"), reading(read) as feed:
        feed(b"some")
        raise OSError("the line broke")
    assert threading.active_count() == 1


def test_a_stream_that_breaks_off_ends_for_the_reader():
    read = []
    with pytest.raises(KeyboardInterrupt), reading(lambda stream: read.append(stream.read())) as feed:
        feed(b"so")
        feed(b"me")
        raise KeyboardInterrupt
    assert read == [b"some"]
