"""The plugin in Envoy's own configuration, for targets that contain it.

Source: envoyproxy/data-plane-api, envoy/extensions/wasm/v3/wasm.proto.
"""

from __future__ import annotations

from scaffold.hosts.envoy import resources as envoy_config
from scaffold.kubernetes.documents import Document, configuration, root_id
from scaffold.kubernetes.options import ClusterOptions
from scaffold.kubernetes.pinned_plugin import FileSource, HttpSource, Pin, hexadecimal

DOWNLOAD_TIMEOUT = "30s"
_TRIES = 5  # Envoy's default is two, after which it never tries again


def typed_config(
    pin: Pin, options: ClusterOptions, source: HttpSource | FileSource, *, name: str, cluster: str
) -> Document:
    """The filter's configuration; `cluster` is the one that Envoy downloads the module through.

    Raises `UsageError` for what this version of Envoy, or the plugin's type, doesn't support.
    """
    more = envoy_config.failing(options.failure_policy, options.envoy_version)
    if options.allow_stop_iteration:
        more |= envoy_config.stop_iteration(pin.info.type, options.envoy_version)
    vm = envoy_config.wasm_vm(
        _code(source, cluster),
        # the digest gives each module its own VM: Envoy reads a changed file only for a new VM
        vm_id=f"{name}-{hexadecimal(pin.module_digest)[:12]}",
        environment=envoy_config.environment(options.variables, options.envoy_version),
        configuration=options.vm_configuration,
    )
    return envoy_config.wasm_filter(
        vm,
        name=name,
        root_id=root_id(pin, options),
        configuration=configuration(pin, options),
        more=more,
        kind=pin.info.type,
    )


def _code(source: HttpSource | FileSource, cluster: str) -> Document:
    if isinstance(source, FileSource):
        return envoy_config.local_file(source.path)
    http_uri = {"uri": source.url, "cluster": cluster, "timeout": DOWNLOAD_TIMEOUT}
    remote: Document = {"http_uri": http_uri, "sha256": hexadecimal(source.digest)}
    return {"remote": remote | {"retry_policy": {"num_retries": _TRIES}}}
