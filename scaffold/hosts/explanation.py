"""One request explained: its timeline as steps with their times, and the traps in it."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest

from scaffold.core import times
from scaffold.core.text import cut, fit, flat
from scaffold.hosts import traps
from scaffold.hosts.timeline import ANSWERS, CALLOUTS, Callback, Hostcall, Said, Timeline, tokens
from scaffold.hosts.traps import Ending, Trap
from scaffold.wasm.hostcalls import ACTIONS, pairs, shown

_TIME = 10  # columns
_BRIEF = 40  # steps below a failed test
_UNKNOWN = Ending()
_ENDS = ("on_log", "on_done", "on_delete")


@dataclass(frozen=True)
class Step:
    """A step: `kind` is "callback", "hostcall", "log", "crash", "wait", or "change" of a header.

    `at` is in milliseconds since the request began, `took` in milliseconds; None if it isn't known.
    """

    kind: str
    text: str
    result: str = ""
    at: float | None = None
    took: float | None = None

    @property
    def is_bad(self) -> bool:
        """Whether it went wrong."""
        return self.kind == "crash" or (
            self.kind == "hostcall" and self.result not in ("Ok", "void", "NotFound")
        )


@dataclass(frozen=True)
class Explanation:
    """A request: `request` is its line, `number` of `count` in the trace. `ending` is how it ended.

    `time` is when it began, in seconds since 1970, if that is known.
    """

    request: str
    context: int | None
    thread: str
    steps: tuple[Step, ...]
    traps: tuple[Trap, ...]
    notes: tuple[str, ...] = ()
    ending: Ending = _UNKNOWN
    number: int = 1
    count: int = 1
    time: float | None = None

    @property
    def title(self) -> str:
        """What it is about, in a line."""
        thread = f", thread {self.thread}" if self.thread else ""
        context = "" if self.context is None else f"context {self.context}{thread}"
        place = f"request {self.number} of {self.count}" if self.count > 1 else ""
        return " · ".join(filter(None, [self.request, place, context]))

    @property
    def outcome(self) -> str:
        """How it ended, in a line; "" if that isn't known."""
        ending = self.ending
        if ending == _UNKNOWN:
            return ""
        status = "no whole answer" if ending.status is None else f"answered {ending.status}"
        return " ".join(filter(None, [status, ending.flags, ending.details]))

    def summary(self) -> str:
        """The timeline, the traps and the notes."""
        lines = [self.title, *([f"  {self.outcome}"] if self.outcome else ())]
        lines += [_line(each) for each in self.steps]
        lines += ["  the plugin wasn't called"] if self.context is None and not self.steps else []
        for trap in self.traps:
            lines += ["", f"{trap.name}: {trap.what}", f"  cure: {trap.cure}"]
        if not self.traps:
            lines += ["", "no known trap"]
        lines += [f"note: {each}" for each in self.notes]
        return "\n".join(lines)

    def brief(self) -> str:
        """The timeline and the traps, for below a failed test; of many steps the last."""
        lines = [_line(flat(each)) for each in self.steps]
        left = len(lines) - _BRIEF
        more = [f"    … {left} steps before"] if left > 0 else []
        named = [f"  {trap.name}: {trap.what}\n    cure: {trap.cure}" for trap in self.traps]
        return "\n".join([*more, *lines[-_BRIEF:], *named])

    def fit(self, columns: int) -> str:
        """The same for a terminal: steps are cut, sentences wrapped between words."""
        steps = {_line(each) for each in self.steps}
        lines = self.summary().splitlines()
        return "\n".join(cut(each, columns) if each in steps else fit(each, columns) for each in lines)


@dataclass(frozen=True)
class Explanations:
    """The requests of a trace."""

    requests: tuple[Explanation, ...]

    def summary(self) -> str:
        """A line for each, and how to see one."""
        lines = [_brief(each) for each in self.requests]
        return "\n".join([*lines, "", "`--request NUMBER` explains one of them"])


def _brief(each: Explanation) -> str:
    callbacks = sum(step.kind == "callback" for step in each.steps)
    ends = [step.at + (step.took or 0) for step in each.steps if step.at is not None]
    took = f", {max(ends):.1f} ms" if ends else ""
    thread = f", thread {each.thread}" if each.thread else ""
    named = ", ".join(dict.fromkeys(trap.name for trap in each.traps)) or "no known trap"
    began = "" if each.time is None else f"{times.shown(each.time)}  "
    return f"{each.number:>4}  {began}context {each.context}{thread}: {callbacks} callbacks{took}: {named}"


