"""What a person or a pipe sees, and how a command ends: rendered events, errors, signals, terminals."""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
from dataclasses import dataclass, field, fields, is_dataclass
from pathlib import Path
from typing import get_args, get_type_hints

import click
import pytest
from support.commands import error

from scaffold import errors
from scaffold.cli import console
from scaffold.core.events import (
    Event,
    Failed,
    Finished,
    Logged,
    Noted,
    Progressed,
    Quoted,
    Started,
    Warned,
    ask,
    emit,
    prompt,
    step,
    until_interrupted,
)
from scaffold.core.text import LINES
from scaffold.errors import ScaffoldError

pytestmark = pytest.mark.usefixtures("users_folders")


def ended(capsys, body):
    """How a block under `reporting` ends: exit code, standard output, standard error."""
    code = 0
    try:
        with console.reporting(), console.showing_events():
            body()
    except SystemExit as end:
        code = end.code
    said = capsys.readouterr()
    return code, said.out, said.err


def raises(exception):
    def body():
        raise exception

    return body


# --- events


@pytest.mark.parametrize(
    ("event", "line"),
    [
        (Started("Building"), "Building\n"),
        (Finished("Building", 0.5), ""),
        (Finished("Building", 1.25), "Building: 1.2 s\n"),
        (Failed("Building"), ""),
        (Noted("a line"), "a line\n"),
        (Warned("take care"), "warning: take care\n"),
        (Progressed("Loading", 1, 4, "B"), "Loading: 20 %\n"),
        (Progressed("Loading", 0, 0), "Loading: 0 %\n"),
    ],
)
def test_an_event_is_a_plain_line_on_standard_error(event, line, capsys):
    assert ended(capsys, lambda: emit(event)) == (0, "", line)


HOSTILE = (
    "a\x1b[2J\x1b]8;;http://evil\x07b\r\x9bc\u202ed\n\nerror: forged\n hint: run it\n::add-mask::x\n##[x]"
)
CONTROLS = re.compile(r"[\x00-\x09\x0b-\x1f\x7f-\x9f\u202e]")
FORGED = re.compile(r"^ ?(error|hint|warning):", re.MULTILINE)


def hostile(kind):
    """A value of a type with that text wherever it has any."""
    if is_dataclass(kind):
        types = get_type_hints(kind)
        return kind(**{field.name: hostile(types[field.name]) for field in fields(kind)})
    if kind is str:
        return HOSTILE
    match get_args(kind):
        case (first, end) if end in (..., type(None)):
            return (hostile(first),) if end is ... else hostile(first)
        case (key, value):
            return {hostile(key): hostile(value)}
    return 1


@pytest.mark.parametrize("kind", get_args(Event))
def test_no_text_of_an_event_commands_the_terminal_or_forges_a_line(kind, capsys):
    """Each event that there is, with foreign text in all its fields."""
    *_, out, err = ended(capsys, lambda: emit(hostile(kind)))
    assert not CONTROLS.search(out + err)
    if kind is not Quoted:  # the output of a tool of the user's own
        assert not FORGED.findall(re.sub("^warning: a", "", out + err))


def test_nor_does_one_that_begins_like_an_error(capsys):
    assert ended(capsys, lambda: emit(Noted("error: forged")))[2] == "  error: forged\n"


def test_a_tool_keeps_its_colours_and_nothing_else(capsys, monkeypatch):
    monkeypatch.setattr("click._compat._ansi_re", re.compile("(?!)"))  # as if this was a terminal
    text = "\x1b[1;38:5:9mred\x1b[0m \x1b]0;title\x07\x1b[2J"
    shown = "\x1b[1;38:5:9mred\x1b[0m \ufffd]0;title\ufffd\ufffd[2J\n"
    assert ended(capsys, lambda: emit(Quoted(text)))[2] == shown


