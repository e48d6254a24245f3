"""Check a plugin's configuration against its JSON Schema, and say in a sentence what doesn't match.

The schema is `config.schema.json` beside Cargo.toml, which `scaffold build` derives from the types in
`src/config.rs` or the author wrote; or the one in an image.
"""

from __future__ import annotations

import difflib
import hashlib
import json
import math
import re
from collections.abc import Iterable, Sequence
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property
from itertools import chain, groupby, islice
from pathlib import Path
from typing import Any

from scaffold.core import foreign_files, yaml_text
from scaffold.core.text import escaped, one_line, quoted
from scaffold.errors import ProjectError, ScaffoldError, UsageError

FILE = "config.schema.json"
SOURCE = "src/config.rs"
LARGEST = 16_000_000  # bytes of a configuration
_YAML = (".yaml", ".yml")
_LISTED = 8  # violations in an error
_DERIVED = f"derived from {SOURCE}, digest "
# Rust's numbers for which schemars writes a name, but no largest value; usize and isize are those of wasm32
_BITS = {"uint": 32, "uint32": 32, "uint64": 64, "int": 31, "int32": 31, "int64": 63}
_OF_PATTERN = "repetition number"  # part of the message of the module `re`, which raises OverflowError too
MOST = 100  # violations that are looked for: a large list may be wrong in every place

Place = tuple[str | int, ...]
Violation = tuple[Place, str]


@dataclass(frozen=True)
class Schema:
    """A schema. `name` is for messages; `content` is its JSON, which may turn out not to be a valid schema.

    `kind` is the class of the error that is raised then.
    """

    name: str
    content: Any
    kind: type[ScaffoldError] = ProjectError

    @classmethod
    def read(cls, path: Path) -> Schema:
        """The schema in a file. Raises `ProjectError` when the file can't be read or isn't JSON."""
        try:
            content = foreign_files.read_bytes(path)
        except OSError as error:
            raise ProjectError(f"cannot read {path}: {error.strerror}") from error
        return cls.parsed(content, str(path))

    @classmethod
    def parsed(cls, content: bytes, name: str, kind: type[ScaffoldError] = ProjectError) -> Schema:
        """The schema in some bytes. Raises `kind` when they aren't JSON."""
        try:
            return cls(name, parse(content), kind)
        except ValueError as error:
            raise kind(f"{name} is not JSON: {error}") from error

    @classmethod
    def of(cls, root: Path) -> Schema | None:
        """The schema of the crate in `root`; None if there is none, or it was derived from an older source.

        An outdated one would refuse what the plugin accepts. `build` has said why there is no newer one.
        """
        path = root / FILE
        if not path.exists():
            return None
        schema = cls.read(path)
        derived = isinstance(schema.comment, str) and schema.comment.startswith(_DERIVED)
        return None if derived and schema.comment != comment(root) else schema

    @property
    def comment(self) -> object:
        """Its `$comment`, which tells a derived schema's origin."""
        return self.content.get("$comment") if isinstance(self.content, dict) else None

    def check(
        self, configuration: bytes, called: str, kind: type[ScaffoldError], *, hint: str | None = None
    ) -> None:
        """Raise `kind`, which lists the violations, unless the configuration matches; `called` names it."""
        refuse(self.violations(configuration), called, kind, hint=hint)

    def violations(self, configuration: bytes) -> list[str]:
        """Where a configuration doesn't match, and why; at most `MOST`, the outermost first.

        An empty configuration counts as `{}`: the plugin then uses its defaults. Raises `kind` when the
        schema isn't valid, or refers to one that isn't in it: nothing is fetched.
        """
        validator = self._made
        try:
            value = parse(configuration) if configuration else {}
        except ValueError as error:
            return [f"it is not JSON: {error}"]
        from jsonschema.exceptions import UnknownType
        from referencing.exceptions import Unresolvable

        try:
            return sentences(validator, value)
        except RecursionError:
            return ["it is nested too deeply"]
        except Unresolvable as error:
            raise self.kind(
                f"{self.name} refers to {error.ref!r}, which isn't in it", hint="put it below `$defs`"
            ) from error
        except OverflowError as error:
            if _OF_PATTERN in str(error):
                raise self._unreadable(error) from error
            return ["a number in it is too large"]
        except re.error as error:
            raise self._unreadable(error) from error
        except (ArithmeticError, AttributeError, LookupError, TypeError, UnknownType, ValueError) as error:
            # the library checks against the draft only what isn't referred to
            why = one_line(str(error).partition("\n")[0])
            raise self.kind(f"{self.name} refers to something that isn't a schema: {why}") from error

    def _unreadable(self, error: Exception) -> ScaffoldError:
        return self.kind(f"{self.name} has a pattern that can't be read: {error}")

    @cached_property
    def _made(self) -> Any:
        """The same for each configuration: to make it takes longer than to check one."""
        return self.validator()

    def validator(self) -> Any:
        """The library's validator. It fetches nothing, and accepts the same numbers as serde.

        Raises `kind` when the schema isn't valid.
        """
        from ipaddress import ip_address

        from jsonschema import Draft202012Validator, FormatChecker, SchemaError, validators
        from referencing import Registry

        draft: Any = Draft202012Validator
        try:
            with suppress(TypeError, AttributeError, ValueError):  # not a schema, or of an unknown draft
                draft = validators.validator_for(self.content, draft)
            draft.check_schema(self.content)
        except SchemaError as error:
            raise self.kind(f"{self.name} isn't a JSON Schema: {_first(error)}") from error
        except RecursionError as error:
            raise self.kind(f"{self.name} is nested too deeply") from error
        except OverflowError as error:  # no number of a schema is converted
            raise self._unreadable(error) from error
        formats = FormatChecker(("ipv4", "ipv6"))
        formats.checks("ip", raises=ValueError)(
            lambda value: not isinstance(value, str) or bool(ip_address(value))
        )
        for name, bits in _BITS.items():
            formats.checks(name)(lambda value, end=2**bits: not _is_int(value) or -end <= value < end)
        types = draft.TYPE_CHECKER.redefine("integer", lambda _, value: _is_int(value))
        strict: Any = validators.extend(draft, type_checker=types)  # type: ignore[no-untyped-call]
        return strict(self.content, format_checker=formats, registry=Registry())


