"""What a Cargo.toml says of the SDK, proxy-wasm: which versions it allows, and moving it from 0.1 to 0.2.

Source: the Cargo book, specifying dependencies and overriding dependencies.
"""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator, Mapping, MutableMapping, Sequence
from dataclasses import dataclass
from typing import Any

from scaffold.project.cargo_toml import NAME, table

SDK = "0.2.5"  # replaces 0.1; the first that links with Rust 1.96
_OLD = tuple((0, 1, patch) for patch in range(5))  # every release before 0.2
_NEW = (*((0, 2, patch) for patch in range(6)), (0, 3, 0))
_KINDS = ("dependencies", "dev-dependencies", "build-dependencies")
_GONE = "wee-alloc"  # a feature that 0.2 doesn't have
_COMPARATOR = re.compile(r"(\^|~|=|>=|<=|>|<)?\s*(\d+)(?:\.(\d+|[*xX]))?(?:\.(\d+|[*xX]))?(?:[-+].*)?")

Version = tuple[int, int, int]


@dataclass(frozen=True)
class Dependency:
    """A dependency: the tables around it, its key, and what it says; `inherited` from the workspace."""

    tables: tuple[str, ...]
    key: str
    details: Mapping[str, Any]

    @property
    def package(self) -> str:
        """The name of the crate."""
        return str(self.details.get("package", self.key))

    @property
    def requirement(self) -> str:
        """The versions that it allows, as cargo writes that."""
        return str(self.details.get("version", "*"))

    @property
    def inherited(self) -> bool:
        """Whether the workspace says what it is."""
        return self.details.get("workspace") is True

    @property
    def elsewhere(self) -> str:
        """Where it comes from if that isn't crates.io: the words for a message."""
        if "git" in self.details:
            return f"git ({self.details['git']})"
        if "path" in self.details:
            return f"the folder {self.details['path']}"
        return f"the registry {self.details['registry']}" if "registry" in self.details else ""


def parse(text: str) -> dict[str, Any]:
    """A manifest or a lock file; empty if it isn't TOML, such as a template's."""
    try:
        return tomllib.loads(text.removeprefix("\ufeff"))
    except (ValueError, RecursionError):
        return {}


def dependencies(manifest: Mapping[str, Any]) -> Iterator[Dependency]:
    """The dependencies of a crate, of every kind and for every target."""
    targets = table(dict(manifest), "target")
    for tables in ((), *(("target", name) for name in targets)):
        parent = table(targets, tables[1]) if tables else dict(manifest)
        for kind in _KINDS:
            yield from _listed(parent, (*tables, kind))


def shared(manifest: Mapping[str, Any]) -> dict[str, Dependency]:
    """What a workspace's members can inherit: key -> dependency."""
    parent = table(dict(manifest), "workspace")
    return {each.key: each for each in _listed(parent, ("workspace", "dependencies"))}


def _listed(parent: dict[str, Any], tables: tuple[str, ...]) -> Iterator[Dependency]:
    for key, value in table(parent, tables[-1]).items():
        yield Dependency(tables, key, value if isinstance(value, dict) else {"version": value})


def is_sdk(package: str) -> bool:
    """Whether a crate of that name is the SDK."""
    return package.replace("_", "-") == NAME


def patched(manifest: Mapping[str, Any]) -> bool:
    """Whether a manifest, or a configuration of cargo, replaces the SDK by another copy."""
    sources = [*table(dict(manifest), "patch").values(), manifest.get("replace")]
    return any(
        is_sdk(str(value.get("package", key)) if isinstance(value, dict) else key.partition(":")[0])
        for source in sources
        if isinstance(source, dict)
        for key, value in source.items()
    )


def allows(requirement: str, version: Version) -> bool:
    """Whether cargo accepts a version for a requirement such as ">=0.1, <0.3"."""
    parts = [part.strip() for part in requirement.split(",")]
    return all(part in ("", "*") or _accepts(part, version) for part in parts)


def _accepts(comparator: str, version: Version) -> bool:
    match = _COMPARATOR.fullmatch(comparator)
    if not match:
        return False
    numbers = [int(each) for each in match.groups()[1:] if each and each.isdecimal()]
    wild = any(each in ("*", "x", "X") for each in match.groups()[1:])
    operator = match[1] or ("=" if wild else "^")
    low = (*numbers, 0, 0)[:3]
    if operator in (">=", "<"):
        return (version >= low) == (operator == ">=")
    if operator in (">", "<="):
        return (version > _last(numbers)) == (operator == ">")
    if operator == "=":
        return version[: len(numbers)] == tuple(numbers)
    if operator == "~":
        return version >= low and version[: min(2, len(numbers))] == tuple(numbers[:2])
    fixed = next((place + 1 for place, number in enumerate(numbers) if number), len(numbers))
    return version >= low and version[:fixed] == tuple(numbers[:fixed])


def _last(numbers: Sequence[int]) -> Version:
    """The last version that begins with these numbers."""
    first, second, third = (*numbers, 10**9, 10**9)[:3]
    return first, second, third


def ages(requirement: str) -> set[str]:
    """Which of "old" (0.1) and "new" (0.2 or later) a requirement allows."""
    releases = {"old": _OLD, "new": _NEW}
    return {age for age, versions in releases.items() if any(allows(requirement, each) for each in versions)}


def locked(lock: Mapping[str, Any], requirement: str) -> str | None:
    """The SDK's version in a parsed Cargo.lock: the newest that a requirement allows."""
    packages = lock.get("package")
    named = [
        str(each.get("version"))
        for each in (packages if isinstance(packages, list) else ())
        if isinstance(each, dict) and each.get("name") == NAME
    ]
    versions = {version: _numbers(version) for version in named}
    fitting = [version for version, numbers in versions.items() if allows(requirement, numbers)]
    return max(fitting, key=lambda version: versions[version], default=None)


def _numbers(version: str) -> Version:
    first, second, third = (*map(int, re.findall(r"\d+", version)[:3]), 0, 0, 0)[:3]
    return first, second, third


def is_old(version: str) -> bool:
    """Whether a version of the SDK is 0.1."""
    return _numbers(version) < (0, 2, 0)


def moved(text: str, those: Sequence[Dependency]) -> str:
    """A manifest with these dependencies on the SDK at today's version; comments and order stay."""
    import tomlkit

    manifest: Any = tomlkit.parse(text.removeprefix("\ufeff"))
    for each in those:
        parent = manifest
        for name in each.tables:
            parent = parent[name]
        details = parent[each.key]
        if not isinstance(details, MutableMapping):
            parent[each.key] = SDK
            continue
        if not each.inherited:
            details["version"] = SDK
        if _GONE in details.get("features", ()):
            details["features"].remove(_GONE)
    gone = {f"{each.key}{mark}/{_GONE}" for each in those for mark in ("", "?")}
    for enabled in manifest.get("features", {}).values():
        for name in gone.intersection(enabled):
            enabled.remove(name)
    return tomlkit.dumps(manifest)
