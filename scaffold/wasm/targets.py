"""Does a named host load a module: "envoy:1.33", "istio:1.24", "envoy-gateway:1.4", "higress:2.1", "gcp".

Which Envoy each of them runs is in check.toml, Istio's in `proxy_features.envoy_in`.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from functools import cached_property

from scaffold.core.text import escaped
from scaffold.core.versions import Version
from scaffold.errors import ModuleError, ScaffoldError, nearest
from scaffold.wasm import check, proxy_features
from scaffold.wasm.check import Problem
from scaffold.wasm.module import WasmFile

_LEAST = re.compile(r">=\s*(\S+)")


@dataclass(frozen=True)
class Target:
    """A host of a version; `version` is an empty one where there is none to choose."""

    host: str
    version: Version

    def __str__(self) -> str:
        return f"{self.host}:{self.version}" if self.version else self.host

    @property
    def title(self) -> str:
        """Its name in a sentence, with the Envoy that it runs."""
        name = " ".join(
            [check.facts()["hosts"][self.host]["title"], *map(str, [self.version] * bool(self.version))]
        )
        return name if self.host == "envoy" or not self.version else f"{name} (Envoy {self.envoy})"

    @cached_property
    def envoy(self) -> Version:
        """The Envoy that it runs; the latest that we know where that isn't published."""
        entry = check.facts()["hosts"][self.host]
        if "envoys" in entry:
            return Version.parse(entry["envoys"][str(_known_as(self.host, self.version))])
        if self.host == "istio":
            return proxy_features.envoy_in(self.version)
        return Version(self.version[:2]) or check.envoys()[-1]

    @property
    def wasi(self) -> Version | None:
        """The Envoy whose WASI it has, if that isn't its own's."""
        changed = check.facts()["hosts"][self.host].get("wasi")
        if changed is None or self.version < Version.parse(changed["since"]):
            return None
        return Version.parse(changed["envoy"])


@dataclass(frozen=True)
class Confirmed:
    """Whether an Envoy has loaded a module; `envoy` is its version, such as "1.36.4".

    `said` are its words where it hasn't, or where the plugin has refused to start.
    """

    envoy: str
    loads: bool
    said: str = ""


@dataclass(frozen=True)
class TargetVerdict:
    """Whether a target, such as "istio:1.24", loads a module; `envoy` is the version that it runs.

    `confirmed` is what a real one did, if somebody has asked.
    """

    target: str
    title: str
    envoy: str
    loads: bool
    problems: tuple[Problem, ...]
    confirmed: Confirmed | None = None

    @property
    def fails(self) -> bool:
        """Whether it doesn't load the module, by the rules or in fact."""
        return not self.loads or (self.confirmed is not None and not self.confirmed.loads)


def parse(text: str, where: str, kind: type[ScaffoldError]) -> Target:
    """Read "istio:1.24". Raises the error `kind`, whose message begins with `where`, for anything else."""
    name, _, number = text.partition(":")
    hosts = list(check.facts()["hosts"])
    if name not in hosts:
        raise kind(f"{where}: no host named `{escaped(name)}`", hint=nearest(name, hosts))
    known = versions(name)
    if not known:
        if number:
            raise kind(f"{where}: `{name}` has no versions to choose from", hint=f"write `{name}`")
        return Target(name, Version())
    title = check.facts()["hosts"][name]["title"]
    span = ", ".join(map(str, known)) if len(known) < 10 else f"{known[0]} to {known[-1]}"
    with suppress(ValueError):
        version = Version.parse(number)
        if len(version) in (2, 3) and _known_as(name, version):
            return Target(name, version)
        raise kind(f"{where}: which Envoy {title} {version} runs isn't known", hint=f"known: {span}")
    raise kind(f"{where}: `{escaped(text)}` has no version", hint=f"for example `{name}:{known[-1]}`")


def at_least(text: str, where: str, kind: type[ScaffoldError]) -> tuple[Target, ...]:
    """Every Envoy that we know of those in ">=1.33". Raises `kind` like `parse`."""
    found = _LEAST.fullmatch(text.strip())
    if not found:
        raise kind(f"{where}: `{escaped(text)}` isn't a version with `>=`", hint='write `envoy = ">=1.33"`')
    least = parse(f"envoy:{found[1]}", where, kind)
    return (least, *(Target("envoy", each) for each in check.envoys() if each > least.version))


def versions(host: str) -> tuple[Version, ...]:
    """The versions of a host whose Envoy is known, the earliest first."""
    entry = check.facts()["hosts"][host]
    if host == "envoy":
        return check.envoys()
    if "envoys" in entry:
        return tuple(map(Version.parse, entry["envoys"]))
    if "first" not in entry:
        return ()
    first, last = Version.parse(entry["first"]), Version.parse(entry["last"])
    return tuple(Version((1, minor)) for minor in range(first[1], last[1] + 1))


def judge(module: WasmFile, target: Target) -> TargetVerdict:
    """Whether a target loads a module, and why not; the hints name a version of the host that does."""
    problems = [*check.judge(module, target.envoy, target.wasi), *_unlisted(module, target)]
    loads = not any(each.fatal for each in problems)
    if not loads:
        remedy = _remedy(module, target)
        problems = [
            replace(each, hint="; ".join(filter(None, [each.hint, remedy])) or None) if each.fatal else each
            for each in problems
        ]
    told = tuple(check.blamed(module, each) for each in problems)
    return TargetVerdict(str(target), target.title, str(target.envoy), loads, told)


def hold(module: WasmFile, name: str, targets: Sequence[Target]) -> None:
    """Raise `ModuleError` for the first of these targets that doesn't load the plugin `name`."""
    for target in targets:
        verdict = judge(module, target)
        if not verdict.loads:
            problem = next(each for each in verdict.problems if each.fatal)
            raise ModuleError(
                f"{verdict.title} doesn't load {name}, which Cargo.toml says it has to: {problem.message}",
                hint=problem.hint,
            )


def _known_as(host: str, version: Version) -> Version | None:
    """The version in the data that is the one asked for, or the last before it of the same minor."""
    same = [each for each in versions(host) if each[:2] == version[:2] and each <= version]
    return max(same, default=None)


def _remedy(module: WasmFile, target: Target) -> str | None:
    """The versions of the same host that load a module."""
    if target.host == "envoy":  # as the hint of its problem says already
        return None
    later = [each for each in versions(target.host) if each > target.version]
    for version in later:
        other = Target(target.host, version)
        if not any(each.fatal for each in check.judge(module, other.envoy, other.wasi)):
            title = check.facts()["hosts"][target.host]["title"]
            return f"{title} {version} loads it"
    return None


def _unlisted(module: WasmFile, target: Target) -> list[Problem]:
    """The hostcalls that a host's documentation doesn't list."""
    unlisted = check.facts()["hosts"][target.host].get("unlisted", {})
    names = {unlisted[each.name] for each in module.imports if each.name in unlisted}
    message = f"it imports hostcalls for {' and '.join(sorted(names))}, which its documentation doesn't list"
    return [Problem("unlisted", message, fatal=False)] if names else []
