"""config.schema.json, derived from the types in src/config.rs by schemars, and the README's table of options.

An example of the crate prints the schema (`examples/config_schema.rs`, behind the feature `schema`). It is
compiled natively, so the module contains nothing of schemars, and run when src/config.rs has changed.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any

from scaffold.core import files, foreign_files, process
from scaffold.core.events import Warned, emit, step
from scaffold.errors import ProjectError, ScaffoldError, ToolFailed, of_os_error
from scaffold.project import config_validation as schema
from scaffold.project.config_validation import Schema
from scaffold.project.crate import Project
from scaffold.toolchain.rustc import Toolchain

EXAMPLE = "config_schema"
README = "README.md"
_TABLE = re.compile(rb"(?<=<!-- options -->)(\r?\n).*?(?=<!-- /options -->)", re.DOTALL)
_HEAD = ["| option | type | default | what it does |", "|---|---|---|---|"]
_LONGEST = 60  # characters of a default value that a cell may show
_FORMS = ("oneOf", "anyOf", "allOf")

Node = dict[str, Any]
Refs = frozenset[str]


def is_due(project: Project) -> bool:
    """Whether the crate derives its schema, and its src/config.rs has changed since the last time."""
    if not (project.root / "examples" / f"{EXAMPLE}.rs").is_file():
        return False
    current = schema.comment(project.root)
    try:
        return current is not None and Schema.read(project.root / schema.FILE).comment != current
    except ProjectError:  # missing or broken
        return True


def derive(project: Project, tools: Toolchain, env: Mapping[str, str]) -> None:
    """Write the schema, and the table of its options into the README; `env` is cargo's environment.

    A failure is a warning: the module doesn't need the schema, and an outdated one checks nothing.
    """
    comment = schema.comment(project.root)  # before cargo reads the file: a later edit makes it due again
    path = project.root / schema.FILE
    try:
        with step(f"Deriving {schema.FILE} of {project.name}"):
            printed = _run_example(project, tools, env)
            content = (
                {"$schema": printed.get("$schema"), "$comment": comment} | printed | {"$comment": comment}
            )
            Schema(str(path), content).validator()
            _update_readme(project.root / README, content)
            files.write(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    except (ScaffoldError, OSError) as error:
        why = (of_os_error(error) or error) if isinstance(error, OSError) else error
        outdated = f"{schema.FILE} couldn't be derived from {schema.SOURCE}"
        emit(Warned(f"configurations aren't checked, because {outdated}: {why}"))


def _run_example(project: Project, tools: Toolchain, env: Mapping[str, str]) -> dict[str, Any]:
    """The JSON object that the example prints."""
    # natively by name: the crate's own .cargo/config.toml may make wasm the default
    features = ",".join(["schema", *project.settings.features])
    words = ["run", "--example", EXAMPLE, "--features", features, "--target", tools.host_triple]
    words += [] if project.settings.default_features else ["--no-default-features"]
    lines: list[str] = []
    code = process.show([tools.cargo, *words], cwd=project.root, env=env, on_line=lines.append)
    if code:
        raise ToolFailed(f"`cargo {' '.join(words[:5])}` failed (exit code {code})")
    try:
        printed = schema.parse("".join(lines).encode())
    except ValueError as error:
        raise ProjectError(f"examples/{EXAMPLE}.rs doesn't print JSON: {error}") from error
    if not isinstance(printed, dict):
        raise ProjectError(f"examples/{EXAMPLE}.rs doesn't print a JSON object")
    return printed


def _update_readme(path: Path, content: dict[str, Any]) -> None:
    """Write the table of options into a README that has markers for it."""
    if not path.is_file():
        return
    before = foreign_files.read_bytes(path)
    after = with_table(before, content)
    if after != before:
        files.write(path.resolve(), after, mode=path.stat().st_mode & 0o777)


@dataclass(frozen=True)
class Option:
    """A row of the table, in Markdown; `default` is "required" for a mandatory option."""

    name: str
    type: str
    default: str
    about: str


def with_table(readme: bytes, content: Any) -> bytes:
    """A README with the table of options between its markers; unchanged without markers."""

    def table(match: re.Match[bytes]) -> bytes:
        end = match[1]
        return end + b"".join(line.encode() + end for line in [*_HEAD, *map(_row, options(content))])

    return _TABLE.sub(table, readme, count=1)


def options(content: Any) -> Iterator[Option]:
    """Every option of a valid schema in its order, nested ones as `keys[].name`."""
    if isinstance(content, dict):
        yield from _within(content, content, "", frozenset())


def _within(root: Node, node: Node, prefix: str, above: Refs) -> Iterator[Option]:
    """The options of an object, of a list's items or of a map's values; recursive types end the search."""
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
    for key, suffix in (("items", "[]"), ("additionalProperties", ".<name>")):
        if prefix and isinstance(node.get(key), dict):
            yield from _within(root, node[key], f"{prefix.removesuffix('.')}{suffix}.", above)


def _option(root: Node, node: Node, name: str, needed: bool) -> Option:
    kind = _type(root, node, frozenset())
    node, _ = _resolved(root, node)
    default = "required" if needed else ""
    if "default" in node:
        text = _json(node["default"])
        default = _code(text) if len(text) <= _LONGEST else ""
    described = [form for form in _forms(root, node) if "const" in form and "description" in form]
    values = [f"{_code(_json(form['const']))}: {form['description']}" for form in described]
    return Option(name, kind, default, " ".join(filter(None, [node.get("description", ""), *values])))


def _resolved(root: Node, node: Node) -> tuple[Node, Refs]:
    """A node with its references, and its only form besides null, merged into it; and those references."""
    refs: Refs = frozenset()
    while True:
        key, inner = "$ref", None
        if isinstance(node.get(key), str):
            inner = {} if node[key] in refs else _definition(root, node[key])
            refs |= {node[key]}
        for form in _FORMS if inner is None else ():
            choices = [each for each in _list(node, form) if each.get("type") != "null"]
            if len(choices) == 1:
                key, inner = form, choices[0]
        if inner is None:
            return node, refs
        node = inner | {name: value for name, value in node.items() if name != key}


def _definition(root: Node, ref: str) -> Node:
    """The node that `#/$defs/Key` refers to; an empty one when the schema has none."""
    node: Any = root
    for key in ref.split("/")[1:]:
        node = node.get(key.replace("~1", "/").replace("~0", "~")) if isinstance(node, dict) else None
    return node if ref.startswith("#") and isinstance(node, dict) else {}


def _list(node: Node, key: str) -> list[Node]:
    return [each for each in node.get(key, []) if isinstance(each, dict)]


def _forms(root: Node, node: Node) -> list[Node]:
    """The alternatives or parts of a node, or else the node alone."""
    listed = chain.from_iterable(_list(node, key) for key in _FORMS)
    resolved = [_described(_resolved(root, each)[0]) for each in listed]
    return [*([node] if "properties" in node else []), *resolved] or [node]


def _described(form: Node) -> Node:
    """A form with a single property, as serde writes a variant: its description is that property's, too."""
    match list(form.get("properties", {}).items()):
        case [(name, dict(child))] if "description" in form:
            return form | {"properties": {name: {"description": form["description"]} | child}}
    return form


