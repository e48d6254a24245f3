"""`bootstrap`: print the configuration that runs the plugin in an Envoy that somebody else starts."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scaffold.core import files
from scaffold.core.options import refuse
from scaffold.core.versions import Version
from scaffold.hosts import plugin as plugins
from scaffold.hosts.envoy import bootstrap as envoy_bootstrap
from scaffold.hosts.envoy import folder as envoy_files
from scaffold.hosts.envoy import installs as envoys
from scaffold.hosts.envoy import local as host
from scaffold.hosts.envoy.config import Chain, Config, static_filter
from scaffold.hosts.host import Plugin
from scaffold.hosts.options import PORT, RunOptions
from scaffold.project.clusters import Address, addresses, parse_upstream
from scaffold.toolchain.options import BuildOptions

OPTIONS = ("config", "root_id", "port", "upstream", "envoy", "id", "bootstrap")


def bootstrap(
    root: Path = Path(),
    options: RunOptions = RunOptions(),
    *,
    module: str | None = None,
    out: Path = Path("-"),
    build: BuildOptions = BuildOptions(),
) -> str | Path:
    """The configuration that runs the plugin in an Envoy started by hand, checked by that Envoy first.

    It is returned as text, or written to `out` (as JSON if so named, else YAML), whose path is returned.
    Raises, in Envoy's words, `ModuleError` when Envoy refuses the plugin, `ProjectError` when it refuses
    what is around it.
    """
    refuse(options, "bootstrap", supported=OPTIONS)
    options.check_for("envoy")
    files.check_out(out)
    choice = plugins.choose(module, root, options)
    _ = options.settings  # an impossible value is reported before a build
    binary = envoys.find(options.envoy)
    chain = [source.plugin(options) for source in choice.load(build)]
    made = _bootstrap(chain, options, binary.version)
    with files.scratch() as folder:
        trial = folder / "bootstrap.json"
        trial.write_text(envoy_bootstrap.dump(made, as_json=True))
        host.validate(binary, trial, str(options.bootstrap or "that was made"))
    text = envoy_bootstrap.dump(made, as_json=out.suffix == ".json")
    if out == Path("-"):
        return text.removesuffix("\n")
    files.write(out, text)
    return out


def _bootstrap(plugins: Sequence[Plugin], options: RunOptions, version: Version) -> Config:
    settings = options.settings.serving(*plugins)
    slots = [
        static_filter(envoy_files.wasm(plugin, str(plugin.module.path), version), place)
        for place, plugin in enumerate(plugins)
    ]
    chain = Chain.of(slots, settings.types)
    if options.bootstrap:
        own = envoy_bootstrap.read(options.bootstrap)
        return envoy_bootstrap.insert(own, chain, access_log=None, source=options.bootstrap)
    upstream = parse_upstream(options.upstream) if options.upstream else Address()
    clusters = addresses(upstream, settings.clusters)
    return envoy_files.generated(PORT if options.port is None else options.port, clusters, chain)
