"""`bootstrap`: print a configuration with which the user's own Envoy runs the plugin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from scaffold.core import files
from scaffold.core.option_fields import refuse
from scaffold.core.versions import Version
from scaffold.errors import ModuleError
from scaffold.hosts import source as plugins
from scaffold.hosts.envoy import installed as envoys
from scaffold.hosts.envoy import local as host
from scaffold.hosts.envoy import run_folder as envoy_files
from scaffold.hosts.envoy import user_bootstrap as envoy_bootstrap
from scaffold.hosts.envoy.binary_info import Binary
from scaffold.hosts.envoy.resources import Chain, Config, static_filter
from scaffold.hosts.options import OF_LISTENER, OF_ONE, RunOptions, default_port
from scaffold.hosts.plugin import Plugin
from scaffold.project.envoy_clusters import Address, addresses, parse_upstream
from scaffold.toolchain.options import BuildOptions
from scaffold.wasm.check import hint_about

GENERATED = "that scaffold generated"
OPTIONS = (*OF_ONE, "port", "upstream", *OF_LISTENER, "envoy", "bootstrap")


def bootstrap(
    root: Path = Path(),
    options: RunOptions = RunOptions(),
    *,
    module: str | None = None,
    out: Path = Path("-"),
    build: BuildOptions = BuildOptions(),
) -> str | Path:
    """Make a configuration with which the user's own Envoy runs the plugin, and validate it with Envoy.

    Returns YAML text, or writes it to `out` (JSON if the name ends with .json) and returns that path.
    Raises, with Envoy's message, `ModuleError` if Envoy refuses the plugin, `ProjectError` if it refuses
    another part of the configuration.
    """
    refuse(options, "bootstrap", supported=OPTIONS)
    options.check_for("envoy")
    files.check_out(out)
    choice = plugins.choose(module, root, options)
    _ = options.settings  # reports an invalid value before the build
    binary = envoys.find(options.envoy)
    chain = [source.plugin(options) for source in choice.load(build)]
    config = _bootstrap(chain, options, binary.version)
    try:
        _validate(config, binary, str(options.bootstrap or GENERATED))
        if services := [replace(plugin, type="http") for plugin in chain if plugin.is_service]:
            # Envoy only loads filters when it validates; to load, a service is no different
            _validate(_bootstrap(services, RunOptions(), binary.version), binary, GENERATED)
    except ModuleError as error:
        error.hint = hint_about([plugin.module for plugin in chain], binary.version)
        raise
    return files.write_out(envoy_bootstrap.dump(config, as_json=out.suffix == ".json"), out)


def _validate(config: Config, binary: Binary, name: str) -> None:
    with files.scratch() as folder:
        trial = folder / "bootstrap.json"
        trial.write_text(envoy_bootstrap.dump(config, as_json=True))
        host.validate(binary, trial, name)


def _bootstrap(plugins: Sequence[Plugin], options: RunOptions, version: Version) -> Config:
    settings = options.settings.serving(*plugins)
    slots = [
        static_filter(envoy_files.wasm(plugin, str(plugin.module.path), version), position)
        for position, plugin in enumerate(plugins)
    ]
    chain = Chain.of(slots, settings.types)
    if options.bootstrap:
        user_config = envoy_bootstrap.read(options.bootstrap)
        source, names = options.bootstrap, settings.names
        return envoy_bootstrap.insert(user_config, chain, access_log=None, source=source, names=names)
    upstream = parse_upstream(options.upstream) if options.upstream else Address()
    clusters = addresses(upstream, settings.clusters)
    port = default_port() if options.port is None else options.port
    return envoy_files.generated(port, clusters, chain, keep_host=settings.keep_host, tls=settings.tls)
