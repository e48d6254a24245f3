"""What happened, as values: operations announce, whoever listens renders."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass


@dataclass(frozen=True)
class Started:
    """A named step begins."""

    title: str


@dataclass(frozen=True)
class Finished:
    """A named step ended well, after `seconds`."""

    title: str
    seconds: float


@dataclass(frozen=True)
class Failed:
    """A named step ended by an exception, which is reported elsewhere."""

    title: str


@dataclass(frozen=True)
class Progressed:
    """A long step is `done` of `total` along, in `unit` ("B" for bytes)."""

    title: str
    done: float
    total: float
    unit: str = ""


@dataclass(frozen=True)
class Noted:
    """Worth a line on the way."""

    text: str


@dataclass(frozen=True)
class Quoted:
    """What a tool said to a terminal of its own, colours and all."""

    text: str


@dataclass(frozen=True)
class Warned:
    """Worth a line that isn't overlooked."""

    text: str


@dataclass(frozen=True)
class Logged:
    """A line that the plugin (or its host) logged; `level` as Envoy spells it: trace ... critical."""

    level: str
    text: str


@dataclass(frozen=True)
class Question:
    """May we? A listener that answers False says no."""

    text: str


@dataclass(frozen=True)
class Prompt:
    """A value is wanted; a listener may answer another than `default`. A `hidden` one is typed unseen."""

    text: str
    default: str
    hidden: bool = False


Event = Started | Finished | Failed | Progressed | Noted | Quoted | Warned | Logged | Question | Prompt
Answer = bool | str | None
Listener = Callable[[Event], Answer]

_listeners: list[Listener] = []  # not a ContextVar: threads of ours announce too


def emit(event: Event) -> Answer:
    """Tell every listener; returns the first answer that isn't None."""
    answers = [listener(event) for listener in list(_listeners)]
    return next((answer for answer in answers if answer is not None), None)


def ask(text: str) -> bool:
    """Put a yes-or-no question; with nobody there to answer, it is yes."""
    return emit(Question(text)) is not False


def prompt(text: str, default: str = "", *, hidden: bool = False) -> str:
    """Ask for a value, a `hidden` one without an echo; with nobody there to answer, it is `default`."""
    answer = emit(Prompt(text, default, hidden))
    return answer if isinstance(answer, str) else default


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Hear every event while the block runs."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Announce a step's begin and its end, whichever way it ends."""
    emit(Started(title))
    begun = time.monotonic()
    try:
        yield
    except BaseException:
        emit(Failed(title))
        raise
    emit(Finished(title, time.monotonic() - begun))


@contextmanager
def until_interrupted() -> Iterator[None]:
    """Let Ctrl-C end the block, as the user is told to end it: then this is no error."""
    try:
        yield
    except KeyboardInterrupt:
        emit(Noted("Stopped"))
