"""Read YAML that others wrote: plain values only, and no aliases that grow without an end."""

from __future__ import annotations

import json
import math
from typing import Any

LARGEST = 4_000_000  # characters of a text, and values in it: reading takes a second per MB


class Endless(ValueError):
    """The text stands for more values than anybody can read."""


def parse(text: str, *, unique_keys: bool = False) -> Any:
    """The value in a YAML text, which may be JSON. A date is text, since JSON has none.

    Raises `ValueError` with the reason and the place, also for a key that appears twice if `unique_keys`.
    """
    import yaml

    class Loader(yaml.SafeLoader):
        """Knows no dates, and may refuse a key that appears twice."""

        yaml_implicit_resolvers = {  # noqa: RUF012 - the base class has it so
            first: [each for each in resolvers if each[0] != "tag:yaml.org,2002:timestamp"]
            for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
        }

        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            if unique_keys:
                seen = set()
                for key in [each for each, _ in node.value if isinstance(each, yaml.ScalarNode)]:
                    if key.value in seen:
                        why = f"the key {key.value} appears twice"
                        raise yaml.constructor.ConstructorError(None, None, why, key.start_mark)
                    seen.add(key.value)
            return super().construct_mapping(node, deep)

    try:
        value = yaml.load(text, Loader)  # noqa: S506 - a SafeLoader
    except RecursionError as error:
        raise ValueError("nested too deeply") from error
    except yaml.YAMLError as error:
        raise ValueError(" ".join(str(error).split())) from error
    if not _nodes(value, {}) < LARGEST:
        raise Endless("grows without end when its aliases are expanded")
    return value


def as_json(text: str) -> str:
    """A YAML text as JSON; "" if it is empty. Raises `ValueError` also for what JSON can't express."""
    value = parse(text, unique_keys=True)
    try:
        written = json.dumps(value, ensure_ascii=False, allow_nan=False)
        written.encode()
    except TypeError as error:  # a key that is a list, a set, bytes
        raise ValueError(f"JSON can't express it: {error}") from error
    return "" if value is None else written


def _nodes(value: object, known: dict[int, float]) -> float:
    """How many values there are when every alias is expanded; infinite if one contains itself."""
    if not isinstance(value, dict | list):
        return 1
    if id(value) not in known:
        known[id(value)] = math.inf
        items = value.values() if isinstance(value, dict) else value
        known[id(value)] = 1 + sum(_nodes(item, known) for item in items)
    return known[id(value)]
