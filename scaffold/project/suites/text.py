"""Read a suite: as protobuf's text, or as YAML with the same names. What isn't one has a line and a column.

Source of what YAML may say: GoogleCloudPlatform/service-extensions, plugins/test/yaml_proto_converter.cpp.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaffold.core.foreign_files import read_bytes, remedy
from scaffold.errors import ProjectError, nearest
from scaffold.project.suites import messages

if TYPE_CHECKING:
    import yaml
    from google.protobuf.descriptor import FieldDescriptor
    from google.protobuf.message import Message

# the names of suites among a project's tests, like those of pytest's files
FOUND = tuple(f"{name}{end}" for name in ("test*", "*test", "*tests") for end in (".textpb", ".textproto"))
TEXT, YAML = (".textpb", ".textproto", ".pbtxt"), (".yaml", ".yml")
_UNKNOWN = re.compile(r'Message type "\w+\.(\w+)" has no field named "(.*)"\.?', re.DOTALL)
_PLACE = re.compile(r"\d+:\d+ : ")
_AT_END = ('Expected "}".', 'Expected ">".')
_BRACE = re.compile(r"""[{}<>]|"(?:\\.|[^"\\])*"|'(?:\\.|[^'\\])*'|#[^\n]*""")  # or what may contain one
_WHICH = re.compile(r'"suite\.(\w+)"')
_MOST_VALUES = 200_000  # of a YAML text, whose aliases may stand for more than anybody can read
_TRUE, _FALSE = ("true", "True", "TRUE"), ("false", "False", "FALSE")
_NULL = "tag:yaml.org,2002:null"


def read(path: Path) -> Message:
    """The suite in a file. Raises `ProjectError` for what isn't one."""
    try:
        text = read_bytes(path).decode("utf-8-sig")
    except OSError as error:
        raise ProjectError(
            f"cannot read the suite {path}: {error.strerror}", hint=_hint(error, path)
        ) from error
    except UnicodeDecodeError as error:
        before = error.object[: error.start]
        place = before.count(b"\n"), len(before) - before.rfind(b"\n") - 1
        raise _wrong(path, *place, "it isn't UTF-8") from error
    suite = messages.suite()
    if path.suffix in YAML:
        _Yaml(path).read(text, suite)
    else:
        _read_text(path, text, suite)
    return suite


def _hint(error: OSError, path: Path) -> str | None:
    """What who named the suite may do: the nearest one, if it isn't there."""
    if not isinstance(error, FileNotFoundError) or not path.parent.is_dir():
        return remedy(error)
    others = [str(each) for each in path.parent.iterdir() if each.name.endswith((*TEXT, *YAML))]
    return nearest(str(path), sorted(others)) if others else "name a file that is there"


def _wrong(path: Path, line: int, column: int, why: str, hint: str | None = None) -> ProjectError:
    """The error for a place, whose line and column count from 0."""
    return ProjectError(f"{path}:{line + 1}:{column + 1}: {why}", hint=hint)


def _read_text(path: Path, text: str, suite: Message) -> None:
    from google.protobuf import text_format

    try:
        text_format.Parse(text, suite)
    except text_format.ParseError as error:
        why, hint = _PLACE.sub("", str(error), count=1), None
        if unknown := _UNKNOWN.fullmatch(why):
            why, hint = f"{unknown[1]} has no field `{unknown[2]}`", _fields(suite, unknown[1], unknown[2])
        line, column = error.GetLine() or 1, error.GetColumn() or 1
        if why in _AT_END and (opened := _unclosed(text)) is not None:
            why = f"this `{text[opened]}` isn't closed"
            line, column = text.count("\n", 0, opened) + 1, opened - text.rfind("\n", 0, opened)
        raise _wrong(path, line - 1, column - 1, _WHICH.sub(r"\1", why).rstrip("."), hint) from error


def _unclosed(text: str) -> int | None:
    """Where the last brace stands that is open at the end of a text."""
    open_ones: list[int] = []
    for token in _BRACE.finditer(text):
        if token[0] in "{<":
            open_ones.append(token.start())
        elif token[0] in "}>" and open_ones:
            open_ones.pop()
    return open_ones[-1] if open_ones else None


def _fields(suite: Message, message: str, name: str) -> str:
    found = suite.DESCRIPTOR.file.message_types_by_name[message]
    return nearest(name, list(found.fields_by_name))


