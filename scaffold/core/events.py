"""Events: operations announce what happens, and listeners show it or answer."""

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
    """A named step succeeded after `seconds`."""

    title: str
    seconds: float


@dataclass(frozen=True)
class Failed:
    """A named step failed by an exception, which is reported elsewhere."""

    title: str


@dataclass(frozen=True)
class Progressed:
    """`done` of `total` is finished in a long step; `unit` is "B" for bytes."""

    title: str
    done: float
    total: float
    unit: str = ""


@dataclass(frozen=True)
class Noted:
    """A piece of information for the user."""

    text: str


@dataclass(frozen=True)
class Quoted:
    """A tool's output as it wrote it, with its colours."""

    text: str


@dataclass(frozen=True)
class Warned:
    """A warning."""

    text: str


@dataclass(frozen=True)
class Logged:
    """A line in the log of a plugin or its host.

    `level` is Envoy's name: trace ... critical. `time` is in seconds since 1970, or None if it isn't known.
    `source` is who wrote it: a plugin's name, "envoy" or "scaffold"; with `by_name` a reader needs it.
    """

    level: str
    text: str
    time: float | None = None
    source: str = ""
    by_name: bool = False

    def as_json(self) -> dict[str, str | None]:
        """The line as `--json` prints it, with its time as ISO 8601 has it, in UTC."""
        from scaffold.core.times import utc  # datetime takes a while to import

        time = None if self.time is None else utc(self.time)
        return {"time": time, "level": self.level, "source": self.source, "message": self.text}


@dataclass(frozen=True)
class Question:
    """A yes-or-no question; a listener's answer False means no."""

    text: str


@dataclass(frozen=True)
class Prompt:
    """A request for a value; a listener may answer something else than `default`. `hidden` is for secrets."""

    text: str
    default: str
    hidden: bool = False


Event = Started | Finished | Failed | Progressed | Noted | Quoted | Warned | Logged | Question | Prompt
Answer = bool | str | None
Listener = Callable[[Event], Answer]

_listeners: list[Listener] = []  # not a ContextVar: our threads announce, too


def emit(event: Event) -> Answer:
    """Pass an event to every listener; returns the first answer that isn't None."""
    answers = [listener(event) for listener in list(_listeners)]
    return next((answer for answer in answers if answer is not None), None)


def ask(text: str) -> bool:
    """Ask a yes-or-no question; without a listener that answers, the answer is yes."""
    return emit(Question(text)) is not False


def prompt(text: str, default: str = "", *, hidden: bool = False) -> str:
    """Ask for a value, a `hidden` one without an echo; without a listener that answers, it is `default`."""
    answer = emit(Prompt(text, default, hidden))
    return answer if isinstance(answer, str) else default


@contextmanager
def listening(listener: Listener) -> Iterator[None]:
    """Pass every event to the listener while the block runs."""
    _listeners.append(listener)
    try:
        yield
    finally:
        _listeners.remove(listener)


@contextmanager
def announced_at_the_end() -> Iterator[None]:
    """Hold back what the block announces until it has ended; if it fails, its error is all that is said."""
    held: list[Event] = []
    listeners = list(_listeners)
    _listeners[:] = [held.append]
    try:
        yield
    finally:
        _listeners[:] = listeners
    for event in held:
        emit(event)


@contextmanager
def step(title: str) -> Iterator[None]:
    """Announce a step's beginning, and its end or failure."""
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