def refuse(
    violations: Sequence[str], called: str, kind: type[ScaffoldError], *, hint: str | None = None
) -> None:
    """Raise `kind`, which lists the violations of the configuration that is `called` so, if there are any."""
    if not violations:
        return
    summary = f"{called} does not match {FILE}"
    if len(violations) == 1:
        raise kind(f"{summary}: {violations[0]}", hint=hint)
    left = len(violations) - _LISTED
    more = [f"and {left if len(violations) < MOST else 'many'} more"] if left > 0 else []
    raise kind("\n  ".join([f"{summary}:", *violations[:_LISTED], *more]), hint=hint)


def comment(root: Path) -> str | None:
    """The `$comment` of a schema that is derived from the current `src/config.rs` of a crate."""
    with suppress(OSError):
        return f"{_DERIVED}sha256:{hashlib.sha256(foreign_files.read_bytes(root / SOURCE)).hexdigest()}"
    return None


def parse(content: bytes) -> Any:
    """JSON as serde reads it: UTF-8 without a byte order mark, no NaN, no duplicate key, no lone surrogate.

    Raises `ValueError`.
    """
    try:
        value = json.loads(
            content.decode(), object_pairs_hook=_object, parse_float=_float, parse_constant=_no_constant
        )
        json.dumps(value, ensure_ascii=False).encode()
        return value
    except UnicodeEncodeError as error:
        raise ValueError("it contains a lone surrogate") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    members: dict[str, Any] = {}
    for key, value in pairs:
        if key in members:
            raise ValueError(f"the key {quoted(key)} appears twice")
        members[key] = value
    return members


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{escaped(text, 60)} is too large for a number")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} isn't a number")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


# --- violations as sentences; the library's own messages say nothing about the parts of an `anyOf`


def _first(error: Any) -> str:
    """The sentence for one of the library's errors."""
    return _sentence(*_of(error)[0])


def sentences(validator: Any, value: object) -> list[str]:
    """Why a value doesn't match: sentences that begin with the place, the outermost first."""
    errors = list(islice(validator.iter_errors(value), MOST))
    mistyped = [error.absolute_path for error in errors if error.validator == "type"]
    # any other error of a value with the wrong type is noise
    useful = [each for each in errors if each.validator == "type" or each.absolute_path not in mistyped]
    violations = sorted(chain.from_iterable(map(_of, useful)), key=lambda violation: len(violation[0]))
    return [_sentence(place, why) for place, why in violations[:MOST]]


def _of(error: Any) -> list[Violation]:
    """The violations in an error; for alternatives, those of the one that was meant."""
    if error.validator in ("anyOf", "oneOf") and error.context:
        return _of_alternatives(error)
    place, value = tuple(error.absolute_path), error.instance
    if error.validator == "additionalProperties" and "patternProperties" not in error.schema:
        known = error.schema.get("properties", {})
        unknown = (key for key in value if key not in known)
        return [((*place, key), _unknown(key, known)) for key in islice(unknown, MOST)]
    if error.validator == "type":
        return [(place, _wrong_type(value, [error.validator_value]))]
    if error.validator == "enum":
        return [(place, _not_among(value, error.validator_value))]
    if error.validator == "format":
        return [(place, f"{quoted(value)} is not of format {error.validator_value}")]
    return [(place, error.message.replace(repr(value), quoted(value)))]


