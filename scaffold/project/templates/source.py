"""Where a template comes from: with us, a folder, a zip file, a git repository; had as a private copy."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from scaffold import __version__
from scaffold.core import files
from scaffold.core.events import step
from scaffold.errors import ProjectError, ScaffoldError, UsageError, choose
from scaffold.project.templates import download as zips
from scaffold.project.templates import git
from scaffold.project.templates import render as rendering
from scaffold.project.templates import snapshot as snapshots


@dataclass(frozen=True)
class Template:
    """A template that can be rendered.

    `source` is what `--template` takes again: a name, an absolute path, or a URL, never with a secret in it.
    `folder` holds its cookiecutter.json; a foreign one's is a copy that goes when the block ends. `pin` names
    exactly this state: a commit, or "sha256:" and the digest of the content; None for one that comes with us.
    `directory` is where in the source it is. `foreign` is what doesn't come with us.
    """

    name: str
    source: str
    folder: Path
    pin: str | None = None
    directory: str | None = None
    foreign: bool = False

    def check_fits(self) -> None:
        """Raise `UsageError` when the template says, by `_scaffold`, that it is for another version of us."""
        wanted = rendering.variables(self.folder).get("_scaffold")
        if wanted is None:
            return
        from packaging.specifiers import InvalidSpecifier, SpecifierSet

        try:
            if not isinstance(wanted, str):  # later versions of packaging take more than that
                raise TypeError(wanted)
            fits = SpecifierSet(wanted).contains(__version__, prereleases=True)
        except (InvalidSpecifier, TypeError) as error:
            raise ProjectError(
                f"the template {self.name} fits `_scaffold` {wanted!r}, which says no versions",
                hint='in its cookiecutter.json, for example "_scaffold": ">=0.1"',
            ) from error
        if not fits:
            raise UsageError(
                f"the template {self.name} is for scaffold {wanted}, and this is {__version__}",
                hint=f"`pip install 'proxy-wasm-scaffold{wanted}'`, or take another state by --checkout",
            )


def bundled() -> Mapping[str, Path]:
    """The templates that come with us: name -> folder."""
    return rendering.bundled("cookiecutters")


@contextmanager
def fetched(
    template: str, *, checkout: str | None = None, directory: str | None = None
) -> Iterator[Template]:
    """The template by its name, path or URL, while the block runs.

    `checkout` is a branch, a tag or a commit, or a `Template.pin`: that very state, then. Without it: the
    newest. Nothing of it is run. Raises `UsageError` when there is no such template or state.
    """
    ours = bundled()
    if template in ours:
        if checkout or directory:
            option = "--checkout" if checkout else "--directory"
            raise UsageError(f"{template} comes with scaffold, and takes no {option}")
        yield Template(template, template, ours[template])
        return
    _check_inside(directory)
    with files.scratch() as scratch:
        yield _foreign(template, checkout, directory, scratch)


def _foreign(template: str, checkout: str | None, directory: str | None, scratch: Path) -> Template:
    address = git.Address.read(_expanded(template))
    if address is None and "://" in template:
        raise UsageError(
            f"{git.without_secret(template)} is no address that a template is fetched from",
            hint="it begins with https://, ssh:// or file://, or is user@host:path",
        )
    if address is None:
        return _of_path(template, checkout, directory, scratch)
    path = PurePosixPath(address.path)
    with step(f"Fetching {address.url}"):
        if path.suffix.lower() == ".zip":
            archive = zips.download(address, scratch / "template.zip")
            return _of_zip(archive, address.url, path.stem, checkout, directory, scratch)
        commit = git.fetch(address, None if _is_digest(checkout) else checkout, scratch / "fetched")
    folder = _inside(scratch / "fetched", directory)
    name = PurePosixPath(directory).name if directory else path.name.removesuffix(".git")
    return _closed(Template(name, address.url, folder, commit, directory, True), checkout)


def _of_path(template: str, checkout: str | None, directory: str | None, scratch: Path) -> Template:
    path = Path(template).expanduser()
    if (
        not any(sign in template for sign in "/\\")
        and path.suffix.lower() != ".zip"
        and template not in (".", "..")
    ):
        if path.is_dir():
            raise UsageError(f"no template named `{template}`", hint=f"for the folder, write ./{template}")
        choose("template", template, bundled())
    path = Path(os.path.abspath(path))  # noqa: PTH100 - not `resolve`: the name that the user knows
    if path.is_file():
        return _of_zip(path, str(path), path.stem, checkout, directory, scratch)
    return _of_folder(path, checkout, directory, scratch)


def _of_folder(path: Path, checkout: str | None, directory: str | None, scratch: Path) -> Template:
    """Of a folder: as it is now, or as a git repository around it has it in another commit."""
    inside = Path(os.path.normpath(path / (directory or "")))
    name = inside.name
    if checkout and not _is_digest(checkout):
        top = _repository(inside)
        if top is None:
            raise UsageError(f"{inside} is in no git repository, so there is no `{checkout}` of it")
        commit = git.fetch(_local(top), checkout, scratch / "fetched")
        folder = _inside(scratch / "fetched", str(inside.relative_to(top)))
        return _closed(Template(name, str(path), folder, commit, directory, True), checkout)
    if not path.is_dir():
        raise UsageError(
            f"there is no template at {path}", hint="a name of `scaffold templates`, a folder, a URL?"
        )
    source = _inside(path, directory)
    rendering.variables(source, str(source))  # a folder that is no template, which may be any, isn't copied
    snapshots.copy(source, scratch / "copy")
    digest = snapshots.digest(scratch / "copy")
    pin = digest if checkout else _commit(inside, digest, scratch) or digest
    return _closed(Template(name, str(path), scratch / "copy", pin, directory, True), checkout)


def _of_zip(
    archive: Path, source: str, name: str, checkout: str | None, directory: str | None, scratch: Path
) -> Template:
    snapshots.unzip(archive, scratch / "unpacked")
    top = scratch / "unpacked"
    entries = list(top.iterdir())
    if not (top / "cookiecutter.json").exists() and len(entries) == 1 and entries[0].is_dir():
        top = entries[0]  # as the archives of hosting services have it
    folder = _inside(top, directory)
    name = PurePosixPath(directory).name if directory else name
    return _closed(Template(name, source, folder, snapshots.digest(folder), directory, True), checkout)


def _closed(template: Template, checkout: str | None) -> Template:
    """The template, when it is one, nothing in it leads out, and it is the state that was asked for."""
    if _is_digest(checkout) and checkout != template.pin:
        raise UsageError(
            f"{template.source} has changed: it isn't {checkout} any more",
            hint=f"what is there now is {template.pin}",
        )
    rendering.variables(template.folder, template.source)
    snapshots.check_links(template.folder, "template")
    return template


def _commit(folder: Path, digest: str, scratch: Path) -> str | None:
    """The commit that has a folder exactly as it is; None when it has changes, or isn't in a repository.

    Seen by the content: git itself, asked for changes, runs what the repository's settings name.
    """
    top = _repository(folder)
    if top is None:
        return None
    try:
        commit = git.fetch(_local(top), None, scratch / "head")
        same = snapshots.digest(_inside(scratch / "head", str(folder.relative_to(top)))) == digest
    except ScaffoldError:  # no git; another user's repository; one without a commit
        return None
    return commit if same else None


def _repository(folder: Path) -> Path | None:
    """The git repository's work tree that a folder is in."""
    return next((each for each in (folder, *folder.parents) if (each / ".git").exists()), None)


def _local(top: Path) -> git.Address:
    return git.Address(f"file://{quote(str(top))}")


def _is_digest(checkout: str | None) -> bool:
    return bool(checkout and checkout.startswith("sha256:"))


def _check_inside(directory: str | None) -> None:
    if directory and (PurePosixPath(directory).is_absolute() or ".." in PurePosixPath(directory).parts):
        raise UsageError(f"--directory {directory} leads out of the template's source")


def _inside(top: Path, directory: str | None) -> Path:
    """A folder below `top`, by no link that leads out."""
    folder = top / (directory or "")
    if not folder.is_dir():
        raise UsageError(f"there is no folder {directory} in the template's source")
    if not folder.resolve().is_relative_to(top.resolve()):
        raise UsageError(f"--directory {directory} leads out of the template's source")
    return folder


def _expanded(template: str) -> str:
    """cookiecutter's short forms of addresses: gh:owner/name, gl: and bb:."""
    prefix, colon, rest = template.partition(":")
    if not colon or prefix not in ("gh", "gl", "bb"):
        return template
    from cookiecutter.config import BUILTIN_ABBREVIATIONS

    return str(BUILTIN_ABBREVIATIONS[prefix].format(rest))
