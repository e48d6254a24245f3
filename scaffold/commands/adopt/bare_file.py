"""A plugin's source without a crate, such as one that Bazel builds: it gets one, and becomes a project."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import replace
from pathlib import Path, PurePosixPath

from scaffold.commands import new as templating
from scaffold.commands.adopt import compile_check, used_crates
from scaffold.commands.adopt.adoption import Adoption, adopt_crate
from scaffold.commands.adopt.build_files import is_of_build
from scaffold.core import files, foreign_files, git, process
from scaffold.core.events import Noted, Warned, emit
from scaffold.errors import ProjectError, ToolFailed, UsageError
from scaffold.project import rust_text
from scaffold.project.cargo_toml import FILE, NAME
from scaffold.project.crate import TRIPLES
from scaffold.project.templates import sdk_source
from scaffold.project.templates import workspace_member as members
from scaffold.project.templates.sdk_dependency import SDK
from scaffold.project.workspace import Workspace
from scaffold.toolchain.find import find
from scaffold.toolchain.options import BuildOptions

_MANIFEST = """\
[package]
name = {name}
version = "0.1.0"
edition = "2021"
publish = false

[lib]
crate-type = ["cdylib"]

[dependencies]
"""
_KNOWN = {"log": "0.4", NAME: SDK}
_UNNAMING = ("lib", "main", "mod")  # files that are named after their role
_LARGEST = 1_000_000  # bytes of a file beside the source
_MODULE = re.compile(r"\bmod\s+(\w+)\s*;")
_SRC = PurePosixPath("src")
_AUTHOR = ("-c", "user.name=scaffold", "-c", "user.email=scaffold", "-c", "commit.gpgSign=false")


def adopt(file: Path, *, dry_run: bool, no_check: bool, build: BuildOptions) -> Adoption:
    """Make a crate of a Rust file, in a folder of its name below the current one, and adopt that.

    The crate is made in a repository of our own, beside copies of the build files around the source.
    """
    _check(file)
    stem = file.stem if file.stem not in _UNNAMING else file.resolve().parent.name
    name = templating.valid_name(stem)
    target = Path(name)
    if target.exists() or target.is_symlink():
        raise UsageError(f"{target} already exists", hint="move it away, or change to another folder")
    with files.scratch() as folder:
        _copy_around(file, folder)
        _commit(folder)
        root = folder / name
        sources = {_SRC / "lib.rs": _read(file), **dict(_modules(file, file.parent))}
        for path, text in sources.items():
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).write_text(text, encoding="utf-8", newline="")
        _write_manifest(root, list(sources.values()), no_check=no_check, build=build)
        _commit(folder)
        try:
            made = adopt_crate(
                root,
                title=f"Making a crate of {file}",
                dry_run=False,
                no_check=no_check,
                build=build,
                is_new=True,
            )
        except ProjectError as error:  # which names lines
            message = error.message.replace(f"{name}/{_SRC}/lib.rs", str(file))
            raise ProjectError(message, hint=error.hint) from error
        if dry_run:
            made = replace(made, written=False, diff=_diff(folder, name))
        else:
            _place(root, target)
            emit(Noted(f"{file} stays as it is: {target / 'src/lib.rs'} is a copy"))
        return replace(made, changed=tuple(f"{name}/{path}" for path in _paths(root)))


def _paths(root: Path) -> list[str]:
    return sorted(path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file())


def _diff(folder: Path, name: str) -> str:
    """What has come into a folder of our repository since its first commit, as a patch."""
    git.run("add", "--all", "--force", name, cwd=folder, env=git.NO_SETTINGS)
    words = ("diff", "--no-color", "--cached", "HEAD~1", "--", name)
    return git.run(*words, cwd=folder, env=git.NO_SETTINGS).stdout


def _check(file: Path) -> None:
    """Raise `UsageError` or `ProjectError` unless the file is a plugin's source that has no crate."""
    if file.is_dir():
        raise UsageError(f"{file} is a folder", hint=f"`scaffold adopt --root {file}` adopts a crate")
    if not file.exists():
        raise UsageError(f"there is no file {file}", hint="pass a plugin's source, or --root with its crate")
    text = rust_text.code(_read(file))
    if file.suffix != ".rs" or not re.search(r"\bproxy_wasm\b", text):
        raise ProjectError(f"{file} isn't a plugin's source: it doesn't use proxy_wasm in Rust")
    for folder in file.resolve().parents:
        if (folder / FILE).is_file():
            if (folder / "src") in file.resolve().parents:
                raise UsageError(f"{file} has a crate already", hint=f"`scaffold adopt --root {folder}`")
            return