def _of_alternatives(error: Any) -> list[Violation]:
    """The violations of the one alternative with the value's type and tag, or else those that all share."""
    context = sorted(filter(_in_a_branch, error.context), key=_branch)
    branches = [list(errors) for _, errors in groupby(context, key=_branch)]
    types = [each.validator_value for each in context if _has_wrong_type(each)]
    nothing = [(tuple(error.absolute_path), f"{quoted(error.instance)} matches none of the allowed forms")]
    if not branches:
        return nothing
    if len(types) == len(branches):
        return [(tuple(error.absolute_path), _wrong_type(error.instance, types))]
    alike = [each for each in branches if not any(map(_has_wrong_type, each))]
    tags = [[error for error in each if error.validator in ("const", "enum")] for each in alike]
    meant = [each for each, tag in zip(alike, tags, strict=True) if not tag]
    if len(meant) == 1:
        return list(chain.from_iterable(map(_of, meant[0])))
    every = list(chain.from_iterable(tags))
    if not meant and len({tuple(tag.absolute_path) for tag in every}) == 1:
        one, wanted = every[0], chain.from_iterable(map(_allowed, every))
        return [(tuple(one.absolute_path), _not_among(one.instance, wanted))]
    violations = [list(chain.from_iterable(map(_of, each))) for each in alike]
    shared = [each for each in violations[0] if all(each in others for others in violations)]
    return shared or nothing


def _in_a_branch(error: Any) -> bool:
    """False where the alternative is `false`, which nothing matches."""
    return bool(error.schema_path)


def _branch(error: Any) -> int:
    return int(error.schema_path[0])


def _allowed(tag: Any) -> list[Any]:
    return [tag.validator_value] if tag.validator == "const" else list(tag.validator_value)


def _wrong_type(value: object, wanted: Iterable[str | list[str]]) -> str:
    every = chain.from_iterable([each] if isinstance(each, str) else each for each in wanted)
    names = (
        each if isinstance(each, str) else quoted(each) for each in every
    )  # in draft 3 it may be a schema
    return f"{quoted(value)} is not of type {' or '.join(dict.fromkeys(names))}"


def _not_among(value: object, wanted: Iterable[object]) -> str:
    return f"{quoted(value)} is not one of {', '.join(dict.fromkeys(map(quoted, wanted)))}"


def _has_wrong_type(error: Any) -> bool:
    return error.validator == "type" and not error.relative_path


def _unknown(key: str, known: dict[str, Any]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    names = ", ".join(name if name.isprintable() else quoted(name) for name in near or known)
    hint = f"did you mean `{names}`?" if near else f"known: {names}" if known else ""
    return f"there is no such option; {hint}" if hint else "there is no such option"


def _sentence(place: Place, why: str) -> str:
    return f"{where(place)}: {why}" if place else why


def where(place: Place) -> str:
    """A place in JSON, such as `keys[0].name`."""
    text = "".join(_step(step) for step in place)
    return text.removeprefix(".")


def _step(step: str | int) -> str:
    return f".{step}" if isinstance(step, str) and re.fullmatch(r"[\w-]+", step) else f"[{quoted(step)}]"


def read_configuration(value: str, flag: str = "--config") -> bytes:
    """A configuration from the command line, where `flag` passes it: a file's, see `content_of`, or JSON."""
    path = Path(value)
    try:
        if _exists(path) and not path.is_dir():
            return content_of(path, UsageError)
        content = value.encode()
        json.loads(value)
    except (ValueError, RecursionError) as error:
        if value == "-":
            hint = f"save what comes there in a file, and pass {flag} FILE"
            raise UsageError(f"{flag} doesn't read standard input", hint=hint) from error
        if path.suffix in (*_YAML, ".json", ".toml", ".txt"):
            raise UsageError(f"there is no file {value}, which {flag} names") from error
        if value and _exists(path):  # a folder, whose name isn't JSON
            return content_of(path, UsageError)
        raise UsageError(
            f"{flag} is neither a file nor JSON: {error}",
            hint=f"""for example {flag} '{{"key": "value"}}', or a .yaml file""",
        ) from error
    return content


def content_of(path: Path, kind: type[ScaffoldError]) -> bytes:
    """The configuration in a file: that of a .yaml or .yml file as JSON, any other's bytes as they are.

    Raises `kind` when the file can't be read, or isn't the YAML that its name promises.
    """
    try:
        content = foreign_files.read_bytes(path, yaml_text.LARGEST if path.suffix in _YAML else LARGEST)
    except OSError as error:
        raise kind(
            f"cannot read the configuration {path}: {error.strerror}", hint=foreign_files.remedy(error)
        ) from error
    if path.suffix not in _YAML:
        return content
    try:
        return yaml_text.as_json(content.decode("utf-8-sig")).encode()
    except ValueError as error:
        raise kind(
            f"the configuration {path} isn't YAML that can be sent as JSON: {error}",
            hint="only .yaml and .yml files are read as YAML; the bytes of any other file go as they are",
        ) from error


def _exists(path: Path) -> bool:
    """Whether something of that name exists, even if it can't be read: a device, a pipe."""
    try:
        return path.exists()
    except OSError:  # JSON may well be too long for a name
        return False
