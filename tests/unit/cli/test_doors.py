"""One function, three doors: they take the same, refuse alike, and open quickly."""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import json
import os
import re
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import get_type_hints

import click
import pytest
from invoke.collection import Collection
from invoke.config import Config
from support.commands import entered, error

import scaffold
from scaffold.cli.commands import cli
from scaffold.cli.group import _ELSEWHERE
from scaffold.cli.options import Between
from scaffold.commands import bootstrap
from scaffold.core.option_fields import declarations, supported_by
from scaffold.hosts.options import OF_BENCH, OF_EMULATOR, OF_TESTS
from scaffold.kubernetes.options import DEPLOY_ONLY
from scaffold.tasks import ns

COMMANDS = {name.replace("-", "_"): command for name, command in cli.commands.items() if name != "completion"}
NEEDED = {
    "manifest": ["istio"],
    "new": ["x"],
    "tag": ["x", "y"],
    "push": ["x"],
    "pull": ["x"],
    "tags": ["x"],
    "inspect": ["x"],
    "login": ["x"],
    "logout": ["x"],
    "ci": ["github"],
    "explain": ["abcdef"],
    "record": ["abcdef"],
}  # the arguments that a command can't do without
CARGO_TOML = '[package]\nname = "a"\nversion = "1.0.0"\n[lib]\ncrate-type = ["cdylib"]\n'


@pytest.fixture(autouse=True)
def _user(users_folders, monkeypatch):
    """A user whose PATH leads to us, outside of any shell's completion."""
    monkeypatch.delenv("_SCAFFOLD_COMPLETE", raising=False)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


# --- parity


def long_name(param):
    """`--output-dir` as `output-dir`, an argument by its name."""
    return next((word for word in param.opts if word.startswith("--")), param.name).lstrip("-")


def test_every_operation_has_a_command_and_a_task():
    assert list(COMMANDS) == list(scaffold.OPERATIONS)
    tasks = [
        name.replace("-", "_") for name in ns.task_names if not name.startswith("dev.")
    ]  # this repository's
    assert sorted(tasks) == sorted(scaffold.OPERATIONS)
    assert set(scaffold.OPERATIONS) <= set(scaffold.__all__)


def kinds(name):
    """An operation's parameters and their types; those of an options object are its fields."""
    operation = getattr(scaffold, name)
    hints = get_type_hints(operation)
    objects = [hints[key] for key in inspect.signature(operation).parameters if is_options(hints[key])]
    plain = {
        key: (hints[key], parameter.default)
        for key, parameter in inspect.signature(operation).parameters.items()
        if not is_options(hints[key])
    }
    declared = {}
    for kind in objects:
        types = get_type_hints(kind)
        for field in dataclasses.fields(kind):
            declared.setdefault(field.name, (types[field.name], field.default))
    return plain, declared


def is_options(hint):
    return dataclasses.is_dataclass(hint) and hint.__name__ in scaffold.OPTIONS


@pytest.mark.parametrize("name", scaffold.OPERATIONS)
def test_a_command_takes_what_its_operation_takes(name):
    plain, declared = kinds(name)
    params = COMMANDS[name].make_context(name, list(NEEDED.get(name, []))).params
    assert set(plain) <= set(params) <= {*plain, *declared}
    assert bool(declared) == bool(set(params) - set(plain))
    for key, value in params.items():
        default = {**declared, **plain}[key][1]
        assert default is inspect.Parameter.empty or value == default, key


def test_a_command_leaves_out_no_option():
    """Each has all fields of the classes that it takes, except those that it doesn't support."""
    build, run, cluster = (
        set(declarations(kind))
        for kind in (scaffold.BuildOptions, scaffold.RunOptions, scaffold.ClusterOptions)
    )
    complete = {
        "adopt": {"rustc", "yes"},
        "setup": {"rustc", "yes"},
        "doctor": {"rustc", "envoy"},
        "build": build,
        "check": build,
        "record": build,
        "package": build,
        "test": build | set(OF_TESTS) | set(declarations(scaffold.MeasureOptions)),
        "bench": build | set(OF_BENCH),
        "diff": build | set(OF_EMULATOR) - {"envoy"},
        "run": build | set(supported_by(scaffold.RunOptions, "envoy")),
        "dev": build | set(supported_by(scaffold.RunOptions, "envoy")),
        "bootstrap": build | set(bootstrap.OPTIONS),
        "deploy": build | run | cluster,
        "manifest": build | cluster - set(DEPLOY_ONLY),
    }
    for name in scaffold.OPERATIONS:
        plain, _ = kinds(name)
        exposed = {param.name for param in COMMANDS[name].params if param.expose_value}
        assert exposed == plain.keys() | complete.get(name, set()), name


