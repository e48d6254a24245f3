"""The words of `--docker-args`, as `docker run` has them, made arguments of the SDK's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from scaffold.errors import UsageError, choose

# an option of `docker run` -> the SDK's argument, and whether it may come again
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
    """The SDK's arguments. Raises `UsageError` for an option that isn't among those that make sense here."""
    made: dict[str, Any] = {}
    rest = list(words)
    while rest:
        option, equals, value = rest.pop(0).partition("=")
        option = _SHORT.get(option, option)
        argument, repeats = choose("option of `docker run` for --docker-args", option, _OPTIONS)
        if not equals:
            if not rest:
                raise UsageError(f"--docker-args: {option} lacks its value")
            value = rest.pop(0)
        if repeats:
            made.setdefault(argument, []).append(value)
        else:
            made[argument] = value
    return _checked(made)


def _checked(made: dict[str, Any]) -> dict[str, Any]:
    if made.get("network") in ("host", "none"):
        raise UsageError(
            f"--docker-args: on the network {made['network']} no port can be published",
            hint="leave it out, or name one of `docker network ls`",
        )
    if "labels" in made:
        made["labels"] = dict(label.partition("=")[::2] for label in made["labels"])
    if "nano_cpus" in made:
        try:
            made["nano_cpus"] = int(float(made["nano_cpus"]) * 1e9)
        except ValueError as error:
            raise UsageError(f"--docker-args: {made['nano_cpus']!r} is no number of CPUs") from error
    return made
