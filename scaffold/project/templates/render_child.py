"""Render a foreign template in a process of its own, which reads its job from standard input.

A template's text, extensions and hooks can do anything. Here they can only break this process, which ends
with scaffold. The result, on standard output, is [exit code, message, hint].
"""

from __future__ import annotations

import json
import logging
import os
import re
import shlex
import sys
from collections.abc import Callable, Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from scaffold.core import files
from scaffold.errors import ProjectError, ScaffoldError, ToolFailed, of_os_error
from scaffold.project.templates import render

_FOLDER = "{{cookiecutter.name}}"
_NAMES = re.compile(r"\bcookiecutter\.(\w+)")


def main() -> None:
    """Do the job. What hooks print goes to standard error, apart from the result."""
    job = json.load(sys.stdin)
    output = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    # it logs tracebacks of what it raises
    logging.getLogger("cookiecutter").addHandler(logging.NullHandler())
    folder = Path(job["folder"])
    sys.path.append(str(folder))  # for its extensions, like cookiecutter
    try:
        if job["do"] == "prepare":
            _prepare(folder)
        else:
            _render(folder, job["context"], Path(job["made"]))
        result: list[Any] = [0, "", None]
    except Exception as error:
        known = failure(error)
        result = [known.exit_code, known.message, known.hint]
    with output:
        json.dump(result, output)


def failure(error: Exception) -> ScaffoldError:
    """The error for an exception that cookiecutter or Jinja raised."""
    from cookiecutter import exceptions
    from jinja2 import TemplateError, TemplateSyntaxError

    match error:
        case ScaffoldError():
            return error
        case OSError() if error.errno in files.FULL and (full := of_os_error(error)):
            return full
        case exceptions.UndefinedVariableInTemplate():
            where = error.message.removeprefix("Unable to ").removeprefix("create ")
            return ProjectError(
                f"a variable of the template isn't defined, in {where}: {error.error.message}"
            )
        case exceptions.FailedHookException():
            return ToolFailed(f"a hook of the template failed: {error}")
        case exceptions.NonTemplatedInputDirException():
            return ProjectError("the template has no folder to render", hint=f"its name must be {_FOLDER}")
        case exceptions.CookiecutterException():
            return ProjectError(f"the template can't be rendered: {error}")
        case TemplateSyntaxError():
            place = f"{error.name or 'a name'}, line {error.lineno}"
            return ProjectError(f"the template isn't valid Jinja in {place}: {error.message}")
        case TemplateError():
            return ProjectError(f"the template can't be rendered: {error.message}")
    return ProjectError(f"the template can't be rendered: {type(error).__name__}: {error}")


def _prepare(folder: Path) -> None:
    from cookiecutter.hooks import find_hook, run_script
    from cookiecutter.utils import work_in

    with work_in(folder):
        for script in find_hook(render.HOOKS[0]) or []:
            run_script(script, str(folder))


def _render(folder: Path, context: dict[str, Any], made: Path) -> None:
    _check_names(folder, context | {"name": made.name}, made)
    render.generate(folder, context, made, hooks=True)


def _check_names(folder: Path, context: dict[str, Any], made: Path) -> None:
    """Raise `ProjectError` unless every file would be written below the project's folder."""
    from cookiecutter.exceptions import UndefinedVariableInTemplate
    from cookiecutter.find import find_template
    from cookiecutter.utils import create_env_with_context
    from jinja2 import UndefinedError

    whole = {"cookiecutter": context}
    env = create_env_with_context(whole)
    top = find_template(folder, env)

    def rendered(name: str, **changed: Any) -> str:
        try:
            return str(env.from_string(name).render(**(changed or whole)))
        except UndefinedError as error:
            raise UndefinedVariableInTemplate(f"the name {name}", error, whole) from error

    if rendered(top.name) != made.name:
        raise ProjectError(
            f"the template's folder {top.name} becomes {rendered(top.name)!r}, not {made.name!r}",
            hint=_hint(render.variables(folder), context, top.name, made.name, rendered),
        )
    for path in top.rglob("*"):
        name = str(path.relative_to(top))
        destination = PurePosixPath(rendered(name))
        if destination.is_absolute() or ".." in destination.parts:
            raise ProjectError(f"the template would write {name} to {destination}, outside the project")


def _hint(
    raw: Mapping[str, Any], context: dict[str, Any], folder: str, wanted: str, rendered: Callable[..., str]
) -> str:
    """The variable that makes the template's `folder` the `wanted` one, if the user can set it."""
    named = [key for key in _NAMES.findall(folder) if key != "name"]
    for key in named:  # those that it is made of, and those that these are made of
        named += [each for each in _NAMES.findall(str(raw.get(key, ""))) if each not in (*named, "name")]
    settable = [key for key in named if not key.startswith("_") and isinstance(raw.get(key), str)]
    words = wanted.replace("-", " ").replace("_", " ")
    for key in settable:
        for value in (wanted, words.title(), words):
            changed = dict(context)
            for name, default in raw.items():
                derived = isinstance(default, str) and "cookiecutter." in default
                if derived and rendered(default) == context.get(name):
                    changed[name] = rendered(default, cookiecutter=changed)
                changed |= {key: value} if name == key else {}
            if rendered(folder, cookiecutter=changed) == wanted:
                return f"set the variable that it is made of: -v {key}={shlex.quote(value)}"
    if settable:
        return f"set the variable that it is made of, {settable[0]}: -v {settable[0]}=VALUE"
    return f"a template for scaffold calls it {_FOLDER}"


if __name__ == "__main__":
    main()
