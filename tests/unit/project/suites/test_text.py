"""What a suite may look like, as protobuf's text and as YAML; and where it stops being one."""

from __future__ import annotations

from pathlib import Path

import pytest
from google.protobuf import message_factory

from scaffold.errors import ProjectError
from scaffold.project.suites import messages, text

ODD = r"""
# a comment; then angle brackets, semicolons and commas
env < log_level: DEBUG; time_secs: 0x10, >
test: {
  name: "joined " 'of' " three"   # another comment
  benchmark: 1
  properties { path: "source.address"  value: "\x00\377\t\"\u00e9" };
  request_headers <
    input { header: [ { key: ':path' value: "/" }, < key: "a" value: "b" > ] }
    result: { log [ { regex: "a\\.b" }, { exact: "x" invert: true } ] immediate {} }
  >
  request_body { input { content: "one\n"
      "two" } }
  request_body {}
}
"""
YAML = """
# a comment
env: {log_level: 2, time_secs: '16'}
test:
- name: joined of three
  benchmark: TRUE
  properties: [{path: source.address, value: 5}]
  requestHeaders:
    input:
      header:
      - {key: ':path', value: /}
      - key: a
        value: b
    result:
      log:
      - regex: a\\.b
      - &x {exact: x, invert: 'true'}
      - *x
      immediate: {}
  request_body:
  - input: {content: "one\\ntwo"}
  - {}
  response_headers:
"""


def read(folder: Path, content: str | bytes, name: str = "suite.textpb"):
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return text.read(path)


@pytest.mark.parametrize(("content", "name"), [(ODD, "suite.textpb"), (YAML, "suite.yaml")])
def test_unusual_but_legal(tmp_path: Path, content: str, name: str) -> None:
    suite = read(tmp_path, content, name)
    (test,) = suite.test
    assert (suite.env.log_level, suite.env.time_secs) == (2, 16)
    assert (test.name, test.benchmark) == ("joined of three", True)
    assert [(each.key, each.value) for each in test.request_headers.input.header] == [
        (":path", b"/"),
        ("a", b"b"),
    ]
    first, second = list(test.request_headers.result.log)[:2]
    assert (first.regex, second.exact, second.invert) == ("a\\.b", b"x", True)
    assert test.request_headers.result.HasField("immediate")
    assert [each.input.content for each in test.request_body] == [b"one\ntwo", b""]
    assert not test.HasField("response_headers")


def test_bytes_are_what_the_escapes_say(tmp_path: Path) -> None:
    assert read(tmp_path, ODD).test[0].properties[0].value == b'\x00\xff\t"\xc3\xa9'


def test_a_byte_order_mark_and_an_empty_file(tmp_path: Path) -> None:
    assert read(tmp_path, b"\xef\xbb\xbftest { name: 'a' }").test[0].name == "a"
    assert len(read(tmp_path, "").test) == len(read(tmp_path, "", "suite.yml").test) == 0


def test_an_alias_is_what_it_stands_for(tmp_path: Path) -> None:
    log = read(tmp_path, YAML, "suite.yaml").test[0].request_headers.result.log
    assert [each.exact for each in log][1:] == [b"x", b"x"]


@pytest.mark.parametrize(
    ("content", "place", "why"),
    [
        ('test {\n  nme: "x"\n}', "2:3", "Test has no field `nme`"),
        ('test { name: "x"', "1:6", "this `{` isn't closed"),
        ('test {\n  name: "{"  # {\n  plugin_init <\n >\n', "1:6", "this `{` isn't closed"),
        ("test {\n  plugin_init <\n", "2:15", "this `<` isn't closed"),
        ("test { name: 5 }", "1:14", "Expected string"),
        ('test { name: "x\n" }', "1:14", "String missing ending quote"),
        ('test { name: "x" name: "y" }', "1:24", 'multiple "name" fields'),
        ("env { log_level: LOUD }", "1:18", "no value named LOUD"),
        ("test { num_chunks: 1 chunk_size: 2 }", "1:22", "another member of oneof"),
        ("test { num_chunks: 99999999999 }", "1:20", "Value out of range"),
        ("runtime { }", "1:1", "TestSuite has no field `runtime`"),
        ("test { [a.b]: 1 }", "1:", "does not have extensions"),
        (b"test {\n  name: '\xff' }", "2:10", "isn't UTF-8"),
        ("\0asm", "1:1", "Expected identifier"),
    ],
)
def test_what_is_no_text_of_a_suite(tmp_path: Path, content: str, place: str, why: str) -> None:
    with pytest.raises(ProjectError) as raised:
        read(tmp_path, content)
    assert raised.value.message.startswith(f"{tmp_path}/suite.textpb:{place}")
    assert why in raised.value.message


