"""`run`: build the plugin and keep it running in the foreground."""

from __future__ import annotations

from contextlib import ExitStack
from pathlib import Path

from scaffold.core import files
from scaffold.core.events import Noted, emit, step
from scaffold.hosts import plugin as plugins
from scaffold.hosts.envoy import installs as envoys
from scaffold.hosts.envoy import local as host
from scaffold.hosts.options import PORT, Options
from scaffold.project.plugins import chained


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
                emit(line.event(by_name=len(chain) > 1))
        except KeyboardInterrupt:
            emit(Noted("ended"))
