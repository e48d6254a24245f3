"""The options of commands for click: those of the options classes, derived from their fields, and others."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from dataclasses import Field, fields
from pathlib import Path
from typing import Any, TypeVar

import click

from scaffold.core.options import Declaration, declarations, flag

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[F], F]

FILE = click.Path(path_type=Path)


def takes(
    *,
    only: Collection[str] = (),
    without: Collection[str] = (),
    helps: dict[str, str] | None = None,
    kept: str = "",
    **kinds: type,
) -> Decorator[Any]:
    """Give a command the options of these classes; its body gets an object of each, by the keyword here.

    An option that several classes have goes to the first. `only` names those that the command has, `without`
    those that it hasn't; `helps` has other sentences for it. `kept` is the keyword of the object whose
    options stay as they are deployed when they aren't given.
    """
    homes: dict[str, tuple[str, Field[Any], Declaration]] = {}
    for keyword, kind in kinds.items():
        by_name = {each.name: each for each in fields(kind)}
        for name, declared in declarations(kind).items():
            if name not in without and (not only or name in only or keyword == "build"):
                homes.setdefault(name, (keyword, by_name[name], declared))

    def decorate(body: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(body)
        def gather(**values: Any) -> Any:
            objects: dict[str, dict[str, Any]] = {keyword: {} for keyword in kinds}
            for name, (keyword, _, _) in homes.items():
                objects[keyword][name] = values.pop(name)
            made = {keyword: kinds[keyword](**found) for keyword, found in objects.items()}
            return body(**values, **made)

        decorated: Callable[..., Any] = gather
        for name, (keyword, each, declared) in reversed(homes.items()):
            decorated = _click(name, each, declared, (helps or {}).get(name), keyword == kept)(decorated)
        return decorated

    return decorate


class Headed(click.Option):
    """An option that `--help` lists under a heading of its own."""

    def __init__(self, *args: Any, heading: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heading = heading

    def get_help_extra(self, ctx: click.Context) -> Any:
        """Without the range of a number, which the sentence says where it matters."""
        extra = super().get_help_extra(ctx)
        extra.pop("range", None)
        return extra


def _click(name: str, field: Field[Any], declared: Declaration, sentence: str | None, kept: bool) -> Any:
    text = sentence or declared.help
    if declared.standard:
        text += f"  [default: {'as deployed, or ' if kept else ''}{declared.standard}]"
    words = [declared.short, flag(name), name] if declared.short else [flag(name), name]
    if field.default is False:
        return click.option(*words, cls=Headed, heading=declared.heading, is_flag=True, help=text)
    return click.option(
        *words,
        cls=Headed,
        heading=declared.heading,
        metavar=declared.metavar,
        multiple=isinstance(field.default, tuple),
        type=_type(declared),
        default=field.default,
        show_default=bool(field.default),
        help=text,
    )


def _type(declared: Declaration) -> Any:
    if declared.choices:
        return click.Choice(declared.choices)
    if declared.limits:
        return click.IntRange(*declared.limits)
    return FILE if declared.is_path else None


def _remember_json(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    ctx.meta["json"] = value


json_option = click.option(
    "--json", is_flag=True, expose_value=False, callback=_remember_json, help="Print the result as JSON."
)
root_option = click.option(
    "--root", metavar="FOLDER", type=FILE, default=Path(), help="Project folder.  [default: this one]"
)
out_option = click.option(
    "--out", type=FILE, metavar="FILE", default=Path("-"), help="File to write.  [default: -, the terminal]"
)
plain_http_option = click.option(
    "--plain-http", is_flag=True, help="Use the registry without TLS, which anyone in between can change."
)
