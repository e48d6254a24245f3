"""Envoy's configuration as plain dicts: bootstrap, listener, cluster, wasm filter, ECDS resource.

Source: envoyproxy/data-plane-api, envoy/config/{bootstrap,listener,cluster}/v3, envoy/extensions/wasm/v3,
grpc_http1_reverse_bridge/v3, bootstrap/internal_listener/v3.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Self

from scaffold.core.files import digest
from scaffold.core.versions import Version
from scaffold.errors import UsageError
from scaffold.hosts.exchange import REQUEST_ID
from scaffold.project.envoy_clusters import UPSTREAM, Address
from scaffold.project.vm_environment import Variable
from scaffold.wasm import proxy_features

Config = dict[str, Any]
SOON: Config = {"reload_config": {"backoff": {"base_interval": "0.1s"}}}

EXTENSIONS = "type.googleapis.com/envoy.extensions"
WASM = f"{EXTENSIONS}.filters.http.wasm.v3.Wasm"
TYPES = {  # by the plugin's type
    "http": WASM,
    "network": WASM.replace(".http.", ".network."),
    "service": f"{EXTENSIONS}.wasm.v3.WasmService",
}
TCP_PROXY = f"{EXTENSIONS}.filters.network.tcp_proxy.v3.TcpProxy"
HTTP_MANAGER = f"{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager"
_CALLED = {"network": "network plugin", "service": "service"}
FILTER = "scaffold"  # the name of the first ECDS resource
CLUSTER = "x-cluster"  # the request header that chooses another cluster
REQUEST_FIELD = "request_id"  # that every line of our access log has
LONGEST_PATH = 2000  # characters of a path in the access log
STDERR = "/dev/stderr"  # as the path of an access log: Envoy's standard error, whoever owns it
MANY = 1_000_000  # connections and requests at once; beyond Envoy's default of 1024 clients get a 503
MESSAGE = "application/x-protobuf"  # the content type of a bare message behind the gRPC bridge


def socket_address(place: Address) -> Config:
    """An address, as Envoy's `Address`."""
    if place.internal:
        return {"envoy_internal_address": {"server_listener_name": place.internal}}
    if place.pipe:
        return {"pipe": {"path": place.pipe}}
    return {"socket_address": {"address": place.at or place.host, "port_value": place.port}}


@dataclass(frozen=True)
class Chain:
    """Filters in the order in which traffic meets them; network filters come before all HTTP filters.

    No traffic meets the services, which are extensions of the bootstrap.
    """

    http: list[Config]
    network: list[Config]
    services: list[Config] = field(default_factory=list)

    @classmethod
    def of(cls, filters: Iterable[Config], kinds: Iterable[str]) -> Self:
        """The chain of `filters`, whose types are `kinds`."""
        pairs = list(zip(filters, kinds, strict=True))
        return cls(*([each for each, kind in pairs if kind == wanted] for wanted in TYPES))

    @property
    def filters(self) -> list[Config]:
        """Those that traffic meets."""
        return [*self.network, *self.http]

    @property
    def kind(self) -> str:
        """Where the chain goes: into an HTTP connection manager ("http"), or before a TCP proxy."""
        return "network" if self.network and not self.http else "http"

    def add_services(self, bootstrap: Config) -> None:
        """Add the services to a bootstrap."""
        if self.services:
            bootstrap.setdefault("bootstrap_extensions", []).extend(self.services)


def wasm_vm(
    code: Config, *, vm_id: str = "", environment: Config | None = None, configuration: bytes = b""
) -> Config:
    """The VM for a module."""
    made: Config = {"vm_id": vm_id, "runtime": "envoy.wasm.runtime.v8", "code": code}
    if environment:
        # early Envoys let a filter with another environment share a VM of the same id
        environment_id = digest(json.dumps(environment).encode()).removeprefix("sha256:")[:12]
        made["vm_id"] = "-".join(filter(None, [vm_id, environment_id]))
        made["environment_variables"] = environment
    if configuration:
        made["configuration"] = any_value(configuration)
    return made


def wasm_filter(
    vm: Config,
    *,
    name: str,
    root_id: str = "",
    configuration: bytes = b"",
    more: Config | None = None,
    kind: str = "http",
) -> Config:
    """The filter that runs a plugin in a VM, or the service: one for all threads, on the main one.

    `more` are the plugin's other fields, as Envoy names them.
    """
    plugin: Config = {"name": name, "root_id": root_id, "vm_config": vm}
    if configuration:
        plugin["configuration"] = any_value(configuration)
    made = {"@type": TYPES[kind], "config": plugin | (more or {})}
    return made | {"singleton": True} if kind == "service" else made


