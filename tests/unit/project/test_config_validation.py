"""A configuration against a schema: what is refused, in which words, and what a schema can't be."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.serde_schema import CONTENT

from scaffold.errors import ProjectError, UsageError
from scaffold.oci.spec import ImageError
from scaffold.project import config_validation as schema
from scaffold.project.config_validation import Schema


def faults(configuration, content=CONTENT):
    given = configuration if isinstance(configuration, bytes) else json.dumps(configuration).encode()
    return Schema("config.schema.json", content).violations(given)


@pytest.mark.parametrize(
    "configuration",
    [
        {},
        {"keys": []},
        {"keys": [{"name": "a", "value": "12345678"}]},
        {"timeout_ms": 0},
        {"timeout_ms": 2**32 - 1, "slots": 2**32 - 1, "offset": -(2**63)},
        {"level": "low", "on_failure": "open", "realm": None, "note": None},
        {"realm": {}, "note": "", "labels": {"a b": "c"}},
        {"source": {"kind": "remote", "url": "u"}},
        {"peers": ["10.0.0.1", "::1"]},
    ],
    ids=str,
)
def test_what_fits(configuration):
    assert faults(configuration) == []


@pytest.mark.parametrize(
    ("configuration", "said"),
    [
        ([], "[] is not of type object"),
        (None, "null is not of type object"),
        ({"header": 3}, "header: 3 is not of type string"),
        ({"header": True}, "header: true is not of type string"),
        ({"haeder": ""}, "haeder: there is no such option; did you mean `header`?"),
        ({"realm": {"x": 1}}, "realm.x: there is no such option; known: name"),
        ({"keys": [{"name": "a"}]}, "keys[0]: 'value' is a required property"),
        ({"keys": [{"name": "a", "value": "short"}]}, 'keys[0].value: "short" is too short'),
        ({"labels": {"a b": 1}}, 'labels["a b"]: 1 is not of type string'),
        ({"level": "mid"}, 'level: "mid" is not one of "low", "high"'),
        ({"on_failure": "ajar"}, 'on_failure: "ajar" is not one of "closed", "open"'),
        ({"realm": 3}, "realm: 3 is not of type object or null"),
        ({"realm": {"name": 3}}, "realm.name: 3 is not of type string"),
        ({"source": {"kind": "remote"}}, "source: 'url' is a required property"),
        ({"source": {"kind": "ftp"}}, 'source.kind: "ftp" is not one of "inline", "remote"'),
        ({"peers": ["10.0.0"]}, 'peers[0]: "10.0.0" is not of format ip'),
        ({"source": {}}, "source: 'kind' is a required property"),
        ({"source": 3}, "source: 3 is not of type object"),
        ({"header": ["\x1b[31m"]}, 'header: ["\\u001b[31m"] is not of type string'),
        ({"header": ["x" * 99]}, f'header: ["{"x" * 58}… is not of type string'),
    ],
)
def test_what_does_not_fit_is_said_with_its_place(configuration, said):
    assert faults(configuration) == [said]


@pytest.mark.parametrize(
    ("name", "value"), [("timeout_ms", 2**32), ("slots", 2**32), ("offset", 2**63), ("offset", -(2**63) - 1)]
)
def test_a_number_that_rust_has_no_room_for(name, value):
    (said,) = faults({name: value})
    assert said.startswith(f"{name}: {value} is not of format ")


def test_a_whole_number_with_a_point_is_none_as_serde_has_it():
    assert faults(b'{"timeout_ms": 1.0}') == ["timeout_ms: 1.0 is not of type integer"]


def test_an_empty_configuration_counts_as_an_empty_object():
    assert faults(b"") == []
    assert faults(b"", {"required": ["keys"]}) == ["'keys' is a required property"]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b" ", "Expecting value: line 1 column 2 (char 1)"),
        (b"key: value", "Expecting value: line 1 column 1 (char 0)"),
        (b'{"a": 1,\n "b" 2}', "Expecting ':' delimiter: line 2 column 6 (char 14)"),
        (b'{"a": 1, "a": 2}', 'the key "a" appears twice'),
        (b'{"a": NaN}', "NaN isn't a number"),
        (b'{"a": -1e400}', "-1e400 is too large for a number"),
        (b'{"a": "\\ud800"}', "it contains a lone surrogate"),
        (b"[" * 100_000, "nested too deeply"),
    ],
    ids=["blank", "YAML", "no colon", "twice", "NaN", "infinite", "half a character", "deep"],
)
def test_what_serde_would_not_read_is_not_json(content, said):
    assert faults(content) == [f"it is not JSON: {said}"]


@pytest.mark.parametrize("content", [b"\xef\xbb\xbf{}", b"\xff\xfe{\0}\0", b'{"a": "\xff"}', b"1" * 5000])
def test_odd_bytes_are_not_json(content):
    (said,) = faults(content)
    assert said.startswith("it is not JSON: ")


def test_what_a_schema_lets_be_deep_may_be_too_deep():
    content = {"type": "array", "items": {"$ref": "#"}}
    assert faults(b"[" * 3 + b"]" * 3, content) == []
    assert faults(b"[" * 900 + b"]" * 900, content) == ["it is nested too deeply"]


def test_all_faults_are_listed_the_outermost_first():
    made = Schema("config.schema.json", CONTENT)
    content = json.dumps({"keys": [{"name": 3, "value": "12345678"}], "level": 3, "timout": 1}).encode()
    with pytest.raises(UsageError) as caught:
        made.check(content, "--config", UsageError)
    assert caught.value.message.splitlines() == [
        "--config does not match config.schema.json:",
        "  level: 3 is not of type string",
        "  timout: there is no such option; did you mean `timeout_ms`?",
        "  keys[0].name: 3 is not of type string",
    ]


@pytest.mark.parametrize(
    ("wrong", "last"), [(8, "keys[7]: 3 is"), (9, "and 1 more"), (5000, "and many more")]
)
def test_a_long_list_is_cut(wrong, last):
    with pytest.raises(ProjectError) as caught:
        Schema("s", CONTENT).check(json.dumps({"keys": [3] * wrong}).encode(), "c", ProjectError)
    lines = caught.value.message.splitlines()
    assert len(lines) == min(wrong, 9) + 1
    assert lines[-1].strip().startswith(last)


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (3, "3 is not of type object or boolean"),
        ([], "[] is not of type object or boolean"),
        ({"type": "strin"}, 'type: "strin" is not one of "array", "boolean"'),
        ({"properties": {"a": {"minimum": "1"}}}, 'properties.a.minimum: "1" is not of type number'),
        ({"pattern": "("}, 'pattern: "(" is not of format regex'),
        ({"$schema": 3}, '["$schema"]: 3 is not of type string'),
    ],
    ids=str,
)
def test_a_schema_that_is_no_schema(tmp_path, content, why):
    path = tmp_path / "config.schema.json"
    path.write_text(json.dumps(content))
    with pytest.raises(ProjectError) as caught:
        Schema.read(path).violations(b"{}")
    assert caught.value.message.startswith(f"{path} isn't a JSON Schema: {why}")


@pytest.mark.parametrize("name", ["http://json-schema.org/draft-07/schema#", "urn:other", "http://[x", None])
def test_of_whatever_draft_it_is_it_is_a_schema(name):
    content = {"type": "object"} | ({"$schema": name} if name else {})
    assert faults({}, content) == []
    assert faults([], content) == ["[] is not of type object"]


@pytest.mark.parametrize("content", [b"", b"{", b"\xff", b'{"type": "object", "type": "array"}', b"[" * 9999])
def test_a_schema_that_is_not_json(tmp_path, content):
    path = tmp_path / "config.schema.json"
    path.write_bytes(content)
    with pytest.raises(ProjectError) as caught:
        Schema.of(tmp_path)
    assert caught.value.message.startswith(f"{path} is not JSON: ")


def test_a_schema_that_cannot_be_read(tmp_path):
    (tmp_path / "config.schema.json").mkdir()
    with pytest.raises(ProjectError, match=r"cannot read .*/config\.schema\.json: Is a directory"):
        Schema.of(tmp_path)


def test_a_pattern_that_no_check_of_the_schema_finds():
    """The old drafts' own schemas don't look at these."""
    old = {"$schema": "http://json-schema.org/draft-04/schema#", "patternProperties": {"(": {}}}
    with pytest.raises(
        ProjectError, match=r"config\.schema\.json has a pattern that can't be read: missing \)"
    ):
        faults({"a": 1}, old)


def test_a_definition_that_is_missing():
    with pytest.raises(ProjectError, match="refers to '/\\$defs/Gone', which isn't in it"):
        faults({}, {"$ref": "#/$defs/Gone"})


@pytest.mark.parametrize(
    "content",
    [
        {"$ref": "#/x", "x": 3},
        {"$ref": "#/x", "x": []},
        {"$ref": "#/x/0", "x": [1]},
        {"$ref": "#/x/a", "x": [1]},
        {"$ref": "#/x", "x": {"type": "nope"}},
        {"$ref": "#/x", "x": {"properties": 3}},
        {"$ref": "a", "$id": "http://["},
    ],
    ids=str,
)
def test_what_is_referred_to_may_be_no_schema(content):
    """The draft checks only what stands where a schema must."""
    with pytest.raises(ProjectError) as caught:
        faults({}, content)
    assert caught.value.message.startswith("config.schema.json refers to something that isn't a schema: ")
    assert "\n" not in caught.value.message


def test_whose_fault_a_schema_is_that_is_none():
    with pytest.raises(ImageError, match="the image's isn't a JSON Schema: 3 is not of type object"):
        Schema("the image's", 3, ImageError).violations(b"")
    with pytest.raises(ImageError, match="the image's is not JSON: "):
        Schema.parsed(b"{", "the image's", ImageError)


def test_a_number_beyond_all_that_is_counted_with():
    assert faults(b"1" * 400, {"multipleOf": 0.5}) == ["a number in it is too large"]


def test_an_alternative_that_nothing_is():
    assert faults(3, {"anyOf": [False, False]}) == ["3 matches none of the allowed forms"]
    assert faults(3, {"anyOf": [False, {"type": "string"}]}) == ["3 is not of type string"]


def test_no_name_in_a_foreign_schema_controls_the_terminal():
    content = {"properties": {"na\x1bme": {}, "\nx": {}}, "additionalProperties": False}
    assert faults({"naame": 1}, content) == [
        'naame: there is no such option; did you mean `"na\\u001bme"`?',
    ]
    assert faults({"else": 1}, content) == [
        'else: there is no such option; known: "na\\u001bme", "\\nx"',
    ]


def test_the_schema_of_another_source_checks_nothing(tmp_path):
    (tmp_path / "src").mkdir()
    (tmp_path / "src/config.rs").write_text("pub struct Config;")
    path = tmp_path / "config.schema.json"
    assert Schema.of(tmp_path) is None
    path.write_text(json.dumps({"$comment": schema.comment(tmp_path), "type": "object"}))
    assert Schema.of(tmp_path).violations(b"[]") == ["[] is not of type object"]
    (tmp_path / "src/config.rs").write_text("pub struct Other;")
    assert Schema.of(tmp_path) is None
    (tmp_path / "src/config.rs").unlink()
    assert Schema.of(tmp_path) is None


@pytest.mark.parametrize("comment", [None, 3, "by hand"])
def test_a_schema_that_was_written_by_hand_counts(tmp_path, comment):
    (tmp_path / "config.schema.json").write_text(json.dumps({"$comment": comment} if comment else {}))
    assert Schema.of(tmp_path).content.get("$comment") == comment


VALIDATOR = Schema("config.schema.json", CONTENT).validator()
JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=3),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=6), inner, max_size=3),
    max_leaves=6,
)


@given(st.dictionaries(st.sampled_from([*CONTENT["properties"], "othr"]), JSON))
def test_whatever_the_values_are_each_fault_is_a_line(configuration):
    for said in schema.sentences(VALIDATOR, configuration):
        assert said.isprintable()


@given(st.binary(max_size=40))
def test_whatever_the_bytes_are_they_are_json_or_a_value_error(content):
    try:
        found = schema.parse(content)
    except ValueError:
        return
    assert json.loads(json.dumps(found)) == found or found != found


@pytest.mark.parametrize(
    "content",
    [
        {"pattern": "a{99999999999999}"},
        {"patternProperties": {"a{99999999999999}": {}}},
        {"$ref": "#/x", "x": {"pattern": "a{99999999999999}"}},
    ],
    ids=["pattern", "property", "reference"],
)
def test_a_pattern_that_repeats_too_often(content):
    why = r"has a pattern that can't be read: the repetition number is too large"
    with pytest.raises(ProjectError, match=why):
        faults({"a": 1} if "patternProperties" in content else "a", content)


@pytest.mark.parametrize("value", [5, 0.5])
def test_a_schema_that_divides_by_zero_where_no_check_looks(value):
    with pytest.raises(ProjectError, match="refers to something that isn't a schema"):
        faults(value, {"$ref": "#/x", "x": {"multipleOf": 0}})
