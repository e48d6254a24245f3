"""The commands of templates and what comes from them: their options and help. A body calls its operation."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

import scaffold
from scaffold.cli.group import Operation
from scaffold.cli.options import FILE, json_option, root_option


@click.command(cls=Operation)
@click.argument("name")
@click.option(
    "--template",
    metavar="NAME|FOLDER|ZIP|URL",
    default="http",
    show_default=True,
    help="What to start from: a name of `scaffold templates`, or anybody's: ./folder, a .zip, a git URL.",
)
@click.option("--checkout", metavar="REF", help="Which branch, tag or commit of such a template.")
@click.option("--directory", metavar="FOLDER", help="Where in such a source the template is.")
@click.option("--trust", is_flag=True, help="Trust this state of such a template, which can run any code.")
@click.option(
    "--output-dir",
    metavar="FOLDER",
    type=FILE,
    default=Path(),
    help="Where the crate's folder goes; made if missing.  [default: here]",
)
@click.option("-v", "--variable", multiple=True, metavar="KEY=VALUE", help="Set a template's variable.")
@click.option("--ci", metavar="PROVIDER", help="Add a CI workflow: github or gitlab.")
@click.option("--no-input", is_flag=True, help="Ask nothing: take the defaults.")
@json_option
def new(**options: Any) -> object:
    """Make a new filter from a template."""
    return scaffold.new(**options)


@click.command(cls=Operation)
@click.option("--forget", metavar="COMMIT", help="Trust this commit or digest no more; its begin will do.")
@json_option
def templates(**options: Any) -> object:
    """List the templates, and which states of foreign ones are trusted."""
    return scaffold.templates(**options)


@click.command(cls=Operation)
@root_option
@click.option("--check", is_flag=True, help="Write nothing; exit code 3 when there is an update.")
@click.option("--dry-run", is_flag=True, help="Write nothing; print the patch.")
@click.option(
    "--to", metavar="VERSION|COMMIT", help="Go to this state of the template.  [default: the newest]"
)
@click.option("--trust", is_flag=True, help="Trust the code in a template that didn't come with us.")
@click.option("-v", "--variable", multiple=True, metavar="KEY=VALUE", help="Set a template's variable.")
@json_option
def update(**options: Any) -> object:
    """Merge into the project what changed in its template since.

    Git does: what can't be merged is marked in the files, and the exit code is 3. Nothing that isn't
    committed is ever overwritten.
    """
    return scaffold.update(**options)


@click.command(cls=Operation)
@root_option
@click.option("--dry-run", is_flag=True, help="Write nothing; print the patch.")
@json_option
def adopt(**options: Any) -> object:
    """Make a project of a filter's crate that scaffold didn't make.

    Nothing that is there is overwritten, but for the renames that the field went through.
    """
    return scaffold.adopt(**options)


COMMANDS = (new, update, adopt, templates)
