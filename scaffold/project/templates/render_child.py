"""Render a foreign template in a process of its own, which reads its job from its standard input.

A template's text, extensions and hooks can do anything. Here they do it where it ends with us, and where
what they break is theirs. The outcome, on standard output, is [exit code, message, hint].
"""

from __future__ import annotations

import json
import logging
import os
import sys
from pathlib import Path, PurePosixPath
from typing import Any

from scaffold.errors import ProjectError, ScaffoldError, ToolFailed
from scaffold.project.templates import render as rendering

_OUR_KIND = "{{cookiecutter.name}}"


def main() -> None:
    """Do the job. What hooks print goes to standard error, so that nothing stands in the outcome's way."""
    job = json.load(sys.stdin)
    outcome = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    logging.getLogger("cookiecutter").addHandler(
        logging.NullHandler()
    )  # it logs tracebacks of what it raises
    folder = Path(job["folder"])
    sys.path.append(str(folder))  # as cookiecutter does, for the extensions in it
    try:
        if job["do"] == "prepare":
            _prepare(folder)
        else:
            _render(folder, job["context"], Path(job["made"]))
        said: list[Any] = [0, "", None]
    except Exception as error:
        known = failure(error)
        said = [known.exit_code, known.message, known.hint]
    with outcome:
        json.dump(said, outcome)


def failure(error: Exception) -> ScaffoldError:
    """What is wrong with a template, when cookiecutter or Jinja raised this."""
    from cookiecutter import exceptions
    from jinja2 import TemplateError, TemplateSyntaxError

    match error:
        case ScaffoldError():
            return error
        case exceptions.UndefinedVariableInTemplate():
            where = error.message.removeprefix("Unable to ").removeprefix("create ")
            return ProjectError(
                f"a variable of the template isn't defined, in {where}: {error.error.message}"
            )
        case exceptions.FailedHookException():
            return ToolFailed(f"a hook of the template failed: {error}")
        case exceptions.NonTemplatedInputDirException():
            return ProjectError(
                "the template has no folder that is rendered", hint=f"its name must be {_OUR_KIND}"
            )
        case exceptions.CookiecutterException():
            return ProjectError(f"the template can't be rendered: {error}")
        case TemplateSyntaxError():
            place = f"{error.name or 'a name'}, line {error.lineno}"
            return ProjectError(f"the template isn't Jinja in {place}: {error.message}")
        case TemplateError():
            return ProjectError(f"the template can't be rendered: {error.message}")
    return ProjectError(f"the template can't be rendered: {type(error).__name__}: {error}")


def _prepare(folder: Path) -> None:
    from cookiecutter.hooks import find_hook, run_script
    from cookiecutter.utils import work_in

    with work_in(folder):
        for script in find_hook(rendering.HOOKS[0]) or []:
            run_script(script, str(folder))


def _render(folder: Path, context: dict[str, Any], made: Path) -> None:
    _check_names(folder, context | {"name": made.name}, made)
    rendering.generate(folder, context, made, hooks=True)


def _check_names(folder: Path, context: dict[str, Any], made: Path) -> None:
    """Where every file would go, before any does: below the project's folder."""
    from cookiecutter.exceptions import UndefinedVariableInTemplate
    from cookiecutter.find import find_template
    from cookiecutter.utils import create_env_with_context
    from jinja2 import UndefinedError

    whole = {"cookiecutter": context}
    env = create_env_with_context(whole)
    top = find_template(folder, env)

    def rendered(name: str) -> str:
        try:
            return str(env.from_string(name).render(**whole))
        except UndefinedError as error:
            raise UndefinedVariableInTemplate(f"the name {name}", error, whole) from error

    if rendered(top.name) != made.name:
        raise ProjectError(
            f"the template's folder {top.name} becomes {rendered(top.name)!r}, not {made.name!r}",
            hint=f"a template for scaffold has it called {_OUR_KIND}",
        )
    for path in top.rglob("*"):
        name = str(path.relative_to(top))
        aim = PurePosixPath(rendered(name))
        if aim.is_absolute() or ".." in aim.parts:
            raise ProjectError(f"the template would write {name} to {aim}, outside of the project")


if __name__ == "__main__":
    main()
