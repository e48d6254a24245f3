"""What a person or a pipe sees: events, errors, results, and the end by a signal. Nothing else prints."""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from scaffold.core.text import safe
from scaffold.errors import INTERNAL, INTERRUPTED, MachineError, ScaffoldError, closest, of_os_error

if TYPE_CHECKING:
    from scaffold.core import events

_LEVEL_COLOURS = {"critical": "red", "error": "red", "warning": "yellow", "debug": "cyan", "trace": "cyan"}


class Terminated(BaseException):
    """SIGTERM or SIGHUP, which unwind the stack as Ctrl-C does."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


def _unwrapped(error: BaseException) -> BaseException:
    """The interrupt that Python wrapped: while it makes a class, one becomes the cause of a RuntimeError."""
    cause = error.__cause__
    wrapped = isinstance(error, RuntimeError) and isinstance(cause, KeyboardInterrupt | Terminated)
    return cause if wrapped and cause else error


@contextmanager
def _unwinding() -> Iterator[None]:
    """Let a signal that asks us to end unwind the stack of the block, so that what was begun is undone.

    It becomes `KeyboardInterrupt` or `Terminated`; a signal that has a handler already keeps it.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, _frame: object) -> None:
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)

    def lost(unraisable: sys.UnraisableHookArgs) -> None:
        """Send the signal again: Python drops an exception in a finaliser or a weakref callback."""
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
    hook, sys.unraisablehook = sys.unraisablehook, lost
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, old in before.items():
            signal.signal(number, old)


@contextmanager
def reporting() -> Iterator[None]:
    """Turn whatever ends the block into a message and an exit code.

    Every door enters it. Raises `SystemExit` only.
    """
    try:
        with _unwinding():
            yield
            if sys.stdout:
                sys.stdout.flush()  # while a failure to can still be explained
    except (Exception, KeyboardInterrupt, Terminated) as error:
        code = _explain(_unwrapped(error))
        _let_go_of_broken_streams()
        raise SystemExit(code) from None


def _let_go_of_broken_streams() -> None:
    """What can't be written stays in Python's buffers, and would change the exit code to 120 at the end."""
    for stream in (sys.stdout, sys.stderr):
        try:
            if stream:
                stream.flush()
        except OSError:
            with suppress(OSError, ValueError):
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


@contextmanager
def narrating() -> Iterator[None]:
    """Render what happens in the block. Not entered for `--version` and `--help`: it costs its imports."""
    from scaffold.core import events

    renderer = _Renderer()
    with events.listening(renderer.handle):
        try:
            yield
        finally:
            renderer.end_bar()


def show(result: object, *, as_json: bool = False) -> None:
    """Print what an operation returned, on standard output."""
    if as_json:
        import json

        click.echo(json.dumps(_plain(result), indent=2))
    elif isinstance(result, (list, tuple)) and not hasattr(result, "summary"):
        for item in result:
            show(item)
    elif result is not None and (text := _text(result)):
        click.echo(text.encode(errors="surrogateescape"))  # a folder's name may be any bytes


def _text(result: Any) -> str:
    """A result in words; in a terminal, so that it isn't broken in the middle of one."""
    if not hasattr(result, "summary"):
        return str(result)
    if not (sys.stdout and sys.stdout.isatty()):
        return str(result.summary())
    from shutil import get_terminal_size

    from scaffold.core.text import fit

    columns = get_terminal_size().columns
    return str(result.fit(columns)) if hasattr(result, "fit") else fit(result.summary(), columns)


def _plain(value: object) -> Any:
    """Dataclasses, paths and their like as what JSON has."""
    import dataclasses

    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: _plain(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): _plain(item) for key, item in value.items()}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(item) for item in value]
    if value is None or isinstance(value, str | int | float):
        return value
    return str(value)


def _explain(error: BaseException) -> int:
    """Say what ended the run, and what to type next; returns the exit code."""
    match error:
        case ScaffoldError():
            return _say(error.message, error.hint, error.exit_code)
        case click.exceptions.Exit():
            return error.exit_code
        case click.exceptions.NoArgsIsHelpError():
            _last_words(error.format_message())
            return error.exit_code
        case click.ClickException():
            return _explain_usage(error)
        case Terminated():
            return _say("terminated", None, error.exit_code)
        case KeyboardInterrupt() | click.Abort():
            if sys.stderr and sys.stderr.isatty():
                _last_words("")  # the terminal has shown ^C, or the question
            return _say("interrupted", None, INTERRUPTED)
        case BrokenPipeError():
            return 128 + signal.SIGPIPE
        case FileNotFoundError() if _lost():
            return _say("the current folder is gone", "`cd` to one that exists", MachineError.exit_code)
        case OSError() if refused := of_os_error(error):
            return _say(refused.message, None, refused.exit_code)
    import traceback

    _last_words("".join(traceback.format_exception(error)))
    return _say(f"a bug in scaffold: {error!r}", "please report it, with the lines above", INTERNAL)


