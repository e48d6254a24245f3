"""`--docker-args`: options of `docker run`, turned into arguments of Docker's SDK."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from typing import Any

from scaffold.errors import UsageError, choose

# an option of `docker run` -> the SDK's argument, and whether it may be repeated
_OPTIONS = {
    "--add-host": ("extra_hosts", True),
    "--cap-add": ("cap_add", True),
    "--cap-drop": ("cap_drop", True),
    "--cpus": ("nano_cpus", False),
    "--dns": ("dns", True),
    "--env": ("environment", True),
    "--hostname": ("hostname", False),
    "--label": ("labels", True),
    "--memory": ("mem_limit", False),
    "--network": ("network", False),
    "--user": ("user", False),
    "--volume": ("volumes", True),
}
_SHORT = {
    "-e": "--env",
    "-l": "--label",
    "-m": "--memory",
    "-u": "--user",
    "-v": "--volume",
}


def parse(words: Sequence[str]) -> dict[str, Any]:
    """The SDK's arguments. Raises `UsageError` for an option that isn't supported."""
    made: dict[str, Any] = {}
    rest = list(words)
    while rest:
        option, equals, value = _long(rest.pop(0)).partition("=")
        argument, repeats = choose("option of `docker run` for --docker-args", option, _OPTIONS)
        if not equals:
            if not rest:
                raise UsageError(f"--docker-args: {option} needs a value")
            value = rest.pop(0)
        if repeats:
            made.setdefault(argument, []).append(value)
        else:
            made[argument] = value
    return _checked(made)


def _long(word: str) -> str:
    """An option by its long name, with `=` before its value, which may directly follow a short name."""
    option, value = _SHORT.get(word[:2]), word[2:].removeprefix("=")
    return word if option is None else f"{option}={value}" if word[2:] else option


def _with_value(word: str) -> str | None:
    """A variable with its value; a bare name has its value in this environment, if any."""
    if "=" in word or not word:  # the daemon refuses an empty one
        return word
    return f"{word}={os.environ[word]}" if word in os.environ else None


def _checked(made: dict[str, Any]) -> dict[str, Any]:
    if re.fullmatch("host|none|container:.*", made.get("network", "")):
        raise UsageError(
            f"--docker-args: no port can be published on the network `{made['network']}`",
            hint="omit it, or choose one of `docker network ls`",
        )
    if "labels" in made:
        made["labels"] = dict(label.partition("=")[::2] for label in made["labels"])
    if "environment" in made:
        made["environment"] = [
            pair for word in made["environment"] if (pair := _with_value(word)) is not None
        ]
    if "nano_cpus" in made:
        try:
            made["nano_cpus"] = int(float(made["nano_cpus"]) * 1e9)
        except (ValueError, OverflowError) as error:
            raise UsageError(f"--docker-args: {made['nano_cpus']!r} isn't a number of CPUs") from error
    return made
