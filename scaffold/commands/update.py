"""`update`: merge what changed in a project's template into the project."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scaffold import __version__
from scaffold.commands import ci as workflows
from scaffold.commands import new as templating
from scaffold.core import files
from scaffold.core.events import Noted, Warned, emit, step
from scaffold.core.text import LINES
from scaffold.errors import ProjectError, UsageError
from scaffold.project.cargo_toml import FILE, NAME, locate, parse_manifest, read_manifest
from scaffold.project.crate import Project
from scaffold.project.template_record import KEY, Rendered
from scaffold.project.templates import answers, render, scaffold_releases
from scaffold.project.templates import workspace_member as members
from scaffold.project.templates.git import NoTemplate
from scaffold.project.templates.merge import Change, Merge, Scratch, Worktree, scratch
from scaffold.project.templates.sdk_dependency import SDK
from scaffold.project.templates.sdk_renames import CONCERNED, migrate
from scaffold.project.templates.source import Template, fetched
from scaffold.project.templates.trust import require as require_trust
from scaffold.project.workspace import Workspace

_RECORD = f"[package.metadata.{NAME}.{KEY}] of Cargo.toml"


@dataclass(frozen=True)
class Update:
    """What an update did, or would do: the template, its version before and after, and the files.

    `conflicts` are the files in which git marked conflicts. `available` is false if only the recorded
    version changes. `diff` is the patch of a dry run.
    """

    template: str
    before: str
    after: str
    changed: tuple[str, ...]
    conflicts: tuple[str, ...]
    available: bool
    written: bool
    diff: str = field(metadata=LINES)

    @property
    def exit_code(self) -> int:
        """3 if the user has something to do: resolve a conflict, or run the update that `check` found."""
        is_due = self.conflicts or (self.available and not self.written and not self.diff)
        return ProjectError.exit_code if is_due else 0

    def summary(self) -> str:
        """The changed files, one per line, or the patch."""
        if self.diff:
            return self.diff.rstrip("\n")
        if not self.changed or not (self.available or self.written):
            return f"{self.template} {_short(self.before)} is up to date"
        versions = " -> ".join(dict.fromkeys((_short(self.before), _short(self.after))))
        states = dict.fromkeys(self.conflicts, "conflict")
        lines = [f"  {states.get(path, 'changed'):<8}  {path}" for path in sorted({*self.changed, *states})]
        title = f"{'' if self.written else 'update available: '}{self.template} {versions}"
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
    """Merge the changes in a project's template, and renames in the SDK and in Rust, into the project.

    Both versions of the template are rendered with the recorded variables (`variable`, "key=value",
    overrides them for the newer version), and git merges the difference into the committed files. `to` is
    a version of scaffold, or a commit of another template, which needs `trust` as in `new`; by default
    the newest. With `check` or `dry_run` nothing is written.
    Raises `UsageError` if uncommitted work would be lost, if there is no such template, or if it refuses a
    variable; `ProjectError` if the project has no record of its template.
    """
    if check and dry_run:
        raise UsageError("--check and --dry-run can't be combined", hint="pass one of them")
    work = Worktree(_located(root))
    with scratch(work) as repository, ExitStack() as stack:
        record = _record(work, repository)
        older, newer = stack.enter_context(_templates(record, to, trust))
        with step(f"Merging {newer.name} {_short(_version(newer))} into {work.root}"):
            merged = _merge(work, repository, record, older, newer, answers.parse(variable))
        changes = repository.changes(work.tree, merged.tree)
        written = not (check or dry_run)
        if dry_run:
            _warn_of_work(work, changes)
        elif written:
            work.apply(changes, repository, last=FILE)
        _report_conflicts(merged, written)
        return Update(
            template=newer.name,
            before=record.version,
            after=_version(newer),
            changed=tuple(change.path for change in changes),
            conflicts=merged.conflicts,
            available=not _changes_only_record(repository, changes, record),
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
    """Merge the committed project, the renames, and the difference between two versions of the template."""
    name = record.answers["name"]
    templating.check_name(name)
    recorded = _recorded_values(record, newer, note=True)
    before = answers.settle(older, name, _recorded_values(record, older), no_input=True)
    after = answers.settle(newer, name, recorded | dict(variables), no_input=True)
    texts = repository.mentioning(work.tree, CONCERNED)
    migrated = migrate(texts, repository.entries(work.tree).keys())
    for note in migrated.notes:
        emit(Noted(note))
    if migrated.stuck:
        lines = "".join(f"\n  {line}" for line in migrated.stuck)
        emit(Warned(f"the crate can't move from proxy-wasm 0.1 to {SDK} before these lines change:{lines}"))
    yours = repository.amended(work.tree, migrated.contents)
    with files.scratch() as folder:
        base, theirs = folder / "before" / name, folder / "after" / name
        for rendered in (base, theirs):
            rendered.mkdir(parents=True)
        templating.render_unchecked(older, before, base)
        templating.render(newer, after, theirs)
        if not newer.foreign:
            _add_workflows(repository.entries(yours), (base, record.version), (theirs, _version(newer)))
        workspace = Workspace.of(work.root)
        if workspace and workspace.root != work.root:
            for rendered in (base, theirs):
                members.fit(rendered)
        label = re.sub(r"[^A-Za-z0-9]+", "-", f"template-{newer.name}-{_short(_version(newer))}")
        return repository.merge(repository.tree(base), yours=yours, **{label: repository.tree(theirs)})


def _located(root: Path) -> Path:
    root = locate(root).resolve()
    if Workspace.meant(root) or not (root / FILE).exists():
        Project.load(root)  # raises the error that explains what to choose, or what is missing
    return root


@contextmanager
def _templates(record: Rendered, to: str | None, trust: bool) -> Iterator[tuple[Template, Template]]:
    """The project's template at the recorded version, and at the one to update to."""
    with ExitStack() as stack:
        older = newer = stack.enter_context(_template(record, to))
        if _version(newer) != record.version:
            older = stack.enter_context(_template(record, record.version))
        _check(older, newer, trust)
        yield older, newer


