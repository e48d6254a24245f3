"""Filters' crates that scaffold didn't make, such as the SDK's examples and wasme's, made its projects."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

from scaffold.core.events import Noted, Warned, emit, step
from scaffold.errors import ProjectError
from scaffold.oci.plugin_info import read_runtime_config
from scaffold.project.manifest import FILE, NAME, locate, makes_cdylib, parse_manifest, read_manifest
from scaffold.project.model import TRIPLES
from scaffold.project.templates.merge import Scratch, Worktree, scratch
from scaffold.project.templates.migrate import CONCERNED, migrate
from scaffold.project.templates.source import bundled
from scaffold.project.workspace import Workspace

_COMMON = ("Makefile", "pytest.ini", "tasks.py")  # every template has these, letter for letter
_INSTEAD = {
    "Makefile": ("makefile", "GNUmakefile"),
    "pytest.ini": ("pyproject.toml", "setup.cfg", "tox.ini"),  # which it would hide
}
_IGNORED = ("/target", "__pycache__/", ".pytest_cache/")
_TEST = '''\
"""What the plugin does to real requests in a real host; run with `scaffold test`."""

from scaffold.pytest_plugin import Proxy


def test_a_request_is_answered(proxy: Proxy):
    exchange = proxy.get("/")
    assert exchange.status < 500
'''
# as every template has it: small, since Envoy compiles the whole module before the first request
_PROFILE = {"opt-level": "z", "lto": True, "codegen-units": 1, "panic": "abort", "strip": True}
_OF_CONNECTIONS = re.compile(r"\bset_stream_context\b|\bContextType::StreamContext\b")
_OF_REQUESTS = re.compile(r"\bset_http_context\b|\bContextType::HttpContext\b")


@dataclass(frozen=True)
class Adoption:
    """The files of a crate that were added or changed; `diff` is the patch, where nothing was `written`."""

    name: str
    changed: tuple[str, ...]
    written: bool
    diff: str

    def summary(self) -> str:
        """A line for each file, or the patch."""
        if not self.changed:
            return f"{self.name} has all it needs"
        return self.diff.rstrip("\n") or "\n".join(self.changed)


def adopt(root: Path = Path(), *, dry_run: bool = False) -> Adoption:
    """Make a filter's crate a project: settings, tasks, a first test, and the renames the field went through.

    What is there already stays as it is, those renames aside. With `dry_run` nothing is written.
    Raises `UsageError` when something that isn't committed would be lost, `ProjectError` for a crate that
    makes no plugin.
    """
    root = locate(root).resolve()
    if "package" not in read_manifest(root / FILE) and Workspace.at(root):
        raise _no_package(root / FILE)
    work = Worktree(root)
    with scratch(work) as repository, step(f"Adopting {root}"):
        crate = _Crate(work, repository)
        for note in crate.notes:
            emit(Noted(note))
        after = repository.amended(work.tree, crate.adopted())
        changes = repository.changes(work.tree, after)
        if not dry_run:
            work.apply(changes, repository, last=FILE)
        return Adoption(
            name=crate.name,
            changed=tuple(change.path for change in changes),
            written=not dry_run,
            diff=repository.diff(work.tree, after) if dry_run else "",
        )


def settled(text: str, settings: Mapping[str, str], *, profile: bool) -> str:
    """A manifest with our settings, and with a `profile` that makes modules small, where it has none."""
    import tomlkit

    manifest = tomlkit.parse(text.removeprefix("\ufeff"))
    package: Any = manifest["package"]
    metadata = package.setdefault("metadata", tomlkit.table(is_super_table=True))
    if NAME not in metadata:
        table = tomlkit.table()
        table.update(settings)
        table.add(tomlkit.nl())
        metadata[NAME] = table
    profiles: Any = manifest.get("profile", {})
    if profile and "release" not in profiles:
        if not profiles:
            manifest.add(tomlkit.nl())
            profiles = manifest.setdefault("profile", tomlkit.table(is_super_table=True))
        profiles["release"] = _PROFILE
    return tomlkit.dumps(manifest)


def _no_package(path: Path) -> ProjectError:
    return ProjectError(f"no [package] in {path}", hint="give --root a filter's crate, not a workspace")


class _Crate:
    """A crate as it is committed, its renames done."""

    def __init__(self, work: Worktree, repository: Scratch) -> None:
        self._root, self._repository = work.root, repository
        self._there = repository.entries(work.tree)
        path = work.root / FILE
        texts = repository.mentioning(work.tree, f"{CONCERNED}|{TRIPLES[1]}")
        migrated = migrate(texts)
        self._migrated, self.notes = migrated.contents, migrated.notes
        self._texts = texts | dict(migrated.contents)
        if FILE not in self._texts:
            raise ProjectError(
                f"{path} names no proxy-wasm, or isn't committed", hint="give --root the crate of a filter"
            )
        self._manifest = parse_manifest(self._texts[FILE], path)
        self._check(path)
        self.name = str(self._manifest["package"].get("name"))

    def adopted(self) -> dict[str, str]:
        """The files that are added, or change: path -> content."""
        made = dict(self._migrated) | {
            FILE: settled(self._texts[FILE], self._settings(), profile=not self._is_member())
        }
        common = bundled()["http"] / "{{cookiecutter.name}}"
        for name in _COMMON:
            if not self._there.keys() & {name, *_INSTEAD.get(name, ())}:
                made[name] = (common / name).read_text().replace(TRIPLES[0], self._triple())
        if not any(PurePosixPath(path).match("test_*.py") for path in self._there):
            made["tests/test_plugin.py"] = _TEST
        ignored = self._read(".gitignore")
        names = {line.strip().strip("/") for line in ignored.splitlines()}
        missing = [line for line in _IGNORED if line.strip("/") not in names]
        if missing and "\ufffd" in ignored:
            emit(Warned(f".gitignore isn't UTF-8, and stays as it is; add {', '.join(missing)}"))
        elif missing:
            end = "\n" if ignored and not ignored.endswith("\n") else ""
            made[".gitignore"] = ignored + end + "".join(f"{line}\n" for line in missing)
        return made

    def _check(self, path: Path) -> None:
        """Raise `ProjectError` unless the manifest is of a crate that makes a module with the SDK."""
        if not isinstance(self._manifest.get("package"), dict):
            raise _no_package(path)
        if not makes_cdylib(self._manifest):
            hint = 'add `[lib]` with `crate-type = ["cdylib"]`'
            raise ProjectError(f"{path} does not build a cdylib, which a wasm module is", hint=hint)

    def _settings(self) -> dict[str, str]:
        return {"type": self._type(), "root-id": self._root_id(), "triple": self._triple()}

    def _type(self) -> str:
        sources = [text for path, text in self._texts.items() if path.endswith(".rs")]
        requests = any(_OF_REQUESTS.search(text) for text in sources)
        connections = any(_OF_CONNECTIONS.search(text) for text in sources)
        if requests and connections:
            emit(Warned("it has contexts for requests and for connections; `type` says http"))
        return "http" if requests else "network" if connections else "service"

    def _root_id(self) -> str:
        """The one that wasme was told; else the crate's name, as templates have it."""
        if "runtime-config.json" not in self._there:
            return self.name
        ids, _ = read_runtime_config(self._read("runtime-config.json").encode())
        if len(ids) > 1:
            emit(Warned(f"runtime-config.json has the root ids {', '.join(ids)}; `root-id` says the first"))
        return ids[0] if ids else self.name

    def _triple(self) -> str:
        """What the crate's own files compile to; wasip1 where they name both, or none."""
        build = [text for path, text in self._texts.items() if not path.endswith((".rs", ".lock"))]
        named = [triple for triple in TRIPLES if any(triple in text for text in build)]
        return named[0] if named else TRIPLES[0]

    def _is_member(self) -> bool:
        """Whether the crate is in a workspace, whose own manifest alone has profiles."""
        workspace = Workspace.of(self._root)
        return workspace is not None and workspace.root != self._root

    def _read(self, path: str) -> str:
        entry = self._there.get(path)
        return self._repository.text(entry.name) if entry else ""
