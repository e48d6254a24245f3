"""Find a template: a bundled one, a folder, a zip file or a git repository; foreign ones are copied."""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from urllib.parse import quote

from scaffold import __version__
from scaffold.core import files, foreign_files
from scaffold.core.events import step
from scaffold.core.text import quoted, without_secret
from scaffold.errors import ProjectError, ScaffoldError, UsageError, choose
from scaffold.project.templates import git, render, snapshot, zip_download

# kinds of plugins that a name may mean
_KINDS = {
    "network": "`tcp` makes a plugin of the type network",
    "service": 'start with `empty`, and write `type = "service"` into its Cargo.toml',
}


@dataclass(frozen=True)
class Template:
    """A template that can be rendered; `foreign` if it isn't bundled with scaffold.

    `source` is what `--template` takes: a name, an absolute path, or a URL without its secret. `folder`
    contains cookiecutter.json; a foreign template's is a copy that is removed at the end of the block. `pin`
    is the exact state: a commit, or "sha256:" and the digest of the content; None for a bundled template.
    `directory` is the template's place in the source, `place` that in the commit: one commit may contain
    several templates.
    """

    name: str
    source: str
    folder: Path
    pin: str | None = None
    directory: str | None = None
    foreign: bool = False
    place: str = ""

    def check_fits(self) -> None:
        """Raise `UsageError` when the template's `_scaffold` excludes this version of scaffold."""
        required = render.variables(self.folder).get("_scaffold")
        if required is None:
            return
        from packaging.specifiers import InvalidSpecifier, SpecifierSet

        try:
            if not isinstance(required, str):  # later versions of packaging accept more types
                raise TypeError(required)
            fits = SpecifierSet(required).contains(__version__, prereleases=True)
        except (InvalidSpecifier, TypeError) as error:
            raise ProjectError(
                f"the template {self.name} has an invalid `_scaffold`: {quoted(required)}",
                hint='in its cookiecutter.json, for example "_scaffold": ">=0.1"',
            ) from error
        if not fits:
            raise UsageError(
                f"the template {self.name} is for scaffold {required}, and this is {__version__}",
                hint=f"`pip install 'proxy-wasm-scaffold{required}'`, or choose another --checkout",
            )


def bundled() -> Mapping[str, Path]:
    """The bundled templates: name -> folder."""
    return render.bundled("cookiecutters")


@contextmanager
def fetched(
    template: str, *, checkout: str | None = None, directory: str | None = None
) -> Iterator[Template]:
    """The template with a name, path or URL, while the block runs.

    `checkout` is a branch, a tag, a commit or a `Template.pin`; without it, the latest state is fetched.
    Nothing from the template is run. Raises `UsageError` when there is no such template or state.
    """
    ours = bundled()
    if template in ours:
        if checkout or directory:
            option = "--checkout" if checkout else "--directory"
            raise UsageError(f"the bundled template {template} takes no {option}")
        yield Template(template, template, ours[template])
        return
    _check_inside(directory)
    with files.scratch() as scratch:
        yield _foreign(template, checkout, directory, scratch)


def _foreign(template: str, checkout: str | None, directory: str | None, scratch: Path) -> Template:
    address = git.Address.read(_expanded(template))
    if address is None and "://" in template:
        raise UsageError(
            f"{without_secret(template)} isn't an address of a template",
            hint="use https://, ssh://, file:// or user@host:path",
        )
    if address is None:
        return _of_path(template, checkout, directory, scratch)
    path = PurePosixPath(address.path)
    with step(f"Fetching {address.url}"):
        if path.suffix.lower() == ".zip":
            archive = zip_download.content(address)
            return _of_zip(archive, address.url, path.stem, checkout, directory, scratch)
        ref = None if _is_digest(checkout) else checkout
        commit = git.fetch(address, ref, scratch / "fetched", directory or "")
    folder = _inside(scratch / "fetched", directory)
    name = PurePosixPath(directory).name if directory else path.name.removesuffix(".git")
    place = _place(folder, scratch / "fetched")
    return _checked(Template(name, address.url, folder, commit, directory, True, place), checkout)


def _of_path(template: str, checkout: str | None, directory: str | None, scratch: Path) -> Template:
    path = Path(template).expanduser()
    if (
        not any(sign in template for sign in "/\\")
        and path.suffix.lower() != ".zip"
        and template not in (".", "..")
    ):
        if path.is_dir():
            raise UsageError(f"no template named `{template}`", hint=f"for the folder, write ./{template}")
        if template in _KINDS and template not in bundled():
            raise UsageError(f"no template named `{template}`", hint=_KINDS[template])
        choose("template", template, bundled())
    path = Path(os.path.abspath(path))  # noqa: PTH100 - not `resolve`: the name that the user knows
    if path.is_file():
        return _of_zip(_archive(path), str(path), path.stem, checkout, directory, scratch)
    return _of_folder(path, checkout, directory, scratch)


