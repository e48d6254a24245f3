"""Rendering folders that are cookiecutter templates: those of projects, and those of CI workflows."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scaffold.core import files, git, process
from scaffold.errors import ProjectError, UsageError, of_exit_code
from scaffold.project.templates import snapshot as snapshots

HOOKS = ("pre_prompt", "pre_gen_project", "post_gen_project")


def bundled(kind: str) -> Mapping[str, Path]:
    """The templates of a kind ("cookiecutters", "ci") that come with us: name -> folder."""
    package = Path(__file__).parents[2]
    for place in (package / kind, package.parent / kind):  # a wheel's, a checkout's
        found = {path.parent.name: path.parent for path in sorted(place.glob("*/cookiecutter.json"))}
        if found:
            return found
    return {}


def variables(folder: Path, called: str = "the template") -> dict[str, Any]:
    """What a template's cookiecutter.json says: the variables with their defaults, and its settings.

    `called` is what an error calls the folder.

    Raises `UsageError` when the folder is no template, `ProjectError` when its cookiecutter.json is broken.
    """
    path = folder / "cookiecutter.json"
    try:
        read = json.loads(path.read_text(encoding="utf-8"))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        below = sorted(each.parent.name for each in folder.glob("*/cookiecutter.json"))
        hint = f"choose one by --directory: {', '.join(below)}" if below else None
        raise UsageError(f"{called} has no cookiecutter.json, so it is no template", hint=hint) from error
    except (ValueError, RecursionError) as error:
        raise ProjectError(f"the cookiecutter.json of {called} is no JSON: {error}") from error
    if not isinstance(read, dict):
        raise ProjectError(f"the cookiecutter.json of {called} is no object of JSON")
    if "templates" in read or "template" in read:  # cookiecutter would ask which
        hint = "choose one by --directory: its cookiecutter.json lists them"
        raise UsageError(f"{called} holds several templates", hint=hint)
    return read


def render(folder: Path, context: dict[str, Any], made: Path, *, foreign: bool = False) -> None:
    """Render a template's files into the folder `made`, called like the variable `name`.

    A foreign one is rendered by a process of its own, which ends with us, and what its hooks start too.
    Raises `ProjectError` when the template is at fault, `ToolFailed` when a hook says no.
    """
    if foreign:
        _apart("render", folder, context=context, made=str(made.absolute()))
        snapshots.check_links(made, "project")
    else:
        generate(folder, context, made, hooks=False)
    for compiled in list(made.rglob("__pycache__")):  # pip compiles whatever a wheel has of Python
        shutil.rmtree(compiled)


def prepare(folder: Path) -> None:
    """Let a foreign template's hook `pre_prompt` change this copy of the template, once."""
    hooks = [path for path in (folder / "hooks").glob("*") if path.stem == HOOKS[0]]
    if hooks:
        _apart("prepare", folder)
    for hook in hooks:  # `update` may ask for one state twice
        hook.unlink(missing_ok=True)


def generate(folder: Path, context: dict[str, Any], made: Path, *, hooks: bool) -> None:
    """Have cookiecutter write the files."""
    # not cookiecutter's `main`: that reads ~/.cookiecutterrc, writes a replay file, and runs hooks
    from cookiecutter.generate import generate_files

    generate_files(
        repo_dir=str(folder),
        context={"cookiecutter": context | {"name": made.name}},
        output_dir=str(made.parent),
        overwrite_if_exists=True,  # the folder is there already
        accept_hooks=hooks,
    )


def _apart(what: str, folder: Path, **more: Any) -> None:
    """Do something in `renderer`, a process of its own; its failure is raised as its own."""
    argv = [sys.executable, "-P", "-m", "scaffold.project.templates.render_child"]
    job = json.dumps({"do": what, "folder": str(folder), **more}).encode()
    pipe, words = process.PIPE, process.standard_error()
    with files.scratch() as scratch:  # where cookiecutter leaves every hook that it ran
        env = git.environment() | {"TMPDIR": str(scratch)}  # a hook's git is for the project alone
        with process.spawn(argv, env=env, stdin=pipe, stdout=pipe, stderr=words) as child:
            report, _ = child.communicate(job)
    if not report:
        raise ProjectError(f"the template ended its own rendering, by exit code {child.returncode}")
    code, message, hint = json.loads(report)
    if code:
        raise of_exit_code(code)(message, hint=hint)
