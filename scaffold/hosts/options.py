"""What a command line says of a plugin and its host, and what of it is remembered."""

from __future__ import annotations

import dataclasses
import hashlib
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from scaffold.errors import UsageError
from scaffold.project.clusters import parse_upstream
from scaffold.project.model import HostSettings, read_configuration

PORT = 8080
OF_ONE = ("config", "id", "root_id")  # options that one plugin can have, and a chain can't
ONLY = {"envoy": "envoy", "envoy_image": "docker", "docker_args": "docker"}  # option -> the host it is for


@dataclass(frozen=True)
class Options:
    """The options of `run`, `deploy` and `bootstrap`, as typed; None is what wasn't."""

    port: int | None = None
    config: str | None = None
    upstream: str | None = None
    envoy: str | None = None
    log_level: str | None = None
    bootstrap: Path | None = None
    envoy_args: str | None = None
    id: str | None = None
    root_id: str | None = None
    envoy_image: str | None = None
    docker_args: str | None = None

    def check_for(self, host: str) -> None:
        """Raise `UsageError` when one of these is for another host."""
        for name, only in ONLY.items():
            if getattr(self, name) is not None and host != only:
                option = f"--{name.replace('_', '-')}"
                raise UsageError(f"{option} is for `{only}`, not for `{host}`", hint="leave it out")

    def check_for_cluster(self, target: str) -> None:
        """Raise `UsageError` when one of these is for a host that we run."""
        for name in ("port", "log_level", "bootstrap", "envoy_args", "id", "envoy_image", "docker_args"):
            if getattr(self, name) is not None:
                option = f"--{name.replace('_', '-')}"
                raise UsageError(
                    f"{option} is for an Envoy that scaffold runs, not for `{target}`", hint="leave it out"
                )

    def over(self, remembered: Mapping[str, Any]) -> Self:
        """These, and for those that weren't typed what was remembered (`record`)."""
        if self.bootstrap and self.upstream:
            raise UsageError(
                "--bootstrap and --upstream both say where the traffic goes", hint="give one of them"
            )
        kept = {key: value for key, value in remembered.items() if getattr(self, key) is None}
        if self.bootstrap or self.upstream:  # the one typed ends the other
            kept = {key: value for key, value in kept.items() if key not in ("bootstrap", "upstream")}
        if kept.get("bootstrap"):
            kept["bootstrap"] = Path(kept["bootstrap"])
        return dataclasses.replace(self, **kept)

    def of_many(self, given: Self) -> Self:
        """These, where several plugins are meant: what is of one alone counts only as `given` now."""
        return dataclasses.replace(self, **{name: getattr(given, name) for name in OF_ONE})

    def record(self) -> dict[str, Any]:
        """What to remember: plain values, paths made absolute."""
        values = {key: value for key, value in dataclasses.asdict(self).items() if value is not None}
        if self.bootstrap:
            values["bootstrap"] = str(self.bootstrap.resolve())
        if self.envoy and os.sep in self.envoy:
            values["envoy"] = str(Path(self.envoy).resolve())
        if self.config and Path(self.config).exists():
            values["config"] = str(Path(self.config).resolve())
        return values

    def settings(self) -> HostSettings:
        """The host's part. Raises `UsageError` for what can't be."""
        if self.upstream:
            parse_upstream(self.upstream)
        if self.config is not None:
            read_configuration(self.config)  # said before a build, not after
        envoy = self.envoy
        return HostSettings(
            port=0 if self.bootstrap else PORT if self.port is None else self.port,
            upstream=self.upstream,
            envoy=str(Path(envoy).resolve()) if envoy and os.sep in envoy else envoy,
            log_level=self.log_level or "info",
            bootstrap=str(self.bootstrap.resolve()) if self.bootstrap else None,
            bootstrap_digest=_digest(self.bootstrap) if self.bootstrap else None,
            envoy_args=_words("--envoy-args", self.envoy_args),
            envoy_image=self.envoy_image,
            docker_args=_words("--docker-args", self.docker_args),
        )


def _words(option: str, line: str | None) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(line or ""))
    except ValueError as error:
        raise UsageError(f"{option} can't be read: {error}") from error


def _digest(bootstrap: Path) -> str | None:
    try:
        return "sha256:" + hashlib.sha256(bootstrap.read_bytes()).hexdigest()
    except OSError:  # which is said when it is read
        return None
