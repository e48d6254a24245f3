"""Events: operations announce what happens, and listeners show it or answer."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict, dataclass, field
from typing import Any


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
    `request` is the id of the request in which it was written, "" if it isn't known or was in none.
    """

    level: str
    text: str
    time: float | None = None
    source: str = ""
    by_name: bool = False
    request: str = ""

    def as_json(self) -> dict[str, str | None]:
        """The line as `--json` prints it, with its time as ISO 8601 has it, in UTC."""
        from scaffold.core.times import utc  # datetime takes a while to import

        time = None if self.time is None else utc(self.time)
        shown = {"time": time, "level": self.level, "source": self.source, "message": self.text}
        return shown | {"request": self.request or None}


@dataclass(frozen=True)
class HeaderChange:
    """A header that a plugin changed: `before` is None if the plugin added it, `after` if it removed it."""

    name: str
    before: str | None
    after: str | None


@dataclass(frozen=True)
class Changes:
    """What plugins changed in a request, or in its answer.

    `body` is its size at the upstream's side, if that is known. `left_out` header lines are in no change.
    """

    headers: tuple[HeaderChange, ...] = ()
    body: int | None = None
    left_out: int = 0

    def as_json(self) -> dict[str, Any]:
        """The changes as `--json` prints them."""
        return vars(self) | {"headers": [vars(each) for each in self.headers]}


@dataclass(frozen=True)
class Requested:
    """A request that has ended, or, with an empty `method`, a connection.

    `received` and `sent` are sizes of the bodies at the client's side. `flags` and `details` are Envoy's
    words for how it ended. What the plugins changed is known if it was `recorded`; `request` is None if the
    request didn't pass them. `logs` is what they logged meanwhile, `metrics` is what moved and by how much.
    """

    time: float
    ended: float
    id: str
    method: str
    path: str
    status: int | None
    milliseconds: float
    received: int
    sent: int
    flags: str = ""
    details: str = ""
    recorded: bool = False
    request: Changes | None = None
    response: Changes | None = None
    logs: tuple[Logged, ...] = ()
    metrics: Mapping[str, int] = field(default_factory=dict)

    def as_json(self) -> dict[str, Any]:
        """The request as `--json` prints it."""
        from scaffold.core.times import utc

        sides = {
            "request": self.request,
            "response": self.response,
        }  # `asdict` would take three times as long
        shown = vars(self) | {name: side and side.as_json() for name, side in sides.items()}
        shown |= {"time": utc(self.time), "logs": [each.as_json() for each in self.logs]}
        del shown["ended"]
        return shown


@dataclass(frozen=True)
class Moved:
    """Metrics that moved in the last `seconds`, in which there were so many requests."""

    requests: int
    seconds: float
    metrics: Mapping[str, int]

    def summary(self) -> str:
        """A line."""
        moved = ", ".join(f"{name} {by:+,}" for name, by in self.metrics.items())
        return f"{self.requests:,} requests in {self.seconds:.1f} s: {moved}"

    def as_json(self) -> dict[str, Any]:
        """The line as `--json` prints it."""
        return asdict(self)


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


Event = (
    Started
    | Finished
    | Failed
    | Progressed
    | Noted
    | Quoted
    | Warned
    | Question
    | Prompt
    | Logged
    | Requested
    | Moved
)
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
