"""A suite, checked before it is played: its files, its matchers, what excludes each other."""

from __future__ import annotations

from pathlib import Path

import pytest

from scaffold.errors import ProjectError
from scaffold.project.suites import suite as suites
from scaffold.project.suites.matcher import Matcher, compiled


def read(folder: Path, content: str, **more: object) -> suites.Suite:
    path = folder / "suite.textpb"
    path.write_text(content)
    return suites.read(path, folder, **more)  # type: ignore[arg-type]


def headers(result: str, given: str = "") -> str:
    return f'test {{ name: "x" request_headers {{ input {{ {given} }} result {{ {result} }} }} }}'


def test_files_are_read_beside_the_suite(tmp_path: Path) -> None:
    (tmp_path / "tests").mkdir()
    (tmp_path / "tests/body").write_bytes(b"12345")
    (tmp_path / "config.json").write_text("{}")
    path = tmp_path / "tests/suite.textpb"
    path.write_text(
        'env { config_path: "../config.json" wasm_path: "body" log_path: "log" }'
        'test { chunk_size: 2 request_body { input { file: "body" } result { body { file: "body" } } } }'
    )
    found = suites.read(path, tmp_path)
    (phase,) = found.cases[0].phases
    assert (found.configuration, phase.chunks) == (b"{}", (b"12", b"34", b"5"))
    assert phase.expected.body[0].exact == b"12345"
    assert (found.wasm, found.log_file) == (tmp_path / "tests/body", tmp_path / "tests/log")


def test_what_is_overridden_need_not_be_there(tmp_path: Path) -> None:
    content = 'env { wasm_path: "/no/plugin.wasm" config_path: "none" } test { name: "x" }'
    found = read(tmp_path, content, overridden=("wasm_path", "config_path"))
    assert (found.wasm, found.configuration) == (None, None)


def test_the_defaults_are_those_of_the_tester(tmp_path: Path) -> None:
    found = read(tmp_path, "test { }")
    assert (found.log_level, found.seconds, found.advanced, found.cases[0].name) == (2, None, 3, "test 1")
    assert read(tmp_path, 'env { log_path: "/dev/stdout" } test { }').shows_log


@pytest.mark.parametrize(
    ("content", "why"),
    [
        ("env { }", "has no test"),
        ('env { wasm_path: "none.wasm" } test { }', "env: there is no wasm_path"),
        (
            'env { config_path: "../config" } test { }',
            "config_path '../config' is outside the suite's folder",
        ),
        ('env { config_path: "/etc/passwd" } test { }', "is outside the suite's folder"),
        ('env { config_path: "a\\0b" } test { }', "cannot read the config_path"),
        ('env { log_path: "none/log" } test { }', "there is no folder"),
        ('env { log_path: "/tmp/../etc/log" } test { }', "is outside"),
        ("env { time_secs: 18446744073709551615 } test { }", "later than a plugin's clock"),
        ("env { num_additional_streams: 10001 } test { }", "num_additional_streams is more than 10,000"),
        ("env { additional_stream_advance_rate: 99999 } test { }", "advance_rate is more than 10,000"),
        (
            f'test {{ chunk_size: 1 request_body {{ input {{ content: "{"a" * 100_001}" }} }} }}',
            "chunk_size: 1 makes more than 100,000 chunks",
        ),
        (headers("", 'file: "none"'), "test `x`, request_headers: there is no file"),
        (headers("", 'file: "link"'), "is outside"),
        (headers("", 'file: "folder"'), "Is a directory"),
        (headers('body { file: "none" }'), "there is no body: file"),
        (headers('log { regex: "[asd" }'), r"the regex `\[asd` of `log` isn't RE2: missing \]"),
        (headers('log { regex: "(?=a)" }'), "isn't RE2: invalid perl operator"),
        (headers(r'headers { regex: "(a)\\1" }'), "of `headers` isn't RE2: invalid escape sequence"),
        (headers("body { invert: true }"), "a matcher of `body` says nothing"),
        (headers('has_header { value: "b" }'), "has_header has no key"),
        (headers("no_header { }"), "no_header has no key"),
        (headers("", 'header { key: "a" } content: "b"'), "the input has `header` and `content`"),
        (headers("", 'content: "nonsense"'), "the input isn't HTTP/1"),
        ('test { request_body { input { header { key: "a" } } } }', "a body has no `header`"),
        ('test { num_chunks: 4 request_body { input { content: "abc" } } }', "num_chunks: 4 can't cut"),
        ('test { num_chunks: 0 request_body { input { content: "abc" } } }', "num_chunks: 0 can't cut"),
        ('test { chunk_size: -1 response_body { input { content: "abc" } } }', "chunk_size: -1 can't cut"),
        ("test { chunk_size: 1 request_body {} request_body {} }", "chunk_size cuts one body"),
        ('test { plugin_init { body { exact: "" } } }', "only `log` can be expected here, not `body`"),
        ("test { stream_destroy { immediate { } } }", "only `log` can be expected here, not `immediate`"),
    ],
)
def test_what_cannot_be_played(tmp_path: Path, content: str, why: str) -> None:
    folder = tmp_path / "suite"
    (folder / "folder").mkdir(parents=True)
    (tmp_path / "config").write_text("{}")
    (folder / "link").symlink_to(tmp_path / "config")
    with pytest.raises(ProjectError, match=why):
        read(folder, content)


@pytest.mark.parametrize(
    ("pattern", "text", "agrees"),
    [
        (".*b", b"ab", True),
        ("a", b"ab", False),  # the whole text
        (".*", b"a\nb", False),
        ("(?s).*", b"a\nb", True),
        (r"\pL+", "äß".encode(), True),
        ("ä", "ä".encode(), True),
        (".", b"\xff", False),
        (r"\C", b"\xff", True),
        ("(?i)ab$", b"AB", True),
        ("(a|aa)*$", b"a" * 3000 + b"b", False),  # which takes another engine for ever
    ],
)
def test_a_pattern_means_what_it_means_in_re2(pattern: str, text: bytes, agrees: bool) -> None:
    assert Matcher(b"", compiled(pattern)).agrees([text]) is agrees
    assert Matcher(b"", compiled(pattern), invert=True).agrees([text]) is not agrees


def test_one_of_several_texts_is_enough() -> None:
    assert Matcher(b"", compiled("b+")).agrees([b"a", b"bb"])
    assert not Matcher(b"", compiled("b+"), invert=True).agrees([b"a", b"bb"])


def test_of_no_text_nothing_matches() -> None:
    assert not Matcher(b"").agrees([])
    assert Matcher(b"", invert=True).agrees([])


@pytest.mark.parametrize(
    ("plan", "body", "chunks"),
    [
        ("num_chunks: 5", "1234567890", ["12", "34", "56", "78", "90"]),
        ("num_chunks: 3", "1234567890", ["123", "456", "7890"]),
        ("num_chunks: 1", "123", ["123"]),
        ("chunk_size: 2", "1234567890", ["12", "34", "56", "78", "90"]),
        ("chunk_size: 4", "1234567890", ["1234", "5678", "90"]),
        ("chunk_size: 9", "", [""]),
        ("", "", [""]),
    ],
)
def test_bodies_are_cut_as_in_the_tester(tmp_path: Path, plan: str, body: str, chunks: list[str]) -> None:
    content = f'test {{ {plan} response_body {{ input {{ content: "{body}" }} }} }}'
    assert [each.decode() for each in read(tmp_path, content).cases[0].phases[0].chunks] == chunks
