"""The commands of images and registries: their options and help. A body calls its operation, nothing else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import scaffold
from scaffold.cli.group import Operation
from scaffold.cli.options import FILE, build_options, json_option, plain_http_option, root_option


@click.command(cls=Operation)
@click.argument("module", required=False)
@root_option
@click.option(
    "-t", "--tag", metavar="NAME:TAG", help="What to call the image.  [default: the crate's name and version]"
)
@click.option(
    "--variant",
    metavar="NAME",
    default="compat",
    show_default=True,
    help="What kind of image: compat is what most load, oci what wasme reads, cncf what wkg does.",
)
@click.option(
    "--runtime-config", type=FILE, metavar="FILE", help="Take the root ids from this file of wasme's."
)
@build_options
@json_option
def package(**options: Any) -> object:
    """Make an image of the plugin, and keep it in the local store.

    With MODULE, a .wasm file or an image, package that instead of building.
    """
    return scaffold.package(**options)


@click.command(cls=Operation)
@click.option("--all", "every", is_flag=True, help="Those that lost their name to another, too.")
@click.option("--verify", is_flag=True, help="Read every byte again, and see that it is what it was.")
@json_option
def images(**options: Any) -> object:
    """List the local images."""
    return scaffold.images(**options)


@click.command(cls=Operation)
@click.argument("source")
@click.argument("target")
@json_option
def tag(**options: Any) -> object:
    """Give a local image one more name."""
    return scaffold.tag(**options)


@click.command(cls=Operation)
@click.argument("names", nargs=-1)
@click.option("--untagged", is_flag=True, help="Remove those that lost their name to another.")
@json_option
def rmi(**options: Any) -> object:
    """Remove local images.

    NAMES are those that `scaffold images` shows, or NAME@DIGEST. An image goes with its last one.
    """
    return scaffold.rmi(**options)


@click.command(cls=Operation)
@click.argument("image")
@plain_http_option
@json_option
def push(**options: Any) -> object:
    """Send a local image to the registry in its name; prints the pin to deploy by."""
    return scaffold.push(**options)


@click.command(cls=Operation)
@click.argument("image")
@plain_http_option
@json_option
def pull(**options: Any) -> object:
    """Fetch an image from its registry into the local store; prints its pin."""
    return scaffold.pull(**options)


@click.command(cls=Operation)
@click.argument("repository")
@plain_http_option
@json_option
def tags(**options: Any) -> object:
    """List the tags of a repository in a registry."""
    return scaffold.tags(**options)


@click.command(cls=Operation)
@click.argument("target")
@click.option("--remote", is_flag=True, help="Ask the registry, even if the image is here.")
@plain_http_option
@json_option
def inspect(**options: Any) -> object:
    """Tell the story of a module or an image: what it is, and who can load it.

    TARGET is a .wasm file, or an image's name, here or in a registry.
    """
    return scaffold.inspect(**options)


@click.command(cls=Operation)
@click.argument("registry")
@click.option("-u", "--username", metavar="NAME", help="Who logs in.  [default: asked for]")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@plain_http_option
@json_option
def login(**options: Any) -> object:
    """Log in to a registry, and keep the credentials where Docker keeps them."""
    return scaffold.login(**options)


@click.command(cls=Operation)
@click.argument("registry")
@json_option
def logout(**options: Any) -> object:
    """Forget a registry's credentials."""
    return scaffold.logout(**options)


@click.command(cls=Operation)
@click.option(
    "--store",
    type=FILE,
    metavar="FOLDER",
    default=Path("~/.wasme/store"),
    show_default=True,
    help="Where wasme kept its images.",
)
@json_option
def import_wasme(**options: Any) -> object:
    """Take over the images that wasme kept."""
    return scaffold.import_wasme(**options)


@click.command(cls=Operation)
@click.argument("provider")
@root_option
@click.option("--force", is_flag=True, help="Write over a workflow that isn't the same.")
@json_option
def ci(**options: Any) -> object:
    """Write a CI workflow that builds, tests, packages and publishes the plugin.

    PROVIDER is `github` or `gitlab`.
    """
    return scaffold.ci(**options)


COMMANDS = (package, images, tag, rmi, push, pull, tags, inspect, login, logout, import_wasme, ci)
