"""What the commands are made of: an operation prints what its body returns, a group lists them in order."""

from __future__ import annotations

from typing import Any

import click

from scaffold import console
from scaffold.errors import choose


class Operation(click.Command):
    """A command that prints what its body returns."""

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
    """A group whose commands are operations, listed in the order one needs them."""

    command_class = Operation

    def list_commands(self, ctx: click.Context) -> list[str]:
        """In the order of definition."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Suggest the nearest command for one that there isn't."""
        if args and not args[0].startswith("-") and not ctx.resilient_parsing:
            choose("command", args[0], self.commands)
        return super().resolve_command(ctx, args)
