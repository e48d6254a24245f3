"""What runs a plugin: the table of hosts, and `run`, which keeps one in the foreground."""

from __future__ import annotations

import tempfile
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import Protocol, cast

from scaffold.errors import choose
from scaffold.events import Logged, Noted, emit, step
from scaffold.exchange import Exchange, Request
from scaffold.project import Plugin
from scaffold.upstream import Origin
from scaffold.wasm import WasmModule


class Host(Protocol):
    """A host that is running a plugin.

    `url` is where it answers; `origin` the built-in upstream behind it, None when that is foreign.
    """

    @property
    def url(self) -> str: ...  # noqa: D102 - said above

    @property
    def origin(self) -> Origin | None: ...  # noqa: D102

    def play(self, request: Request, *, timeout: float = 10) -> Exchange:
        """Send a request through the plugin, and gather what came of it on every side.

        Raises `HostError` when no answer came within `timeout` seconds.
        """
        ...

    def replace(self, plugin: Plugin, *, fresh: bool = False) -> None:
        """Put another plugin, or another configuration, in the place of the one that runs.

        No request is lost. With `fresh` it begins with no state, not even shared data.
        Raises `ModuleError` when the host refuses it; then the old one goes on.
        """
        ...


class Start(Protocol):
    """How a host is started: it runs while the block does."""

    def __call__(
        self,
        plugin: Plugin,
        *,
        folder: Path,
        port: int = 0,
        upstream: str | None = None,
        envoy: str | None = None,
        log_level: str = "info",
    ) -> AbstractContextManager[Host]:
        """`folder` is for the host's files; `port` 0 is any free one; `upstream` a URL, or None for ours."""
        ...


# name -> the module whose `start` it is, which comes in when it is chosen
HOSTS = {"envoy": "scaffold.hosts.envoy"}


def find(name: str) -> Start:
    """The host of that name. Raises `UsageError` when there is none."""
    return cast(Start, import_module(choose("host", name, HOSTS)).start)


def run(
    module: Path | None = None,
    *,
    root: Path = Path(),
    port: int = 8080,
    config: str | None = None,
    upstream: str | None = None,
    envoy: str | None = None,
    log_level: str = "info",
    profile: str = "release",
    rustc: str | None = None,
    yes: bool = False,
) -> None:
    """Build the plugin and run it in an Envoy until interrupted, its log lines announced as they come."""
    from scaffold import cargo
    from scaffold.hosts import envoy as host

    built = WasmModule.read(module) if module else cargo.build(root, profile=profile, rustc=rustc, yes=yes)
    plugin = Plugin.load(root, built, config)
    with tempfile.TemporaryDirectory(prefix="scaffold-run-") as name:
        with step(f"Starting Envoy with {plugin.name}"):
            context = host.start(
                plugin, folder=Path(name), port=port, upstream=upstream, envoy=envoy, log_level=log_level
            )
            running = context.__enter__()
        try:
            emit(Noted(f"{plugin.name} answers at {running.url}, Envoy's admin at {running.admin_url}"))
            emit(Noted("Ctrl-C ends it"))
            for line in running.follow():
                emit(Logged(line.level, line.text))
        finally:
            context.__exit__(None, None, None)
