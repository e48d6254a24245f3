"""Everything that scaffold prints: events, errors and results. Also turns signals into exit codes."""

from __future__ import annotations

import os
import re
import signal
import sys
import threading
from collections.abc import Generator, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scaffold.core.text import coloured, fit, flat, indented, line, safe
from scaffold.errors import INTERNAL, INTERRUPTED, MachineError, ScaffoldError, closest, of_os_error

if TYPE_CHECKING:
    from scaffold.core import events  # imported when a command runs

_LABEL = re.compile(r"(error|hint|warning):", re.IGNORECASE)
_COMMAND = re.compile(r"(^\s*:(?=:)|##(?=\[))", re.MULTILINE)  # how a line commands GitHub's runner
_LEVEL_COLOURS = {"critical": "red", "error": "red", "warning": "yellow", "debug": "cyan", "trace": "cyan"}


class Terminated(BaseException):
    """SIGTERM or SIGHUP, raised as an exception so that the stack unwinds as it does for Ctrl-C."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


def _unwrapped(error: BaseException, raised: list[BaseException]) -> BaseException:
    """The interrupt that was `raised`, if Python made another error of it, as in an import or a class."""
    return raised[-1] if raised and type(error) in (RuntimeError, TypeError, SystemError) else error


@contextmanager
def _signals_raised(raised: list[BaseException]) -> Iterator[None]:
    """Raise SIGINT, SIGTERM and SIGHUP as exceptions in the block, so that its `finally` clauses run.

    They are appended to `raised`. A signal that already has a handler keeps it. Once one has ended the
    block, more of them are ignored: the process reports the first and ends with its code.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, _frame: object) -> None:
        raised.append(KeyboardInterrupt() if number == signal.SIGINT else Terminated(number))
        raise raised[-1]

    def send_again(unraisable: sys.UnraisableHookArgs) -> None:
        """Repeat a signal whose exception Python dropped, in a finaliser or a weakref callback."""
        error = unraisable.exc_value
        if isinstance(error, KeyboardInterrupt | Terminated):
            number = signal.SIGINT if isinstance(error, KeyboardInterrupt) else error.exit_code - 128
            main = threading.main_thread().ident or 0
            threading.Timer(0.01, signal.pthread_kill, (main, number)).start()
        else:
            hook(unraisable)

    # SIGINT too: see __main__
    numbers = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {
        number: signal.signal(number, handle)
        for number in numbers
        if signal.getsignal(number) is signal.SIG_DFL
    }
    hook, sys.unraisablehook = sys.unraisablehook, send_again
    try:
        yield
    except BaseException as error:
        if isinstance(_unwrapped(error, raised), KeyboardInterrupt | Terminated):
            before = dict.fromkeys(before, signal.SIG_IGN)
        raise
    finally:
        sys.unraisablehook = hook
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def reporting() -> Iterator[None]:
    """Turn any exception that ends the block into a message and an exit code; raises only `SystemExit`."""
    raised: list[BaseException] = []
    try:
        with _signals_raised(raised):
            yield
            if sys.stdout:
                sys.stdout.flush()  # here, where a failure can still be reported
    except (Exception, KeyboardInterrupt, Terminated) as error:
        code = _explain(_unwrapped(error, raised))
        _discard_unwritable_output()
        raise SystemExit(code) from None


def _discard_unwritable_output() -> None:
    """Redirect broken streams to /dev/null: unwritten output would change Python's exit code to 120."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream:
                stream.flush()
        except OSError:
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def showing_events() -> Iterator[None]:
    """Print the events of the block. Not used for `--version` and `--help`, which should start fast."""
    from scaffold.core import events

    renderer = _Renderer()
    with events.listening(renderer.handle):
        try:
            yield
        finally:
            renderer.end_bar()


def show(result: object, *, as_json: bool = False) -> None:
    """Print an operation's result on standard output."""
    if as_json:
        import json

        if sys.stdout:  # piece by piece: a module's report may have thousands of names
            pieces = json.JSONEncoder(indent=2, default=_plain).iterencode(_plain(result))
            sys.stdout.writelines(piece.replace("\x7f", "\\u007f") for piece in pieces)
        click.echo()
    elif isinstance(result, (list, tuple)) and not hasattr(result, "summary"):
        for item in flat(result):
            show(item)
    elif result is not None and (text := _text(result)):
        _print(text, err=False)


