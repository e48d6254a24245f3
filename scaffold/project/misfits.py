"""Why a value doesn't fit a JSON Schema, a sentence each; the library's own words name no alternative's."""

from __future__ import annotations

import difflib
import json
import re
from collections.abc import Iterable
from itertools import chain, groupby, islice
from typing import Any

MOST = 100  # faults that are looked for: a large list may be wrong in every place
SHOWN = 60  # characters of a value that a sentence quotes

Place = tuple[str | int, ...]
Fault = tuple[Place, str]


def first(error: Any) -> str:
    """The sentence of one of the library's errors."""
    return _sentence(*_of(error)[0])


def sentences(validator: Any, value: object) -> list[str]:
    """Why a value doesn't fit, a sentence each that begins with the place; the outermost first."""
    errors = list(islice(validator.iter_errors(value), MOST))
    mistaken = [error.absolute_path for error in errors if error.validator == "type"]
    # what else is wrong with a value of another type tells nothing
    telling = [each for each in errors if each.validator == "type" or each.absolute_path not in mistaken]
    found = sorted(chain.from_iterable(map(_of, telling)), key=lambda fault: len(fault[0]))
    return [_sentence(place, why) for place, why in found[:MOST]]


def _of(error: Any) -> list[Fault]:
    """An error's place and words; of alternatives, those of the one that was meant."""
    if error.validator in ("anyOf", "oneOf") and error.context:
        return _of_alternatives(error)
    place, value = tuple(error.absolute_path), error.instance
    if error.validator == "additionalProperties" and "patternProperties" not in error.schema:
        known = error.schema.get("properties", {})
        unknown = (key for key in value if key not in known)
        return [((*place, key), _unknown(key, known)) for key in islice(unknown, MOST)]
    if error.validator == "type":
        return [(place, _of_another_type(value, [error.validator_value]))]
    if error.validator == "enum":
        return [(place, _not_among(value, error.validator_value))]
    if error.validator == "format":
        return [(place, f"{shown(value)} is not of format {error.validator_value}")]
    return [(place, error.message.replace(repr(value), shown(value)))]


def _of_alternatives(error: Any) -> list[Fault]:
    """The faults of the one alternative whose type and tag the value has, or else what all of them miss."""
    context = sorted(filter(_in_a_branch, error.context), key=_branch)
    branches = [list(errors) for _, errors in groupby(context, key=_branch)]
    types = [fault.validator_value for fault in context if _another_type(fault)]
    nothing = [
        (tuple(error.absolute_path), f"{shown(error.instance)} has none of the forms that it may have")
    ]
    if not branches:
        return nothing
    if len(types) == len(branches):
        return [(tuple(error.absolute_path), _of_another_type(error.instance, types))]
    alike = [each for each in branches if not any(map(_another_type, each))]
    tags = [[fault for fault in each if fault.validator in ("const", "enum")] for each in alike]
    meant = [each for each, tag in zip(alike, tags, strict=True) if not tag]
    if len(meant) == 1:
        return list(chain.from_iterable(map(_of, meant[0])))
    every = list(chain.from_iterable(tags))
    if not meant and len({tuple(tag.absolute_path) for tag in every}) == 1:
        one, wanted = every[0], chain.from_iterable(map(_allowed, every))
        return [(tuple(one.absolute_path), _not_among(one.instance, wanted))]
    faults = [list(chain.from_iterable(map(_of, each))) for each in alike]
    shared = [fault for fault in faults[0] if all(fault in other for other in faults)]
    return shared or nothing


def _in_a_branch(error: Any) -> bool:
    """Not so where the alternative is `false`, which nothing is."""
    return bool(error.schema_path)


def _branch(error: Any) -> int:
    return int(error.schema_path[0])


def _allowed(tag: Any) -> list[Any]:
    return [tag.validator_value] if tag.validator == "const" else list(tag.validator_value)


def _of_another_type(value: object, wanted: Iterable[str | list[str]]) -> str:
    every = chain.from_iterable([each] if isinstance(each, str) else each for each in wanted)
    names = (
        each if isinstance(each, str) else shown(each) for each in every
    )  # in draft 3 it may be a schema
    return f"{shown(value)} is not of type {' or '.join(dict.fromkeys(names))}"


def _not_among(value: object, wanted: Iterable[object]) -> str:
    return f"{shown(value)} is not one of {', '.join(dict.fromkeys(map(shown, wanted)))}"


def _another_type(error: Any) -> bool:
    return error.validator == "type" and not error.relative_path


def _unknown(key: str, known: dict[str, Any]) -> str:
    near = difflib.get_close_matches(key, known, n=1)
    names = ", ".join(name if name.isprintable() else shown(name) for name in near or known)
    hint = f"did you mean `{names}`?" if near else f"known: {names}" if known else ""
    return f"there is no such option; {hint}" if hint else "there is no such option"


def _sentence(place: Place, why: str) -> str:
    return f"{where(place)}: {why}" if place else why


def where(place: Place) -> str:
    """A place in JSON, as `keys[0].name`."""
    text = "".join(_step(step) for step in place)
    return text.removeprefix(".")


def _step(step: str | int) -> str:
    return f".{step}" if isinstance(step, str) and re.fullmatch(r"[\w-]+", step) else f"[{shown(step)}]"


def shown(value: object) -> str:
    """A value as JSON, in a line that a terminal can show, cut where it is long."""
    text = json.dumps(value, ensure_ascii=False)
    text = text if text.isprintable() else json.dumps(value)
    return text if len(text) <= SHOWN else f"{text[:SHOWN]}…"
