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
    "-t", "--tag", metavar="NAME:TAG", help="Name of the image.  [default: the crate's name and version]"
)
@click.option(
    "--variant",
    metavar="NAME",
    default="compat",
    show_default=True,
    help="Format of the image: compat for most consumers, oci for wasme, cncf for wkg.",
)
@click.option(
    "--runtime-config", type=FILE, metavar="FILE", help="Take the root ids from wasme's runtime-config.json."
)
@build_options
@json_option
def package(**options: Any) -> object:
    """Make an image of the plugin, and keep it in the local store.

    With MODULE, a .wasm file or an image, package that instead of building.
    """
    return scaffold.package(**options)


@click.command(cls=Operation)
@click.option("--all", "every", is_flag=True, help="Include untagged images.")
@click.option("--verify", is_flag=True, help="Read every byte, and report damaged images.")
@json_option
def images(**options: Any) -> object:
    """List the local images."""
    return scaffold.images(**options)


@click.command(cls=Operation)
@click.argument("source")
@click.argument("target")
@json_option
def tag(**options: Any) -> object:
    """Give a local image another name."""
    return scaffold.tag(**options)


@click.command(cls=Operation)
@click.argument("names", nargs=-1)
@click.option("--untagged", is_flag=True, help="Remove all untagged images.")
@json_option
def rmi(**options: Any) -> object:
    """Remove local images.

    NAMES are as `scaffold images` lists them, or NAME@DIGEST. An image is deleted with its last name.
    """
    return scaffold.rmi(**options)


@click.command(cls=Operation)
@click.argument("image")
@plain_http_option
@json_option
def push(**options: Any) -> object:
    """Send a local image to the registry in its name, and print the pin to deploy."""
    return scaffold.push(**options)


@click.command(cls=Operation)
@click.argument("image")
@plain_http_option
@json_option
def pull(**options: Any) -> object:
    """Fetch an image from its registry into the local store, and print its pin."""
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
@click.option("--remote", is_flag=True, help="Ask the registry even if the image is in the local store.")
@plain_http_option
@json_option
def inspect(**options: Any) -> object:
    """Show what a module or image contains, and which hosts load it.

    TARGET is a .wasm file, or the name of an image, in the local store or in a registry.
    """
    return scaffold.inspect(**options)


@click.command(cls=Operation)
@click.argument("registry")
@click.option("-u", "--username", metavar="NAME", help="User name.  [default: prompt]")
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
    """Delete a registry's credentials."""
    return scaffold.logout(**options)


@click.command(cls=Operation)
@click.option(
    "--store",
    type=FILE,
    metavar="FOLDER",
    default=Path("~/.wasme/store"),
    show_default=True,
    help="Folder of wasme's images.",
)
@json_option
def import_wasme(**options: Any) -> object:
    """Copy the images in wasme's store into the local store."""
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
