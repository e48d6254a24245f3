"""A cluster that is asked by gRPC, whose origin speaks HTTP/1: another listener of the same Envoy between.

The origin gets a call as a POST of the bare message, and answers with one; a status that isn't 200 becomes
one of gRPC's.
Source: envoyproxy/data-plane-api, grpc_http1_reverse_bridge/v3, bootstrap/internal_listener/v3.
"""

from __future__ import annotations

from scaffold.hosts.envoy import config as envoy_config
from scaffold.hosts.envoy.config import Config
from scaffold.project.clusters import Address

MESSAGE = "application/x-protobuf"  # the type of what the origin gets, and of what it must answer
_TYPES = "type.googleapis.com/envoy.extensions"


def add_bridge(bootstrap: Config, name: str, address: Address) -> None:
    """Add the cluster `name`, asked by gRPC, before the origin at `address`."""
    inside, behind = f"grpc {name}", f"http1 {name}"  # with a space, as no cluster of the user's is called
    typed_config = {
        "@type": f"{_TYPES}.filters.http.grpc_http1_reverse_bridge.v3.FilterConfig",
        "content_type": MESSAGE,
        "withhold_grpc_frames": True,
    }
    translator = {"name": "envoy.filters.http.grpc_http1_reverse_bridge", "typed_config": typed_config}
    route = {"match": {"prefix": "/"}, "route": {"cluster": behind, "timeout": "60s"}}
    manager = {
        "@type": f"{_TYPES}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": inside,
        "codec_type": "HTTP2",
        "generate_request_id": False,  # at the origin the id tells a request from a callout
        "preserve_external_request_id": True,
        "route_config": {
            "name": inside,
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}],
        },
        "http_filters": [translator, envoy_config.router()],
    }
    listener = {
        "name": inside,
        "internal_listener": {},
        "filter_chains": [
            {"filters": [{"name": "envoy.filters.network.http_connection_manager", "typed_config": manager}]}
        ],
    }
    extension = {
        "name": "envoy.bootstrap.internal_listener",
        "typed_config": {"@type": f"{_TYPES}.bootstrap.internal_listener.v3.InternalListener"},
    }
    asked = envoy_config.cluster(name, Address(internal=inside, http2=True))
    resources = bootstrap["static_resources"]
    resources["listeners"].append(listener)
    resources["clusters"] += [asked, envoy_config.cluster(behind, address)]
    bootstrap["bootstrap_extensions"] = [extension]  # once, however many there are