def show_each(results: Iterator[Any], *, as_json: bool = False) -> None:
    """Print results as they come: a line each, of JSON if asked."""
    for each in results:
        try:
            _show_line(each, as_json=as_json)
        except KeyboardInterrupt as interrupt:  # it is the same as one that comes while we wait for a line
            if not isinstance(results, Generator):
                raise
            with suppress(StopIteration):
                results.throw(interrupt)


def _show_line(result: Any, *, as_json: bool) -> None:
    if as_json:
        import json

        click.echo(json.dumps(result.as_json(), ensure_ascii=True))
    elif hasattr(result, "summary"):
        show(result)
    elif hasattr(result, "method"):
        _say_requested(result)
    else:
        _say_logged(result)


def _text(result: Any) -> str:
    """A result as text; in a terminal its lines are wrapped between words."""
    if not hasattr(result, "summary"):
        return safe(str(result)) if _in_terminal() else str(result)  # a pipe gets a path as it is
    result = flat(result)
    if not _in_terminal():
        return _tamed(safe(result.summary()))
    from shutil import get_terminal_size

    columns = get_terminal_size().columns
    return safe(result.fit(columns)) if hasattr(result, "fit") else fit(safe(result.summary()), columns)


def _say(text: str, label: str = "", *, err: bool = True) -> None:
    """Print a message, whose text may be foreign, after a label of ours."""
    text = _tamed(indented(text))
    if label:
        text = f"{label} {text}"
    elif _LABEL.match(text):  # only we begin a line like this
        text = f"  {text}"
    _print(text, err=err)


def _tamed(text: str) -> str:
    """The text without commands to the runner of a job of GitHub."""
    return _COMMAND.sub(r"\1 ", text) if _in_github() else text


def _in_terminal() -> bool:
    """Whether standard output is one."""
    return bool(sys.stdout and sys.stdout.isatty())


def _in_github() -> bool:
    return bool(os.environ.get("GITHUB_ACTIONS"))


def _print(text: str, *, err: bool = True) -> None:
    """Print a text that is safe; on standard output as bytes, since a folder's name may be any."""
    click.echo(text if err else text.encode(errors="surrogateescape"), err=err)