@pytest.mark.parametrize("name", scaffold.OPERATIONS)
def test_a_commands_values_are_of_the_kinds_that_its_operation_wants(name):
    plain, declared = kinds(name)
    for param in COMMANDS[name].params:
        if not param.expose_value:
            continue
        many = getattr(param, "multiple", False) or param.nargs == -1
        switch = getattr(param, "is_flag", False)
        kind = {click.Path: Path, Between: int}.get(type(param.type), bool if switch else str)
        wanted = {**declared, **plain}[param.name][0]
        if many:
            assert wanted in (collections.abc.Sequence[str], tuple[str, ...]), param.name
        else:
            assert wanted in (kind, kind | None, kind | bytes | None), param.name


@pytest.mark.parametrize("name", scaffold.OPERATIONS)
def test_a_commands_arguments_come_in_the_order_of_its_operations(name):
    arguments = [p.name for p in COMMANDS[name].params if isinstance(p, click.Argument) and p.required]
    assert list(inspect.signature(getattr(scaffold, name)).parameters)[: len(arguments)] == arguments


@pytest.mark.parametrize("name", scaffold.OPERATIONS)
def test_a_task_has_the_flags_of_its_command(name):
    arguments = {argument.names[0]: argument for argument in ns[name].get_arguments()}
    params = {long_name(param).replace("_", "-"): param for param in COMMANDS[name].params}
    params |= {off.lstrip("-"): param for param in COMMANDS[name].params for off in param.secondary_opts}
    assert set(arguments) == set(params)
    for flag, param in params.items():
        argument = arguments[flag]
        many = getattr(param, "multiple", False) or param.nargs == -1
        assert list(argument.names) == [flag], "no short flags"
        assert argument.positional is (isinstance(param, click.Argument) and param.required and not many)
        switch = bool(getattr(param, "is_flag", False))
        assert argument.kind is (list if many else bool if switch else str)
        assert argument.help == (getattr(param, "help", None) or "")


def test_with_invoke_2_what_follows_two_dashes_is_not_lost(monkeypatch, capsys):
    """Its context has no `remainder`."""
    monkeypatch.setattr(sys, "argv", ["invoke", "images", "--", "--all"])
    with pytest.raises(SystemExit) as ended:
        ns["images"].body(SimpleNamespace(config=Config()))
    assert ended.value.code == 2
    assert "`invoke images` takes nothing after `--`" in capsys.readouterr().err


def test_the_tasks_are_a_collection_that_can_be_put_below_another():
    outer = Collection("mine")
    outer.add_collection(ns, name="proxy")
    assert "proxy.build" in outer.task_names


# --- help


@pytest.mark.parametrize("name", ["", *cli.commands])
def test_help_fits_a_terminal_and_says_something_of_every_option(name, capsys):
    ran = entered(capsys, *([name] if name else []), "--help")
    assert (ran.code, ran.err) == (0, "")
    assert max(map(len, ran.out.splitlines())) <= 80
    assert "..." not in re.sub(r"\[[A-Z_]+\]\.\.\.", "", ran.out)
    command = cli.commands[name] if name else cli
    assert command.help
    assert command.help.splitlines()[0].removesuffix(":")[-1] in ".;" or "\n" in command.help
    for param in command.params:
        if isinstance(param, click.Option):
            assert param.help, param.name
            assert param.help[0].isupper(), param.help
            assert param.help.partition("  [default")[0].endswith("."), param.help


def test_arguments_that_are_not_self_evident_are_explained():
    for name, command in COMMANDS.items():
        for param in command.params:
            if isinstance(param, click.Argument) and not param.required:
                assert param.name.upper() in command.help, (name, param.name)


def test_what_other_tools_call_it_leads_to_commands_that_there_are():
    assert not set(_ELSEWHERE) & set(cli.commands)
    assert {name for names in _ELSEWHERE.values() for name in names} <= set(cli.commands)


def test_without_a_command_there_is_help_and_exit_code_2(capsys):
    ran = entered(capsys)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == entered(capsys, "--help").out


@pytest.mark.parametrize(
    "name",
    [
        name
        for name, command in COMMANDS.items()
        if name not in ("setup", "doctor", "manifest")
        and any(param.name == "root" for param in command.params)
    ],
)
def test_every_command_explains_that_there_is_no_project(name, tmp_path, capsys):
    ran = entered(capsys, name, *NEEDED.get(name, []), "--root", tmp_path)
    if name in ("status", "undeploy"):
        assert (ran.code, ran.err) == (0, f"nothing is deployed from {tmp_path}\n")
    elif name == "history":
        assert (ran.code, ran.err) == (0, f"nothing was deployed from {tmp_path}\n")
    elif name == "rollback":
        assert (ran.code, ran.err.splitlines()[0]) == (9, f"error: nothing was deployed from {tmp_path}")
    elif name in ("logs", "requests", "explain", "metrics", "admin"):
        assert (ran.code, ran.err.splitlines()[0]) == (9, "error: nothing is deployed from here")
    else:
        hint = "run `scaffold new NAME` first, or pass --root"
        assert (ran.code, ran.err) == (3, error(f"no Cargo.toml in {tmp_path}", hint))