class _Yaml:
    """Puts YAML's nodes into messages; they know their places."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._values = 0

    def read(self, text: str, suite: Message) -> None:
        """Fill in a suite from a text."""
        import yaml

        try:
            root = yaml.compose(text, yaml.SafeLoader)
        except yaml.MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            place = (mark.line, mark.column) if mark else (0, 0)
            context = "" if (error.context or "").startswith("while ") else error.context  # what it was doing
            why = ", ".join(filter(None, [context, error.problem])).replace("'<stream end>'", "the end")
            raise _wrong(self._path, *place, why) from error
        except yaml.reader.ReaderError as error:
            before = text[: error.position]
            place = before.count("\n"), len(before) - before.rfind("\n") - 1
            raise _wrong(self._path, *place, error.reason) from error
        except RecursionError as error:
            raise ProjectError(f"{self._path}: it is nested too deeply") from error
        if root is not None:
            self._fill(suite, root)

    def _fill(self, message: Message, node: yaml.Node) -> None:
        import yaml

        self._count(node)
        kind = message.DESCRIPTOR
        if not isinstance(node, yaml.MappingNode):
            raise self._wrong(node, f"{kind.name} has fields, each with a name and a value")
        seen: dict[str, str] = {}
        for key, value in node.value:
            name = key.value if isinstance(key, yaml.ScalarNode) else ""
            field: Any = kind.fields_by_name.get(name) or kind.fields_by_camelcase_name.get(name)
            if field is None:
                hint = nearest(name, list(kind.fields_by_name))
                raise self._wrong(key, f"{kind.name} has no field `{name}`", hint)
            group = field.containing_oneof.name if field.containing_oneof else field.name
            if group in seen:
                other = "appears twice" if seen[group] == name else f"and `{seen[group]}` exclude each other"
                raise self._wrong(key, f"`{name}` {other}")
            seen[group] = name
            if value.tag != _NULL:
                self._set(message, field, value)

    def _set(self, message: Message, field: FieldDescriptor, node: yaml.Node) -> None:
        import yaml

        if field.name in messages.LISTS:
            if not isinstance(node, yaml.SequenceNode):
                raise self._wrong(node, f"`{field.name}` is a list")
            for each in node.value:
                self._fill(getattr(message, field.name).add(), each)
        elif field.message_type:
            inner = getattr(message, field.name)
            inner.SetInParent()
            self._fill(inner, node)
        else:
            setattr(message, field.name, self._scalar(field, node))

    def _scalar(self, field: FieldDescriptor, node: yaml.Node) -> Any:
        import yaml

        self._count(node)
        if not isinstance(node, yaml.ScalarNode):
            raise self._wrong(node, f"`{field.name}` has a single value")
        text: str = node.value
        if field.type == field.TYPE_BYTES:
            return text.encode()
        if field.type == field.TYPE_STRING:
            return text
        if field.type == field.TYPE_BOOL:
            if text in _TRUE + _FALSE:
                return text in _TRUE
            raise self._wrong(node, f"`{field.name}` is true or false, not `{text}`")
        if field.enum_type and text in field.enum_type.values_by_name:
            return field.enum_type.values_by_name[text].number
        return self._number(field, node, text)

    def _number(self, field: FieldDescriptor, node: yaml.Node, text: str) -> int:
        signed, size = field.type in (field.TYPE_INT32, field.TYPE_INT64), 64
        if field.type in (field.TYPE_INT32, field.TYPE_UINT32):
            size = 32
        least, most = (-(1 << (size - 1)), (1 << (size - 1)) - 1) if signed else (0, (1 << size) - 1)
        if field.enum_type:
            least, most = 0, len(field.enum_type.values) - 1
        found = re.fullmatch(r"(-?\d{1,20})(\.0*)?", text)
        if found is None or not least <= int(found[1]) <= most:
            known = f" of {', '.join(field.enum_type.values_by_name)}" if field.enum_type else ""
            what = f"one{known}" if known else f"a whole number from {least} to {most}"
            raise self._wrong(node, f"`{field.name}` is {what}, not `{text}`")
        return int(found[1])

    def _count(self, node: yaml.Node) -> None:
        self._values += 1
        if self._values > _MOST_VALUES:
            raise self._wrong(node, f"it stands for more than {_MOST_VALUES:,} values")

    def _wrong(self, node: yaml.Node, why: str, hint: str | None = None) -> ProjectError:
        return _wrong(self._path, node.start_mark.line, node.start_mark.column, why, hint)