def _check(older: Template, newer: Template, trust: bool) -> None:
    """Raise `UsageError` unless the user trusts both versions, and the newer supports this scaffold."""
    for template in {each.pin: each for each in (older, newer)}.values():
        try:
            require_trust(template, trust)
        except UsageError as error:
            hint = f"review its changes, then run `scaffold update --to {newer.pin} --trust`"
            raise UsageError(error.message, hint=hint) from error
    newer.check_fits()


def _report_conflicts(merged: Merge, written: bool) -> None:
    for message in merged.messages:
        emit(Warned(message))
    if merged.conflicts and written:
        emit(Noted("resolve the marked conflicts and commit, or set all changes aside with `git stash -u`"))


def _add_workflows(project_files: Collection[str], *renders: tuple[Path, str]) -> None:
    """Add the CI workflows that the project has to both renders, each a folder and scaffold's version."""
    for provider in workflows.providers():
        known = all(provider in scaffold_releases.templates("ci", version) for _, version in renders)
        if known and any(str(path) in project_files for path in workflows.render(provider)):
            for folder, version in renders:
                workflows.render_into(folder, provider, version=version)


def _record(work: Worktree, repository: Scratch) -> Rendered:
    """The committed record of the project's template."""
    path = work.root / FILE
    entry = repository.entries(work.tree).get(FILE)
    if entry is None:
        raise UsageError(f"{path} is not committed", hint="`git add -A && git commit`")
    table: Any = parse_manifest(repository.text(entry.name), path)
    if "package" not in table:
        raise ProjectError(f"no [package] in {path}", hint="pass --root a plugin's crate, not a workspace")
    for key in ("package", "metadata", NAME, KEY):
        table = table.get(key) if isinstance(table, dict) else None
    if table is None:
        raise ProjectError(
            f"{path} doesn't record a template", hint="run `scaffold adopt` to bring such a crate up to date"
        )
    record = Rendered.parse(table, path)
    _warn_if_edited(path, record)
    return record