def local_file(path: str) -> Config:
    """A module that Envoy reads from a file."""
    return {"local": {"filename": path}}


def reloading(version: Version) -> Config:
    """The fields that give a plugin that panicked a new VM, where Envoy's version has them.

    Otherwise every later request gets a 503.
    """
    if not proxy_features.has(proxy_features.FAILURE_POLICY, version):
        return {}
    return failing("fail-reload", version) | SOON


def failing(policy: str, version: Version) -> Config:
    """The field that sets what becomes of requests after a plugin has panicked: a policy, by our name.

    Raises `UsageError` for an Envoy that reloads no plugin.
    """
    if policy == "fail-reload":
        proxy_features.require(proxy_features.FAILURE_POLICY, version)
    if proxy_features.has(proxy_features.FAILURE_POLICY, version):
        return {"failure_policy": proxy_features.FAILURE_POLICIES[policy]}
    return {"fail_open": policy == "fail-open"}


def failure_policy(more: Mapping[str, Any], version: Version) -> str:
    """The policy, as Envoy calls it, of a plugin with those of Envoy's fields."""
    fields = more if more.keys() & {"failure_policy", "fail_open"} else reloading(version)
    policy: str = fields.get("failure_policy", "FAIL_CLOSED")
    return "FAIL_OPEN" if fields.get("fail_open") else policy


def environment(variables: Sequence[Variable], version: Version) -> Config:
    """The environment variables of a VM. Raises `UsageError` for an Envoy that has none."""
    if variables:
        proxy_features.require(proxy_features.ENVIRONMENT, version)
    host = [one.name for one in variables if one.value is None]
    own = {one.name: one.value for one in variables if one.value is not None}
    return ({"host_env_keys": host} if host else {}) | ({"key_values": own} if own else {})


def stop_iteration(kind: str, version: Version) -> Config:
    """The field with which a plugin of that type may hold back headers and yet let the body come.

    Raises `UsageError` for a network plugin, and for an Envoy without the field.
    """
    if kind != "http":
        raise UsageError(f"--allow-stop-iteration is for HTTP plugins, and this is a {_CALLED[kind]}")
    proxy_features.require(proxy_features.STOP_ITERATION, version)
    return {"allow_on_headers_stop_iteration": True}


def any_value(content: bytes) -> Config:
    """Bytes that reach the plugin unchanged: Envoy unwraps these two types, and turns others into JSON."""
    try:
        return {"@type": "type.googleapis.com/google.protobuf.StringValue", "value": content.decode()}
    except UnicodeDecodeError:
        import base64

        encoded = base64.b64encode(content).decode()
        return {"@type": "type.googleapis.com/google.protobuf.BytesValue", "value": encoded}


def filter_name(place: int) -> str:
    """The name of the filter at a place of the chain; 0 is the first."""
    return f"{FILTER}-{place + 1}" if place else FILTER


def ecds_response(typed_config: Config, version_info: str, place: int = 0) -> Config:
    """The discovery response that brings the listener its filter for one place of the chain."""
    resource = {
        "@type": "type.googleapis.com/envoy.config.core.v3.TypedExtensionConfig",
        "name": filter_name(place),
        "typed_config": typed_config,
    }
    return {"version_info": version_info, "resources": [resource]}


def static_filter(typed_config: Config, place: int = 0) -> Config:
    """The listener's slot for a filter that never changes, or a service as an extension of the bootstrap."""
    return {"name": filter_name(place), "typed_config": typed_config}


def ecds_filter(path: str, place: int = 0, *, kind: str = "http") -> Config:
    """The listener's slot for a filter that Envoy reads from the file `path` whenever that is replaced."""
    source = {"path_config_source": {"path": path}, "resource_api_version": "V3"}
    return {
        "name": filter_name(place),
        "config_discovery": {"config_source": source, "type_urls": [TYPES[kind]]},
    }


def listener_of(
    chain: Chain,
    *,
    host: str,
    port: int,
    upstream: bool,
    log: str | None = None,
    clusters: Iterable[str] = (),
    hosts: Mapping[str, str] = {},
) -> Config:
    """The listener for a chain: of HTTP or TCP. Without an upstream, Envoy itself answers."""
    if chain.kind == "network":
        return tcp_listener(host=host, port=port, filters=chain.network, log=log, echo=not upstream)
    return listener(
        host=host,
        port=port,
        filters=chain.http,
        before=chain.network,
        log=log,
        answer=None if upstream else "no upstream was given\n",
        clusters=clusters,
        hosts=hosts,
    )


