"""The commands as invoke tasks: a project's tasks.py says `from scaffold.tasks import ns`."""

from __future__ import annotations

import difflib
import inspect
import keyword
import re
import sys
from typing import Any

import click
from invoke.collection import Collection
from invoke.parser.parser import ParseMachine
from invoke.tasks import Task

from scaffold.cli import console
from scaffold.cli.commands import cli, enter
from scaffold.errors import UsageError, closest

# the settings of invoke that its flags change -> the flags
_FLAGS = {
    "command": "--command-timeout",
    "dry": "--dry",
    "echo": "--echo",
    "hide": "--hide",
    "pty": "--pty",
    "warn": "--warn-only",
}


def _suggest() -> None:
    """Have invoke's error for an unknown word name the nearest flag or task.

    It parses all words before it calls a task, and copies our collection, so there is no other place for it.
    """
    refuse = ParseMachine.error

    def error(self: ParseMachine, msg: str) -> None:
        word = re.fullmatch(r"No idea what '(.*)' is!", msg)
        if word:
            msg += f"\nhint: {_hint(word[1], self)}"
        refuse(self, msg)

    ParseMachine.error = error  # type: ignore[method-assign]


def _hint(word: str, machine: Any) -> str:
    """What to type instead of a word that invoke doesn't know, after the words that `machine` has parsed."""
    task, name = machine.context, machine.context.name or ""
    if word.startswith("-"):
        flags = [flag.lstrip("-") for flag in (*task.flags, *task.inverse_flags)]
        near = difflib.get_close_matches(word.strip("-"), flags)
        lists = f"`invoke --help{f' {name}' if name else ''}` lists the flags"
        return f"did you mean `--{closest(word.strip('-'), near)}`?" if near else lists
    near = difflib.get_close_matches(word, list(machine.contexts))
    params = cli.commands[name].params if name in cli.commands else []
    passed = [f"`--{_flag(each)}={word}`" for each in params if isinstance(each, click.Argument)]
    hints = [f"did you mean `{closest(word, near)}`?"] if near else []
    hints += [f"an argument of `invoke {name}` is a flag: {' or '.join(passed)}"] if passed else []
    return " ".join(hints) or "`invoke --list` lists the tasks"


def derive(name: str, command: click.Command) -> Task[Any]:
    """Make a task with the command's options as flags and its required arguments as positionals.

    Optional arguments become flags: an optional positional would swallow the name of the next task in
    `invoke build deploy test`.
    """
    params = {_flag(param): param for param in command.params if param.expose_value or _flag(param) == "json"}
    params |= {off.lstrip("-").replace("-", "_"): one for one in command.params for off in one.secondary_opts}
    repeatable = [flag for flag, param in params.items() if _is_repeatable(param)]

    def body(_context: Any, **values: Any) -> None:
        with console.reporting():
            _refuse_flags(_context, name)
            more = _after_dashes(_context, command, name)
        enter(command, [*_argv(params, values), *more], f"invoke {name}")

    parameters = [inspect.Parameter("_context", inspect.Parameter.POSITIONAL_ONLY)]
    parameters += [
        inspect.Parameter(flag, inspect.Parameter.KEYWORD_ONLY, default=_default(param))
        for flag, param in params.items()
    ]
    body.__signature__ = inspect.Signature(parameters)  # type: ignore[attr-defined]
    body.__doc__, body.__name__ = command.help, name
    return Task(
        body,
        name=name,
        positional=[flag for flag, param in params.items() if _is_positional(param)],
        iterable=repeatable,
        help={flag: str(getattr(param, "help", None) or "") for flag, param in params.items()},
        auto_shortflags=False,
    )


def _refuse_flags(context: Any, name: str) -> None:
    """Raise `UsageError` for invoke's own flags, which are about shell commands: our tasks run none.

    `--dry` may also come from a file or a variable of invoke's; nobody who sets it wants anything done.
    """
    set_here = getattr(context.config, "_overrides", {})
    chosen = {**set_here.get("run", {}), **set_here.get("timeouts", {})}
    chosen |= {"dry": True} if context.config.run.dry else {}
    for key in chosen:
        own = any(param.name == "dry_run" for param in cli.commands[name].params)
        instead = f"run `scaffold {name} --dry-run`" if key == "dry" and own else "leave it out"
        message = f"`invoke {name}` doesn't support invoke's flag {_FLAGS.get(key, key)}, and did nothing"
        raise UsageError(message, hint=instead)


def _after_dashes(context: Any, command: click.Command, name: str) -> list[str]:
    """The words after `--`, for the argument of the command that takes any number of them."""
    words = sys.argv[sys.argv.index("--") + 1 :] if "--" in sys.argv else []
    remainder = getattr(context, "remainder", None)  # the same, as one text; invoke 2 keeps it to itself
    if remainder is not None and " ".join(words) != remainder:
        words = remainder.split()
    takes_more = any(isinstance(param, click.Argument) and param.nargs == -1 for param in command.params)
    if words and not takes_more:
        raise UsageError(f"`invoke {name}` takes nothing after `--`", hint=f"run `invoke {name} --help`")
    return words


def _flag(param: click.Parameter) -> str:
    """The name that users type, such as `all`, even if the operation's parameter has another name.

    invoke takes `for_` for Python's word, and calls the flag `--for`.
    """
    long = next((word for word in param.opts if word.startswith("--")), param.name or "")
    name = long.lstrip("-").replace("-", "_")
    return f"{name}_" if keyword.iskeyword(name) else name


def _is_positional(param: click.Parameter) -> bool:
    return isinstance(param, click.Argument) and param.required and param.nargs == 1


def _is_repeatable(param: click.Parameter) -> bool:
    return bool(getattr(param, "multiple", False)) or param.nargs == -1


def _default(param: click.Parameter) -> Any:
    """The flag's default, from which invoke infers its type: a bool, a list, or text that click parses."""
    if _is_positional(param):
        return inspect.Parameter.empty
    if _is_repeatable(param):
        return []
    if getattr(param, "is_flag", False):
        return False
    default = param.to_info_dict()["default"]
    return None if default is None else str(default)


def _argv(params: dict[str, click.Parameter], values: dict[str, Any]) -> list[str]:
    """The task's values as a command line, so that click parses both in the same way."""
    options: list[str] = []
    arguments: list[str] = []
    for flag, param in params.items():
        value = values.get(flag)
        if isinstance(param, click.Argument):
            items = value if isinstance(value, list) else [value]
            arguments += [str(item) for item in items if item is not None]
        elif getattr(param, "is_flag", False):
            options += [f"--{flag.replace('_', '-')}"] if value else []
        else:
            for item in value if isinstance(value, list) else [value]:
                options += [f"--{flag.replace('_', '-')}={item}"] if item is not None else []
    return [*options, "--", *arguments]


_suggest()
ns = Collection(*(derive(name, command) for name, command in cli.commands.items() if name != "completion"))
