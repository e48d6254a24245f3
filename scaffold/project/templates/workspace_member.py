"""Make a new crate a member of a cargo workspace: some parts of its manifest move to the workspace's."""

from __future__ import annotations

import re
import shutil
import tomllib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from scaffold.core import files, foreign_files, locks, process
from scaffold.errors import ProjectError
from scaffold.project.cargo_toml import FILE, parse_manifest, table
from scaffold.project.workspace import Workspace

_HEADER = re.compile(r"\s*\[.*\]\s*(#.*)?")


def fit(made: Path) -> list[str]:
    """Take the profiles out of the crate in `made`: cargo reads them only at a workspace's root.

    Returns them unchanged, with the comments above them.
    """
    path = made / FILE
    text = foreign_files.read_text(path).replace("\r\n", "\n")
    sections = _sections(text)
    profiles = [section for section in sections if _tables(section).keys() == {"profile"}]
    rest = "".join(section for section in sections if section not in profiles).rstrip("\n") + "\n"
    wanted = {key: value for key, value in parse_manifest(text, path).items() if key != "profile"}
    own_root = "workspace" in wanted
    if own_root or not profiles or _tables(rest) != wanted:  # then cargo warns of what it ignores
        return []
    files.write(path, rest)
    return profiles


def join(root: Path, folder: Path, profiles: Sequence[str]) -> bool:
    """Make the new crate in `folder` a member of the workspace in `root`, or remove it again.

    The workspace's Cargo.toml lists it, unless a glob matches it, and gets the `profiles` that it lacks; the
    rest stays unchanged. Returns False if the crate is a workspace of its own.
    """
    if Workspace.at(folder):
        return False
    place = files.state_dir() / "workspaces" / f"{files.short_id(root)}.lock"
    joined = False
    try:
        with locks.lock(place, doing="changing this workspace"), process.uninterrupted():
            _add(root, folder.resolve(), profiles)
            joined = True
    except BaseException:
        if not joined:
            shutil.rmtree(folder, ignore_errors=True)
        raise
    return True


def _add(root: Path, folder: Path, profiles: Sequence[str]) -> None:
    path = root / FILE
    workspace = Workspace.at(root)
    if workspace is None:
        raise ProjectError(f"{path} is no longer a workspace's")
    before = text = foreign_files.read_text(path, encoding="utf-8-sig")
    if folder not in workspace.members():
        text = _with_member(text, folder.relative_to(root).as_posix(), path)
    own = table(workspace.manifest, "profile")
    missing = [section for section in profiles if not own.keys() & _tables(section)["profile"].keys()]
    if missing:
        text = text.rstrip("\n") + "\n\n" + "".join(missing).rstrip("\n") + "\n"
    if "\r\n" in before:
        text = text.replace("\r\n", "\n").replace("\n", "\r\n")
    if text != before:
        files.write(path.resolve(), text, mode=path.stat().st_mode & 0o777)


def _with_member(text: str, name: str, path: Path) -> str:
    """The manifest `path` with another member. Raises `ProjectError` when tomlkit's result isn't TOML.

    That happens with a list whose last entry is followed by a comment, but no comma.
    """
    import tomlkit

    document: Any = tomlkit.parse(text)
    workspace = document["workspace"]
    workspace["members"] = workspace.get("members", tomlkit.array())
    if isinstance(workspace["members"], list):
        workspace["members"].append(name)
    written = tomlkit.dumps(document)
    listed = _tables(written).get("workspace", {}).get("members")
    if not isinstance(listed, list) or listed[-1:] != [name]:
        hint = f'add "{name}" by hand, or reformat that list'
        raise ProjectError(f"cannot add to `members` of {path}", hint=hint)
    return written


def _sections(text: str) -> list[str]:
    """A manifest split before each header and the comments directly above it."""
    sections: list[list[str]] = [[]]
    for line in text.splitlines(keepends=True):
        if _HEADER.fullmatch(line):
            above = sections[-1]
            begin = len(above)
            while begin and above[begin - 1].startswith("#"):
                begin -= 1
            sections[-1], comments = above[:begin], above[begin:]
            sections.append(comments)
        sections[-1].append(line)
    return ["".join(lines) for lines in sections]


def _tables(section: str) -> dict[str, Any]:
    """The tables in a part of a manifest; none if the split went through a value."""
    try:
        return tomllib.loads(section)
    except ValueError:
        return {}
