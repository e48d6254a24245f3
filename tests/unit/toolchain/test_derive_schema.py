"""The options' table of a README."""

import json

import pytest
from support.serde_schema import CONTENT

from scaffold.toolchain import derive_schema

TEXT = {"type": "string"}


def rows(content):
    return [
        (option.name, option.type, option.default, option.about) for option in derive_schema.options(content)
    ]


def of(**properties):
    return rows({"type": "object", "properties": properties})


def test_nested_options_are_named_by_their_path():
    assert [(name, kind, default) for name, kind, default, _ in rows(CONTENT)] == [
        ("header", "string", '`"x-key"`'),
        ("keys", "list of objects", ""),
        ("keys[].name", "string", "required"),
        ("keys[].value", "string", "required"),
        ("timeout_ms", "integer", ""),
        ("offset", "integer", ""),
        ("slots", "integer", ""),
        ("level", '`"low"` or `"high"`', ""),
        ("on_failure", '`"closed"` or `"open"`', ""),
        ("realm", "object", ""),
        ("realm.name", "string", ""),
        ("note", "string", ""),
        ("peers", "list of strings", ""),
        ("labels", "map to strings", ""),
        ("source", "object", ""),
        ("source.kind", '`"inline"` or `"remote"`', "required"),
        ("source.text", "string", ""),
        ("source.url", "string", ""),
    ]


@pytest.mark.parametrize(
    ("node", "kind"),
    [
        ({}, "any"),
        ({"type": "integer", "minimum": 0, "maximum": 255}, "integer, 0 to 255"),
        ({"type": "integer", "minimum": 0}, "integer"),
        ({"type": "number", "minimum": 0.5}, "number, at least 0.5"),
        ({"type": "number", "maximum": 1}, "number, at most 1"),
        ({"type": "array"}, "list"),
        ({"type": "array", "items": True}, "list"),
        ({"type": "array", "items": {"type": "array", "items": TEXT}}, "list of list of strings"),
        ({"type": "array", "prefixItems": [{"type": "integer"}, TEXT]}, "list: integer, string"),
        ({"type": ["string", "integer", "null"]}, "string or integer"),
        ({"anyOf": [{"type": "string"}, {"type": "integer"}, {"type": "null"}]}, "string or integer"),
        ({"allOf": [{"type": "boolean"}]}, "boolean"),
        ({"$ref": "http://elsewhere/x"}, "any"),
    ],
    ids=str,
)
def test_types_in_words(node, kind):
    ((_, said, _, _),) = of(option=node)
    assert said == kind


def test_a_default_that_is_long_is_left_to_the_file():
    fits = "x" * 58
    rows = of(short={"default": fits}, long={"default": f"{fits}x"})
    assert [row[2] for row in rows] == [f'`"{fits}"`', ""]


def test_what_a_variant_means_is_told_with_what_the_option_does():
    kinds = [{"const": "open", "description": "Let it pass."}, {"const": "closed", "description": "Refuse."}]
    ((_, _, _, about),) = of(on_failure={"description": "When nobody answers.", "oneOf": kinds})
    assert about == 'When nobody answers. `"open"`: Let it pass. `"closed"`: Refuse.'


def test_a_variant_that_holds_a_value_is_told_of_at_its_name():
    held = {
        "type": "object",
        "properties": {"header": TEXT},
        "required": ["header"],
        "description": "Its value.",
    }
    ((_, kind, _, _), told) = of(client={"oneOf": [{"const": "all", "type": "string"}, held]})
    assert kind == '`"all"` or object'
    assert told == ("client.header", "string", "", "Its value.")


def test_maps_and_lists_lead_to_what_is_in_them():
    route = {"type": "object", "properties": {"to": TEXT}}
    routes = {"type": "array", "items": {"type": "object", "additionalProperties": route}}
    assert [row[0] for row in of(routes=routes)] == ["routes", "routes[].<name>.to"]


def test_a_type_within_itself_is_told_once():
    tree = {"$ref": "#", "description": "Its children."}
    content = {"type": "object", "properties": {"name": {"type": "string"}, "inner": tree}}
    nested = {"$ref": "#/$defs/N"}
    content |= {"$defs": {"N": {"type": "array", "items": nested}}}
    content["properties"]["all"] = nested
    assert {row[0] for row in rows(content)} >= {"name", "inner", "all"}
    assert len(rows(content)) < 12


BEGIN, END = "<!-- options -->", "<!-- /options -->"
ONE = {"properties": {"a": {"type": "string", "description": "One |\n\ntwo <!-- /options --> `|`."}}}
TABLE = r"""| option | type | default | what it does |
|---|---|---|---|
| `a` | string |  | One \| two &lt;!-- /options --> `\|`. |
"""


def test_only_what_is_between_the_markers_changes():
    before = f"# ü\n{BEGIN}\nold\n{END}\n{BEGIN}\nkept\n{END}\n"
    after = f"# ü\n{BEGIN}\n{TABLE}{END}\n{BEGIN}\nkept\n{END}\n"
    assert derive_schema.with_table(before.encode(), ONE).decode() == after
    assert derive_schema.with_table(after.encode(), ONE).decode() == after


def test_the_ends_of_lines_are_the_readmes():
    text = f"a\r\n{BEGIN}\r\n{END}\r\nb\xff".encode("latin-1")
    assert derive_schema.with_table(text, ONE).count(b"\r\n") == 6
    assert derive_schema.with_table(text, ONE).count(b"\n") == 6


@pytest.mark.parametrize("text", ["", "no markers", f"{BEGIN}\n", f"{END}\n{BEGIN}\n", f"{BEGIN} {END}"])
def test_a_readme_without_the_markers_stays_as_it_is(text):
    assert derive_schema.with_table(text.encode(), ONE) == text.encode()


def test_a_schema_that_takes_anything_has_no_options():
    assert rows(True) == rows(json.loads('{"type": "string"}')) == []
