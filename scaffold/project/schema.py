"""A plugin's configuration against its JSON Schema: what doesn't fit, a sentence each.

The schema is `config.schema.json` beside Cargo.toml, which `scaffold build` derives from the types in
`src/config.rs` (`derivation.py`), or which somebody wrote; or the one that `package` put into an image.
"""

from __future__ import annotations

import hashlib
import json
import math
import re
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaffold.errors import ProjectError, ScaffoldError
from scaffold.project import misfits

FILE = "config.schema.json"
SOURCE = "src/config.rs"
_LISTED = 8  # of them in an error
_DERIVED = f"derived from {SOURCE}, digest "
# Rust's numbers for which schemars writes a name, but no largest value; usize and isize are those of wasm32
_BITS = {"uint": 32, "uint32": 32, "uint64": 64, "int": 31, "int32": 31, "int64": 63}


@dataclass(frozen=True)
class Schema:
    """The schema called `name`; `content` is its JSON, which only `faults` finds to be no schema.

    `kind` is the error that then tells whose fault it is.
    """

    name: str
    content: Any
    kind: type[ScaffoldError] = ProjectError

    @classmethod
    def read(cls, path: Path) -> Schema:
        """The schema in a file. Raises `ProjectError` when it can't be read, or isn't JSON."""
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ProjectError(f"cannot read {path}: {error.strerror}") from error
        return cls.parsed(content, str(path))

    @classmethod
    def parsed(cls, content: bytes, name: str, kind: type[ScaffoldError] = ProjectError) -> Schema:
        """The schema that these bytes are. Raises `kind` when they aren't JSON."""
        try:
            return cls(name, parse(content), kind)
        except ValueError as error:
            raise kind(f"{name} is not JSON: {error}") from error

    @classmethod
    def of(cls, root: Path) -> Schema | None:
        """The schema of the crate in `root`; None without one, and for one of another `src/config.rs`.

        That of another would refuse what the plugin takes; why there is no newer one, `build` has said.
        """
        path = root / FILE
        if not path.exists():
            return None
        schema = cls.read(path)
        derived = isinstance(schema.comment, str) and schema.comment.startswith(_DERIVED)
        return None if derived and schema.comment != comment(root) else schema

    @property
    def comment(self) -> object:
        """What it says of its origin, if anything."""
        return self.content.get("$comment") if isinstance(self.content, dict) else None

    def check(
        self, configuration: bytes, called: str, kind: type[ScaffoldError], *, hint: str | None = None
    ) -> None:
        """Raise `kind`, with all that is wrong with it, unless the configuration fits; `called` names it."""
        faults = self.faults(configuration)
        if not faults:
            return
        said = f"{called} does not fit {FILE}"
        if len(faults) == 1:
            raise kind(f"{said}: {faults[0]}", hint=hint)
        left = len(faults) - _LISTED
        more = [f"and {left if len(faults) < misfits.MOST else 'many'} more"] if left > 0 else []
        raise kind("\n  ".join([f"{said}:", *faults[:_LISTED], *more]), hint=hint)

    def faults(self, configuration: bytes) -> list[str]:
        """Where a configuration doesn't fit, and why; at most `misfits.MOST`, the outermost first.

        An empty one counts as `{}`: the plugin then takes its defaults. Raises `kind` when the
        schema is none, or refers to another that isn't in it: nothing is fetched.
        """
        validator = self.validator()
        try:
            value = parse(configuration) if configuration else {}
        except ValueError as error:
            return [f"it is not JSON: {error}"]
        from jsonschema.exceptions import UnknownType
        from referencing.exceptions import Unresolvable

        try:
            return misfits.sentences(validator, value)
        except RecursionError:
            return ["it is nested too deeply"]
        except Unresolvable as error:
            raise self.kind(
                f"{self.name} refers to {error.ref!r}, which is not in it", hint="put it below `$defs`"
            ) from error
        except OverflowError:
            return ["a number in it is too large"]
        except re.error as error:
            raise self.kind(f"{self.name} has a pattern that can't be read: {error}") from error
        except (AttributeError, LookupError, TypeError, UnknownType, ValueError) as error:
            # what is only referred to isn't held against the draft, and the library takes it for a schema
            said = str(error).partition("\n")[0]
            raise self.kind(f"{self.name} refers to what is no schema: {said}") from error

    def validator(self) -> Any:
        """What checks a value: it fetches nothing, and takes numbers for what serde does.

        Raises `kind` when the schema is none.
        """
        from ipaddress import ip_address

        from jsonschema import Draft202012Validator, FormatChecker, SchemaError, validators
        from referencing import Registry

        draft: Any = Draft202012Validator
        try:
            with suppress(TypeError, AttributeError, ValueError):  # no schema at all, or no draft's name
                draft = validators.validator_for(self.content, draft)
            draft.check_schema(self.content)
        except SchemaError as error:
            raise self.kind(f"{self.name} is no JSON Schema: {misfits.first(error)}") from error
        except RecursionError as error:
            raise self.kind(f"{self.name} is nested too deeply") from error
        formats = FormatChecker(("ipv4", "ipv6"))
        formats.checks("ip", raises=ValueError)(
            lambda value: not isinstance(value, str) or bool(ip_address(value))
        )
        for name, bits in _BITS.items():
            formats.checks(name)(lambda value, end=2**bits: not _is_int(value) or -end <= value < end)
        types = draft.TYPE_CHECKER.redefine("integer", lambda _, value: _is_int(value))
        strict: Any = validators.extend(draft, type_checker=types)  # type: ignore[no-untyped-call]
        return strict(self.content, format_checker=formats, registry=Registry())


def comment(root: Path) -> str | None:
    """What a schema says of its origin that is derived from the present `src/config.rs` of a crate."""
    with suppress(OSError):
        return f"{_DERIVED}sha256:{hashlib.sha256((root / SOURCE).read_bytes()).hexdigest()}"
    return None


def parse(content: bytes) -> Any:
    """JSON as serde reads it: UTF-8 without a mark, no NaN, no key twice, no half of a surrogate pair.

    Raises `ValueError`.
    """
    try:
        value = json.loads(
            content.decode(), object_pairs_hook=_object, parse_float=_float, parse_constant=_no_constant
        )
        json.dumps(value, ensure_ascii=False).encode()
        return value
    except UnicodeEncodeError as error:
        raise ValueError("half of a surrogate pair is no text") from error
    except RecursionError as error:
        raise ValueError("nested too deeply") from error


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made: dict[str, Any] = {}
    for key, value in pairs:
        if key in made:
            raise ValueError(f"the key {misfits.shown(key)} is there twice")
        made[key] = value
    return made


def _float(text: str) -> float:
    value = float(text)
    if math.isinf(value):
        raise ValueError(f"{text[: misfits.SHOWN]} is too large for a number")
    return value


def _no_constant(name: str) -> Any:
    raise ValueError(f"{name} is no number")


def _is_int(value: object) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)
