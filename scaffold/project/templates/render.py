"""Render cookiecutter templates: those of projects, and those of CI workflows."""

from __future__ import annotations

import json
import shutil
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scaffold.core import files, foreign_files, git, process
from scaffold.errors import ProjectError, UsageError, of_exit_code
from scaffold.project.templates import snapshot

HOOKS = ("pre_prompt", "pre_gen_project", "post_gen_project")


def bundled(kind: str) -> Mapping[str, Path]:
    """The bundled templates of a kind ("cookiecutters", "ci"): name -> folder."""
    package = Path(__file__).parents[2]
    for place in (package / kind, package.parent / kind):  # in a wheel, in a checkout
        if found := {path.parent.name: path.parent for path in sorted(place.glob("*/cookiecutter.json"))}:
            return found
    return {}


def variables(folder: Path, called: str = "the template") -> dict[str, Any]:
    """The content of a template's cookiecutter.json: the variables with their defaults, and the settings.

    `called` names the folder in an error. Raises `UsageError` when the folder isn't a template,
    `ProjectError` when its cookiecutter.json is broken.
    """
    path = folder / "cookiecutter.json"
    try:
        read = json.loads(foreign_files.read_text(path))
    except (FileNotFoundError, NotADirectoryError, IsADirectoryError) as error:
        below = sorted(each.parent.name for each in folder.glob("*/cookiecutter.json"))
        hint = f"choose one with --directory: {', '.join(below)}" if below else None
        raise UsageError(f"{called} has no cookiecutter.json, so it isn't a template", hint=hint) from error
    except OSError as error:
        raise ProjectError(f"cannot read the cookiecutter.json of {called}: {error.strerror}") from error
    except (ValueError, RecursionError) as error:
        raise ProjectError(f"the cookiecutter.json of {called} isn't JSON: {error}") from error
    if not isinstance(read, dict):
        raise ProjectError(f"the cookiecutter.json of {called} isn't a JSON object")
    if "templates" in read or "template" in read:  # cookiecutter would ask which
        hint = "choose one with --directory: its cookiecutter.json lists them"
        raise UsageError(f"{called} contains several templates", hint=hint)
    return read


def render(folder: Path, context: dict[str, Any], made: Path, *, foreign: bool = False) -> None:
    """Render a template's files into the folder `made`, whose name is that of the crate.

    A foreign template is rendered in a process of its own, which ends with us, as does what its hooks start.
    Raises `ProjectError` when the template is at fault, `ToolFailed` when a hook fails.
    """
    if foreign:
        _in_child("render", folder, context=context, made=str(made.absolute()))
        snapshot.check_links(made, "project")
    else:
        generate(folder, context, made, hooks=False)
    for compiled in list(made.rglob("__pycache__")):  # pip compiles the Python files in a wheel
        shutil.rmtree(compiled)


def prepare(folder: Path) -> None:
    """Run a foreign template's hook `pre_prompt`, which may change this copy of the template, once."""
    hooks = [path for path in (folder / "hooks").glob("*") if path.stem == HOOKS[0]]
    if hooks:
        _in_child("prepare", folder)
    for hook in hooks:  # `update` may use a state twice
        hook.unlink(missing_ok=True)


def generate(folder: Path, context: dict[str, Any], made: Path, *, hooks: bool) -> None:
    """Let cookiecutter write the files."""
    # not cookiecutter's `main`: that reads ~/.cookiecutterrc, writes a replay file, and runs hooks
    from cookiecutter.generate import generate_files

    generate_files(
        repo_dir=str(folder),
        context={"cookiecutter": context | {"name": made.name}},
        output_dir=str(made.parent),
        overwrite_if_exists=True,  # the folder is there already
        accept_hooks=hooks,
    )


def _in_child(job: str, folder: Path, **more: Any) -> None:
    """Run a job in a process of its own, `render_child`, and raise its error here."""
    argv = [sys.executable, "-P", "-m", "scaffold.project.templates.render_child"]
    order = json.dumps({"do": job, "folder": str(folder), **more}).encode()
    pipe, stderr = process.PIPE, process.standard_error()
    with files.scratch() as scratch:  # cookiecutter leaves the hooks that it ran there
        env = git.environment() | {"TMPDIR": str(scratch)}  # git in a hook works on the project
        with process.spawn(argv, env=env, stdin=pipe, stdout=pipe, stderr=stderr) as child:
            report, _ = child.communicate(order)
    if not report:
        raise ProjectError(f"the template ended its own rendering with exit code {child.returncode}")
    code, message, hint = json.loads(report)
    if code:
        raise of_exit_code(code)(message, hint=hint)