def _lost() -> bool:
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
        if error.possibilities:
            hint = f"did you mean `{closest(error.option_name, error.possibilities)}`?"
    return _say(message[:1].lower() + message[1:], hint, 2)


def _say(message: str, hint: str | None, code: int) -> int:
    _last_words(f"{click.style('error:', fg='red', bold=True)} {safe(message)}")
    if hint:
        _last_words(f"\n{click.style('hint:', bold=True)} {safe(hint)}")
    return code


def _last_words(text: str) -> None:
    with suppress(OSError):  # whoever read our words has gone, or the disk is full: the exit code counts
        click.echo(text, err=True)


class _Renderer:
    """Events as lines on standard error; progress as a bar where there is a terminal to draw it in."""

    def __init__(self) -> None:
        self._folds = bool(os.environ.get("GITHUB_ACTIONS"))
        self._bar: Any = None
        self._task: Any = None
        self._tenth = -1

    def handle(self, event: events.Event) -> events.Answer:
        """Render one event; the answer to a question, if it is one."""
        from scaffold.core import events

        if not isinstance(event, events.Progressed):
            self.end_bar()
        match event:
            case events.Started(title):
                title = safe(title)
                self._line(f"::group::{title}" if self._folds else click.style(title, bold=True))
            case events.Finished(title, seconds):
                if self._folds:
                    self._line("::endgroup::")
                elif seconds >= 1:
                    self._line(click.style(f"{safe(title)}: {seconds:.1f} s", dim=True))
            case events.Failed():
                self._line("::endgroup::") if self._folds else None
            case events.Noted(text):
                self._line(safe(text))
            case events.Quoted(text):
                self._line(text)
            case events.Warned(text):
                self._line(f"{click.style('warning:', fg='yellow', bold=True)} {safe(text)}")
            case events.Logged(level, text):
                click.echo(f"{click.style(f'[{level}]', fg=_LEVEL_COLOURS.get(level, 'green'))} {text}")
            case events.Progressed():
                self._progress(event)
            case events.Question(text):
                if _interactive():
                    return click.confirm(safe(text), default=True, err=True)
                self._line(f"{safe(text)} yes: nobody is there to ask")
            case events.Prompt(text, default, hidden):
                if not _interactive():
                    return default
                return str(click.prompt(safe(text), default, hidden, show_default=bool(default), err=True))
        return None

    def _line(self, text: str) -> None:
        click.echo(text, err=True)

    def _progress(self, event: events.Progressed) -> None:
        if sys.stderr and sys.stderr.isatty():
            self._draw(event)
            return
        tenth = int(10 * event.done / event.total) if event.total else 0
        if tenth != self._tenth:  # without a terminal: plain lines, and not too many
            self._tenth = tenth
            self._line(f"{event.title}: {10 * tenth} %")

    def _draw(self, event: events.Progressed) -> None:
        if self._bar is None:
            from rich import progress
            from rich.console import Console

            size = [progress.DownloadColumn()] if event.unit == "B" else [progress.MofNCompleteColumn()]
            columns = [progress.TextColumn("{task.description}"), progress.BarColumn(), *size]
            self._bar = progress.Progress(*columns, console=Console(stderr=True), transient=True)
            self._task = self._bar.add_task(event.title, total=event.total)
            self._bar.start()
        self._bar.update(
            self._task, description=event.title, completed=event.done, total=event.total, refresh=True
        )

    def end_bar(self) -> None:
        """Take the bar away, and give the cursor back."""
        self._tenth = -1
        if self._bar is not None:
            self._bar.stop()
            self._bar = None


def _interactive() -> bool:
    """Whether somebody is there to answer."""
    there = all(stream and stream.isatty() for stream in (sys.stdin, sys.stderr))
    return there and os.environ.get("CI", "").lower() in ("", "0", "false")
