"""New projects, rendered from templates."""

from __future__ import annotations

import os
import re
import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scaffold import __version__
from scaffold.commands import ci as workflows
from scaffold.core import files
from scaffold.core.events import Noted, emit, step
from scaffold.errors import ProjectError, UsageError, choose
from scaffold.project.manifest import FILE
from scaffold.project.model import Project
from scaffold.project.provenance import Rendered
from scaffold.project.templates import answers, members
from scaffold.project.templates import render as rendering
from scaffold.project.templates.source import Template, fetched
from scaffold.project.templates.trust import require as require_trust
from scaffold.project.workspace import Workspace

# what rustc and cargo refuse, or what would be a dependency of itself
KEYWORDS = frozenset(
    "abstract as async await become box break const continue crate do dyn else enum extern false final fn for"
    " gen if impl in let loop macro match mod move mut override priv pub ref return self static struct super"
    " trait true try type typeof unsafe unsized use virtual where while yield".split()
)
RESERVED = frozenset(
    "alloc build core deps examples incremental log proc-macro proc_macro proxy-wasm proxy_wasm std test"
    " aux con nul prn cargo".split()
) | {f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10)}  # devices of Windows
LONGEST = 64


def new(
    name: str,
    *,
    template: str = "http",
    checkout: str | None = None,
    directory: str | None = None,
    trust: bool = False,
    output_dir: Path = Path(),
    variable: Sequence[str] = (),
    ci: str | None = None,
    no_input: bool = False,
) -> Project:
    """Make a new project, a folder called like the crate, from a template.

    `template` is the name of one that comes with us, the path of a folder or a zip file, or the URL of such a
    file or a git repository; `checkout` says which state of that, `directory` where in it. Rendering what
    doesn't come with us can run any code, so it needs `trust`, once for each state. `variable` sets the
    template's variables, each as "key=value"; those left are asked for, where somebody can answer. `ci` names
    a CI provider whose workflow it gets. The folder appears whole or not at all; in a cargo workspace it is a
    member, by a line in the Cargo.toml there.
    Raises `UsageError` for a name that makes no crate, a folder that exists, a template that isn't there,
    isn't trusted, or is for another scaffold; `ProjectError` for one that is broken or makes no project.
    """
    check_name(name)
    if ci:
        choose("CI provider", ci, workflows.providers())
    with fetched(template, checkout=checkout, directory=directory) as source:
        target = output_dir / name
        workspace = Workspace.of(target)
        if target.exists() or target.is_symlink():
            raise UsageError(f"{target} exists already", hint=_what_then(target, workspace))
        if workspace and (other := workspace.member(name)):
            why = f"the workspace in {workspace.root} has a package `{name}` already, in {other}"
            raise UsageError(why, hint="choose another name: cargo takes no two of one")
        source.check_fits()
        require_trust(source, trust)
        settled = answers.settle(source, name, answers.parse(variable), no_input=no_input)
        with step(f"Rendering {source.name} to {target}"):
            profiles = _make(target, source, settled, ci, member=workspace is not None)
            if workspace and members.join(workspace.root, target, profiles):
                emit(Noted(f"{name} is a member of the workspace in {workspace.root}"))
    emit(Noted(f"next: cd {shlex.quote(str(target))} && invoke build deploy test"))
    return Project.load(target)


def _make(
    target: Path, source: Template, settled: dict[str, Any], ci: str | None, *, member: bool
) -> list[str]:
    """Render the crate; returns the profiles that are for the workspace, where it is to be a `member`."""
    try:
        with files.tree(target) as made:
            render(source, settled, made)
            profiles = members.fit(made) if member else []
            if ci:
                workflows.render_into(made, ci)
            _set_modes(made)
    except NotADirectoryError as error:
        raise UsageError(f"{target.parent} is not a folder", hint="choose another --output-dir") from error
    except FileExistsError as error:  # another `new` was quicker
        raise UsageError(f"{target} exists already", hint="choose another name") from error
    return profiles


def _what_then(target: Path, workspace: Workspace | None) -> str:
    """What to do about a folder that is there already: a kill may have left it without its workspace."""
    folder = target.resolve()
    if workspace and (folder / FILE).is_file() and folder not in workspace.members():
        name = os.path.relpath(folder, workspace.root)
        return f'add "{name}" to `members` in {workspace.root / FILE}, or choose another name'
    return "choose another name, or another --output-dir"


def render(template: Template, settled: dict[str, Any], made: Path) -> None:
    """Render a template, whose variables were settled, into the empty folder `made`, called like the crate.

    Raises `ProjectError` when that makes no project.
    """
    render_as_it_was(template, settled, made)
    try:
        Project.load(made)
    except ProjectError as error:
        message = error.message.replace(str(made.resolve()), made.name).replace(str(made), made.name)
        raise ProjectError(f"the template {template.name} makes no project: {message}") from error


def render_as_it_was(template: Template, settled: dict[str, Any], made: Path) -> None:
    """The same for a template of any age, which may have made what was a project then.

    Its Cargo.toml records where it came from; `pin` is an older scaffold's version where the template came
    with that.
    """
    rendering.render(
        template.folder, settled | {"_template": template.source}, made, foreign=template.foreign
    )
    answered = {key: value for key, value in settled.items() if not key.startswith("_") and value is not None}
    record = Rendered(template.source, template.pin or __version__, answered, template.directory)
    if (made / "Cargo.toml").is_file():
        with (made / "Cargo.toml").open("a", encoding="utf-8") as manifest:
            manifest.write(record.text())


def check_name(name: str) -> None:
    """Raise `UsageError`, with the reason, unless a crate (and a folder, and an image) can be called so.

    Source: cargo's rules for `cargo new`; OCI repository names are lower case.
    """
    if not re.fullmatch(r"[a-z_][a-z0-9_-]*", name, re.ASCII):
        why = "it takes lower-case ASCII letters, digits, `_` and `-`, and begins with a letter or `_`"
    elif len(name) > LONGEST:
        why = f"it is longer than {LONGEST} characters"
    elif name in KEYWORDS:
        why = "it is a keyword of Rust"
    elif name in RESERVED:
        why = "the name is reserved"
    elif not name.strip("_-"):
        why = "it needs a letter"
    else:
        return
    near = re.sub(r"[^a-z0-9_-]+", "_", name.lower()).strip("_-")[: LONGEST - 7].lstrip("0123456789-_")
    near = near if near and near not in KEYWORDS | RESERVED else f"{near or 'my'}_filter"
    raise UsageError(f"`{name}` can't name a crate: {why}", hint=f"for example `scaffold new {near}`")


def _set_modes(made: Path) -> None:
    """The modes that the user's umask gives: cookiecutter copies the installed template's."""
    allowed = made.stat().st_mode & 0o777  # a folder's, made just now
    for path in made.rglob("*"):
        mode = path.stat().st_mode
        path.chmod(allowed if path.is_dir() or mode & 0o100 else allowed & 0o666)