def _properties(forms: list[Node]) -> dict[str, Node]:
    """The properties of all forms; a tag, whose value differs between them, gets the values of all."""
    properties: dict[str, Node] = {}
    for name, child in chain.from_iterable(form.get("properties", {}).items() for form in forms):
        if not isinstance(child, dict):
            properties.setdefault(name, {})
        elif "const" in child and name in properties:
            known = properties[name]
            properties[name] = {"oneOf": [*(_list(known, "oneOf") or [known]), child]}
        else:
            properties.setdefault(name, child)
    return properties


def _type(root: Node, node: Node, above: Refs) -> str:
    """A value's type in words, as "string" or "list of objects", or the values themselves."""
    node, refs = _resolved(root, node)
    if refs & above:
        return "any"
    above |= refs
    if "const" in node or "enum" in node:
        return " or ".join(_code(_json(value)) for value in node.get("enum", [node.get("const")]))
    forms = [form for key in ("oneOf", "anyOf") for form in _list(node, key) if form.get("type") != "null"]
    if forms:
        return " or ".join(dict.fromkeys(_type(root, form, above) for form in forms))
    types = node.get("type")
    kinds = [kind for kind in (types if isinstance(types, list) else [types]) if kind != "null"]
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
        return f", at least {least}" if least else ""  # 0 is the limit of every unsigned Rust type
    return f", at most {most}" if least is None else f", {least} to {most}"


def _json(value: object) -> str:
    return json.dumps(value, ensure_ascii=False)


def _code(text: str) -> str:
    fence = "`" * (max(map(len, re.findall("`+", text)), default=0) + 1)
    return f"{fence} {text} {fence}" if "`" in text else f"{fence}{text}{fence}"


def _row(option: Option) -> str:
    cells = [_code(option.name), option.type, option.default, option.about]
    return f"| {' | '.join(_cell(cell) for cell in cells)} |"


def _cell(text: str) -> str:
    """Text in one line that starts no column and contains no marker."""
    return " ".join(text.split()).replace("|", r"\|").replace("<!--", "&lt;!--")
