"""`run`: build the plugin and run it in the foreground."""

from __future__ import annotations

import shlex
from contextlib import ExitStack
from pathlib import Path

from scaffold.core import files
from scaffold.core.events import Logged, Noted, Requested, emit, step, until_interrupted
from scaffold.hosts import source as plugins
from scaffold.hosts.background.deployments import check_free
from scaffold.hosts.envoy import installed as envoys
from scaffold.hosts.envoy import local as host
from scaffold.hosts.envoy.admin import curl
from scaffold.hosts.envoy.log import nothing_logged
from scaffold.hosts.options import RunOptions
from scaffold.project.projects import chained
from scaffold.toolchain.options import BuildOptions


def run(
    root: Path = Path(),
    options: RunOptions = RunOptions(),
    *,
    module: str | None = None,
    build: BuildOptions = BuildOptions(),
) -> None:
    """Build the plugin and run it in Envoy until interrupted, announcing each request and what it logs.

    `module` names a file or an image to run instead. At a workspace's root the chain of its plugins runs.
    """
    options.check_for("envoy")
    choice = plugins.choose(module, root, options)
    check_free(options.settings.port)
    envoys.find(options.envoy)  # installs it if necessary
    chain = [source.plugin(options) for source in choice.load(build)]
    name = chained(chain)
    with files.scratch() as folder:
        with ExitStack() as stack:
            with step(f"Starting Envoy with {name}"):
                running = stack.enter_context(host.start(*chain, folder=folder, settings=options.settings))
            # before Ctrl-C is asked for: interrupted in an import, Python may end by the signal
            events = running.follow(by_name=len(chain) > 1)
            logged = False
            with until_interrupted():
                if all(plugin.is_service for plugin in chain):
                    emit(
                        Noted(
                            f"{name} runs beside the listener at {running.url}, whose requests don't pass it"
                        )
                    )
                else:
                    emit(Noted(f"{name} answers at {running.url}"))
                if authority := options.settings.authority:
                    emit(
                        Noted(f"Trust its certificate: curl --cacert {shlex.quote(authority)} {running.url}")
                    )
                emit(Noted(f"Ask Envoy: {curl(running.admin_address)}"))
                emit(Noted("Press Ctrl-C to stop"))
                for event in events:
                    logged |= isinstance(event, Logged) or bool(isinstance(event, Requested) and event.logs)
                    emit(event)
        # now the log is whole: it was asked something
        if not logged and running.folder.access_log.stat().st_size:
            emit(nothing_logged("run"))
