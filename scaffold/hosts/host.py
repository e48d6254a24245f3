"""What runs a plugin: what every host can do, and the table of hosts."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from scaffold.core.events import Logged, Moved, Requested
from scaffold.errors import ModuleError, choose
from scaffold.hosts.exchange import Exchange, Request
from scaffold.hosts.options import HostSettings
from scaffold.hosts.plugin import Plugin

if TYPE_CHECKING:
    from scaffold.hosts.client import Connection
    from scaffold.hosts.clock import Clock
    from scaffold.hosts.envoy.log import Line, Log
    from scaffold.hosts.envoy.run_folder import Folder
    from scaffold.hosts.envoy.running import Child
    from scaffold.hosts.upstream.control import Origin


class Host(Protocol):
    """A host that runs a plugin, or a chain of plugins."""

    @property
    def url(self) -> str:
        """Where the plugin answers."""
        ...

    @property
    def origin(self) -> Origin | None:
        """The built-in upstream; None if the traffic goes to another one."""
        ...

    @property
    def alive(self) -> bool:
        """Whether the host still runs."""
        ...

    def play(self, request: Request, *, timeout: float = 10) -> Exchange:
        """Send a request through the plugin, and gather what it did on every side.

        Raises `HostError` when no answer came within `timeout` seconds.
        """
        ...

    def connect(self, *, timeout: float = 10) -> AbstractContextManager[Connection]:
        """Open a TCP connection through the plugin; after the block it holds what the plugin did."""
        ...

    def replace(self, *plugins: Plugin, fresh: bool = False, check: Callable[[], None] | None = None) -> None:
        """Replace the running plugins, or their configurations, without losing a request; then call `check`.

        With `fresh` they start without state, even without shared data. Raises `ModuleError` when the
        host refuses one, or one doesn't return; then, or when `check` fails, the previous ones serve on.
        Raises `HostError` for a service, which takes another host.
        """
        ...

    def end_test(self) -> None:
        """Leave nothing behind that a test has set up for itself: the next one may use this host, too."""
        ...


class Running(Host, Protocol):
    """A host that this command started, or that a deployment keeps running."""

    @property
    def port(self) -> int:
        """The port of loopback where the plugin answers."""
        ...

    @property
    def admin_address(self) -> str:
        """The admin interface: a socket's path, or `HOST:PORT`; "" if there is none."""
        ...

    @property
    def metrics(self) -> dict[str, float]:
        """The host's counters and gauges by name, and the plugin's; histograms as in `Exchange.metrics`."""
        ...

    @property
    def folder(self) -> Folder:
        """The host's files."""
        ...

    @property
    def log(self) -> Log:
        """The host's log, with the plugin's lines."""
        ...

    @property
    def clock(self) -> Clock:
        """The host's time."""
        ...

    @property
    def version(self) -> tuple[int, ...]:
        """The host's version."""
        ...

    @property
    def process(self) -> Child | None:
        """The host's process; None if another process started it."""
        ...

    def is_stuck(self) -> Callable[[], bool]:
        """A function that tells whether the host has got stuck since now."""
        ...

    def find_loop(self, plugins: Sequence[Plugin], /) -> ModuleError | None:
        """The error that names the first plugin that doesn't return from a callback when it starts."""
        ...

    def follow(self, *, by_name: bool = False) -> Iterator[Requested | Logged | Moved]:
        """What happens, as it comes: requests that have ended, and what belongs to no single one.

        With `by_name` log lines say which plugin wrote them. Raises `HostError` when the host ends.
        """
        ...


class Lines(Protocol):
    """A host's log; positions count from its beginning."""

    def size(self) -> int:
        """The position of its end."""
        ...

    def since(self, position: int) -> Iterable[Line]:
        """The lines from a position on."""
        ...


class Played(Host, Protocol):
    """A host that plays tests."""

    @property
    def log(self) -> Lines:
        """The host's log, with the plugin's lines."""
        ...

    @property
    def metrics(self) -> Mapping[str, float]:
        """The host's metrics, as far as it has any, and the plugin's."""
        ...

    @property
    def clock(self) -> Clock:
        """The host's time."""
        ...


class Play(Protocol):
    """Starts a host that plays tests, while the block runs."""

    def __call__(
        self, *plugins: Plugin, folder: Path, settings: HostSettings = HostSettings()
    ) -> AbstractContextManager[Played]:
        """As `Start`."""
        ...


class Start(Protocol):
    """Starts a host, which runs while the block does."""

    def __call__(
        self, *plugins: Plugin, folder: Path, settings: HostSettings = HostSettings()
    ) -> AbstractContextManager[Running]:
        """Traffic meets the plugins in their order; without any, those that are in `folder` run again."""
        ...


class HostModule(Protocol):
    """The module of a host."""

    @property
    def start(self) -> Start:
        """Starts the host."""
        ...

    def check(self, settings: HostSettings) -> object:
        """Install or pull what the settings ask for. Raises what would keep the host from starting."""
        ...

    def find_loop(self, plugins: Sequence[Plugin], settings: HostSettings) -> ModuleError | None:
        """The error that names the first plugin that doesn't return from a callback when it starts."""
        ...

    def files_in(self, folder: Path) -> Folder:
        """The files of the host that was started with `folder`."""
        ...


# name -> its module, which is imported when the host is chosen
HOSTS = {"envoy": "scaffold.hosts.envoy.local", "docker": "scaffold.hosts.docker.host"}
EMULATOR = "emulator"
GCP = "gcp"  # plays suites, as Google's tester does
# those that can play the tests
PLAYERS = HOSTS | {EMULATOR: "scaffold.hosts.emulator.host"}


def load(name: str) -> HostModule:
    """The module of a host. Raises `UsageError` when there is no such host."""
    return cast(HostModule, import_module(choose("host", name, HOSTS)))


def find(name: str) -> Start:
    """What starts a host. Raises `UsageError` when there is no such host."""
    return load(name).start


def player(name: str) -> Play:
    """What starts a host that plays tests. Raises `UsageError` when there is no such host."""
    module = import_module(choose("host", name, PLAYERS))
    return cast(Play, module.start)