def listener(
    *,
    host: str,
    port: int,
    filters: list[Config],
    before: Sequence[Config] = (),
    log: str | None = None,
    answer: str | None = None,
    clusters: Iterable[str] = (),
    hosts: Mapping[str, str] = {},
) -> Config:
    """An HTTP listener that sends everything through `filters` to the upstream cluster.

    The network filters `before` get a connection's bytes first. A request whose header `CLUSTER` names
    one of `clusters` goes there. `log` is the path of an access log. With `answer`, Envoy itself answers
    with that text, and needs no upstream. `hosts` are the `host` headers that clusters get instead of the
    client's, once all filters have seen that.
    """
    manager: Config = {
        "stat_prefix": "ingress",
        "codec_type": "AUTO",
        "route_config": {
            "name": "all",
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": _routes(clusters, answer, hosts)}],
        },
        # keep the client's id, which tells its request from other traffic at the upstream
        "preserve_external_request_id": True,
        # like the gateways of Istio and Envoy Gateway: x-forwarded-for is ours to say, WebSockets may pass
        "use_remote_address": True,
        "upgrade_configs": [{"upgrade_type": "websocket"}],
        "http_filters": [*filters, router()],
    }
    if log:
        manager["access_log"] = [access_log(log)]
    return _listener(host, port, [*before, http_manager(manager)])


def _routes(clusters: Iterable[str], answer: str | None, hosts: Mapping[str, str]) -> list[Config]:
    every: Config = {"prefix": "/"}
    routes = [
        {
            "match": every | {"headers": [{"name": CLUSTER, "string_match": {"exact": name}}]},
            "route": _to(name, hosts),
        }
        for name in clusters
    ]
    if answer is None:
        return [*routes, {"match": every, "route": _to(UPSTREAM, hosts)}]
    response = {"status": 200, "body": {"inline_string": answer}}
    return [*routes, {"match": every, "direct_response": response}]


def _to(cluster: str, hosts: Mapping[str, str]) -> Config:
    """Where a route leads. Like Envoy Gateway, it keeps the client's `host` in x-forwarded-host."""
    route: Config = {"cluster": cluster, "timeout": "60s"}
    if cluster in hosts:
        route |= {"host_rewrite_literal": hosts[cluster], "append_x_forwarded_host": True}
    return route


def tcp_listener(
    *, host: str, port: int, filters: list[Config], log: str | None = None, echo: bool = False
) -> Config:
    """A TCP listener that sends every connection through the network `filters` to the upstream cluster.

    `log` is the path of an access log. With `echo`, Envoy sends everything back, and needs no upstream.
    """
    if echo:
        end: Config = {"@type": f"{EXTENSIONS}.filters.network.echo.v3.Echo"}
        return _listener(host, port, [*filters, {"name": "envoy.filters.network.echo", "typed_config": end}])
    end = {"@type": TCP_PROXY, "stat_prefix": "ingress", "cluster": UPSTREAM}
    if log:
        end["access_log"] = [access_log(log)]
    return _listener(host, port, [*filters, {"name": "envoy.filters.network.tcp_proxy", "typed_config": end}])


def _listener(host: str, port: int, chain: list[Config]) -> Config:
    return {
        "name": "ingress",
        "address": socket_address(Address(host, port)),
        # otherwise a second Envoy on the port would start silently and take half of the traffic
        "enable_reuse_port": False,
        "filter_chains": [{"filters": chain}],
    }


def add_tls(listener: Config, certificate: str, key: str, *, http: bool) -> None:
    """Have a listener speak TLS with the certificate and key at these paths; an HTTP one offers HTTP/2."""
    pair = {"certificate_chain": {"filename": certificate}, "private_key": {"filename": key}}
    common: Config = {"tls_certificates": [pair]}
    if http:
        common["alpn_protocols"] = ["h2", "http/1.1"]
    kind = f"{EXTENSIONS}.transport_sockets.tls.v3.DownstreamTlsContext"
    for chain in listener["filter_chains"]:
        chain["transport_socket"] = {
            "name": "envoy.transport_sockets.tls",
            "typed_config": {"@type": kind, "common_tls_context": common},
        }


