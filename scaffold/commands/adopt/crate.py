"""A plugin's crate that becomes a project: its files with the renames applied, and those that it lacks."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import Any

from scaffold.commands.adopt import build_files, envoy_files, first_test
from scaffold.commands.adopt.committed import Committed
from scaffold.commands.adopt.envoy_files import Known
from scaffold.core.events import Warned, emit
from scaffold.errors import ProjectError
from scaffold.oci.plugin_info import RUNTIME_CONFIG_NAME, read_runtime_config
from scaffold.project import cdylib_hint
from scaffold.project.cargo_toml import FILE, NAME, makes_cdylib, parse_manifest, table
from scaffold.project.crate import TRIPLES
from scaffold.project.source_warnings import contexts
from scaffold.project.templates.crates_of_sdk import Crates
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
# like every template: a small module, because Envoy compiles all of it before the first request
_PROFILE = {"opt-level": "z", "lto": True, "codegen-units": 1, "panic": "abort", "strip": True}
_RUST_TEST = re.compile(r"#\[(?:cfg\()?test\b")
_NO_CONTEXTS = (
    "{path} runs the plugin as a filter, but its code makes no context for one, so requests and connections"
    ' will fail; `type = "service"` in Cargo.toml runs it beside them'
)


def with_settings(text: str, settings: Mapping[str, Any], *, profile: bool) -> str:
    """Add what a Cargo.toml lacks: our settings and, with `profile`, a release profile for small modules."""
    import tomlkit

    manifest = tomlkit.parse(text.removeprefix("\ufeff"))
    package: Any = manifest["package"]
    metadata = package.setdefault("metadata", tomlkit.table(is_super_table=True))
    if NAME not in metadata:
        ours = tomlkit.table()
        for key, value in settings.items():
            inline = tomlkit.inline_table()
            inline.update(value if isinstance(value, dict) else {})
            ours.add(key, inline if isinstance(value, dict) else value)
        ours.add(tomlkit.nl())
        metadata[NAME] = ours
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


def _type_of(found: list[str], *, warn: bool = False) -> str:
    """The type of a plugin that makes contexts of these types, where nothing else says it."""
    if warn and len(found) > 1:
        emit(Warned("the plugin has HTTP contexts and stream contexts; its `type` is set to http"))
    return found[0] if found else "service"


class Crate:
    """The committed files of the crate in `root`, with the renames applied."""

    def __init__(self, root: Path, committed: Committed) -> None:
        self._root, self._committed = root, committed
        path = root / FILE
        pattern = "|".join((CONCERNED, *TRIPLES, envoy_files.MENTIONED))
        texts = committed.scratch.mentioning(committed.repository.tree, pattern)
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
        self.triple = build_files.triple(committed, self._texts)
        self._users = Crates(self._texts, committed.entries.keys())
        self._in_envoy = Known() if self._has_settings else self._find_in_envoy()
        in_code = contexts(self._sources())
        self._type = self._in_envoy.slot.kind or _type_of(in_code, warn=True)
        self._lacks_contexts = not in_code and self._type != "service"
        if self._lacks_contexts:
            emit(Warned(_NO_CONTEXTS.format(path=committed.from_crate(self._in_envoy.path))))
        build_files.check_pin(committed, self.triple)
        for sentence in build_files.old_rusts(committed, self._texts):
            emit(Warned(sentence))

    def adopted(self) -> dict[str, str]:
        """The added and changed files: path in the repository -> content."""
        settings, contents = self._settings()
        manifest = self._texts[self._committed.path(FILE)]
        contents[FILE] = with_settings(manifest, settings, profile=not self._is_member())
        common = bundled()["http"] / "{{cookiecutter.name}}"
        for name in _COMMON:
            if not self._committed.own & {name, *_ALTERNATIVES.get(name, ())}:
                contents[name] = (common / name).read_text().replace(TRIPLES[0], self.triple)
        contents |= self._tests() | self._ignoring()
        return {**self._migrated, **{self._committed.path(name): text for name, text in contents.items()}}

    def _tests(self) -> dict[str, str]:
        """A first test, if there is none."""
        if any(PurePosixPath(path).match("test_*.py") for path in self._committed.own):
            return {}
        if "tests" in self._committed.own:  # a file, a link or a submodule
            emit(Warned("tests isn't a folder of the crate's own, so no first test was added"))
            return {}
        kind = "" if self._lacks_contexts else self._type
        return {"tests/test_plugin.py": first_test.text(kind, self._sources())}

    @property
    def tested(self) -> frozenset[str]:
        """The folders of the crates whose Rust tests may be affected by the changes."""
        crates = {*self.moved, self._committed.folder}
        changed = [path for path in self._migrated if _RUST_TEST.search(self._texts[path])]
        return frozenset(owner for path in changed if (owner := self._users.owner(path)) in crates)

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
            hint = cdylib_hint.hint(path.parent, self._manifest)
            raise ProjectError(f"{path} doesn't build a cdylib, the crate type of wasm modules", hint=hint)

    def _settings(self) -> tuple[dict[str, Any], dict[str, str]]:
        """The settings, and the files that they name; none if Cargo.toml has settings."""
        if self._has_settings:
            return {}, {}
        found = envoy_files.settings(self._in_envoy, self._committed)
        root_id = self._root_id(self._in_envoy.slot.root_id)
        values: dict[str, Any] = {"type": self._type, "root-id": root_id, "triple": self.triple}
        if self._lacks_contexts:
            values["probe"] = False
        return values | dict(found.values), dict(found.files)

    @property
    def _has_settings(self) -> bool:
        return NAME in table(table(self._manifest, "package"), "metadata")

    def _find_in_envoy(self) -> Known:
        lib = table(self._manifest, "lib").get("name")
        names = [self.name, *([lib] if isinstance(lib, str) else [])]
        alone = len(self._users.all) == 1
        kind = _type_of(contexts(self._sources()))
        return envoy_files.read(self._committed, self._texts, names, kind, alone=alone)

    def _sources(self) -> list[str]:
        """The code of the crate; if it has no contexts itself, also that of the crates it depends on."""
        folder = self._committed.folder
        paths = [path for path in self._texts if path.endswith(".rs")]
        own = [self._texts[path] for path in paths if self._users.owner(path) == folder]
        if contexts(own):
            return own
        group = {each.folder: each for each in self._users.connected(folder)}
        neighbours = group[folder].neighbours & group.keys() if folder in group else ()
        return own + [self._texts[path] for each in neighbours for path in group[each].sources]

    def _root_id(self, in_envoy: str | None) -> str:
        """The root id in wasme's runtime-config.json, or in Envoy's files, or else the crate's name."""
        other = self.name if in_envoy is None else in_envoy
        if RUNTIME_CONFIG_NAME not in self._committed.own:
            return other
        if self._is_link(RUNTIME_CONFIG_NAME):
            emit(Warned("runtime-config.json is a link and wasn't read; `root-id` is the crate's name"))
            return other
        ids, _ = read_runtime_config(self._read(RUNTIME_CONFIG_NAME).encode())
        if len(ids) > 1:
            emit(Warned(f"runtime-config.json has the root ids {', '.join(ids)}; `root-id` is the first"))
        elif ids and in_envoy not in (None, ids[0]):
            emit(Warned(f"runtime-config.json and Envoy's files disagree; `root-id` is {ids[0]}"))
        return ids[0] if ids else other

    def _is_member(self) -> bool:
        """Whether the crate is in a workspace: cargo reads profiles only in the workspace's manifest."""
        workspace = Workspace.of(self._root)
        return workspace is not None and workspace.root != self._root

    def _is_link(self, name: str) -> bool:
        return self._committed.is_link(self._committed.path(name))

    def _read(self, name: str) -> str:
        return self._committed.read(self._committed.path(name))
