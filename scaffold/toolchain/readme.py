"""The table of a configuration's options in a project's README, made from its schema."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

Node = dict[str, Any]
Refs = frozenset[str]

FILE = "README.md"
_TABLE = re.compile(rb"(?<=<!-- options -->)(\r?\n).*?(?=<!-- /options -->)", re.DOTALL)
_HEAD = ["| option | type | default | what it does |", "|---|---|---|---|"]
_LONGEST = 60  # characters of a default that a cell holds
_FORMS = ("oneOf", "anyOf", "allOf")


@dataclass(frozen=True)
class Option:
    """A line of the table, in Markdown: `default` is "required" for what has none and must be said."""

    name: str
    type: str
    default: str
    about: str


def with_table(readme: bytes, schema: Any) -> bytes:
    """A README with the options' table between its markers; as it is where it has none."""

    def table(match: re.Match[bytes]) -> bytes:
        end = match[1]
        return end + b"".join(line.encode() + end for line in [*_HEAD, *map(_line, options(schema))])

    return _TABLE.sub(table, readme, count=1)


def options(schema: Any) -> Iterator[Option]:
    """Every option that a valid schema knows, nested ones as `keys[].name`, in its order."""
    if isinstance(schema, dict):
        yield from _within(schema, schema, "", frozenset())


def _within(root: Node, node: Node, prefix: str, above: Refs) -> Iterator[Option]:
    """The options in an object, a list's items or a map's values; a type within itself is left there."""
    node, refs = _resolved(root, node)
    if refs & above:
        return
    above |= refs
    forms = _forms(root, node)
    for name, child in _properties(forms).items():
        holders = [form for form in forms if name in form.get("properties", {})]
        needed = all(name in form.get("required", []) for form in holders) and len(holders) == len(forms)
        yield _option(root, child, prefix + name, needed)
        yield from _within(root, child, f"{prefix}{name}.", above)
    for key, step in (("items", "[]"), ("additionalProperties", ".<name>")):
        if prefix and isinstance(node.get(key), dict):
            yield from _within(root, node[key], f"{prefix.removesuffix('.')}{step}.", above)


def _option(root: Node, node: Node, name: str, needed: bool) -> Option:
    kind = _type(root, node, frozenset())
    node, _ = _resolved(root, node)
    default = "required" if needed else ""
    if "default" in node:
        text = _json(node["default"])
        default = _code(text) if len(text) <= _LONGEST else ""
    told = [form for form in _forms(root, node) if "const" in form and "description" in form]
    values = [f"{_code(_json(form['const']))}: {form['description']}" for form in told]
    return Option(name, kind, default, " ".join(filter(None, [node.get("description", ""), *values])))


def _resolved(root: Node, node: Node) -> tuple[Node, Refs]:
    """A node with what it refers to, or is beside null, written into it; and the references followed."""
    refs: Refs = frozenset()
    while True:
        key, inner = "$ref", None
        if isinstance(node.get(key), str):
            inner = {} if node[key] in refs else _definition(root, node[key])
            refs |= {node[key]}
        for form in _FORMS if inner is None else ():
            given = [each for each in _list(node, form) if each.get("type") != "null"]
            if len(given) == 1:
                key, inner = form, given[0]
        if inner is None:
            return node, refs
        node = inner | {name: value for name, value in node.items() if name != key}


def _definition(root: Node, ref: str) -> Node:
    """What `#/$defs/Key` means; nothing for what isn't in the schema."""
    found: Any = root
    for step in ref.split("/")[1:]:
        found = found.get(step.replace("~1", "/").replace("~0", "~")) if isinstance(found, dict) else None
    return found if ref.startswith("#") and isinstance(found, dict) else {}


def _list(node: Node, key: str) -> list[Node]:
    return [each for each in node.get(key, []) if isinstance(each, dict)]


def _forms(root: Node, node: Node) -> list[Node]:
    """The alternatives or parts of a node, or else the node alone."""
    listed = chain.from_iterable(_list(node, key) for key in _FORMS)
    given = [_described(_resolved(root, each)[0]) for each in listed]
    return [*([node] if "properties" in node else []), *given] or [node]


def _described(form: Node) -> Node:
    """An alternative of a single property, as serde writes a variant: what is said of it is said of that."""
    match list(form.get("properties", {}).items()):
        case [(name, dict(child))] if "description" in form:
            return form | {"properties": {name: {"description": form["description"]} | child}}
    return form


def _properties(forms: list[Node]) -> dict[str, Node]:
    """The properties of all forms; a tag, which tells the forms apart, has the values of all."""
    found: dict[str, Node] = {}
    for name, child in chain.from_iterable(form.get("properties", {}).items() for form in forms):
        if not isinstance(child, dict):
            found.setdefault(name, {})
        elif "const" in child and name in found:
            found[name] = {"oneOf": [*(_list(found[name], "oneOf") or [found[name]]), child]}
        else:
            found.setdefault(name, child)
    return found


def _type(root: Node, node: Node, above: Refs) -> str:
    """What a value may be, in words: "string", "list of objects", or the values themselves."""
    node, refs = _resolved(root, node)
    if refs & above:
        return "any"
    above |= refs
    if "const" in node or "enum" in node:
        return " or ".join(_code(_json(value)) for value in node.get("enum", [node.get("const")]))
    forms = [form for key in ("oneOf", "anyOf") for form in _list(node, key) if form.get("type") != "null"]
    if forms:
        return " or ".join(dict.fromkeys(_type(root, form, above) for form in forms))
    given = node.get("type")
    kinds = [kind for kind in (given if isinstance(given, list) else [given]) if kind != "null"]
    return " or ".join(_named(root, node, kind, above) for kind in kinds)


def _named(root: Node, node: Node, kind: str | None, above: Refs) -> str:
    several = ", ".join(_type(root, each, above) for each in _list(node, "prefixItems"))
    if kind == "array" and several:
        return f"list: {several}"
    key = {"array": "items", "object": "additionalProperties"}.get(kind or "", "")
    if isinstance(node.get(key), dict):
        inner = _type(root, node[key], above)
        plural = f"{inner}s" if inner.isalpha() and inner != "any" else inner
        return f"list of {plural}" if kind == "array" else f"map to {plural}"
    if kind in ("integer", "number"):
        return f"{kind}{_range(node)}"
    return {None: "any", "array": "list"}.get(kind, str(kind))


def _range(node: Node) -> str:
    least, most = node.get("minimum"), node.get("maximum")
    if most is None:
        return f", at least {least}" if least else ""  # of 0 a Rust type that has no sign tells nothing
    return f", at most {most}" if least is None else f", {least} to {most}"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _code(text: str) -> str:
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    return f"{fence} {text} {fence}" if "`" in text else f"{fence}{text}{fence}"


def _line(option: Option) -> str:
    cells = [_code(option.name), option.type, option.default, option.about]
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _cell(text: str) -> str:
    """Text in one line, which begins no column, and no marker of ours."""
    return " ".join(text.split()).replace("|", r"\|").replace("<!--", "&lt;!--")