def http_manager(config: Config) -> Config:
    """The network filter that makes HTTP of a connection's bytes, which ends a chain of network filters."""
    typed_config = {"@type": HTTP_MANAGER} | config
    return {"name": "envoy.filters.network.http_connection_manager", "typed_config": typed_config}


def router() -> Config:
    """The filter that ends every HTTP filter chain."""
    return {
        "name": "envoy.filters.http.router",
        "typed_config": {"@type": f"{EXTENSIONS}.filters.http.router.v3.Router"},
    }


def access_log(path: str) -> Config:
    """A line when a stream has ended, after every filter's `on_log`: then its log is complete.

    The line of a TCP connection has no request id; the peer's address identifies it.
    """
    fields = {
        "time": "%START_TIME%",
        REQUEST_FIELD: f"%REQ({REQUEST_ID}):200%",
        "method": "%REQ(:METHOD):100%",
    }
    fields |= {"path": f"%REQ(X-ENVOY-ORIGINAL-PATH?:PATH):{LONGEST_PATH}%", "status": "%RESPONSE_CODE%"}
    fields |= {"milliseconds": "%DURATION%", "received": "%BYTES_RECEIVED%", "sent": "%BYTES_SENT%"}
    fields |= {"flags": "%RESPONSE_FLAGS%", "details": "%RESPONSE_CODE_DETAILS%"}
    fields |= {"peer": "%DOWNSTREAM_DIRECT_REMOTE_ADDRESS%", "closed": "%CONNECTION_TERMINATION_DETAILS%"}
    kind = "stream.v3.StderrAccessLog" if path == STDERR else "file.v3.FileAccessLog"
    typed_config = {
        "@type": f"{EXTENSIONS}.access_loggers.{kind}",
        "log_format": {"json_format": fields},
    }
    if path == STDERR:
        return {"name": "envoy.access_loggers.stderr", "typed_config": typed_config}
    return {"name": "envoy.access_loggers.file", "typed_config": typed_config | {"path": path}}


def cluster(name: str, address: Address) -> Config:
    """The cluster `name`, with one endpoint; with none (requests get a 503) if the address is empty."""
    if not address:
        return {"name": name, "type": "STATIC", "load_assignment": {"cluster_name": name}}
    made: Config = {
        "name": name,
        # one endpoint for all addresses of the name: `localhost` may listen on IPv4 only, or IPv6 only
        "type": "STATIC" if address.pipe or address.internal else "LOGICAL_DNS",
        "dns_lookup_family": "ALL",
        "connect_timeout": "5s",
        "load_assignment": {
            "cluster_name": name,
            "endpoints": [{"lb_endpoints": [{"endpoint": {"address": socket_address(address)}}]}],
        },
    }
    if address.http2:
        made["typed_extension_protocol_options"] = _http_options("http2_protocol_options", {})
    if address.tls:
        made["transport_socket"] = {"name": "envoy.transport_sockets.tls", "typed_config": _tls(address)}
    return made


def _http_options(name: str, options: Config) -> Config:
    """How a cluster speaks HTTP; the options' name says which version."""
    kind = "envoy.extensions.upstreams.http.v3.HttpProtocolOptions"
    return {kind: {"@type": f"type.googleapis.com/{kind}", "explicit_http_config": {name: options}}}


def for_development(bootstrap: Config) -> None:
    """Change a bootstrap of ours for an Envoy on the developer's machine.

    Every cluster has as many connections and requests at once as clients want: none gets a 503. The main
    thread, which compiles a megabyte of a module in about a second, is ended if it is stuck for a minute.
    Trailers pass over HTTP/1 too, and so reach the plugin.
    """
    flush_when_asked(bootstrap)
    minute = dict.fromkeys(("miss_timeout", "megamiss_timeout", "kill_timeout"), "60s")
    bootstrap["watchdogs"]["main_thread_watchdog"] = minute
    limits = dict.fromkeys(("max_connections", "max_pending_requests", "max_requests"), MANY)
    trailers = {"enable_trailers": True}
    for each in bootstrap["static_resources"]["clusters"]:
        each["circuit_breakers"] = {"thresholds": [limits]}
        each.setdefault("typed_extension_protocol_options", _http_options("http_protocol_options", trailers))
    for listener in bootstrap["static_resources"]["listeners"]:
        for each in listener["filter_chains"][0]["filters"]:
            if each.get("typed_config", {}).get("@type") == HTTP_MANAGER:
                each["typed_config"]["http_protocol_options"] = trailers


