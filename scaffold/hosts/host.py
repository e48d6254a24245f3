"""What runs a plugin: the table of hosts, and what each can do."""

from __future__ import annotations

from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from scaffold.errors import choose
from scaffold.hosts.exchange import Exchange, Request
from scaffold.project.model import HostSettings, Plugin

if TYPE_CHECKING:
    from scaffold.hosts.client import Connection
    from scaffold.hosts.upstream.serve import Origin


class Host(Protocol):
    """A host that is running a plugin, or a chain of them.

    `url` is where it answers; `origin` the built-in upstream behind it, None when that is foreign.
    """

    @property
    def url(self) -> str: ...  # noqa: D102 - said above

    @property
    def origin(self) -> Origin | None: ...  # noqa: D102

    @property
    def alive(self) -> bool:
        """Whether it still runs."""
        ...

    def play(self, request: Request, *, timeout: float = 10) -> Exchange:
        """Send a request through the plugin, and gather what came of it on every side.

        Raises `HostError` when no answer came within `timeout` seconds.
        """
        ...

    def connect(self, *, timeout: float = 10) -> AbstractContextManager[Connection]:
        """A TCP connection through the plugin while the block runs; then what came of it is in it."""
        ...

    def replace(self, *plugins: Plugin, fresh: bool = False) -> None:
        """Put other plugins, or other configurations, in the places of those that run.

        No request is lost. With `fresh` they begin with no state, not even shared data.
        Raises `ModuleError` when the host refuses one; then the old ones go on.
        """
        ...


class Start(Protocol):
    """How a host is started: it runs while the block does."""

    def __call__(
        self, *plugins: Plugin, folder: Path, settings: HostSettings = HostSettings()
    ) -> AbstractContextManager[Host]:
        """Traffic meets the plugins in their order; `folder` is for the host's files."""
        ...


# name -> the module whose `start` it is, which comes in when it is chosen
HOSTS = {"envoy": "scaffold.hosts.envoy.local", "docker": "scaffold.hosts.docker.host"}


def find(name: str) -> Start:
    """The host of that name. Raises `UsageError` when there is none."""
    return cast(Start, import_module(choose("host", name, HOSTS)).start)