def explain_timeline(
    timeline: Timeline | None,
    *,
    request: str = "",
    ending: Ending = _UNKNOWN,
    number: int = 1,
    count: int = 1,
    notes: tuple[str, ...] = (),
    changes: tuple[Step, ...] = (),
    only_logs: bool = False,
) -> Explanation:
    """Explain a request; without a timeline the plugin wasn't called.

    `changes` are what the plugin changed, from the access log. With `only_logs` the calls aren't known.
    """
    known = timeline or Timeline(0)
    steps = [each for each in _steps(known) if not only_logs or each.kind in ("log", "crash")]
    return Explanation(
        request,
        timeline.context if timeline and not only_logs else None,
        known.thread,
        (*steps, *changes),
        tuple(traps.found(known, ending)),
        (*notes, *known.notes),
        ending,
        number,
        count,
        known.time,
    )


def _steps(timeline: Timeline) -> Iterator[Step]:
    begun = timeline.time
    waiting: Callback | None = None
    asked = _callouts(timeline)
    for callback in timeline.callbacks:
        if waiting:
            paused = _ms(waiting.ended, callback.time)
            ended = callback.name in _ENDS
            text = "paused, and nothing resumed it" if ended else f"paused until {callback.name}"
            yield Step("wait", text, "", _ms(begun, waiting.ended), paused)
            waiting = None
        text = str(callback)
        if callback.name in ANSWERS:
            text += _answered(asked.get(callback.words[1:2]), callback)
        result = "crashed" if callback.failed else _action(callback)
        yield Step("callback", text, result, _ms(begun, callback.time), _ms(callback.time, callback.ended))
        for each, following in zip_longest(callback.steps, callback.steps[1:]):
            if isinstance(each, Hostcall) and each.name == "log" and isinstance(following, Said):
                continue  # what it logs comes next
            if isinstance(each, Said):
                yield Step("log", f"[{each.level}] {each.text}", "", _ms(begun, each.time))
            else:
                yield _of_hostcall(each, begun)
        if callback.failed:
            yield Step("crash", callback.failed, "", _ms(begun, callback.ended))
        if callback.paused and not any(each.name == "send_local_response" for each in callback.hostcalls):
            waiting = callback
    if waiting:
        yield Step("wait", "paused, and nothing resumed it", "", _ms(begun, waiting.ended))


def _callouts(timeline: Timeline) -> dict[tuple[int, ...], Hostcall]:
    """The callout with each number, as far as that is sure: later ones have greater numbers."""
    found: dict[tuple[int, ...], Hostcall] = {}
    for calls, answers in CALLOUTS:
        made = [call for _, call in timeline.hostcalls if call.name in calls and call.ok]
        numbers = tokens(timeline, answers)
        if len(made) == len(numbers):
            found |= {(number,): call for number, call in zip(numbers, made, strict=True)}
    return found


def _answered(asked: Hostcall | None, answer: Callback) -> str:
    """To what a callout's answer belongs."""
    took = _ms(asked.time, answer.time) if asked else None
    target = asked.text("cluster") or asked.text("service") if asked else None
    status = next(
        (
            f", status {call.given.decode(errors='replace')}"
            for call in answer.hostcalls
            if call.name == "get_header_map_value" and call.text("name") == ":status" and call.given
        ),
        "",
    )
    after = "" if took is None else f", after {took:.1f} ms"
    return f": answer of {'the' if asked else 'a'} callout{f' to {target}' if target else ''}{after}{status}"


def _of_hostcall(call: Hostcall, begun: float | None) -> Step:
    given = ""
    if call.given is not None:
        given = f" = {pairs(call.given) if call.name == 'get_header_map_pairs' else shown(call.given)}"
    status = call.status or "no return"
    return Step("hostcall", f"{call}{given}", status, _ms(begun, call.time), _ms(call.time, call.ended))


def _action(callback: Callback) -> str:
    if not callback.result:
        return "no return"
    number = callback.action
    return ACTIONS[number] if callback.has_action and number is not None and number < len(ACTIONS) else ""


def _ms(since: float | None, until: float | None) -> float | None:
    return None if since is None or until is None else round(1000 * (until - since), 3)


def _line(step: Step) -> str:
    at = "" if step.at is None else f"{step.at:.3f} ms"
    text = step.text
    if step.kind == "crash":
        text = text.partition("\n")[0].partition("\\n")[0]  # its frames are in the trap and in --json
    if step.kind == "callback":
        took = "" if step.took is None else f"  ({step.took:.3f} ms)"
        return f"{at:>{_TIME + 2}}  {text}{f' → {step.result}' if step.result else ''}{took}"
    mark = {"hostcall": "", "log": "log ", "crash": "crashed: ", "wait": "… ", "change": f"{step.result} "}[
        step.kind
    ]
    took = f" for {step.took:.3f} ms" if step.kind == "wait" and step.took is not None else ""
    shows = step.kind == "hostcall" and step.result != "Ok"
    result = f" → {step.result}" if shows else ""
    return f"{'':>{_TIME + 2}}    {mark}{text}{result}{took}"