def _read(file: Path) -> str:
    try:
        return foreign_files.read_text(file)
    except (OSError, UnicodeDecodeError) as error:
        raise ProjectError(f"cannot read {file}: {getattr(error, 'strerror', None) or error}") from error


def _modules(file: Path, folder: Path, at: PurePosixPath = _SRC) -> Iterator[tuple[PurePosixPath, str]]:
    """The files of the modules that a file declares: their paths in the crate, and their texts."""
    for name in _MODULE.findall(rust_text.code(_read(file))):
        for place in (f"{name}.rs", f"{name}/mod.rs"):
            if (folder / place).is_file():
                yield at / place, _read(folder / place)
                yield from _modules(folder / place, folder / name, at / name)


def _write_manifest(root: Path, texts: Sequence[str], *, no_check: bool, build: BuildOptions) -> None:
    """Write a Cargo.toml for the sources; cargo finds the versions of crates that we don't know."""
    crates = used_crates.find(texts)
    plain = {each.replace("_", "-") for each in crates} | {NAME}
    versions = _KNOWN | ({NAME: "0.1"} if sdk_source.is_of_0_1(texts) else {})
    known = {name: version for name, version in versions.items() if name in plain}
    others = [each for each in crates if each.replace("_", "-") not in known]
    lines = [f'{name} = "{version}"\n' for name, version in known.items()]
    if others and no_check:
        emit(Warned(f"choose versions of {', '.join(others)} in Cargo.toml: they are the newest for now"))
        lines += [f'{name} = "*"\n' for name in others]
    (root / FILE).write_text(_MANIFEST.format(name=json.dumps(root.name)) + "".join(lines))
    if others and not no_check:
        tools = find(TRIPLES[0], root=root, rustc=build.rustc, yes=build.yes)
        for name in others:
            derive = ["--features", "derive"] if name == "serde" else []
            if process.show([tools.cargo, "add", "--quiet", name, *derive], cwd=root):
                raise ToolFailed(
                    f"cargo can't add the crate `{name}`, which the source uses",
                    hint="`scaffold adopt --no-check` leaves the dependencies to you",
                )
        (root / compile_check.LOCK).unlink(missing_ok=True)


def _copy_around(file: Path, folder: Path) -> None:
    """Copy the files that say how the source is built and run: beside it, and above it in its repository."""
    parents = file.resolve().parents
    top = next((place for place, each in enumerate(parents) if (each / ".git").exists()), 0)
    for above in parents[: top + 1]:
        for path in [*_files_in(above), *_files_in(above / ".cargo")]:
            copy = folder / path.relative_to(above)
            if (
                is_of_build(path.relative_to(above).as_posix())
                and not path.is_symlink()
                and not copy.exists()
            ):
                with suppress(OSError, UnicodeDecodeError):
                    text = foreign_files.read_text(path, _LARGEST)
                    copy.parent.mkdir(exist_ok=True)
                    copy.write_text(text, encoding="utf-8", newline="")


def _files_in(folder: Path) -> list[Path]:
    with suppress(OSError):
        return sorted(folder.iterdir())
    return []


def _commit(folder: Path) -> None:
    """Commit everything in the repository in a folder, which is made if there is none."""
    for words in (
        ["init", "--quiet"],
        ["add", "--all", "--force"],
        [*_AUTHOR, "commit", "--quiet", "--allow-empty", "-m", "as it was"],
    ):
        ran = git.run(*words, cwd=folder, env=git.NO_SETTINGS)
        if ran.code:
            git.check_disk(ran.stderr, folder)
            raise ToolFailed(f"git failed: {ran.stderr.strip()}")


def _place(made: Path, target: Path) -> None:
    """Put the crate where it belongs; in a workspace it becomes a member."""
    workspace = Workspace.of(target)
    try:
        with files.tree(target) as folder:
            shutil.copytree(made, folder, dirs_exist_ok=True)
            profiles = members.fit(folder) if workspace else []
    except FileExistsError as error:
        raise UsageError(f"{target} already exists", hint="move it away") from error
    if workspace and members.join(workspace.root, target, profiles):
        emit(Noted(f"{target.name} is a member of the workspace in {workspace.root}"))
