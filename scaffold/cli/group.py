"""What the commands are made of: an operation prints what its body returns, a group lists them in order."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import click

from scaffold.cli import console
from scaffold.errors import UsageError, choose

# what other tools call it: the commands here
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
    """A command that prints what its body returns; its help lists some options under headings."""

    def sections(self, params: Sequence[click.Parameter]) -> dict[str, list[click.Option]]:
        """The options by heading; those without one come first, under "Options"."""
        found: dict[str, list[click.Option]] = {"Options": []}
        for param in params:
            if isinstance(param, click.Option):
                found.setdefault(getattr(param, "heading", "") or "Options", []).append(param)
        return found

    def format_options(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what each option does, by section."""
        for heading, options in self.sections(self.get_params(ctx)).items():
            if records := [record for option in options if (record := option.get_help_record(ctx))]:
                with formatter.section(heading):
                    formatter.write_dl(records)

    def invoke(self, ctx: click.Context) -> Any:
        """Run the body, and print its result as the caller wants it."""
        with console.narrating():
            result = super().invoke(ctx)
        console.show(result, as_json=ctx.meta.get("json", False))
        if code := getattr(result, "exit_code", 0):  # a result may be bad news, and is shown all the same
            ctx.exit(code)
        return result

    def get_short_help_str(self, limit: int = 0) -> str:
        """The first sentence whole: a list of commands may wrap, but not end in dots."""
        return (self.help or "").partition("\n\n")[0].replace("\n", " ").removesuffix(".")


class Commands(click.Group):
    """A group whose commands are operations, listed under headings in the order in which one needs them."""

    command_class = Operation

    def __init__(self, *args: Any, headings: Mapping[str, str] | None = None, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.headings = headings or {}

    def sections(self) -> dict[str, list[str]]:
        """The commands' names by heading; those without one are left out."""
        return {heading: names.split() for heading, names in self.headings.items()}

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of the headings."""
        return [name for names in self.sections().values() for name in names]

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Write what each command does, by section."""
        longest = max(map(len, self.commands))
        for heading, names in self.sections().items():
            with formatter.section(heading):
                formatter.write_dl(
                    [(f"{name:<{longest}}", self.commands[name].get_short_help_str()) for name in names]
                )

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the nearest command for one that there isn't."""
        if args and not args[0].startswith("-") and not ctx.resilient_parsing:
            name = args[0]
            if name not in self.commands and name in _ELSEWHERE:
                meant = ", or ".join(f"`{one}`" for one in _ELSEWHERE[name])
                raise UsageError(f"no command named `{name}`", hint=f"did you mean {meant}?")
            choose("command", name, self.commands)
        return super().resolve_command(ctx, args)
