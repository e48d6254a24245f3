"""Projects that follow their template: what changed in it since they were rendered, merged into them."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaffold import __version__
from scaffold.commands import ci as workflows
from scaffold.commands import new as templating
from scaffold.core import files
from scaffold.core.events import Noted, Warned, emit, step
from scaffold.errors import ProjectError, UsageError
from scaffold.project.manifest import FILE, NAME, locate, parse_manifest
from scaffold.project.model import Project
from scaffold.project.provenance import KEY, Rendered
from scaffold.project.templates import answers, members, releases, render
from scaffold.project.templates.merge import Change, Merge, Scratch, Worktree, scratch
from scaffold.project.templates.migrate import CONCERNED, migrate
from scaffold.project.templates.source import Template, fetched
from scaffold.project.templates.trust import require as require_trust
from scaffold.project.workspace import Workspace


@dataclass(frozen=True)
class Update:
    """What an update did, or would do: the template, its version before and after, and the files.

    `conflicts` are those that git couldn't merge, and marked. `available` is false when nothing but the
    record changes. `diff` is the patch, where nothing was `written`.
    """

    template: str
    before: str
    after: str
    changed: tuple[str, ...]
    conflicts: tuple[str, ...]
    available: bool
    written: bool
    diff: str

    @property
    def exit_code(self) -> int:
        """3 when somebody has to see to it: a conflict, or an update that a check found."""
        due = self.conflicts or (self.available and not self.written and not self.diff)
        return ProjectError.exit_code if due else 0

    def summary(self) -> str:
        """A line for each file, or the patch."""
        if self.diff:
            return self.diff.rstrip("\n")
        if not self.changed or not (self.available or self.written):
            return f"{self.template} {_short(self.before)} is up to date"
        moved = " -> ".join(dict.fromkeys((_short(self.before), _short(self.after))))
        words = dict.fromkeys(self.conflicts, "conflict")
        lines = [f"  {words.get(path, 'changed'):<8}  {path}" for path in sorted({*self.changed, *words})]
        title = f"{self.template} {moved}" if self.written else f"there is an update: {self.template} {moved}"
        return "\n".join([title, *lines])


def update(
    root: Path = Path(),
    *,
    check: bool = False,
    dry_run: bool = False,
    to: str | None = None,
    trust: bool = False,
    variable: Sequence[str] = (),
) -> Update:
    """Merge into a project what changed in its template since it was rendered, and the field's renames.

    Both states of the template are rendered with the recorded answers, those in `variable` ("key=value")
    over them for the newer one, and git merges the difference into what is committed. `to` is the version
    to go to, of scaffold's or a commit of a foreign template's, which needs `trust` as with `new`;
    default: the newest. With `check` or `dry_run` nothing is written.
    Raises `UsageError` when something that isn't committed would be lost, when there is no such template,
    or when it doesn't take an answer; `ProjectError` when the project doesn't say what it came from.
    """
    if check and dry_run:
        raise UsageError("either --check or --dry-run")
    work = Worktree(_located(root))
    with scratch(work) as repository, ExitStack() as stack:
        record = _record(work, repository)
        newer = stack.enter_context(_template(record, to))
        older = newer
        if _version(newer) != record.version:
            older = stack.enter_context(_template(record, record.version))
        _check(older, newer, trust)
        with step(f"Merging {newer.name} {_short(_version(newer))} into {work.root}"):
            merged = _merge(work, repository, record, older, newer, answers.parse(variable))
        changes = repository.changes(work.tree, merged.tree)
        written = not (check or dry_run)
        if dry_run:
            _warn_of_work(work, changes)
        elif written:
            work.apply(changes, repository, last=FILE)
        _tell_of_conflicts(merged, written)
        return Update(
            template=newer.name,
            before=record.version,
            after=_version(newer),
            changed=tuple(change.path for change in changes),
            conflicts=merged.conflicts,
            available=not _is_record_alone(repository, changes, record),
            written=written,
            diff=repository.diff(work.tree, merged.tree) if dry_run else "",
        )


def _merge(
    work: Worktree,
    repository: Scratch,
    record: Rendered,
    older: Template,
    newer: Template,
    variables: Mapping[str, str],
) -> Merge:
    """The project as it is committed, the renames, and what changed between two states of its template."""
    name = record.answers["name"]
    templating.check_name(name)
    given = _still_taken(record, newer, say=True) | dict(variables)
    before = answers.settle(older, name, _still_taken(record, older), no_input=True)
    after = answers.settle(newer, name, given, no_input=True)
    migrated = migrate(repository.mentioning(work.tree, CONCERNED))
    for note in migrated.notes:
        emit(Noted(note))
    yours = repository.amended(work.tree, migrated.contents)
    with files.scratch() as folder:
        base, theirs = folder / "before" / name, folder / "after" / name
        for made in (base, theirs):
            made.mkdir(parents=True)
        templating.render_as_it_was(older, before, base)
        templating.render(newer, after, theirs)
        if not newer.foreign:
            _add_workflows(repository.entries(yours), (base, record.version), (theirs, _version(newer)))
        workspace = Workspace.of(work.root)
        if workspace and workspace.root != work.root:
            for made in (base, theirs):
                members.fit(made)
        label = re.sub(r"[^A-Za-z0-9]+", "-", f"template-{newer.name}-{_short(_version(newer))}")
        return repository.merge(repository.tree(base), yours=yours, **{label: repository.tree(theirs)})


def _located(root: Path) -> Path:
    root = locate(root).resolve()
    if Workspace.meant(root) or not (root / FILE).exists():
        Project.load(root)  # which says what is meant, or lacking
    return root


def _check(older: Template, newer: Template, trust: bool) -> None:
    """Raise `UsageError` unless the user trusts both states of a foreign template, and the newer fits us."""
    for template in {each.pin: each for each in (older, newer)}.values():
        try:
            require_trust(template, trust)
        except UsageError as error:
            hint = f"see what changed in it; then `scaffold update --to {newer.pin} --trust`"
            raise UsageError(error.message, hint=hint) from error
    newer.check_fits()


def _tell_of_conflicts(merged: Merge, written: bool) -> None:
    for words in merged.messages:
        emit(Warned(words))
    if merged.conflicts and written:
        emit(Noted("settle what is marked there, and commit; `git stash -u` puts all of it aside"))


def _add_workflows(there: Collection[str], *states: tuple[Path, str]) -> None:
    """Put the CI workflows that the project has, as `new --ci` and `ci` write them, into both renders."""
    for provider in workflows.providers():
        known = all(provider in releases.templates("ci", version) for _, version in states)
        if known and any(str(path) in there for path in workflows.render(provider)):
            for made, version in states:
                workflows.render_into(made, provider, version=version)


def _record(work: Worktree, repository: Scratch) -> Rendered:
    """What the project came from, as that is committed."""
    path = work.root / FILE
    entry = repository.entries(work.tree).get(FILE)
    if entry is None:
        raise UsageError(f"{path} is not committed", hint="`git add -A && git commit`")
    table: Any = parse_manifest(repository.text(entry.name), path)
    if "package" not in table:
        raise ProjectError(f"no [package] in {path}", hint="give --root a plugin's crate, not a workspace")
    for key in ("package", "metadata", NAME, KEY):
        table = table.get(key) if isinstance(table, dict) else None
    if table is None:
        raise ProjectError(
            f"{path} doesn't record a template", hint="`scaffold adopt` brings such a crate up to date"
        )
    return Rendered.parse(table, path)


@contextmanager
def _template(record: Rendered, version: str | None) -> Iterator[Template]:
    """The project's template in a state: scaffold's version, or a commit; None is the newest."""
    if "/" in record.source or ":" in record.source:
        with fetched(record.source, checkout=version, directory=record.directory) as template:
            if version is None and record.version.startswith("sha256:") and template.pin != record.version:
                raise UsageError(
                    f"{record.source} has changed, and nobody kept what it was",
                    hint="keep the template in git: then an update finds its earlier states, too",
                )
            yield template
        return
    if version is None and _is_ahead(record.version):
        raise UsageError(
            f"the project is of scaffold {record.version}, and this is {__version__}",
            hint=f"`pip install proxy-wasm-scaffold=={record.version}`",
        )
    version = __version__ if version is None else version
    folder = releases.templates("cookiecutters", version).get(record.source)
    if folder is None:
        raise UsageError(
            f"scaffold {version} has no template `{record.source}` any more",
            hint="the project goes on without; `--to` takes a version that has it",
        )
    yield Template(record.source, record.source, folder, pin=version)


def _is_ahead(version: str) -> bool:
    """Whether a scaffold later than this one wrote that."""
    from packaging.version import InvalidVersion, Version

    try:
        return Version(version) > Version(__version__)
    except InvalidVersion:
        return False


def _version(template: Template) -> str:
    return template.pin or __version__


def _short(version: str) -> str:
    """A version as one says it: of a commit or a digest, the begin."""
    return version.removeprefix("sha256:")[:12]


def _still_taken(record: Rendered, template: Template, *, say: bool = False) -> dict[str, Any]:
    """The recorded answers to what a template asks for."""
    asked = render.variables(template.folder)
    dropped = [key for key in record.answers if key not in asked]
    if dropped and say:
        emit(Noted(f"{template.name} doesn't ask for {', '.join(dropped)} any more"))
    return {key: value for key, value in record.answers.items() if key in asked and key != "name"}


def _warn_of_work(work: Worktree, changes: Sequence[Change]) -> None:
    try:
        work.check_untouched(changes)
    except UsageError as error:
        emit(Warned(error.message))


def _is_record_alone(repository: Scratch, changes: Sequence[Change], record: Rendered) -> bool:
    """Whether the update would write down another version, and nothing else."""
    if not changes:
        return True
    (first, *others) = changes
    if others or first.path != FILE or not (first.before and first.after):
        return False
    before, after = (repository.text(entry.name) for entry in (first.before, first.after))
    table = parse_manifest(after, Path(FILE))["package"]["metadata"][NAME][KEY]
    return before.replace(record.text(), Rendered.parse(table, Path(FILE)).text()) == after