def _warn_if_edited(path: Path, committed: Rendered) -> None:
    """Warn when the record in the file isn't the committed one, which alone counts."""
    with suppress(ProjectError, AttributeError, KeyError):
        edited = read_manifest(path)["package"]["metadata"][NAME][KEY]
        if Rendered.parse(edited, path) != committed:
            emit(Warned(f"{_RECORD} is edited but not committed, so the edit doesn't count yet"))


@contextmanager
def _template(record: Rendered, version: str | None) -> Iterator[Template]:
    """The project's template at a version of scaffold, or at a commit; None is the newest."""
    if "/" in record.source or ":" in record.source:
        with _fetched(record, version) as template:
            if version is None and record.version.startswith("sha256:") and template.pin != record.version:
                raise UsageError(
                    f"{record.source} has changed, and its earlier version isn't available",
                    hint="keep the template in git, where an update finds its earlier versions",
                )
            yield template
        return
    if version is None and _is_ahead(record.version):
        raise UsageError(
            f"the project was made by scaffold {record.version}, which is newer than this {__version__}",
            hint=f"run `pip install proxy-wasm-scaffold=={record.version}`",
        )
    version = __version__ if version is None else version
    folder = scaffold_releases.templates("cookiecutters", version).get(record.source)
    if folder is None:
        raise UsageError(
            f"scaffold {version} no longer has the template `{record.source}`",
            hint="keep the project as it is, or pass a version that has the template to --to",
        )
    yield Template(record.source, record.source, folder, pin=version)


@contextmanager
def _fetched(record: Rendered, version: str | None) -> Iterator[Template]:
    """The foreign template; if it isn't there, the error says where its place is recorded."""
    with ExitStack() as stack:
        try:
            template = stack.enter_context(
                fetched(record.source, checkout=version, directory=record.directory)
            )
        except NoTemplate as error:
            hint = f"if it moved, write its new place into `source` in {_RECORD}, and commit that"
            raise NoTemplate(error.message, hint=hint) from error
        yield template


def _is_ahead(version: str) -> bool:
    """Whether the version is later than this scaffold's."""
    from packaging.version import InvalidVersion, Version

    try:
        return Version(version) > Version(__version__)
    except InvalidVersion:
        return False


def _version(template: Template) -> str:
    return template.pin or __version__


def _short(version: str) -> str:
    """A version for the screen: of a commit or digest, the first 12 characters."""
    return version.removeprefix("sha256:")[:12]


def _recorded_values(record: Rendered, template: Template, *, note: bool = False) -> dict[str, Any]:
    """The recorded values of the variables that the template still has."""
    variables = render.variables(template.folder)
    dropped = [key for key in record.answers if key not in variables]
    if dropped and note:
        emit(Noted(f"{template.name} no longer uses {', '.join(dropped)}"))
    return {key: value for key, value in record.answers.items() if key in variables and key != "name"}


def _warn_of_work(work: Worktree, changes: Sequence[Change]) -> None:
    try:
        work.check_untouched(changes)
    except UsageError as error:
        emit(Warned(error.message))


def _changes_only_record(repository: Scratch, changes: Sequence[Change], record: Rendered) -> bool:
    """Whether the update would change only the recorded version."""
    if not changes:
        return True
    (first, *others) = changes
    if others or first.path != FILE or not (first.before and first.after):
        return False
    before, after = (repository.text(entry.name) for entry in (first.before, first.after))
    table = parse_manifest(after, Path(FILE))["package"]["metadata"][NAME][KEY]
    return before.replace(record.text(), Rendered.parse(table, Path(FILE)).text()) == after
