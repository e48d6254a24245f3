"""What a plugin is compared with: it at another commit, the module in a file, or an image."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from scaffold.core import files, git
from scaffold.core.events import Noted, emit
from scaffold.errors import MachineError, ProjectError, ScaffoldError, UsageError
from scaffold.hosts import source as plugins
from scaffold.hosts.options import RunOptions
from scaffold.hosts.plugin import Plugin
from scaffold.project.cargo_toml import FILE
from scaffold.toolchain.options import BuildOptions

_SECONDS = 300.0  # for git to check files out


def load(against: str, plugin: Plugin, root: Path, run: RunOptions, build: BuildOptions) -> Plugin:
    """The plugin that `against` names: a file, a commit of the repository around `root`, or an image.

    A module of a file gets the configuration of `plugin`, a commit and an image have their own. Raises
    `UsageError` for what is none of them, and what building a commit raises.
    """
    if plugins.is_file(against):
        return dataclasses.replace(plugin, module=plugins.read_module(Path(against)))
    if commit := _commit(against, root):
        return _built(against, commit, root, run, build)
    try:
        return plugins.choose(against, root, run).load(BuildOptions(yes=build.yes))[0].plugin(run)
    except UsageError as error:
        if ":" in against or "/" in against:
            raise
        raise UsageError(
            f"there is neither a commit, a file nor a local image `{against}`",
            hint="`git log --oneline` and `scaffold images` list what there is",
        ) from error


def called(against: str) -> str:
    """What it is called on screen: a file by its name alone."""
    return Path(against).name if plugins.is_file(against) else against


def _commit(name: str, root: Path) -> str:
    """The commit of that name in the repository around a folder; "" if there is none, or no git."""
    if name.startswith("-"):
        return ""
    try:
        found = git.run("rev-parse", "--verify", "--quiet", f"{name}^{{commit}}", cwd=root)
    except MachineError:  # git isn't installed
        return ""
    return found.stdout.strip() if found.code == 0 else ""


def _built(name: str, commit: str, root: Path, run: RunOptions, build: BuildOptions) -> Plugin:
    with _checked_out(commit, root) as folder:
        emit(Noted(f"{name} is the commit {commit[:12]}: building it in a worktree of its own"))
        if not (folder / FILE).exists():
            raise ProjectError(
                f"at {name} there is no crate in this folder",
                hint="pass a later commit; if none has it, commit the project first",
            )
        try:
            return plugins.choose(None, folder, run).load(build)[0].plugin(run)
        except ScaffoldError as error:
            raise type(error)(f"the plugin at {name}: {error.message}", hint=error.hint) from error


@contextmanager
def _checked_out(commit: str, root: Path) -> Iterator[Path]:
    """A folder of the repository around `root` at a commit, in a worktree that is removed afterwards."""
    top = Path(_git("rev-parse", "--show-toplevel", cwd=root).rstrip("\n"))
    inside = root.resolve().relative_to(top.resolve())
    with files.scratch() as scratch:
        place = scratch / "worktree"
        try:
            _git("worktree", "add", "--quiet", "--detach", "--force", str(place), commit, cwd=root)
            yield place / inside
        finally:
            git.run("worktree", "remove", "--force", str(place), cwd=root)


def _git(*words: str, cwd: Path) -> str:
    """What git prints. It runs no hook. Raises `MachineError` when it fails."""
    ran = git.run("-c", "core.hooksPath=/dev/null", *words, cwd=cwd, timeout=_SECONDS, guarded=True)
    if ran.code:
        raise MachineError(f"git {words[0]} failed: {ran.stderr.strip()}")
    return ran.stdout
