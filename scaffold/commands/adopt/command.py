"""`adopt`: turn an existing plugin crate, such as an example of the SDK or of wasme, into a project."""

from __future__ import annotations

import posixpath
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

from scaffold.commands.adopt import compile_check
from scaffold.commands.adopt.committed import Committed
from scaffold.commands.adopt.crate import Crate, no_package
from scaffold.core.events import Noted, emit, step
from scaffold.core.text import LINES
from scaffold.project.cargo_toml import FILE, locate, read_manifest
from scaffold.project.templates.merge import Worktree, scratch
from scaffold.project.workspace import Workspace
from scaffold.toolchain.options import BuildOptions


@dataclass(frozen=True)
class Adoption:
    """The files that were added or changed, relative to the crate; `diff` is the patch of a dry run."""

    name: str
    changed: tuple[str, ...]
    written: bool
    diff: str = field(metadata=LINES)

    def summary(self) -> str:
        """The changed files, one per line, or the patch."""
        if not self.changed:
            return f"{self.name} is already a project, nothing to change"
        return self.diff.rstrip("\n") or "\n".join(self.changed)


def adopt(
    root: Path = Path(),
    *,
    dry_run: bool = False,
    no_check: bool = False,
    build: BuildOptions = BuildOptions(),
) -> Adoption:
    """Turn a plugin crate into a project: add settings, tasks and a first test, and apply renames.

    The renames are those of the SDK and of Rust's targets. proxy-wasm 0.1 becomes today's in all crates that
    share it with this one: dependency, source and callers together. Nothing else that exists is changed. With
    `dry_run` nothing is written. The result is compiled before anything is written, unless `no_check`.
    Raises `UsageError` if uncommitted work would be lost, `ProjectError` if the crate isn't a plugin, or if
    its move to today's SDK needs a person, `ToolFailed` if it no longer compiles.
    """
    root = locate(root).resolve()
    if "package" not in read_manifest(root / FILE) and Workspace.at(root):
        raise no_package(root / FILE)
    own = Worktree(root)
    work = own.whole()
    with scratch(work) as repository, step(f"Adopting {root}"):
        committed = Committed(work, repository, own.prefix)
        crate = Crate(root, committed)
        for note in crate.notes:
            emit(Noted(note))
        contents = crate.adopted()
        after = repository.amended(work.tree, contents)
        changes = repository.changes(work.tree, after)
        if not dry_run:
            work.check_untouched(changes)  # compiling would take a while
        if changes:
            after = repository.amended(after, _lock(crate, committed, contents, build, no_check=no_check))
            changes = repository.changes(work.tree, after)
        if not dry_run:
            work.apply(changes, repository, last=committed.path(FILE))
        return Adoption(
            name=crate.name,
            changed=tuple(sorted(committed.from_crate(change.path) for change in changes)),
            written=not dry_run,
            diff=repository.diff(work.tree, after) if dry_run else "",
        )


def _lock(
    crate: Crate, committed: Committed, contents: Mapping[str, str], build: BuildOptions, *, no_check: bool
) -> dict[str, str]:
    """Check that the crate compiles, unless `no_check`; returns the Cargo.lock that changes, if one does."""
    places = (posixpath.join(folder, compile_check.LOCK) for folder in committed.folders())
    place = next(filter(committed.entries.__contains__, places), None)
    if no_check:
        if place and crate.moved:
            emit(Noted(f"{committed.from_crate(place)} has proxy-wasm 0.1 until the next build"))
        return {}
    others = sorted(crate.moved - {committed.folder})
    job = compile_check.Job(
        name=crate.name,
        top=committed.repository.root,
        crates=[committed.folder, *others],
        tests=sorted(crate.tested),
        triple=crate.triple,
        changes=contents,
    )
    lock = compile_check.check(job, build)
    return {place: lock} if place and lock and crate.moved else {}