def test_in_a_job_of_github_no_line_is_a_command(capsys, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")
    for kind in (Noted, Warned):
        *_, err = ended(capsys, lambda kind=kind: emit(kind(f"::stop-commands::x\n{HOSTILE}")))
        assert not re.search(r"^\s*::|##\[", err, re.MULTILINE)
    assert ended(capsys, lambda: emit(Logged("info", HOSTILE)))[1].endswith("\n  : :add-mask::x\n  ## [x]\n")


def test_nor_does_an_error(capsys):
    code, _, err = ended(capsys, raises(errors.UsageError("a\x1b[2Jb\nhint: no", hint="c\x07d\nerror: e")))
    assert (code, err) == (2, "error: a\ufffd[2Jb\n  hint: no\n\nhint: c\ufffdd\n  error: e\n")


def test_nor_does_the_traceback_of_a_bug(capsys):
    *_, err = ended(capsys, raises(ZeroDivisionError("\x1b[2J\nerror: forged")))
    assert "\n  error: forged\n" in err
    assert "\x1b" not in err


def test_what_the_plugin_logged_is_a_result(capsys):
    assert ended(capsys, lambda: emit(Logged("info", "hello"))) == (0, "[info] hello\n", "")


def test_progress_without_a_terminal_is_a_line_for_each_tenth(capsys):
    def body():
        for done in range(1001):
            emit(Progressed("Loading", done, 1000, "B"))

    *_, err = ended(capsys, body)
    assert err.splitlines() == [f"Loading: {tenth} %" for tenth in range(0, 101, 10)]


def test_github_folds_what_belongs_to_a_step(capsys, monkeypatch):
    monkeypatch.setenv("GITHUB_ACTIONS", "true")

    def body():
        with step("Building"):
            emit(Noted("a line"))
        with step("Testing"):
            raise ScaffoldError("it broke")

    code, out, err = ended(capsys, body)
    lines = ["::group::Building", "a line", "::endgroup::", "::group::Testing", "::endgroup::"]
    assert (code, out, err) == (70, "", "\n".join(lines) + "\nerror: it broke\n")


def test_nobody_is_asked_where_nobody_can_answer(capsys):
    answers = []
    ended(capsys, lambda: answers.extend([ask("may we?"), prompt("which?", "this")]))
    assert answers == [True, "this"]


def test_the_listener_leaves_with_the_block(capsys):
    ended(capsys, lambda: None)
    emit(Noted("too late"))
    assert capsys.readouterr() == ("", "")


# --- results


@dataclass(frozen=True)
class Result:
    path: Path
    count: int
    parts: tuple[str, ...]
    named: dict[str, Path]
    missing: None = None
    good: bool = True

    def summary(self) -> str:
        return f"{self.count} at {self.path}"


def test_a_result_is_its_summary_or_json(capsys):
    result = Result(Path("a/é"), 3, ("x", "y"), {"b": Path("c")})
    console.show(result)
    console.show([result, "plain", Path("p")])
    console.show(None)
    assert capsys.readouterr().out == "3 at a/é\n3 at a/é\nplain\np\n"
    console.show(result, as_json=True)
    shown = {
        "path": "a/é",
        "count": 3,
        "parts": ["x", "y"],
        "named": {"b": "c"},
        "missing": None,
        "good": True,
    }
    assert json.loads(capsys.readouterr().out) == shown
    console.show([], as_json=True)
    console.show(None, as_json=True)
    assert capsys.readouterr().out == "[]\nnull\n"


@dataclass(frozen=True)
class Part:
    name: str
    lines: str = field(metadata=LINES)


@dataclass(frozen=True)
class Foreign:
    """A result whose texts come from elsewhere."""

    name: str
    path: Path
    names: tuple[str, ...]
    table: dict[str, str]
    part: Part

    def summary(self) -> str:
        values = [self.name, self.path, *self.names, *self.table.items(), self.part.name]
        return "\n".join([*map(str, values), *self.part.lines.splitlines()])


FOREIGN = Foreign(HOSTILE, Path(HOSTILE), (HOSTILE, "x"), {HOSTILE: HOSTILE}, Part(HOSTILE, "one\n\x1btwo"))


def test_a_text_in_a_result_can_neither_command_the_terminal_nor_make_a_line(capsys):
    console.show(FOREIGN)
    console.show([FOREIGN.name])
    out = capsys.readouterr().out
    assert not CONTROLS.search(out)
    assert not FORGED.search(out)
    assert out.count("\n") == 9
    assert "one\n\ufffdtwo\n" in out


def test_in_json_it_is_the_same_text(capsys):
    console.show(FOREIGN, as_json=True)
    out = capsys.readouterr().out
    assert not CONTROLS.search(out)
    assert json.loads(out)["names"] == [HOSTILE, "x"]


# --- errors

CLASSES = [
    kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ScaffoldError)
]