@pytest.mark.parametrize(
    ("content", "place", "why"),
    [
        ("test:\n- name: x\n  foo: 1\n", "3:3", "Test has no field `foo`"),
        ("- name: x", "1:1", "TestSuite has fields"),
        ("test: {name: x}", "1:7", "`test` is a list"),
        ("test: [1]", "1:8", "Test has fields"),
        ("test:\n- {name: [x]}", "2:10", "`name` has a single value"),
        ("test:\n- {benchmark: 2}", "2:15", "`benchmark` is true or false, not `2`"),
        ("test:\n- {num_chunks: 2.5}", "2:16", "`num_chunks` is a whole number from -2147483648"),
        ("test:\n- {chunk_size: 9999999999999999999}", "2:16", "`chunk_size` is a whole number"),
        ("env: {log_level: LOUD}", "1:18", "`log_level` is one of UNDEFINED, TRACE"),
        ("env: {time_secs: -1}", "1:18", "`time_secs` is a whole number from 0"),
        ("test:\n- name: a\n  name: b", "3:3", "`name` appears twice"),
        ("test:\n- {num_chunks: 1, chunk_size: 1}", "2:19", "`chunk_size` and `num_chunks` exclude"),
        ("test: [", "1:8", "expected the node content"),
        ("a: b: c", "1:5", "mapping values are not allowed"),
        ("test: *x", "1:7", "undefined alias"),
        ("a: 1\n---\nb: 2", "2:1", "expected a single document"),
        ("test:\n\x01", "2:1", "special characters are not allowed"),
    ],
)
def test_what_is_no_yaml_of_a_suite(tmp_path: Path, content: str, place: str, why: str) -> None:
    with pytest.raises(ProjectError) as raised:
        read(tmp_path, content, "suite.yaml")
    assert raised.value.message.startswith(f"{tmp_path}/suite.yaml:{place}")
    assert why in raised.value.message


def test_yaml_that_stands_for_more_than_anybody_can_read(tmp_path: Path) -> None:
    log = ", ".join(["*l"] * 1000)
    tests = ", ".join(["*t"] * 1000)
    bomb = f"test:\n- &t {{plugin_init: {{log: [&l {{exact: x}}, {log}]}}}}\n- {tests}\n".replace(
        f"- {tests}", "\n".join(["- *t"] * 1000)
    )
    with pytest.raises(ProjectError, match="stands for more than 200,000 values"):
        read(tmp_path, bomb, "suite.yaml")
    deep = "test: " + "[" * 5000
    with pytest.raises(ProjectError, match=r"nested too deeply|expected the node content"):
        read(tmp_path, deep, "suite.yaml")


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ProjectError, match="cannot read the suite"):
        text.read(tmp_path / "none.textpb")
    with pytest.raises(ProjectError, match="Is a directory"):
        text.read(tmp_path)


def test_the_lists_are_those_of_the_descriptor() -> None:
    kinds = messages.suite().DESCRIPTOR.file.message_types_by_name.values()
    made = [message_factory.GetMessageClass(kind)() for kind in kinds]
    fields = [
        (each.name, getattr(message, each.name)) for message in made for each in message.DESCRIPTOR.fields
    ]
    repeated = {name for name, value in fields if hasattr(value, "extend")}
    assert repeated == messages.LISTS
    assert not repeated & {name for name, value in fields if not hasattr(value, "extend")}
