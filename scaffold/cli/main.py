"""The command line: every command's options and help. A body calls its operation, nothing else."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

import scaffold
from scaffold.cli import console
from scaffold.cli import images as cli_images
from scaffold.cli import projects as cli_projects
from scaffold.cli.group import Commands
from scaffold.cli.options import (
    DEPLOY_HEADINGS,
    FILE,
    build_options,
    cluster_options,
    container_options,
    deployed_options,
    host_options,
    json_option,
    plugin_options,
    root_option,
    toolchain_options,
)

_COMPLETE = "_SCAFFOLD_COMPLETE"  # the variable by which a shell asks


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(scaffold.__version__, message="%(prog)s %(version)s", prog_name="scaffold")
def cli() -> None:
    """Write, build, run, test and deploy proxy-wasm filters in Rust.

    `scaffold new hello_world`, then, in that folder, `scaffold build`, `scaffold run`, `scaffold test`.
    """


for _command in cli_projects.COMMANDS:
    cli.add_command(_command)


@cli.command()
@root_option
@toolchain_options
@click.option("--remove", is_flag=True, help="Remove the toolchains that scaffold installed.")
@json_option
def setup(**options: Any) -> object:
    """Find a Rust toolchain that compiles to wasm, or install one."""
    return scaffold.setup(**options)


@cli.command()
@root_option
@click.option(
    "--fix", is_flag=True, help="Install a toolchain, make missing folders, forget dead deployments."
)
@click.option("--rustc", metavar="PATH", help="The Rust compiler to check.  [default: $RUSTC, or found]")
@click.option(
    "--envoy", metavar="PATH|VERSION", help="The Envoy to check.  [default: the one that came with us]"
)
@json_option
def doctor(**options: Any) -> object:
    """Check this machine: what is missing or unusable, and how to fix it."""
    return scaffold.doctor(**options)


@cli.command()
@root_option
@build_options
@json_option
def build(**options: Any) -> object:
    """Compile the plugin to a wasm module.

    At a workspace's root that is every plugin in it, by one call of cargo; `test` and `package` do likewise.
    """
    return scaffold.build(**options)


@cli.command()
@root_option
def clean(**options: Any) -> None:
    """Remove what cargo built."""
    scaffold.clean(**options)


@cli.command()
@click.argument("module", required=False)
@root_option
@host_options(8080, "info", "")
@build_options
def run(**options: Any) -> None:
    """Build the plugin and run it in an Envoy, until Ctrl-C.

    With MODULE, a .wasm file or an image, run that instead. At a workspace's root it is the chain of its
    plugins.
    """
    scaffold.run(**options)


@cli.command()
@click.argument("module", required=False)
@root_option
@click.option(
    "--port",
    metavar="NUMBER",
    type=click.IntRange(0, 65535),
    default=8080,
    show_default=True,
    help="Where it listens.",
)
@plugin_options
@click.option("--upstream", metavar="URL", help="Send the traffic there.  [default: Envoy answers itself]")
@click.option(
    "--envoy", metavar="PATH|VERSION", help="The Envoy it is for.  [default: the one that came with us]"
)
@click.option(
    "--out", type=FILE, metavar="FILE", default=Path("-"), help="Write it there.  [default: -, the terminal]"
)
@build_options
@json_option
def bootstrap(**options: Any) -> object:
    """Print the configuration that runs the plugin in an Envoy of yours.

    With MODULE, a .wasm file or an image, that which runs it instead. At a workspace's root it is for the
    chain of its plugins.
    """
    return scaffold.bootstrap(**options)


@cli.command()
@click.argument("pytest_args", nargs=-1, type=click.UNPROCESSED)
@root_option
@click.option(
    "--host",
    metavar="NAME",
    default="envoy",
    show_default=True,
    help="What runs the plugin: envoy, a local process, or docker, a container.",
)
@click.option(
    "--envoy",
    metavar="PATH|VERSION",
    help="The Envoy to run; with commas several, one after the other.  [default: the one that came with us]",
)
@container_options
@click.option("--deployed", is_flag=True, help="Play the tests against what is deployed.")
@click.option("--module", metavar="FILE", type=FILE, help="Test this .wasm file instead of building.")
@click.option("-k", "--keyword", metavar="EXPRESSION", help="Only the tests that match, as in pytest.")
@click.option("-x", "--exitfirst", is_flag=True, help="Stop at the first failure.")
@click.option("--junitxml", type=FILE, metavar="FILE", help="Write a report for CI.")
@build_options
@json_option
def test(**options: Any) -> object:
    """Run the plugin's tests: native ones by cargo, the others against a host.

    PYTEST_ARGS (after `--`) go to pytest as they are.
    """
    return scaffold.test(**options)


@cli.command(headings=DEPLOY_HEADINGS)
@click.argument("target", default="envoy")
@click.argument("module", required=False)
@root_option
@host_options(None, None, "as deployed, or ")
@container_options
@click.option(
    "--probe",
    metavar="PATH",
    help="What to ask a foreign upstream for, to see the filter work; of a cluster, a whole URL.",
)
@deployed_options
@build_options
@json_option
def deploy(**options: Any) -> object:
    """Run the plugin in the background; again, and it is replaced without losing a request.

    TARGET is `envoy`, a local process, or `docker`, a container of --envoy-image. With MODULE, a .wasm
    file or an image, deploy that instead of building. At a workspace's root it is the chain of its plugins,
    in the order of `members`, or of `chain` in [workspace.metadata.proxy-wasm].

    TARGET may be a cluster's control plane, too: `istio`, `istio-envoyfilter`, `envoy-gateway` or `higress`.
    Then MODULE is an image that was pushed, and kubectl applies what `scaffold manifest` prints.
    """
    return scaffold.deploy(**options)


@cli.command()
@click.argument("target")
@click.argument("image", required=False)
@root_option
@cluster_options
@click.option(
    "--out", type=FILE, metavar="FILE", default=Path("-"), help="Write it there.  [default: -, the terminal]"
)
@build_options
@json_option
def manifest(**options: Any) -> object:
    """Print the Kubernetes resource for a control plane (applies nothing).

    TARGET is istio, istio-envoyfilter, envoy-gateway or higress; or envoy, for a fleet without a control
    plane. IMAGE is pinned by its digest in the registry; without it the project is built.
    """
    return scaffold.manifest(**options)


@cli.command()
@root_option
@click.option("--all", "everything", is_flag=True, help="Of all projects.")
@json_option
def undeploy(**options: Any) -> object:
    """End what is deployed."""
    return scaffold.undeploy(**options)


@cli.command()
@root_option
@click.option("--all", "everything", is_flag=True, help="Of all projects.")
@json_option
def status(**options: Any) -> object:
    """Show what is deployed: where it answers, which module, how long."""
    return scaffold.status(**options)


@cli.command()
@root_option
@click.option("-f", "--follow", is_flag=True, help="Go on with new lines, until Ctrl-C.")
def logs(**options: Any) -> None:
    """Print what the deployed plugin logged."""
    scaffold.logs(**options)


for _command in cli_images.COMMANDS:
    cli.add_command(_command)


@cli.command()
@click.option("--install", metavar="VERSION", help="Install this one.")
@click.option("--remove", metavar="VERSION", help="Remove this one; `all`: every one that was installed.")
@json_option
def envoys(**options: Any) -> object:
    """List the Envoys that are installed; install one, or remove it.

    Others are installed when they are named: `scaffold run --envoy 1.36.4`.
    """
    return scaffold.envoys(**options)


@cli.command()
@click.argument("shell", type=click.Choice(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print the completion script: `eval "$(scaffold completion bash)"`."""
    from click.shell_completion import get_completion_class

    script = get_completion_class(shell)
    assert script  # noqa: S101 - click knows the three
    console.show(script(cli, {}, "scaffold", _COMPLETE).source())


def enter(command: click.Command, words: Sequence[str], name: str) -> None:
    """Run a command of the line `words` as `name`: the way in for every door. Raises `SystemExit` only.

    Not click's `main`, which has ends of its own for an interrupt and for a broken pipe.
    """
    with console.reporting(), command.make_context(name, list(words)) as context:
        command.invoke(context)


def main() -> None:
    """Enter by the command line, or answer the shell that asks how a word could go on."""
    instruction = os.environ.get(_COMPLETE)
    if instruction:
        from click.shell_completion import shell_complete

        raise SystemExit(shell_complete(cli, {}, "scaffold", _COMPLETE, instruction))
    enter(cli, sys.argv[1:], "scaffold")
