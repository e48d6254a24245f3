"""What runs a plugin: the table of hosts, and `run`, which keeps one in the foreground."""

from __future__ import annotations

from contextlib import AbstractContextManager, ExitStack
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, cast

from scaffold.core import files
from scaffold.core.events import Noted, emit, step
from scaffold.errors import choose
from scaffold.hosts import plugin as plugins
from scaffold.hosts.exchange import Exchange, Request
from scaffold.hosts.options import PORT, Options
from scaffold.project.model import HostSettings, Plugin
from scaffold.project.plugins import chained

if TYPE_CHECKING:
    from scaffold.hosts.connection import Connection
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


def run(
    root: Path = Path(),
    *,
    module: str | None = None,
    port: int = PORT,
    config: str | None = None,
    upstream: str | None = None,
    envoy: str | None = None,
    log_level: str = "info",
    bootstrap: Path | None = None,
    envoy_args: str | None = None,
    id: str | None = None,
    root_id: str | None = None,
    profile: str = "release",
    rustc: str | None = None,
    yes: bool = False,
) -> None:
    """Build the plugin and run it in an Envoy until interrupted, its log lines announced as they come.

    At a workspace's root that is the chain of its plugins.
    """
    from scaffold.hosts.envoy import installs as envoys
    from scaffold.hosts.envoy import local as host

    options = Options(port, config, upstream, envoy, log_level, bootstrap, envoy_args, id, root_id).over({})
    root = plugins.check(module, root, options)
    settings = options.settings()
    host.check_free(settings.port)
    envoys.find(envoy)  # installed, if need be
    sources = plugins.load_all(module, root, profile=profile, rustc=rustc, yes=yes)
    chain = plugins.chain(sources, options)
    name = chained(chain)
    with ExitStack() as stack:
        folder = stack.enter_context(files.scratch())
        with step(f"Starting Envoy with {name}"):
            running = stack.enter_context(host.start(*chain, folder=folder, settings=settings))
        try:
            emit(Noted(f"{name} answers at {running.url}, Envoy's admin at {running.admin_url}"))
            emit(Noted("Ctrl-C ends it"))
            for line in running.follow():
                emit(line.told(by_name=len(chain) > 1))
        except KeyboardInterrupt:
            emit(Noted("ended"))


def bootstrap(
    root: Path = Path(),
    *,
    module: str | None = None,
    port: int = PORT,
    config: str | None = None,
    upstream: str | None = None,
    envoy: str | None = None,
    bootstrap: Path | None = None,
    id: str | None = None,
    root_id: str | None = None,
    out: Path = Path("-"),
    profile: str = "release",
    rustc: str | None = None,
    yes: bool = False,
) -> str | Path:
    """The configuration that runs the plugin in an Envoy started by hand, read by that Envoy first.

    It is returned as text, or written to `out` (JSON by that ending, YAML else), whose path is returned.
    Raises, in Envoy's words, `ModuleError` when Envoy refuses the plugin, `ProjectError` what is around it.
    """
    from scaffold.hosts.envoy import bootstrap as envoy_bootstrap
    from scaffold.hosts.envoy import folder as envoy_files
    from scaffold.hosts.envoy import installs as envoys
    from scaffold.hosts.envoy import local as host
    from scaffold.hosts.envoy.config import Chain, static_filter
    from scaffold.project.clusters import Address, addresses, parse_upstream

    options = Options(port, config, upstream, envoy, None, bootstrap, None, id, root_id).over({})
    files.check_out(out)
    root = plugins.check(module, root, options)
    settings = options.settings()
    binary = envoys.find(envoy)
    sources = plugins.load_all(module, root, profile=profile, rustc=rustc, yes=yes)
    loaded = plugins.chain(sources, options)
    settings = settings.serving(*loaded)
    slots = [
        static_filter(envoy_files.wasm(plugin, str(plugin.module.path), binary.version), place)
        for place, plugin in enumerate(loaded)
    ]
    chain = Chain.of(slots, settings.types)
    if bootstrap:
        given = envoy_bootstrap.read(bootstrap)
        made = envoy_bootstrap.insert(given, chain, access_log=None, source=bootstrap)
    else:
        clusters = addresses(parse_upstream(upstream) if upstream else Address(), settings.clusters)
        made = envoy_files.generated(port, clusters, chain)
    with files.scratch() as folder:
        trial = folder / "bootstrap.json"
        trial.write_text(envoy_bootstrap.dump(made, as_json=True))
        host.validate(binary, trial, str(bootstrap or "that was made"))
    text = envoy_bootstrap.dump(made, as_json=out.suffix == ".json")
    if out == Path("-"):
        return text.removesuffix("\n")
    files.write(out, text)
    return out
