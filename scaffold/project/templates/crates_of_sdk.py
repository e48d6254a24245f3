"""The crates of a repository that use the SDK: which version of it, and with whom they share it."""

from __future__ import annotations

import posixpath
from collections.abc import Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

from scaffold.project.cargo_toml import FILE, table
from scaffold.project.templates import sdk_dependency as sdk
from scaffold.project.templates import sdk_source
from scaffold.project.templates.sdk_dependency import Dependency

_LOCK = "Cargo.lock"


@dataclass(frozen=True)
class Crate:
    """A crate that depends on the SDK. `folder` is relative to the repository's root, which is "".

    `alias` is the SDK's name in the source. `is_old` and `is_new` say which SDK it is written for; neither
    is true if that isn't known. `stays` is why the SDK can't be moved, or "".
    """

    folder: str
    alias: str
    sources: tuple[str, ...]
    own: tuple[Dependency, ...]
    shared: tuple[tuple[str, Dependency], ...] = ()  # with the manifest of the workspace
    neighbours: frozenset[str] = frozenset()  # crates that it takes from a folder
    is_old: bool = False
    is_new: bool = False
    stays: str = ""


@dataclass(frozen=True)
class Crates:
    """The crates among some text files, path -> content; `paths` are all files."""

    texts: Mapping[str, str]
    paths: Collection[str]

    @cached_property
    def all(self) -> list[Crate]:
        """Those that depend on the SDK."""
        return [crate for folder in self._manifests if (crate := self._crate(folder))]

    def connected(self, folder: str) -> list[Crate]:
        """The crate in a folder, and those that it shares the SDK with; none if it doesn't use it."""
        return next(
            (group for group in self.groups(self.all) if folder in {each.folder for each in group}), []
        )

    def groups(self, crates: Iterable[Crate]) -> Iterator[list[Crate]]:
        """These crates, those together that share the SDK: they inherit it, or one depends on the other."""
        left = {crate.folder: crate for crate in crates}
        while left:
            _, first = left.popitem()
            group = [first]
            for crate in group:
                joined = [each for each in left.values() if _share(crate, each)]
                group += joined
                for each in joined:
                    del left[each.folder]
            yield sorted(group, key=lambda each: each.folder)

    def owner(self, path: str) -> str | None:
        """The folder of the crate, or the workspace, that a file belongs to; None if there is none."""
        return next((folder for folder in _above(posixpath.dirname(path)) if folder in self._folders), None)

    def moved_manifests(self, crates: Iterable[Crate], texts: Mapping[str, str]) -> dict[str, str]:
        """The manifests, with the crates' SDK at today's version."""
        moves: dict[str, list[Dependency]] = {}
        for crate in crates:
            path = _join(crate.folder, FILE)
            moves.setdefault(path, []).extend(crate.own)
            for place, dependency in crate.shared:
                if dependency not in moves.setdefault(place, []):
                    moves[place].append(dependency)
        return {path: sdk.moved(texts[path], those) for path, those in moves.items()}

    @cached_property
    def _folders(self) -> set[str]:
        return {posixpath.dirname(path) for path in self.paths if posixpath.basename(path) == FILE}

    @cached_property
    def _manifests(self) -> dict[str, dict[str, Any]]:
        return {
            posixpath.dirname(path): sdk.parse(text)
            for path, text in self.texts.items()
            if posixpath.basename(path) == FILE
        }

    @cached_property
    def _sources(self) -> dict[str | None, list[str]]:
        sources: dict[str | None, list[str]] = {}
        for path in self.texts:
            if path.endswith(".rs"):
                sources.setdefault(self.owner(path), []).append(path)
        return sources

    def _crate(self, folder: str) -> Crate | None:
        manifest = self._manifests[folder]
        if sdk.is_sdk(str(table(manifest, "package").get("name"))):
            return None  # a copy of the SDK itself
        workspace = self._workspace(folder)
        entries = sdk.shared(self._manifests.get(workspace, {})) if workspace is not None else {}
        own, pairs = [], []
        effective: list[tuple[str, Dependency | None]] = []  # with the folder that its paths begin at
        for each in sdk.dependencies(manifest):
            entry = entries.get(each.key) if each.inherited else each
            if not sdk.is_sdk((entry or each).package):
                continue
            own.append(each)
            effective.append((folder if entry is each else workspace or "", entry))
            if entry and each.inherited:
                pairs.append((_join(workspace or "", FILE), entry))
        if not own:
            return None
        sources = tuple(self._sources.get(folder, ()))
        crate = Crate(
            folder,
            own[0].key.replace("-", "_"),
            sources,
            tuple(own),
            tuple(pairs),
            frozenset(self._neighbours(folder, manifest, workspace, entries)),
        )
        return self._judged(crate, effective)

    def _judged(self, crate: Crate, dependencies: list[tuple[str, Dependency | None]]) -> Crate:
        """The crate, with what its dependencies say of the SDK's version; None is one that nobody knows."""
        ages = {self._age(crate, each, base) for base, each in dependencies}
        reasons = [self._stays(crate.folder, each) for _, each in dependencies]
        return replace(
            crate,
            is_old="old" in ages or ("" in ages and self._is_written_for_0_1(crate)),
            is_new=ages == {"new"},
            stays=next(filter(None, reasons), ""),
        )

    def _age(self, crate: Crate, dependency: Dependency | None, base: str) -> str:
        """Which SDK a dependency brings, "old" (0.1) or "new"; "" if that isn't known."""
        if dependency is None:
            return ""
        ages = sdk.ages(dependency.requirement)
        if "path" in dependency.details:
            version = self._version_in(base, dependency)
        else:
            version = self._locked(crate.folder, dependency)
        if len(ages) == 1:
            return ages.pop()
        if version and ages:
            return "old" if sdk.is_old(version) else "new"
        if dependency.elsewhere or not ages:
            return ""
        return "old" if self._is_written_for_0_1(crate) else "new"

    def _stays(self, folder: str, dependency: Dependency | None) -> str:
        """Why a dependency can't be moved to another version, or ""."""
        if dependency is None:
            return "the workspace that it is inherited from isn't in this repository"
        if dependency.elsewhere:
            return f"it comes from {dependency.elsewhere}"
        return "a [patch] replaces it by another copy" if self._is_patched(folder) else ""

    def _is_written_for_0_1(self, crate: Crate) -> bool:
        return sdk_source.is_of_0_1(self.texts[path] for path in crate.sources)

    def _version_in(self, folder: str, dependency: Dependency) -> str | None:
        """The version of a copy of the SDK in the repository."""
        path = dependency.details.get("path")
        manifest = self._manifests.get(_join(folder, str(path))) if path else None
        version = table(manifest or {}, "package").get("version")
        return version if isinstance(version, str) else None

    def _locked(self, folder: str, dependency: Dependency) -> str | None:
        for above in _above(folder):
            if (text := self.texts.get(_join(above, _LOCK))) is not None:
                return sdk.locked(sdk.parse(text), dependency.requirement)
        return None

    def _is_patched(self, folder: str) -> bool:
        for above in _above(folder):
            if sdk.patched(self._manifests.get(above, {})):
                return True
            names = (f".cargo/config{suffix}" for suffix in ("", ".toml"))
            if any(sdk.patched(sdk.parse(self.texts.get(_join(above, name), ""))) for name in names):
                return True
        return False

    def _workspace(self, folder: str) -> str | None:
        """The folder of a crate's workspace."""
        explicit = table(self._manifests[folder], "package").get("workspace")
        if isinstance(explicit, str):
            return _join(folder, explicit)
        return next(
            (above for above in _above(folder) if "workspace" in self._manifests.get(above, {})), None
        )

    def _neighbours(
        self,
        folder: str,
        manifest: dict[str, Any],
        workspace: str | None,
        entries: Mapping[str, Dependency],
    ) -> Iterator[str]:
        """The folders that a crate's dependencies come from."""
        for each in sdk.dependencies(manifest):
            entry, base = (entries.get(each.key), workspace or "") if each.inherited else (each, folder)
            if entry and isinstance(entry.details.get("path"), str):
                yield _join(base, entry.details["path"])


def _share(one: Crate, other: Crate) -> bool:
    """Whether two crates have to have the same SDK."""
    by_inheritance = {(place, each.key) for place, each in one.shared} & {
        (place, each.key) for place, each in other.shared
    }
    return bool(by_inheritance) or one.folder in other.neighbours or other.folder in one.neighbours


def _join(folder: str, path: str) -> str:
    joined = posixpath.normpath(posixpath.join(folder, path))
    return "" if joined == "." else joined


def _above(folder: str) -> Iterator[str]:
    """A folder, and those above it."""
    while folder:
        yield folder
        folder = posixpath.dirname(folder)
    yield ""
