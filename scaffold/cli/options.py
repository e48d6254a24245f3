"""The options that several commands have, once each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import click

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[F], F]

FILE = click.Path(path_type=Path)


def _options(*decorators: Decorator[Any]) -> Decorator[F]:
    def decorate(function: F) -> F:
        for decorator in reversed(decorators):
            function = decorator(function)
        return function

    return decorate


def _remember_json(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    ctx.meta["json"] = value


json_option = click.option(
    "--json", is_flag=True, expose_value=False, callback=_remember_json, help="Print the result as JSON."
)
root_option = click.option(
    "--root", metavar="FOLDER", type=FILE, default=Path(), help="The project's folder.  [default: this one]"
)
plain_http_option = click.option(
    "--plain-http", is_flag=True, help="Speak to the registry without TLS, which anybody between can change."
)
toolchain_options = _options(
    click.option("--rustc", metavar="PATH", help="The Rust compiler to use.  [default: $RUSTC, or found]"),
    click.option("-y", "--yes", is_flag=True, help="Install a toolchain without asking, if none is found."),
)
build_options = _options(
    click.option("--profile", metavar="NAME", default="release", show_default=True, help="Cargo's profile."),
    toolchain_options,
)
_PORT: dict[str, Any] = {"metavar": "NUMBER", "type": click.IntRange(0, 65535)}


def _plugin_options(otherwise: str) -> Decorator[Any]:
    """What of the plugin can be said otherwise; `otherwise` says what counts when an option isn't given."""
    return _options(
        click.option(
            "--config",
            metavar="JSON|FILE",
            help=f"The plugin's configuration.  [default: {otherwise}Cargo.toml's]",
        ),
        click.option(
            "--id", metavar="NAME", help=f"The plugin's name in Envoy.  [default: {otherwise}the crate's]"
        ),
        click.option(
            "--root-id", metavar="NAME", help=f"The plugin's root id.  [default: {otherwise}Cargo.toml's]"
        ),
        click.option(
            "--bootstrap",
            type=FILE,
            metavar="FILE",
            help=f"Put the filter into this configuration of Envoy's.  [default: {otherwise}one of ours]",
        ),
    )


plugin_options = _plugin_options("")
_LEVELS = ["trace", "debug", "info", "warning", "error", "critical"]


def host_options(port: int | None, log_level: str | None, otherwise: str) -> Decorator[Any]:
    """The options of what runs a plugin; `otherwise` says what counts when one isn't given."""
    return _options(
        click.option(
            "--port",
            **_PORT,
            default=port,
            help=f"Where it answers; 0: on any free port.  [default: {otherwise}8080]",
        ),
        _plugin_options(otherwise),
        click.option(
            "--upstream",
            metavar="URL",
            help=f"Send the traffic there.  [default: {otherwise}a built-in origin]",
        ),
        click.option(
            "--envoy",
            metavar="PATH|VERSION",
            help=f"The Envoy to run.  [default: {otherwise}the one that came with us]",
        ),
        click.option(
            "--log-level",
            metavar="LEVEL",
            type=click.Choice(_LEVELS),
            default=log_level,
            help=f"What of the plugin's log to keep: {', '.join(_LEVELS)}.  [default: {otherwise}info]",
        ),
        click.option("--envoy-args", metavar="WORDS", help="More arguments for Envoy itself."),
    )


container_options = _options(
    click.option("--envoy-image", metavar="IMAGE", help="With `docker`: the image whose Envoy runs."),
    click.option(
        "--docker-args", metavar="WORDS", help="With `docker`: arguments of `docker run` for the container."
    ),
)


_cluster_only = (
    click.option("--name", metavar="NAME", help="The resource's name.  [default: the plugin's]"),
    click.option(
        "--namespace",
        metavar="NAME",
        help="Where it goes.  [default: default; of higress: higress-system]",
    ),
    click.option(
        "--selector", multiple=True, metavar="KEY=VALUE", help="Apply it to workloads with this label."
    ),
    click.option(
        "--target-ref",
        multiple=True,
        metavar="KIND/NAME",
        help="Attach it to this: Gateway/public, HTTPRoute/web, Service/web.",
    ),
    click.option("--whole-namespace", is_flag=True, help="Apply it to every proxy in the namespace."),
    click.option("--phase", metavar="PHASE", help="Before which of Istio's filters: authn, authz or stats."),
    click.option(
        "--priority",
        metavar="NUMBER",
        type=click.IntRange(-(2**31) + 1, 2**31 - 1),
        help="The highest comes first in its phase.",
    ),
    click.option(
        "--match",
        multiple=True,
        metavar="MODE[:PORTS]",
        help="Only this traffic: client, server or both, and ports: server:80,443.",
    ),
    click.option(
        "--failure-policy",
        metavar="POLICY",
        default="fail-closed",
        show_default=True,
        help="When the plugin fails: fail-closed, fail-open or fail-reload.",
    ),
    click.option("--pull-secret", metavar="NAME", help="The secret that lets the cluster pull the image."),
    click.option(
        "--env",
        multiple=True,
        metavar="NAME[=VALUE]",
        help="A variable of the plugin's; without a value the proxy's own.",
    ),
    click.option(
        "--istio", metavar="VERSION", default="1.30", show_default=True, help="The Istio it is for."
    ),
    click.option("--traffic-extension", is_flag=True, help="Make a TrafficExtension, not a WasmPlugin."),
    click.option("--allow-stop-iteration", is_flag=True, help="Set Envoy's allow_on_headers_stop_iteration."),
    click.option("--url", metavar="URL", help="Where the module itself is downloaded, in place of an image."),
    click.option("--file", metavar="PATH", help="Where the module is in the proxy's container."),
    plain_http_option,
)
cluster_options = _options(
    *_cluster_only,
    click.option(
        "--config",
        metavar="JSON|FILE",
        help="The plugin's configuration.  [default: the image's, or Cargo.toml's]",
    ),
    click.option(
        "--root-id", metavar="NAME", help="The plugin's root id.  [default: the image's, or Cargo.toml's]"
    ),
    click.option("--envoy", metavar="VERSION", help="The Envoy it is for.  [default: the one in that Istio]"),
    click.option("--upstream", metavar="URL", help="Of a plain fleet: send the traffic there."),
)
deployed_options = _options(
    *_cluster_only,
    click.option("--context", metavar="NAME", help="The context of kubectl's.  [default: the current one]"),
    click.option("--dry-run", is_flag=True, help="In a cluster: validate on the server, change nothing."),
    click.option(
        "--wait",
        metavar="SECONDS",
        type=click.IntRange(0, 3600),
        default=60,
        show_default=True,
        help="How long a cluster may take to accept it.",
    ),
)
# of `deploy`: the names of the options that not every target has
DEPLOY_HEADINGS = {
    "An Envoy here, by envoy or docker": "port id bootstrap upstream envoy log_level envoy_args".split(),
    "With docker": "envoy_image docker_args".split(),
    "In a cluster": (
        "name namespace selector target_ref whole_namespace phase priority match failure_policy env istio"
        " traffic_extension allow_stop_iteration context dry_run wait"
    ).split(),
    "The image, or the module itself, in a cluster": "pull_secret plain_http url file".split(),
}
