"""`ci`: write a workflow with which a CI provider builds, tests, packages and publishes a project."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from scaffold import __version__
from scaffold.core import files, foreign_files
from scaffold.core.events import Warned, emit
from scaffold.errors import ProjectError, choose
from scaffold.project.crate import Project
from scaffold.project.templates import render as rendering
from scaffold.project.templates import scaffold_releases


@dataclass(frozen=True)
class Workflow:
    """The files of a provider's workflow that were written, and those that were already up to date."""

    provider: str
    written: tuple[Path, ...]
    unchanged: tuple[Path, ...]

    def summary(self) -> str:
        """One line per file."""
        lines = [f"{path}" for path in self.written]
        return "\n".join([*lines, *(f"{path} is up to date" for path in self.unchanged)])


def ci(provider: str, root: Path = Path(), *, force: bool = False) -> Workflow:
    """Write a CI provider's workflow, which installs this version of scaffold, into the project in `root`.

    Raises `ProjectError`, and writes nothing, if an existing file differs, unless `force`; `UsageError` for
    an unknown provider.
    """
    choose("CI provider", provider, providers())
    root = Project.load(root).root
    contents = {root / path: content for path, content in render(provider).items()}
    present = {path: _read(path) for path in contents}
    written = [path for path, content in contents.items() if present[path] != content]
    for path in written:
        if present[path] is not None and not force:
            raise ProjectError(
                f"{path} already exists and differs",
                hint="pass --force to overwrite it, then compare with `git diff`",
            )
    warn_below_repository(root)
    for path in written:
        path.parent.mkdir(parents=True, exist_ok=True)
        files.write(path, contents[path])
    return Workflow(provider, tuple(written), tuple(path for path in contents if path not in written))


def providers() -> Mapping[str, Path]:
    """The bundled CI workflows: provider -> the template's folder."""
    return rendering.bundled("ci")


def render(provider: str, **variables: str) -> dict[Path, bytes]:
    """A provider's workflow: path -> content. `variables` override the template's."""
    with files.scratch() as folder:
        render_into(folder, provider, **variables)
        return {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def render_into(folder: Path, provider: str, *, version: str = __version__, **variables: str) -> None:
    """Render a provider's workflow, as that `version` of scaffold has it, into an existing folder."""
    template = choose("CI provider", provider, scaffold_releases.templates("ci", version))
    ours = {"requirement": f"proxy-wasm-scaffold=={version}"}
    rendering.render(template, rendering.variables(template) | ours | variables, folder)


def _read(path: Path) -> bytes | None:
    try:
        return foreign_files.read_bytes(path)
    except FileNotFoundError:
        return None
    except OSError as error:  # a folder in the file's place, or a file in the folder's
        raise ProjectError(f"cannot write the workflow to {path}: {error.strerror}") from error


def warn_below_repository(root: Path) -> None:
    """Warn if the project isn't at the top of its repository, the only place where CI reads workflows."""
    top = next((folder for folder in (root, *root.parents) if (folder / ".git").exists()), root)
    if top != root:
        emit(Warned(f"move the workflow to {top}, where CI looks for it, and make its steps run in {root}"))
