"""The adoption of a crate: everything that changes is worked out, compiled, and then written."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from scaffold.commands.adopt import compile_check
from scaffold.commands.adopt.committed import Committed
from scaffold.commands.adopt.crate import Crate, no_package
from scaffold.core.events import Noted, announced_at_the_end, emit, step
from scaffold.core.text import LINES
from scaffold.errors import UsageError
from scaffold.project.cargo_toml import FILE, read_manifest
from scaffold.project.templates.merge import Worktree, as_committed, scratch
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


def adopt_crate(
    root: Path, *, title: str, dry_run: bool, no_check: bool, build: BuildOptions, is_new: bool = False
) -> Adoption:
    """Turn the crate in `root` into a project, see `adopt`; `title` is the step's.

    One that `is_new` has to compile, as nobody has compiled it before.
    """
    if "package" not in read_manifest(root / FILE) and Workspace.at(root):
        raise no_package(root / FILE)
    with _committed_files(root, dry_run=dry_run) as committed, step(title):
        work, repository = committed.repository, committed.scratch
        with announced_at_the_end():  # a refusal is all that a user needs to read
            crate = Crate(root, committed)
            for note in crate.notes:
                emit(Noted(note))
            contents = crate.adopted()
            after = repository.amended(work.tree, contents)
            changes = repository.changes(work.tree, after)
            if not dry_run:
                work.check_untouched(changes)  # compiling would take a while
        if changes and no_check:
            _note_old_lock(crate, committed)
        elif changes:
            after = repository.amended(after, _checked(crate, committed, contents, build, is_new=is_new))
            changes = repository.changes(work.tree, after)
        if not dry_run:
            work.apply(changes, repository, last=committed.path(FILE))
        return Adoption(
            name=crate.name,
            changed=tuple(sorted(committed.from_crate(change.path) for change in changes)),
            written=not dry_run,
            diff=repository.diff(work.tree, after) if dry_run else "",
        )


@contextmanager
def _committed_files(root: Path, *, dry_run: bool) -> Iterator[Committed]:
    """The committed files of the repository; in a dry run those of any folder, as if committed."""
    with ExitStack() as stack:
        try:
            own = Worktree(root)
        except UsageError:
            if not dry_run:
                raise
            workspace = Workspace.of(root)
            own = stack.enter_context(as_committed(workspace.root if workspace else root, root))
        work = own.whole()
        yield Committed(work, stack.enter_context(scratch(work)), own.prefix)


def _locks(committed: Committed) -> list[str]:
    """The Cargo.lock files in and above the crate, the nearest first."""
    places = (posixpath.join(folder, compile_check.LOCK) for folder in committed.folders())
    return [place for place in places if place in committed.entries]


def _note_old_lock(crate: Crate, committed: Committed) -> None:
    for place in _locks(committed)[:1] if crate.moved else ():
        emit(Noted(f"{committed.from_crate(place)} has proxy-wasm 0.1 until the next build"))


def _checked(
    crate: Crate, committed: Committed, contents: Mapping[str, str], build: BuildOptions, *, is_new: bool
) -> dict[str, str]:
    """Check that the crate compiles; returns the Cargo.lock that changes, if one does."""
    job = compile_check.Job(
        name=crate.name,
        top=committed.repository.root,
        crates=[committed.folder, *sorted(crate.moved - {committed.folder})],
        tests=sorted(crate.tested),
        triple=crate.triple,
        changes=contents,
        is_new=is_new,
    )
    lock = compile_check.check(job, build)
    return {place: lock for place in _locks(committed)[:1] if lock and crate.moved}
