"""Our click classes: `Operation`, a command that prints its result, and `Commands`, the group of them."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import click

from scaffold.cli import console
from scaffold.errors import UsageError, choose

# other tools' command names -> ours
_ELSEWHERE = {
    "init": ("new",),
    "create": ("new",),
    "list": ("images", "status"),
    "ls": ("images", "status"),
    "ps": ("status",),
    "up": ("deploy",),
    "start": ("deploy",),
    "down": ("undeploy",),
    "stop": ("undeploy",),
    "delete": ("undeploy", "rmi"),
    "install": ("setup",),
}


class Operation(click.Command):
    """A command that prints the value its function returns; its help groups options under headings.

    Parameters may be declared by a function that returns several: it is called when they are used first.
    """

    _params: list[Any]

    @property
    def params(self) -> list[click.Parameter]:
        """The arguments and options."""
        if any(map(callable, self._params)):
            self._params = [one for each in self._params for one in (each() if callable(each) else [each])]
        return self._params

    @params.setter
    def params(self, declared: list[Any]) -> None:
        self._params = declared

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words; an error about an option leads to this command's help.

        An option isn't the value of another: in `--config --port 1` the value is missing.
        """
        try:
            self._check_values(ctx, args)
            return super().parse_args(ctx, args)
        except click.UsageError as error:
            error.ctx = error.ctx or ctx
            raise

    def _check_values(self, ctx: click.Context, args: Sequence[str]) -> None:
        options = [param for param in self.get_params(ctx) if isinstance(param, click.Option)]
        names = {name for option in options for name in option.opts if name.startswith("--")}
        valued = {name for option in options if not option.is_flag for name in option.opts}
        words = args[: args.index("--")] if "--" in args else args
        for word, value in itertools.pairwise(words):
            if word in valued and value.partition("=")[0] in names:
                raise click.BadOptionUsage(word, f"Option {word!r} requires an argument.", ctx)

    def sections(self, params: Sequence[click.Parameter]) -> dict[str, list[click.Option]]:
        """The options by heading; options without one come first, under "Options"."""
        sections: dict[str, list[click.Option]] = {"Options": []}
        for param in params:
            if isinstance(param, click.Option):
                sections.setdefault(getattr(param, "heading", "") or "Options", []).append(param)
        return sections

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the options' help by section."""
        for heading, options in self.sections(self.get_params(ctx)).items():
            if records := [record for option in options if (record := option.get_help_record(ctx))]:
                with formatter.section(heading):
                    formatter.write_dl(records)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command and print its result, as text or JSON."""
        with console.showing_events():
            result = super().invoke(ctx)
            if isinstance(result, Iterator):
                console.show_each(result, as_json=ctx.meta.get("json", False))
                return None
        console.show(result, as_json=ctx.meta.get("json", False))
        if code := getattr(result, "exit_code", 0):  # such as a failed check, whose result is printed too
            ctx.exit(code)
        return result

    def get_short_help_str(self, limit: int = 0) -> str:
        """The whole first sentence, which may wrap in the list of commands; click would truncate it."""
        return (self.help or "").partition("\n\n")[0].replace("\n", " ").removesuffix(".")


class Commands(click.Group):
    """The group of all commands, listed under headings in the order of a plugin's life."""

    command_class = Operation

    def __init__(self, *args: Any, headings: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.headings = headings or {}

    def sections(self) -> dict[str, list[str]]:
        """The commands' names by heading."""
        return {heading: names.split() for heading, names in self.headings.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the headings."""
        return [name for names in self.sections().values() for name in names]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write the commands' help by section."""
        longest = max(map(len, self.commands))
        for heading, names in self.sections().items():
            with formatter.section(heading):
                formatter.write_dl(
                    [(f"{name:<{longest}}", self.commands[name].get_short_help_str()) for name in names]
                )

    def parse_args(self, ctx: click.Context, args: list[str]) -> list[str]:
        """Parse the words; `help COMMAND` and `version` are how other tools spell --help and --version."""
        if args[:1] == ["help"]:
            args = [*(word for word in args[1:] if word != "help"), "--help"]
        return super().parse_args(ctx, ["--version"] if args == ["version"] else args)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Look up a command; the error for an unknown one suggests the nearest."""
        if args and not args[0].startswith("-") and not ctx.resilient_parsing:
            name = args[0]
            if name not in self.commands and name in _ELSEWHERE:
                ours = " or ".join(f"`{command}`" for command in _ELSEWHERE[name])
                raise UsageError(f"no command named `{name}`", hint=f"did you mean {ours}?")
            choose("command", name, self.commands)
        return super().resolve_command(ctx, args)
