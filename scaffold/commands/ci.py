"""CI workflows: what makes a provider build, test, package and publish a project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scaffold import __version__
from scaffold.core import files
from scaffold.core.events import Warned, emit
from scaffold.errors import ProjectError, choose
from scaffold.project.model import Project
from scaffold.project.templates import releases
from scaffold.project.templates import render as rendering


@dataclass(frozen=True)
class Workflow:
    """The files of a provider's workflow that were written, and those that were the same already."""

    provider: str
    written: tuple[Path, ...]
    unchanged: tuple[Path, ...]

    def summary(self) -> str:
        """A line for each file."""
        lines = [f"{path}" for path in self.written]
        return "\n".join([*lines, *(f"{path} is up to date" for path in self.unchanged)])


def ci(provider: str, root: Path = Path(), *, force: bool = False) -> Workflow:
    """Write the workflow of a CI provider into the project in `root`.

    It installs the scaffold that wrote it. Raises `ProjectError`, and writes nothing, when a file that
    isn't the same is there, unless `force`; `UsageError` for a provider that there isn't.
    """
    choose("CI provider", provider, providers())
    root = Project.load(root).root
    contents = {root / path: content for path, content in render(provider).items()}
    there = {path: _read(path) for path in contents}
    written = [path for path, content in contents.items() if there[path] != content]
    for path in written:
        if there[path] is not None and not force:
            raise ProjectError(
                f"{path} is there already, and differs",
                hint="`--force` writes over it; `git diff` shows then what has changed",
            )
    _warn_below_repository(root)
    for path in written:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, contents[path])
    return Workflow(provider, tuple(written), tuple(path for path in contents if path not in written))


def providers() -> Mapping[str, Path]:
    """The CI providers whose workflows come with us: name -> the template's folder."""
    return rendering.bundled("ci")


def render(provider: str, **variables: str) -> dict[Path, bytes]:
    """A provider's workflow: path -> content. `variables` are the template's, over ours."""
    with files.scratch() as folder:
        render_into(folder, provider, **variables)
        return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def render_into(folder: Path, provider: str, *, version: str = __version__, **variables: str) -> None:
    """Render a provider's workflow into a folder that is there, as that `version` of ours has it."""
    template = choose("CI provider", provider, releases.templates("ci", version))
    ours = {"requirement": f"proxy-wasm-scaffold=={version}"}
    rendering.render(template, rendering.variables(template) | ours | variables, folder)


def _read(path: Path) -> bytes | None:
    try:
        return path.read_bytes()
    except FileNotFoundError:
        return None
    except OSError as error:  # a folder in its place, a file in its folder's
        raise ProjectError(f"the workflow can't go to {path}: {error.strerror}") from error


def _warn_below_repository(root: Path) -> None:
    """Providers read workflows at the top of a repository only."""
    top = next((folder for folder in (root, *root.parents) if (folder / ".git").exists()), root)
    if top != root:
        emit(Warned(f"move the workflow to {top}, where CI looks for it, and let its lines run in {root}"))
