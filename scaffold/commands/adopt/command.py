"""`adopt`: turn what exists into a project: a crate, such as an example of the SDK, or a single Rust file."""

from __future__ import annotations

import shlex
from pathlib import Path

from scaffold.commands.adopt import bare_file
from scaffold.commands.adopt.adoption import Adoption, adopt_crate
from scaffold.core.events import Noted, emit
from scaffold.errors import UsageError
from scaffold.project.cargo_toml import locate
from scaffold.toolchain.options import BuildOptions


def adopt(
    root: Path = Path(),
    *,
    file: Path | None = None,
    dry_run: bool = False,
    no_check: bool = False,
    build: BuildOptions = BuildOptions(),
) -> Adoption:
    """Turn a plugin crate into a project: add settings, tasks and a first test, and apply renames.

    The renames are those of the SDK and of Rust's targets. proxy-wasm 0.1 becomes today's in all crates that
    share it with this one: dependency, source and callers together. Nothing else that exists is changed. With
    `dry_run` nothing is written, so the folder needn't be in a git repository. The result is compiled before
    anything is written, unless `no_check`.
    A Rust `file` without a crate gets one, in a folder of its name; the file stays as it is.
    Raises `UsageError` if uncommitted work would be lost, `ProjectError` if the crate isn't a plugin, or if
    its move to today's SDK needs a person, `ToolFailed` if it no longer compiles.
    """
    if file is not None and root != Path():
        raise UsageError("a file and --root can't be combined", hint="pass one of them")
    if file is None:
        root = locate(root)
        title = f"Adopting {root.resolve()}"
        made = adopt_crate(root.resolve(), title=title, dry_run=dry_run, no_check=no_check, build=build)
    else:
        made = bare_file.adopt(file, dry_run=dry_run, no_check=no_check, build=build)
        root = Path(made.name)
    if made.changed and made.written:
        there = "" if root.resolve() == Path.cwd() else f"cd {shlex.quote(str(root))} && "
        emit(Noted(f"next: {there}invoke build deploy test"))
    return made
