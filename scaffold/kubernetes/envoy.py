"""The target `envoy`: the bootstrap and the ECDS resource for a fleet of Envoys without a control plane.

The fleet's operator puts both files, and the module, onto its machines. To replace the resource, rename a
new file to `RESOURCE`: Envoy notices no other kind of change.
"""

from __future__ import annotations

from dataclasses import replace
from urllib.parse import urlsplit

from scaffold.core.files import digest
from scaffold.core.option_fields import check_target
from scaffold.hosts.envoy import resources as envoy_config
from scaffold.kubernetes import wasm_filter as wasm
from scaffold.kubernetes.documents import Document, check_type
from scaffold.kubernetes.options import ClusterOptions, resource_name
from scaffold.kubernetes.pinned_plugin import HttpSource, Pin, module_source
from scaffold.oci.spec import dump
from scaffold.project.envoy_clusters import UPSTREAM, Address, parse_upstream
from scaffold.wasm import proxy_features as versions

TARGET = "envoy"
PORT = 8080
RESOURCE = "/etc/envoy/filter.yaml"  # where Envoy reads the second document
AUTHORITIES = "/etc/ssl/certs/ca-certificates.crt"  # the path in Envoy's container images
SOURCE = "module"  # the cluster that Envoy downloads the module through

_CLUSTER = "leave it out: it is for Kubernetes"
_INSTEAD = dict.fromkeys(
    "namespace selector target_ref whole_namespace pull_secret istio traffic_extension".split(), _CLUSTER
)


def documents(pin: Pin, options: ClusterOptions) -> list[Document]:
    """The bootstrap, and the resource that Envoy reads from the file `RESOURCE`.

    Raises `UsageError` for what this version of Envoy doesn't support.
    """
    check_target(options, TARGET, instead=_INSTEAD)
    check_type(pin, TARGET, "http", "network")
    network = pin.info.type == "network"
    versions.require(versions.NETWORK_PATH_SOURCE if network else versions.PATH_SOURCE, options.envoy_version)
    source = module_source(pin, options, TARGET)
    clusters = []
    if options.upstream:
        clusters.append(envoy_config.cluster(UPSTREAM, _address(options.upstream)))
    if isinstance(source, HttpSource):
        clusters.append(envoy_config.cluster(SOURCE, _address(source.url)))
    slot = envoy_config.ecds_filter(RESOURCE, kind=pin.info.type)
    chain = envoy_config.Chain.of([slot], [pin.info.type])
    everywhere = "0.0.0.0"  # noqa: S104 - a fleet serves other machines
    listener = envoy_config.listener_of(chain, host=everywhere, port=PORT, upstream=bool(options.upstream))
    bootstrap = envoy_config.bootstrap(listeners=[listener], clusters=clusters)
    name = options.name or resource_name(pin.info.name)
    config = wasm.typed_config(pin, options, source, name=name, cluster=SOURCE)
    version = digest(dump(config)).removeprefix("sha256:")[:12]
    return [bootstrap, envoy_config.ecds_response(config, version)]


def _address(url: str) -> Address:
    parts = urlsplit(url)
    address = parse_upstream(f"{parts.scheme}://{parts.netloc}")
    return replace(address, tls=AUTHORITIES) if address.tls else address
