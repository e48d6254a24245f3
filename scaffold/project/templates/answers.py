"""The values of a template's variables: from the user, an earlier answer, or the template's defaults."""

from __future__ import annotations

import json
import re
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import cached_property
from pathlib import Path
from typing import Any

from scaffold.core.events import prompt
from scaffold.errors import ProjectError, UsageError, choose
from scaffold.project.templates import render
from scaffold.project.templates.render_child import failure
from scaffold.project.templates.source import Template

# not allowed in a line of a UTF-8 file: control characters, ends of lines, bytes that weren't UTF-8
_FORBIDDEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")
_YES = ("1", "true", "t", "yes", "y", "on")  # like cookiecutter
_NO = ("0", "false", "f", "no", "n", "off")


def parse(pairs: Sequence[str]) -> dict[str, str]:
    """Parse texts of the form "key=value". Raises `UsageError` for any other text."""
    values = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"`{pair}` doesn't set a variable", hint="write it as key=value")
        values[key] = value
    return values


def settle(
    template: Template, name: str, given: Mapping[str, Any], *, no_input: bool = False
) -> dict[str, Any]:
    """The values of all of a template's variables, and its settings, for cookiecutter.

    `name` is the crate's. The user is asked for what isn't `given`; with `no_input`, or when nobody can
    answer, it is the default. A foreign template's defaults are rendered, which may run any code: call
    `trust.require` first. Raises `UsageError` for an unknown variable or an invalid value.
    """
    if template.foreign:
        render.prepare(template.folder)
    raw = render.variables(template.folder)
    prompts = raw.pop("__prompts__", {})
    public = {key: value for key, value in raw.items() if not key.startswith("_") and key != "name"}
    for key in given:
        choose("variable", key, public)
    resolve = _Defaults(template, raw).resolve
    settled: dict[str, Any] = {"name": name}
    for key, default in raw.items():
        if key.startswith("__"):
            settled[key] = resolve(default, settled)
        elif key not in public:
            settled[key] = name if key == "name" else default
        elif not isinstance(default, dict):
            default = resolve(default, settled)
            value = given.get(key)
            if value is None:
                value = default if no_input else _asked(_question(key, prompts), default)
            settled[key] = _fit(key, value, default)
    for key, default in public.items():
        if isinstance(default, dict):  # last, like in cookiecutter: they may refer to all others
            settled[key] = _fit(key, given[key], {}) if key in given else resolve(default, settled)
    return settled


def _question(key: str, prompts: Any) -> str:
    text = prompts.get(key, key) if isinstance(prompts, dict) else key
    return str(text.get("__prompt__", key) if isinstance(text, dict) else text)


def _asked(question: str, default: Any) -> Any:
    """The user's answer to a question, or the default if nobody answers."""
    if isinstance(default, list):
        return prompt(f"{question} ({', '.join(map(str, default))})", str(default[0])) if default else default
    if isinstance(default, bool):
        return prompt(f"{question} (yes or no)", "yes" if default else "no")
    return prompt(question, str(default))


def _fit(key: str, value: Any, default: Any) -> Any:
    """The value with its default's type: one of a list, yes or no, a JSON object, or a line of text."""
    if not isinstance(default, list) and (value is default or value == default == str(default)):
        return value
    if isinstance(default, list):
        return _choice(key, value, default)
    if isinstance(default, bool):
        return _yes_or_no(key, value)
    if isinstance(default, dict):
        return _object(key, value)
    if _FORBIDDEN.search(str(value)):
        raise UsageError(f"the variable `{key}` must be one line of plain text, not {value!r}")
    return str(value)


def _choice(key: str, value: Any, options: list[Any]) -> Any:
    if not options:
        raise ProjectError(f"the template's variable `{key}` has no values to choose from")
    if value is options:
        return options[0]
    return choose(f"value for the variable `{key}`", str(value), {str(each): each for each in options})


def _yes_or_no(key: str, value: Any) -> bool:
    word = str(value).strip().lower()
    if word not in (*_YES, *_NO):
        raise UsageError(f"the variable `{key}` must be yes or no, not {value!r}")
    return word in _YES


def _object(key: str, value: Any) -> Any:
    try:
        read = value if isinstance(value, dict) else json.loads(value)
    except (ValueError, RecursionError):
        read = None
    if not isinstance(read, dict):
        raise UsageError(f"the variable `{key}` must be a JSON object, not {value!r}")
    return read


class _Defaults:
    """Renders the defaults of a foreign template, which may refer to earlier variables."""

    def __init__(self, template: Template, raw: dict[str, Any]) -> None:
        self._template = template
        self._raw = raw

    @cached_property
    def _environment(self) -> Any:
        from cookiecutter.utils import create_env_with_context

        with _importing_from(self._template.folder):
            return create_env_with_context({"cookiecutter": self._raw})

    def resolve(self, default: Any, settled: dict[str, Any]) -> Any:
        if not self._template.foreign:
            return default
        from cookiecutter.prompt import render_variable

        try:
            return render_variable(self._environment, default, settled)
        except Exception as error:  # the template's code can raise anything
            known = failure(error)
            raise type(known)(f"{known.message} (in a variable's default)", hint=known.hint) from error


@contextmanager
def _importing_from(folder: Path) -> Iterator[None]:
    """Let the template's extensions be imported, as cookiecutter does, and forget them at the end."""
    sys.path.append(str(folder))
    try:
        yield
    finally:
        sys.path.remove(str(folder))
        for name, module in list(sys.modules.items()):
            if Path(getattr(module, "__file__", None) or "").is_relative_to(folder):
                del sys.modules[name]