def _of_folder(path: Path, checkout: str | None, directory: str | None, scratch: Path) -> Template:
    """A template in a folder: as it is now, or as it is in a commit of the git repository around it."""
    inside = Path(os.path.normpath(path / (directory or "")))
    name = inside.name
    if checkout and not _is_digest(checkout):
        top = _repository(inside)
        if top is None:
            raise UsageError(f"{inside} isn't in a git repository, so it has no `{checkout}`")
        place = str(inside.relative_to(top))
        commit = git.fetch(_local(top), checkout, scratch / "fetched", place)
        folder = _inside(scratch / "fetched", place)
        place = _place(folder, scratch / "fetched")
        return _checked(Template(name, str(path), folder, commit, directory, True, place), checkout)
    if not path.is_dir():
        raise git.NoTemplate(
            f"there is no template at {path}",
            hint="`scaffold templates` lists the names; a folder or a URL works, too",
        )
    source = _inside(path, directory)
    render.variables(source, str(source))  # before the copy: this may be any folder
    snapshot.copy(source, scratch / "copy")
    digest = snapshot.digest(scratch / "copy")
    pin, place = (digest, "") if checkout else _commit(inside, digest, scratch) or (digest, "")
    return _checked(Template(name, str(path), scratch / "copy", pin, directory, True, place), checkout)


def _archive(path: Path) -> bytes:
    try:
        return foreign_files.read_bytes(path, snapshot.SIZE_LIMIT)
    except OSError as error:
        raise UsageError(f"cannot read the template {path}: {error.strerror}") from error


def _of_zip(
    archive: bytes, source: str, name: str, checkout: str | None, directory: str | None, scratch: Path
) -> Template:
    snapshot.unzip(archive, PurePosixPath(source).name, scratch / "unpacked")
    top = scratch / "unpacked"
    entries = list(top.iterdir())
    if not (top / "cookiecutter.json").exists() and len(entries) == 1 and entries[0].is_dir():
        top = entries[0]  # as in the archives of hosting services
    folder = _inside(top, directory)
    name = PurePosixPath(directory).name if directory else name
    return _checked(Template(name, source, folder, snapshot.digest(folder), directory, True), checkout)


def _checked(template: Template, checkout: str | None) -> Template:
    """The template, if it is one, no link in it leads out, and it is the requested state."""
    if _is_digest(checkout) and checkout != template.pin:
        raise UsageError(
            f"{template.source} has changed: it is no longer {checkout}",
            hint=f"its state is now {template.pin}",
        )
    snapshot.check_links(template.folder, "template")  # before anything is read
    render.variables(template.folder, template.source)
    return template


def _commit(folder: Path, digest: str, scratch: Path) -> tuple[str, str] | None:
    """The commit with the same content as a folder, and the folder's place in it.

    None if it has changes or isn't in a repository.

    We compare the content: `git status` would run programs that the repository's settings name.
    """
    top = _repository(folder)
    if top is None:
        return None
    try:
        commit = git.fetch(_local(top), None, scratch / "head", str(folder.relative_to(top)))
        committed = _inside(scratch / "head", str(folder.relative_to(top)))
        same = snapshot.digest(committed) == digest
    except ScaffoldError:  # no git, another user's repository, or no commit
        return None
    return (commit, _place(committed, scratch / "head")) if same else None


def _place(folder: Path, top: Path) -> str:
    """A folder's place below `top`, without links; "" for `top` itself."""
    place = folder.resolve().relative_to(top.resolve()).as_posix()
    return "" if place == "." else place


def _repository(folder: Path) -> Path | None:
    """The top of the git work tree around a folder."""
    return next((each for each in (folder, *folder.parents) if (each / ".git").exists()), None)


def _local(top: Path) -> git.Address:
    return git.Address(f"file://{quote(str(top))}")


def _is_digest(checkout: str | None) -> bool:
    return bool(checkout and checkout.startswith("sha256:"))


def _check_inside(directory: str | None) -> None:
    if directory and (PurePosixPath(directory).is_absolute() or ".." in PurePosixPath(directory).parts):
        raise UsageError(f"--directory {directory} leaves the template's source")


def _inside(top: Path, directory: str | None) -> Path:
    """A folder below `top`; no link on the way may lead out."""
    folder = top / (directory or "")
    if not folder.is_dir():
        raise UsageError(f"there is no folder {directory} in the template's source")
    if not folder.resolve().is_relative_to(top.resolve()):
        raise UsageError(f"--directory {directory} leaves the template's source")
    return folder


def _expanded(template: str) -> str:
    """The address with cookiecutter's abbreviations expanded: gh:owner/name, gl: and bb:."""
    prefix, colon, rest = template.partition(":")
    if not colon or prefix not in ("gh", "gl", "bb"):
        return template
    from cookiecutter.config import BUILTIN_ABBREVIATIONS

    return str(BUILTIN_ABBREVIATIONS[prefix].format(rest))
