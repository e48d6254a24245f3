"""Logs of bounded size, whatever is written to them and whatever becomes of the disk; how they are read."""

from __future__ import annotations

import json
import os
import re
import resource
import tracemalloc
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaffold.core.events import Logged
from scaffold.hosts.envoy import log_files
from scaffold.hosts.envoy.log import Line, Log, Wanted, lines_from, lines_since
from scaffold.hosts.envoy.log_files import LARGEST, LONGEST, Lines, LogFile, set_aside


def line(message: str, logger: str = "wasm") -> bytes:
    return json.dumps({"time": "now", "level": "info", "logger": logger, "message": message}).encode() + b"\n"


@contextmanager
def full_beyond(size: int) -> Iterator[None]:
    """No file may grow beyond this size."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


# --- reading


def test_a_line_of_the_log_ends_where_envoy_ends_it(tmp_path):
    text = "one\u2028two\x85three"
    record = {"level": "info", "logger": "wasm", "message": f"wasm log p r v: {text}"}
    (tmp_path / "log").write_text(json.dumps(record, ensure_ascii=False) + "\n")
    assert [line.text for line in Log(tmp_path / "log").since(0)] == [text]


@pytest.mark.parametrize(
    ("prefix", "plugin"),
    [(" hello root vm", "hello"), (" hello", "hello"), (" root vm", "root"), ("  vm", ""), ("", "")],
)
def test_a_plugins_line_is_without_envoys_prefix(tmp_path, prefix, plugin):
    """Outside of requests it has no name, and with empty ids it ends at once."""
    record = {"level": "info", "logger": "wasm", "message": f"wasm log{prefix}: a: b"}
    (tmp_path / "log").write_text(json.dumps(record) + "\n")
    (seen,) = Log(tmp_path / "log").since(0)
    assert (seen.text, seen.plugin) == ("a: b", plugin)


def test_a_line_knows_its_time_level_and_who_wrote_it(tmp_path):
    records = [
        {
            "time": "2026-01-31T15:30:00.250+01:00",
            "level": "info",
            "logger": "wasm",
            "message": "wasm log p r v: a",
        },
        {"time": "soon", "level": "error", "logger": "wasm", "message": "Function: f failed"},
        {"level": "warning", "logger": "scaffold", "message": "b"},
    ]
    (tmp_path / "log").write_text("".join(json.dumps(each) + "\n" for each in records) + "Caught Abort\n")
    lines = list(Log(tmp_path / "log").since(0))
    assert [line.event(by_name=True) for line in lines if line.is_shown] == [
        Logged("info", "a", 1769869800.25, "p", by_name=True),
        Logged("error", "Function: f failed", None, "envoy"),
        Logged("warning", "b", None, "scaffold"),
    ]


def test_envoys_trace_of_hostcalls_is_not_the_plugins(tmp_path):
    texts = ["[host->vm] proxy_on_tick(1)", "[vm->host] proxy_log(2)", "wasm log p r v: [vm->host] mine"]
    texts += [
        "~Wasm 3 remaining active",
        "Base Wasm created 1 now active",
        "Thread-Local Wasm created 2 now active",
    ]
    records = [{"level": "trace", "logger": "wasm", "message": text} for text in texts]
    (tmp_path / "log").write_text("".join(json.dumps(each) + "\n" for each in records))
    shown = [line.text for line in Log(tmp_path / "log").since(0) if line.of_plugin]
    assert shown == ["[vm->host] mine"]


def at(seconds: int, level: str = "info", text: str = "hello", logger: str = "wasm") -> Line:
    return Line(level, logger, text, "p", f"2026-01-31T14:30:{seconds:02}.000+00:00")


LINES = [
    at(0, "debug"),
    at(1, text="GET /a"),
    at(2, "error", logger="config"),
    at(3, "warning"),
    at(4, text="GET /b"),
]


@pytest.mark.parametrize(
    ("wanted", "places"),
    [
        (Wanted(), [0, 1, 3, 4]),
        (Wanted(since=1769869803.0), [3, 4]),
        (Wanted(level="info"), [1, 3, 4]),
        (Wanted(level="critical"), []),
        (Wanted(pattern=re.compile("GET")), [1, 4]),
        (Wanted(tail=1), [4]),
        (Wanted(tail=0), []),
        (Wanted(tail=2, pattern=re.compile("^hello$")), [0, 3]),
    ],
    ids=str,
)
def test_the_lines_that_a_user_wants(wanted, places):
    assert list(wanted.of(LINES)) == [LINES[place] for place in places]


def test_a_line_without_a_time_is_shown_whatever_the_time(tmp_path):
    assert Wanted(since=1e12)(Line("info", "wasm", "hello"))


def test_lines_are_whole_wherever_a_file_ended_when_its_size_was_taken(tmp_path):
    path = tmp_path / "log"
    lines = [b"one", b"", b"two", b"three"]
    content = b"\n".join(lines) + b"\n"
    path.write_bytes(content + b"half")
    for position in range(len(content) + 5):
        later = [line for at, line in ((0, b"one"), (4, b""), (5, b"two"), (9, b"three")) if at >= position]
        got, end = lines_from(path, position)
        assert got == later, position
        assert end == (len(content) if position <= len(content) else position)
    assert lines_from(path, 1000) == (lines, len(content)), "it was begun anew"
    with path.open("ab") as file:
        file.write(b" of it\nlast\n")
    assert lines_from(path, len(content) + 2)[0] == [b"last"], "what began before isn't ours"
    assert lines_from(path, len(content))[0] == [b"half of it", b"last"]


# --- lines of a stream


@given(st.binary(), st.lists(st.integers(0, 100)))
def test_however_a_stream_comes_its_lines_are_the_same(stream, sizes):
    lines, made, rest = Lines(), b"", stream
    for size in sizes:
        made += lines.feed(rest[:size])
        assert made.endswith(b"\n") or not made
        rest = rest[size:]
    made += lines.feed(rest) + lines.end()
    assert made == stream + (b"" if stream.endswith(b"\n") or not stream else b"\n")


@pytest.mark.parametrize("end", ["x", "\\", "\\\\", "\n", "\x01", "é", "\U0001f600"])
@pytest.mark.parametrize("shift", range(8))
def test_a_line_that_is_too_long_is_cut_and_stays_json(end, shift):
    long = line("wasm log p r v: " + "x" * shift + end * 3 * LONGEST)
    lines = Lines()
    made = b"".join(lines.feed(long[at : at + 4096]) for at in range(0, len(long), 4096))
    assert len(made) < LONGEST + 40
    message = json.loads(made)["message"]
    assert message.endswith(" bytes more)")
    assert message.startswith("wasm log p r v: " + "x" * shift + end[0])


def test_a_line_without_an_end_takes_little_memory():
    lines, part = Lines(), b"x" * LONGEST
    tracemalloc.start()
    try:
        for _ in range(5000):  # 300 MB
            assert lines.feed(part) == b""
        assert tracemalloc.get_traced_memory()[1] < 10 * LONGEST
    finally:
        tracemalloc.stop()
    assert lines.end().endswith(b"bytes more)\n")


# --- files


def test_a_log_is_bounded_and_a_reader_misses_nothing_when_it_is_set_aside(tmp_path):
    path, seen, at = tmp_path / "log", [], 0
    with closing(LogFile(path)) as log:
        for number in range(4 * LARGEST // 65536):
            log.append(line(f"{number} ".ljust(1000)) * 64)
            while (found := lines_from(path, at))[0]:
                seen += [int(json.loads(each)["message"]) for each in found[0]]
                at = found[1]
            assert sum(each.stat().st_size for each in tmp_path.iterdir()) <= 2 * LARGEST
    assert seen == sorted(seen)
    assert set(seen) == set(range(4 * LARGEST // 65536))
    kept = [*Log(path).older(), *Log(path).since(0)]
    assert sum(len(each.text) for each in kept) > LARGEST


def test_what_the_disk_does_not_take_is_lost_and_said_and_later_lines_are_there(tmp_path):
    path = tmp_path / "log"
    with closing(LogFile(path)) as log:
        log.append(line("before"))
        with full_beyond(path.stat().st_size + 10):
            log.append(line("lost") * 3)
            log.append(line("lost"))
        log.append(line("after"))
        log.append(line("later"))
    said = [each.text for each in Log(path).since(0)]
    assert said == ["before", "4 lines of the log are lost: the disk is full", "after", "later"]


def test_a_log_that_cannot_be_set_aside_is_emptied(tmp_path):
    path = tmp_path / "log"
    with closing(LogFile(path)) as log:
        log.append(line("old") * (LARGEST // len(line("old"))))
        path.with_suffix(".new").mkdir()  # where the next part would be made
        log.append(line("new"))
    assert list(lines_since(path, 0)) == [line("new").rstrip()]
    assert not set_aside(path).exists()


def test_a_log_that_cannot_be_set_aside_leaves_no_file_open(tmp_path):
    path = tmp_path / "log"
    set_aside(path).mkdir()  # which no file can replace
    with closing(LogFile(path)) as log:
        before = len([*Path("/dev/fd").iterdir()])
        for _ in range(5):
            log.append(b"x" * LARGEST)
        assert len([*Path("/dev/fd").iterdir()]) == before
    assert sorted(each.name for each in tmp_path.iterdir()) == ["log", set_aside(path).name]


def test_what_is_appended_after_the_end_is_dropped(tmp_path):
    log = LogFile(tmp_path / "log")
    log.close()
    with (tmp_path / "other").open("wb"):  # it gets the same number
        log.append(b"late\n")
    assert (tmp_path / "other").read_bytes() == (tmp_path / "log").read_bytes() == b""


def test_a_log_goes_on_where_it_ended(tmp_path: Path):
    for number in range(3):
        with closing(LogFile(tmp_path / "log")) as log:
            log.append(line(str(number)))
    assert [each.text for each in Log(tmp_path / "log").since(0)] == ["0", "1", "2"]
    assert (tmp_path / "log").stat().st_mode & 0o777 == 0o600


def test_a_request_that_passes_between_two_reads_ends_after_its_lines(tmp_path, monkeypatch):
    """So that whoever reads of its end finds its lines; here, one file is both logs."""
    (source, lines), (access, ends) = os.pipe(), os.pipe()
    os.set_blocking(access, False)

    def requests() -> Iterator[None]:
        for number in range(1, 100):
            os.write(lines, b"%d\n" % number)
            os.write(ends, b"%d\n" % -number)
            yield
        os.close(lines)
        while True:
            yield

    passing, read = requests(), log_files._read
    next(passing)
    monkeypatch.setattr(log_files, "_read", lambda pipe: (read(pipe), next(passing))[0])
    log_files._copy(source, access, LogFile(tmp_path / "log"), LogFile(tmp_path / "log"))
    os.close(ends)
    seen = [int(word) for word in (tmp_path / "log").read_text().split()]
    assert sorted(seen) == [number for number in range(-99, 100) if number]
    assert all(seen.index(number) < seen.index(-number) for number in range(1, 100))
