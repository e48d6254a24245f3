"""`bootstrap`: print the configuration that runs the plugin in an Envoy that somebody else starts."""

from __future__ import annotations

from pathlib import Path

from scaffold.core import files
from scaffold.hosts import plugin as plugins
from scaffold.hosts.envoy import bootstrap as envoy_bootstrap
from scaffold.hosts.envoy import folder as envoy_files
from scaffold.hosts.envoy import installs as envoys
from scaffold.hosts.envoy import local as host
from scaffold.hosts.envoy.config import Chain, static_filter
from scaffold.hosts.options import PORT, Options
from scaffold.project.clusters import Address, addresses, parse_upstream


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
