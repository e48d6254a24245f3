"""A plugin's crate that becomes a project: its files with the renames applied, and those that it lacks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from scaffold.commands.adopt import build_files
from scaffold.commands.adopt.committed import Committed
from scaffold.core.events import Warned, emit
from scaffold.errors import ProjectError
from scaffold.oci.plugin_info import RUNTIME_CONFIG_NAME, read_runtime_config
from scaffold.project import misplaced_plugin
from scaffold.project.cargo_toml import FILE, NAME, makes_cdylib, parse_manifest
from scaffold.project.crate import TRIPLES
from scaffold.project.templates.sdk_dependency import SDK
from scaffold.project.templates.sdk_renames import CONCERNED, migrate
from scaffold.project.templates.source import bundled
from scaffold.project.workspace import Workspace

_COMMON = ("Makefile", "pytest.ini", "tasks.py")  # identical in every template
_ALTERNATIVES = {  # files that a file of ours would hide
    "Makefile": ("makefile", "GNUmakefile"),
    "pytest.ini": ("pyproject.toml", "setup.cfg", "tox.ini"),
}
_IGNORED = ("/target", "__pycache__/", ".pytest_cache/")
_TEST = '''\
"""What the plugin does to real requests in a real host; run with `scaffold test`."""

from scaffold.pytest_plugin import Proxy


def test_a_request_is_answered(proxy: Proxy):
    exchange = proxy.get("/")
    assert exchange.status < 500
'''
# like every template: a small module, because Envoy compiles all of it before the first request
_PROFILE = {"opt-level": "z", "lto": True, "codegen-units": 1, "panic": "abort", "strip": True}
_RUST_TEST = re.compile(r"#\[(?:cfg\()?test\b")
_STREAM_CONTEXT = re.compile(r"\bset_stream_context\b|\bContextType::StreamContext\b")
_HTTP_CONTEXT = re.compile(r"\bset_http_context\b|\bContextType::HttpContext\b")


def with_settings(text: str, settings: Mapping[str, str], *, profile: bool) -> str:
    """Add what a Cargo.toml lacks: our settings and, with `profile`, a release profile for small modules."""
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


def no_package(path: Path) -> ProjectError:
    """The error for the Cargo.toml of a workspace alone."""
    return ProjectError(f"no [package] in {path}", hint="pass --root a plugin's crate, not a workspace")


class Crate:
    """The committed files of the crate in `root`, with the renames applied."""

    def __init__(self, root: Path, committed: Committed) -> None:
        self._root, self._committed = root, committed
        path = root / FILE
        texts = committed.scratch.mentioning(committed.repository.tree, f"{CONCERNED}|{TRIPLES[1]}")
        migrated = migrate(texts, committed.entries.keys(), crate=committed.folder)
        self._migrated, self.notes, self.moved = migrated.contents, migrated.notes, migrated.moved
        self._texts = texts | dict(migrated.contents)
        if committed.is_link(committed.path(FILE)):
            raise ProjectError(
                f"{path} is a link, and adopt changes no file elsewhere", hint="move the file here"
            )
        if committed.path(FILE) not in self._texts:
            raise ProjectError(
                f"{path} doesn't depend on proxy-wasm, or isn't committed",
                hint="pass --root a plugin's crate, and commit it",
            )
        self._manifest = parse_manifest(self._texts[committed.path(FILE)], path)
        self._check(path)
        self.name = str(self._manifest["package"].get("name"))
        if migrated.stuck:
            lines = "".join(f"\n  {line}" for line in migrated.stuck)
            raise ProjectError(
                f"{self.name} can't move from proxy-wasm 0.1 to {SDK} before these lines change:{lines}",
                hint="change them, commit, and run `scaffold adopt` again; nothing was written",
            )
        self.triple = self._triple()
        build_files.check_pin(committed, self.triple)

    def adopted(self) -> dict[str, str]:
        """The added and changed files: path in the repository -> content."""
        manifest = self._texts[self._committed.path(FILE)]
        contents = {FILE: with_settings(manifest, self._settings(), profile=not self._is_member())}
        common = bundled()["http"] / "{{cookiecutter.name}}"
        for name in _COMMON:
            if not self._committed.own & {name, *_ALTERNATIVES.get(name, ())}:
                contents[name] = (common / name).read_text().replace(TRIPLES[0], self.triple)
        if not any(PurePosixPath(path).match("test_*.py") for path in self._committed.own):
            if "tests" in self._committed.own:  # a file, a link or a submodule
                emit(Warned("tests isn't a folder of the crate's own, so no first test was added"))
            else:
                contents["tests/test_plugin.py"] = _TEST
        contents |= self._ignoring()
        return {**self._migrated, **{self._committed.path(name): text for name, text in contents.items()}}

    @property
    def tested(self) -> frozenset[str]:
        """The folders of the crates whose Rust tests may be affected by the changes."""
        crates = {*self.moved, self._committed.folder}
        changed = [path for path in self._migrated if _RUST_TEST.search(self._texts[path])]
        return frozenset(each for each in crates for path in changed if path.startswith(each))

    def _ignoring(self) -> dict[str, str]:
        """The .gitignore with what it lacks, if it lacks anything."""
        ignored = self._read(".gitignore")
        names = {line.strip().strip("/") for line in ignored.splitlines()}
        missing = [line for line in _IGNORED if line.strip("/") not in names]
        strange = "is a link" if self._is_link(".gitignore") else "isn't UTF-8" if "\ufffd" in ignored else ""
        if missing and strange:
            emit(Warned(f".gitignore {strange} and wasn't changed; add {', '.join(missing)} to it"))
        elif missing:
            end = "\n" if ignored and not ignored.endswith("\n") else ""
            return {".gitignore": ignored + end + "".join(f"{line}\n" for line in missing)}
        return {}

    def _check(self, path: Path) -> None:
        """Raise `ProjectError` unless the manifest is a crate's that compiles to a wasm module."""
        if not isinstance(self._manifest.get("package"), dict):
            raise no_package(path)
        if not makes_cdylib(self._manifest):
            hint = misplaced_plugin.hint(path.parent, self._manifest)
            raise ProjectError(f"{path} doesn't build a cdylib, the crate type of wasm modules", hint=hint)

    def _settings(self) -> dict[str, str]:
        return {"type": self._type(), "root-id": self._root_id(), "triple": self.triple}

    @property
    def _own_texts(self) -> dict[str, str]:
        return {path: text for path, text in self._texts.items() if path.startswith(self._committed.prefix)}

    def _type(self) -> str:
        sources = [text for path, text in self._own_texts.items() if path.endswith(".rs")]
        requests = any(_HTTP_CONTEXT.search(text) for text in sources)
        connections = any(_STREAM_CONTEXT.search(text) for text in sources)
        if requests and connections:
            emit(Warned("the plugin has HTTP contexts and stream contexts; its `type` is set to http"))
        return "http" if requests else "network" if connections else "service"

    def _root_id(self) -> str:
        """The root id in wasme's runtime-config.json, or else the crate's name, as in our templates."""
        if RUNTIME_CONFIG_NAME not in self._committed.own:
            return self.name
        if self._is_link(RUNTIME_CONFIG_NAME):
            emit(Warned("runtime-config.json is a link and wasn't read; `root-id` is the crate's name"))
            return self.name
        ids, _ = read_runtime_config(self._read(RUNTIME_CONFIG_NAME).encode())
        if len(ids) > 1:
            emit(Warned(f"runtime-config.json has the root ids {', '.join(ids)}; `root-id` is the first"))
        return ids[0] if ids else self.name

    def _triple(self) -> str:
        """The triple that the crate's build files name; wasip1 if they name both or none."""
        build = [text for path, text in self._own_texts.items() if not path.endswith((".rs", ".lock"))]
        named = [triple for triple in TRIPLES if any(triple in text for text in build)]
        return named[0] if named else TRIPLES[0]

    def _is_member(self) -> bool:
        """Whether the crate is in a workspace: cargo reads profiles only in the workspace's manifest."""
        workspace = Workspace.of(self._root)
        return workspace is not None and workspace.root != self._root

    def _is_link(self, name: str) -> bool:
        return self._committed.is_link(self._committed.path(name))

    def _read(self, name: str) -> str:
        return self._committed.read(self._committed.path(name))