@pytest.mark.parametrize("kind", CLASSES)
def test_an_error_is_one_sentence_a_hint_and_its_exit_code(kind, capsys):
    assert ended(capsys, raises(kind("it broke", hint="mend it"))) == (
        kind.exit_code,
        "",
        "error: it broke\n\nhint: mend it\n",
    )
    assert ended(capsys, raises(kind("it broke"))) == (kind.exit_code, "", "error: it broke\n")


@pytest.mark.parametrize(
    ("exception", "code", "err"),
    [
        (PermissionError(13, "Permission denied", "/a/b"), 4, error("/a/b: Permission denied")),
        (OSError(28, "No space left on device"), 4, error("No space left on device")),
        (OSError(30, "Read-only file system", "c"), 4, error("c: Read-only file system")),
        (OSError(24, "Too many open files"), 4, error("Too many open files")),
        (KeyboardInterrupt(), 130, error("interrupted")),
        (click.Abort(), 130, error("interrupted")),
        (click.exceptions.Exit(7), 7, ""),
        (click.exceptions.Exit(0), 0, ""),
        (click.ClickException("Bad thing."), 2, error("bad thing", "run `scaffold --help`")),
        (click.UsageError("Bad use."), 2, error("bad use", "run `scaffold --help`")),
    ],
    ids=repr,
)
def test_what_else_ends_a_run(exception, code, err, capsys):
    assert ended(capsys, raises(exception)) == (code, "", err)


@pytest.mark.parametrize(
    "exception", [ZeroDivisionError("oh"), FileNotFoundError(2, "No such file", "x"), MemoryError()], ids=repr
)
def test_a_bug_of_ours_shows_its_traceback_and_asks_for_a_report(exception, capsys):
    code, out, err = ended(capsys, raises(exception))
    assert (code, out) == (70, "")
    assert err.startswith("Traceback (most recent call last):\n")
    assert "in body\n" in err
    assert err.endswith(
        f"error: a bug in scaffold: {exception!r}\n\nhint: please report it with the traceback above\n"
    )


def test_the_handlers_are_given_back(capsys):
    before = signal.getsignal(signal.SIGTERM)
    ended(capsys, lambda: None)
    assert signal.getsignal(signal.SIGTERM) is before


def test_an_interrupt_that_comes_while_a_class_is_made_is_one(capsys):
    """Python wraps what is raised then into a RuntimeError."""

    class Descriptor:
        def __set_name__(self, owner, name):
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(SystemExit) as ended, console.reporting():
        type("Made", (), {"field": Descriptor()})
    assert ended.value.code == 128 + signal.SIGTERM
    assert "terminated" in capsys.readouterr().err


def test_an_interrupt_that_python_takes_for_another_error_is_one(capsys):
    """So does an import from a module that is written in C: "expected a message argument"."""
    with pytest.raises(SystemExit) as ended, console.reporting():
        with contextlib.suppress(console.Terminated):
            os.kill(os.getpid(), signal.SIGTERM)
        raise TypeError("expected a message argument")
    assert ended.value.code == 128 + signal.SIGTERM
    assert "a bug" not in capsys.readouterr().err


class Interrupted:
    """A result that Ctrl-C meets while it is printed."""

    def as_json(self):
        raise KeyboardInterrupt


def test_ctrl_c_while_a_line_is_printed_ends_what_may_be_ended_so():
    def lines():
        with until_interrupted():
            yield Interrupted()
            raise AssertionError("it has ended")

    console.show_each(lines(), as_json=True)
    for results in (iter([Interrupted()]), (each for each in [Interrupted()])):
        with pytest.raises(KeyboardInterrupt):
            console.show_each(results, as_json=True)
