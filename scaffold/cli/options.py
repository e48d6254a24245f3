"""Options for click: derived from the fields of the options classes, and shared ones such as `--json`."""

from __future__ import annotations

import functools
from collections.abc import Callable, Collection
from dataclasses import Field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import click

import scaffold
from scaffold.core.option_fields import Declaration, declarations, flag, not_among, not_between

F = TypeVar("F", bound=Callable[..., Any])
Decorator = Callable[[F], F]

Owned = tuple[str, Field[Any], Declaration]  # an option, with the keyword of its class

FILE = click.Path(path_type=Path)


def takes(
    *,
    only: Collection[str] = (),
    without: Collection[str] = (),
    helps: dict[str, str] | None = None,
    kept: str = "",
    headings: bool = True,
    **kinds: str,
) -> Decorator[Any]:
    """Add the options of these classes to a command, whose function gets an object of each by keyword.

    The classes are named as in `scaffold`, and imported when the command is asked for its parameters. An
    option that several classes share goes to the first. `only` and `without` select options by field name;
    `helps` replaces help texts, with their defaults. `kept` is the keyword of the class whose options keep
    their deployed value when they are left out. Without `headings`, `--help` doesn't group options by target.
    """

    @functools.cache
    def owners() -> dict[str, Owned]:
        return _owners(kinds, only, without, headings)

    def params() -> list[click.Option]:
        return [
            _option(name, each, declared, (helps or {}).get(name), keyword == kept)
            for name, (keyword, each, declared) in owners().items()
        ]

    def decorate(body: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(body)
        def gather(**values: Any) -> Any:
            objects: dict[str, dict[str, Any]] = {keyword: {} for keyword in kinds}
            for name, (keyword, _, _) in owners().items():
                objects[keyword][name] = values.pop(name)
            made = {keyword: getattr(scaffold, kinds[keyword])(**each) for keyword, each in objects.items()}
            return body(**values, **made)

        # `Operation.params` calls it
        gather.__click_params__ = [*getattr(body, "__click_params__", ()), params]  # type: ignore[attr-defined]
        return gather

    return decorate


def _owners(
    kinds: dict[str, str], only: Collection[str], without: Collection[str], headings: bool
) -> dict[str, Owned]:
    """The options that `takes` adds, by their fields' names."""
    owners: dict[str, Owned] = {}
    for keyword, kind in kinds.items():
        by_name = {each.name: each for each in fields(getattr(scaffold, kind))}
        for name, declared in declarations(getattr(scaffold, kind)).items():
            if name not in without and (not only or name in only):
                declared = declared if headings else replace(declared, heading="")
                owners.setdefault(name, (keyword, by_name[name], declared))
    return owners


class Headed(click.Option):
    """An option that `--help` lists under its own heading."""

    def __init__(self, *args: Any, heading: str = "", **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.heading = heading

    def get_help_extra(self, ctx: click.Context) -> Any:
        """Leave out a number's range, which the help text mentions where it matters."""
        extra = super().get_help_extra(ctx)
        extra.pop("range", None)
        return extra


def _option(
    name: str, field: Field[Any], declared: Declaration, override: str | None, kept: bool
) -> click.Option:
    text = override or declared.help
    if declared.standard and not override:
        text += f"  [default: {'as deployed, or ' if kept else ''}{declared.standard}]"
    words = [declared.short, flag(name), name] if declared.short else [flag(name), name]
    if declared.is_switch:
        words[-2] += f"/{flag(f'no_{name}')}" if kept or declared.standard else ""
        return Headed(words, heading=declared.heading, is_flag=True, default=None, help=text)
    if field.default is False:
        return Headed(words, heading=declared.heading, is_flag=True, help=text)
    return Headed(
        words,
        heading=declared.heading,
        metavar=declared.metavar,
        multiple=isinstance(field.default, tuple),
        type=_type(declared),
        default=field.default,
        show_default=bool(field.default),
        help=text,
    )


class OneOf(click.Choice[str]):
    """One of some words. The error for another suggests the nearest."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> str:
        """The word as it is declared."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            raise not_among(_called(param), value, self.choices) from error

    def get_missing_message(self, param: click.Parameter, ctx: click.Context | None) -> str:
        """Nothing: the help has the words."""
        return ""


class Between(click.IntRange):
    """A number between two, both included, or from one up. The error names them."""

    def __init__(self, limits: tuple[int, int | None]) -> None:
        super().__init__(*limits)
        self._limits = limits

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The number."""
        try:
            return super().convert(value, param, ctx)
        except click.BadParameter as error:
            raise not_between(_called(param), value, self._limits) from error


def _called(param: click.Parameter | None) -> str:
    """How a parameter is called on the command line: an option by its long name."""
    if isinstance(param, click.Option):
        return next((name for name in param.opts if name.startswith("--")), param.opts[0])
    return param.human_readable_name if param else "it"


def _type(declared: Declaration) -> Any:
    if declared.choices:
        return OneOf(declared.choices)
    if declared.limits:
        return Between(declared.limits)
    return FILE if declared.is_path else None


def _remember_json(ctx: click.Context, _param: click.Parameter, value: bool) -> None:
    ctx.meta["json"] = value


json_option = click.option(
    "--json", is_flag=True, expose_value=False, callback=_remember_json, help="Print the result as JSON."
)
root_option = click.option(
    "--root", metavar="FOLDER", type=FILE, default=Path(), help="Project folder.  [default: the current one]"
)
out_option = click.option(
    "--out",
    type=FILE,
    metavar="FILE",
    default=Path("-"),
    help="Output file; - is standard output.  [default: -]",
)
plain_http_option = click.option(
    "--plain-http",
    is_flag=True,
    help="Use HTTP instead of HTTPS; anyone on the network can change the image.",
)