MISTAKES = [
    ("bild", "no command named `bild`", "did you mean `build`?"),
    ("frobnicate", "no command named `frobnicate`", None),
    ("init", "no command named `init`", "did you mean `new`?"),
    ("list", "no command named `list`", "did you mean `images` or `status`?"),
    ("stop", "no command named `stop`", "did you mean `undeploy`?"),
    ("up", "no command named `up`", "did you mean `deploy`?"),
    ("new a_filter --template htp", "no template named `htp`", "did you mean `http`?"),
    ("new a_filter -v licence=MIT", "no variable named `licence`", "did you mean `license`?"),
    ("new a_filter -v novalue", "`novalue` doesn't set a variable", "write it as key=value"),
    ("test --host envoi", "no host named `envoi`", "did you mean `envoy`?"),
    (
        "test --host envoy,emulator",
        "--host takes one host",
        "`--host all` plays on the emulator and on Envoy, and compares them",
    ),
    (
        "new a_filter --template network",
        "no template named `network`",
        "`tcp` makes a plugin of the type network",
    ),
    ("deploy enovy", "no target named `enovy`", "did you mean `envoy`?"),
    ("build --rot x", "no such option `--rot`", "did you mean `--root`?"),
    ("deploy --prot 80", "no such option `--prot`", "did you mean `--port`?"),
    ("build --frobnicate", "no such option `--frobnicate`", "run `scaffold build --help`"),
    ("-q", "no such option `-q`", "run `scaffold --help`"),
    ("new", "missing argument 'NAME'", "run `scaffold new --help`"),
    ("new a b", "got unexpected extra argument (b)", "run `scaffold new --help`"),
    ("build --root", "option '--root' requires an argument", "run `scaffold build --help`"),
    ("deploy --config", "option '--config' requires an argument", "run `scaffold deploy --help`"),
    ("deploy --config --port 1", "option '--config' requires an argument", "run `scaffold deploy --help`"),
    ("deploy --config --port=1", "option '--config' requires an argument", "run `scaffold deploy --help`"),
    ("run --port 65536", "--port can't be `65536`", "pass a number from 0 to 65535"),
    ("run --port http", "--port can't be `http`", "pass a number from 0 to 65535"),
    ("completion", "missing argument 'SHELL'\n", "run `scaffold completion --help`"),
    ("deploy --probe health", "--probe 'health' isn't the path of a request", "such as `--probe /health`"),
    ("deploy a:1", "`a:1` is a module or an image", "run `scaffold deploy envoy a:1`"),
    ("logs --tail -1", "--tail can't be `-1`", "pass a number from 0 up"),
    ("deploy --log-level inof", "--log-level can't be `inof`", "did you mean `info`?"),
    ("deploy --log-level WARNING", "--log-level can't be `WARNING`", "did you mean `warning`?"),
    ("logs --level Warn", "--level can't be `Warn`", "did you mean `warning`?"),
    ("help bild", "no command named `bild`", "did you mean `build`?"),
    ("completion tcsh", "SHELL can't be `tcsh`", "known: bash, zsh, fish"),
]


@pytest.mark.parametrize(("line", "message", "hint"), MISTAKES, ids=[line for line, *_ in MISTAKES])
def test_a_mistyped_line_is_exit_code_2_with_the_nearest_that_there_is(
    line, message, hint, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Cargo.toml").write_text(CARGO_TOML)
    ran = entered(capsys, *line.split())
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"error: {message}")
    assert ran.err.endswith(f"\n\nhint: {hint}\n" if hint else "\n")
    assert "\nhint: " in ran.err
    assert [path.name for path in tmp_path.iterdir()] == ["Cargo.toml"]


@pytest.mark.parametrize(
    ("words", "same"),
    [
        ("help", "--help"),
        ("help deploy", "deploy --help"),
        ("help help", "--help"),
        ("version", "--version"),
    ],
)
def test_what_other_tools_call_help_and_version(words, same, capsys):
    assert entered(capsys, *words.split()) == entered(capsys, *same.split())


# --- JSON


def returns(name):
    return get_type_hints(getattr(scaffold, name)).get("return") is not type(None)


def test_whatever_returns_something_has_json():
    with_json = {name for name, command in COMMANDS.items() if any(p.name == "json" for p in command.params)}
    assert with_json == {name for name in scaffold.OPERATIONS if returns(name)}


@pytest.mark.parametrize(
    "line", ["status --json", "status --all --json", "undeploy --json", "undeploy --all --json"]
)
def test_nothing_deployed_is_an_empty_list_and_the_words_are_elsewhere(line, tmp_path, capsys):
    ran = entered(capsys, *line.split(), "--root", tmp_path)
    assert (ran.code, json.loads(ran.out)) == (0, [])
    assert ran.err.startswith("nothing is deployed")


def test_an_error_leaves_standard_output_to_no_one(tmp_path, capsys):
    assert entered(capsys, "build", "--json", "--root", tmp_path).out == ""
