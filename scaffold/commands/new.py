"""`new`: create a project from a template."""

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
from scaffold.core.text import escaped
from scaffold.errors import ProjectError, UsageError, choose
from scaffold.project.cargo_toml import FILE
from scaffold.project.crate import Project
from scaffold.project.template_record import Rendered
from scaffold.project.templates import answers
from scaffold.project.templates import render as rendering
from scaffold.project.templates import workspace_member as members
from scaffold.project.templates.source import Template, fetched
from scaffold.project.templates.trust import require as require_trust
from scaffold.project.workspace import Workspace

# names that rustc or cargo refuse, or that would make the crate depend on itself
KEYWORDS = frozenset(
    "abstract as async await become box break const continue crate do dyn else enum extern false final fn for"
    " gen if impl in let loop macro match mod move mut override priv pub ref return self static struct super"
    " trait true try type typeof unsafe unsized use virtual where while yield".split()
)
RESERVED = frozenset(
    "alloc build core deps examples incremental log proc-macro proc_macro proxy-wasm proxy_wasm std test"
    " aux con nul prn cargo".split()
) | {f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10)}  # Windows devices
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
    """Create a project from a template, in a folder named after the crate.

    `template` is the name of a bundled template, the path of a folder or zip file, or the URL of a zip file
    or git repository, with the template in its folder `directory`, at the branch, tag or commit `checkout`.
    A template that isn't bundled can run any code, so each version of it needs `trust` once. `variable` sets
    template variables ("key=value"); scaffold asks for the others in a terminal. `ci` names a CI provider
    whose workflow is added. The folder appears complete or not at all. Inside a cargo workspace the crate
    becomes a member.
    Raises `UsageError` for an invalid crate name, an existing folder, or a template that is missing,
    untrusted or made for another version of scaffold; `ProjectError` for a broken template.
    """
    check_name(name)
    if ci:
        choose("CI provider", ci, workflows.providers())
    with fetched(template, checkout=checkout, directory=directory) as source:
        target = output_dir / name
        workspace = Workspace.of(target)
        if target.exists() or target.is_symlink():
            raise UsageError(f"{target} already exists", hint=_hint_for_existing(target, workspace))
        if workspace and (other := workspace.member(name)):
            message = f"the workspace in {workspace.root} already has a package `{name}`, in {other}"
            raise UsageError(message, hint="choose another name: names are unique within a workspace")
        source.check_fits()
        require_trust(source, trust)
        values = answers.settle(source, name, answers.parse(variable), no_input=no_input)
        with step(f"Rendering {source.name} to {target}"):
            profiles = _make(target, source, values, ci, member=workspace is not None)
            if ci:
                workflows.warn_below_repository(target.resolve())
            if workspace and members.join(workspace.root, target, profiles):
                emit(Noted(f"{name} is a member of the workspace in {workspace.root}"))
    emit(Noted(f"next: cd {shlex.quote(str(target))} && invoke build deploy test"))
    return Project.load(target)


def _make(
    target: Path, source: Template, values: dict[str, Any], ci: str | None, *, member: bool
) -> list[str]:
    """Render the crate; returns the cargo profiles to add to the workspace if it becomes a `member`."""
    try:
        with files.tree(target) as folder:
            render(source, values, folder)
            profiles = members.fit(folder) if member else []
            if ci:
                workflows.render_into(folder, ci)
            _set_modes(folder)
    except NotADirectoryError as error:
        raise UsageError(f"{target.parent} is not a folder", hint="choose another --output-dir") from error
    except FileExistsError as error:  # another `new` was faster
        raise UsageError(f"{target} already exists", hint="choose another name") from error
    return profiles


def _hint_for_existing(target: Path, workspace: Workspace | None) -> str:
    """What to do about an existing folder, which a killed `new` may have left out of its workspace."""
    folder = target.resolve()
    if workspace and (folder / FILE).is_file() and folder not in workspace.members():
        name = os.path.relpath(folder, workspace.root)
        return f'add "{name}" to `members` in {workspace.root / FILE}, or choose another name'
    return "choose another name, or another --output-dir"


def render(template: Template, values: dict[str, Any], folder: Path) -> None:
    """Render a template with these variables into an empty folder named after the crate.

    Raises `ProjectError` if the result isn't a valid project.
    """
    render_unchecked(template, values, folder)
    try:
        Project.load(folder)
    except ProjectError as error:
        message = error.message.replace(str(folder.resolve()), folder.name).replace(str(folder), folder.name)
        raise ProjectError(f"the template {template.name} makes an invalid project: {message}") from error


def render_unchecked(template: Template, values: dict[str, Any], folder: Path) -> None:
    """Like `render`, for any version of a template: its result was valid for the scaffold of its time.

    Records the template, its version and its variables in Cargo.toml.
    """
    rendering.render(
        template.folder, values | {"_template": template.source}, folder, foreign=template.foreign
    )
    answered = {key: value for key, value in values.items() if not key.startswith("_") and value is not None}
    record = Rendered(template.source, template.pin or __version__, answered, template.directory)
    if (folder / "Cargo.toml").is_file():
        with (folder / "Cargo.toml").open("a", encoding="utf-8") as manifest:
            manifest.write(record.text())


def check_name(name: str) -> None:
    """Raise `UsageError`, with the reason, unless `name` is valid for a crate, a folder and an image.

    Source: cargo's rules for `cargo new`; OCI repository names are lower case.
    """
    if not re.fullmatch(r"[a-z_][a-z0-9_-]*", name, re.ASCII):
        reason = "use lower-case ASCII letters, digits, `_` and `-`, and start with a letter or `_`"
    elif len(name) > LONGEST:
        reason = f"it is longer than {LONGEST} characters"
    elif name in KEYWORDS:
        reason = "it is a Rust keyword"
    elif name in RESERVED:
        reason = "the name is reserved"
    elif not name.strip("_-"):
        reason = "it needs a letter"
    else:
        return
    message = f"`{escaped(name)}` isn't a valid crate name: {reason}"
    raise UsageError(message, hint=f"try `scaffold new {valid_name(name)}`")


def valid_name(text: str) -> str:
    """A valid crate name that is close to a text."""
    near = re.sub(r"[^a-z0-9_-]+", "_", text.lower()).strip("_-")[: LONGEST - 7].lstrip("0123456789-_")
    return near if near and near not in KEYWORDS | RESERVED else f"{near or 'my'}_plugin"


def _set_modes(root: Path) -> None:
    """Apply the user's umask: cookiecutter copies the modes of the installed template."""
    allowed = root.stat().st_mode & 0o777  # of a folder that was just created
    for path in root.rglob("*"):
        mode = path.stat().st_mode
        path.chmod(allowed if path.is_dir() or mode & 0o100 else allowed & 0o666)