def _plain(value: object) -> Any:
    """Convert a dataclass, path or the like to JSON's types, but not what is in it.

    Fields without a `repr` are left out.
    """
    import dataclasses

    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        names = [field.name for field in dataclasses.fields(value) if field.repr]
        values = {name: getattr(value, name) for name in names}
        return {name: _plain(each) if isinstance(each, Mapping) else each for name, each in values.items()}
    if isinstance(value, Mapping):
        return {str(key): item for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return list(value)
    if value is None or isinstance(value, str | int | float):
        return value
    return str(value)


def _explain(error: BaseException) -> int:
    """Print what went wrong and what to type next; returns the exit code."""
    match error:
        case ScaffoldError():
            return _report(error.message, error.hint, error.exit_code)
        case click.exceptions.Exit():
            return error.exit_code
        case click.exceptions.NoArgsIsHelpError():
            with suppress(OSError):
                _print(error.format_message())
            return error.exit_code
        case click.ClickException():
            return _explain_usage(error)
        case Terminated():
            return _report("terminated", None, error.exit_code)
        case KeyboardInterrupt() | click.Abort():
            if sys.stderr and sys.stderr.isatty():
                _say_last("")  # end the line with ^C or the question
            return _report("interrupted", None, INTERRUPTED)
        case BrokenPipeError():
            return 128 + signal.SIGPIPE
        case FileNotFoundError() if _is_cwd_gone():
            hint = "`cd` to a folder that exists"
            return _report("the current folder no longer exists", hint, MachineError.exit_code)
        case OSError() if machine_error := of_os_error(error):
            return _report(machine_error.message, None, machine_error.exit_code)
    import traceback

    _say_last("".join(traceback.format_exception(error)))
    return _report(f"a bug in scaffold: {error!r}", "please report it with the traceback above", INTERNAL)


def _is_cwd_gone() -> bool:
    try:
        Path.cwd()
    except FileNotFoundError:
        return True
    return False


def _explain_usage(error: click.ClickException) -> int:
    context = getattr(error, "ctx", None)
    hint = f"run `{context.command_path if context else 'scaffold'} --help`"
    message = error.format_message().strip().removesuffix(".")
    if isinstance(error, click.NoSuchOption):
        message = f"no such option `{error.option_name}`"
        import difflib

        # click compares with the dashes, to which every short name is similar
        name, options = error.option_name.strip("-"), [each.strip("-") for each in error.possibilities or ()]
        if near := difflib.get_close_matches(name, options):
            hint = f"did you mean `--{closest(name, near)}`?"
    return _report(message[:1].lower() + message[1:], hint, 2)


def _report(message: str, hint: str | None, code: int) -> int:
    _say_last(message, click.style("error:", fg="red", bold=True))
    if hint:
        _say_last("")
        _say_last(hint, click.style("hint:", bold=True))
    return code


def _say_last(text: str, label: str = "") -> None:
    with suppress(OSError):  # a closed pipe or a full disk: the exit code still tells
        _say(text, label)


def _say_logged(event: events.Logged) -> None:
    from scaffold.cli.request_lines import ID
    from scaffold.core.times import shown

    time = "" if event.time is None else click.style(f"{shown(event.time)} ", dim=True)
    request = click.style(f"{line(event.request)[:ID]} ", dim=True) if event.request else ""
    label = (
        time + request + click.style(f"[{line(event.level)}]", fg=_LEVEL_COLOURS.get(event.level, "green"))
    )
    text = f"{event.source}: {event.text}" if event.by_name else event.text
    _say(text, label if _in_terminal() else click.unstyle(label), err=False)


def _say_requested(event: events.Requested) -> None:
    from scaffold.cli.request_lines import request_lines

    if _in_terminal():
        from shutil import get_terminal_size

        text = "\n".join(request_lines(event, get_terminal_size().columns))
    else:
        text = _tamed(click.unstyle("\n".join(request_lines(event, None))))
    _print(text, err=False)


class _Renderer:
    """Prints events as lines on standard error, and progress as a bar if that is a terminal."""

    def __init__(self) -> None:
        self._folds = _in_github()
        self._bar: Any = None
        self._task: Any = None
        self._tenth = -1

    def handle(self, event: events.Event) -> events.Answer:
        """Print one event; returns the answer if it is a question."""
        from scaffold.core import events

        if not isinstance(event, events.Progressed):
            self.end_bar()
        match event:
            case events.Started(title):
                title = line(title)
                _print(f"::group::{title}" if self._folds else click.style(title, bold=True))
            case events.Finished(title, seconds):
                if self._folds:
                    _print("::endgroup::")
                elif seconds >= 1:
                    _print(click.style(f"{line(title)}: {seconds:.1f} s", dim=True))
            case events.Failed():
                _print("::endgroup::") if self._folds else None
            case events.Noted(text):
                _say(text)
            case events.Quoted(text):
                _print(coloured(text))
            case events.Warned(text):
                _say(text, click.style("warning:", fg="yellow", bold=True))
            case events.Logged():
                _say_logged(event)
            case events.Requested():
                _say_requested(event)
            case events.Moved():
                show(event)
            case events.Progressed():
                self._progress(event)
            case events.Question(text):
                return self._ask(indented(text))
            case events.Prompt(text, default, hidden):
                return self._prompt(indented(text), default, hidden)
        return None

    def _ask(self, text: str) -> bool | None:
        if _interactive():
            return click.confirm(text, default=True, err=True)
        _print(f"{text} yes (not a terminal)")
        return None

    def _prompt(self, text: str, default: str, hidden: bool) -> str:
        if not _interactive():
            return default
        shown = f"{text} [{line(default)}]" if default else text
        return str(click.prompt(shown, default, hidden, show_default=False, err=True))

    def _progress(self, event: events.Progressed) -> None:
        if sys.stderr and sys.stderr.isatty():
            self._draw(event)
            return
        tenth = int(10 * event.done / event.total) if event.total else 0
        if tenth != self._tenth:  # a plain line every 10 %
            self._tenth = tenth
            _say(f"{line(event.title)}: {10 * tenth} %")

    def _draw(self, event: events.Progressed) -> None:
        title = line(event.title)
        if self._bar is None:
            from rich import progress
            from rich.console import Console

            size = [progress.DownloadColumn()] if event.unit == "B" else [progress.MofNCompleteColumn()]
            words = progress.TextColumn("{task.description}", markup=False)
            self._bar = progress.Progress(
                words, progress.BarColumn(), *size, console=Console(stderr=True), transient=True
            )
            self._task = self._bar.add_task(title, total=event.total)
            self._bar.start()
        self._bar.update(self._task, description=title, completed=event.done, total=event.total, refresh=True)

    def end_bar(self) -> None:
        """Remove the progress bar and show the cursor again."""
        self._tenth = -1
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _interactive() -> bool:
    """Whether a person can answer a question."""
    is_terminal = all(stream and stream.isatty() for stream in (sys.stdin, sys.stderr))
    return is_terminal and os.environ.get("CI", "").lower() in ("", "0", "false")
