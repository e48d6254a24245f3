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