def flush_when_asked(bootstrap: Config) -> None:
    """Have Envoy flush its statistics whenever it is asked for them: see `Admin.stats`.

    Otherwise a histogram has nothing that was recorded since the last time, seconds ago.
    """
    bootstrap.pop("stats_flush_interval", None)
    bootstrap["stats_flush_on_admin"] = True


def _tls(address: Address) -> Config:
    """TLS to an upstream whose certificate must name its host, signed by an authority in `address.tls`."""
    kind = "IP_ADDRESS" if re.fullmatch(r"[0-9.]+|.*:.*", address.host) else "DNS"
    validation = {
        "trusted_ca": {"filename": address.tls},
        "match_typed_subject_alt_names": [{"san_type": kind, "matcher": {"exact": address.host}}],
    }
    made: Config = {
        "@type": f"{EXTENSIONS}.transport_sockets.tls.v3.UpstreamTlsContext",
        "common_tls_context": {"validation_context": validation},
    }
    return made if kind == "IP_ADDRESS" else made | {"sni": address.host}


def bootstrap(*, listeners: list[Config], clusters: list[Config]) -> Config:
    """A complete configuration for development, with a watchdog that ends a looping plugin."""
    worker = {"miss_timeout": "0.2s", "megamiss_timeout": "0.5s", "kill_timeout": "2s"}
    return {
        "node": {"id": "scaffold", "cluster": "scaffold"},  # Envoy needs both for ECDS
        "static_resources": {"listeners": listeners, "clusters": clusters},
        "watchdogs": {"worker_watchdog": worker},
    }


def admin(path: str, mode: int) -> Config:
    """The admin interface on a socket; `mode` are its permissions."""
    return {"address": {"pipe": {"path": path, "mode": mode}}}


def add_clusters(bootstrap: Config, clusters: Mapping[str, Address]) -> None:
    """Add clusters to a bootstrap, in place of those of the same names."""
    resources = bootstrap["static_resources"]
    own = resources.get("clusters") or []
    resources["clusters"] = [each for each in own if each.get("name") not in clusters]
    for name, address in clusters.items():
        if address and address.bridged:
            _add_bridge(bootstrap, name, address)
        else:
            resources["clusters"].append(cluster(name, address))


def _add_bridge(bootstrap: Config, name: str, address: Address) -> None:
    """Add the cluster `name`, which is called by gRPC, for an upstream at `address` that speaks HTTP/1.

    Another listener of the same Envoy translates: the upstream gets a call as a POST of the bare message,
    and answers with one; a status other than 200 becomes one of gRPC's.
    """
    inside, behind = f"grpc {name}", f"http1 {name}"  # the space: no cluster of the user's has one
    typed_config = {
        "@type": f"{EXTENSIONS}.filters.http.grpc_http1_reverse_bridge.v3.FilterConfig",
        "content_type": MESSAGE,
        "withhold_grpc_frames": True,
    }
    translator = {"name": "envoy.filters.http.grpc_http1_reverse_bridge", "typed_config": typed_config}
    route = {"match": {"prefix": "/"}, "route": {"cluster": behind, "timeout": "60s"}}
    manager = {
        "stat_prefix": inside,
        "codec_type": "HTTP2",
        "generate_request_id": False,  # at the upstream, the id tells a request from a callout
        "preserve_external_request_id": True,
        "route_config": {
            "name": inside,
            "virtual_hosts": [{"name": "all", "domains": ["*"], "routes": [route]}],
        },
        "http_filters": [translator, router()],
    }
    listener = {
        "name": inside,
        "internal_listener": {},
        "filter_chains": [{"filters": [http_manager(manager)]}],
    }
    asked = cluster(name, Address(internal=inside, http2=True))
    add_internal(bootstrap, listener)
    bootstrap["static_resources"]["clusters"] += [asked, cluster(behind, address)]


def add_internal(bootstrap: Config, listener: Config) -> None:
    """Add a listener that only clusters of the same Envoy reach."""
    extension = {
        "name": "envoy.bootstrap.internal_listener",
        "typed_config": {"@type": f"{EXTENSIONS}.bootstrap.internal_listener.v3.InternalListener"},
    }
    bootstrap["static_resources"]["listeners"].append(listener)
    extensions = bootstrap.setdefault("bootstrap_extensions", [])
    if extension not in extensions:  # once, for all of them
        extensions.append(extension)
