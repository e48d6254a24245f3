"""What clients saw under faults: a table, the findings, and what couldn't be played."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

from scaffold.project.crate import TABLE
from scaffold.wasm.proxy_features import FAILURE_POLICIES

OPEN = "fail-open"
_WIDTH = 100  # columns of a terminal
_LEAST = 12  # of a cell
_MOST = 10  # findings of a kind that are shown


@dataclass(frozen=True)
class Case:
    """A request under a fault: what its client saw without it, during it, and soon after.

    `scene` tells requests of the same line apart. `reached` are the clusters that got the request only
    because of the fault; it is a `hole` if the plugin denies that request access as long as nothing is
    wrong. `crash` is how the plugin crashed, if it did.
    """

    host: str
    fault: str
    policy: str
    request: str
    scene: int
    healthy: str
    healthy_after: str
    during: str
    after: str
    reached: tuple[str, ...] = ()
    hole: bool = False
    crash: str = ""
    panic: bool = False  # the fault is a panic of ours


@dataclass(frozen=True)
class Faults:
    """Every case; `left_out` says why a fault wasn't played. `differences` are between the hosts."""

    requests: tuple[str, ...]
    cases: tuple[Case, ...]
    left_out: Mapping[str, str]
    differences: tuple[str, ...] = ()

    @property
    def holes(self) -> list[Case]:
        """The cases in which a request passes that the plugin denies access."""
        return [case for case in self.cases if case.hole]

    @property
    def crashes(self) -> list[Case]:
        """The cases in which the plugin crashes by itself, each fault and host once."""
        found = {(case.fault, case.host): case for case in self.cases if case.crash and not case.panic}
        return list(found.values())

    @property
    def exit_code(self) -> int:
        """1 if a fault opens a hole or makes the plugin crash, or if the hosts differ."""
        return int(bool(self.holes or self.crashes or self.differences))

    def summary(self) -> str:
        """A table for each host, the findings, and how much was played."""
        hosts = dict.fromkeys(case.host for case in self.cases)
        parts = [_table(host, [case for case in self.cases if case.host == host]) for host in hosts]
        parts.append("\n".join(f"not played: {name}: {why}" for name, why in self.left_out.items()))
        parts.append(_listed(map(_of_crash, self.crashes), "crashes"))
        parts.append(_listed(_of_holes(self.holes), "holes"))
        parts.append(_listed(self.differences, "differences"))
        return "\n\n".join(filter(None, [*parts, self._verdict()]))

    def _verdict(self) -> str:
        played = _counted(len(self.cases), "case")
        requests = _counted(len(self.requests), "request")
        faults = _counted(len({case.fault for case in self.cases}), "fault")
        if not self.holes:
            return f"{requests}, {faults}, {played}: no request passes that the plugin denies"
        text = f"{requests}, {faults}, {played}: requests pass that the plugin denies"
        if all(case.policy == OPEN for case in self.holes):
            others = ", ".join(f'"{name}"' for name in FAILURE_POLICIES if name != OPEN)
            return (
                f"{text}, but only under {OPEN}\n"
                f"hint: don't deploy it with {OPEN}, and say so in [{TABLE}] of Cargo.toml:"
                f" `failure-policies = [{others}]`"
            )
        return text


def _counted(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'s' * (number != 1)}"


def _of_crash(case: Case) -> str:
    return f"the plugin crashes: {case.fault}, {case.request}: {case.crash}"


def _of_holes(holes: Sequence[Case]) -> list[str]:
    """A line for each policy and fault."""
    groups: dict[tuple[str, str], list[Case]] = {}
    for case in holes:
        groups.setdefault((case.policy, case.fault), []).append(case)
    lines = []
    for (policy, fault), cases in groups.items():
        first, more = cases[0], len({each.request for each in cases}) - 1
        others = f" (and {_counted(more, 'other request')})" if more else ""
        where = ", ".join(first.reached)
        lines.append(f"hole: {policy}, {fault}: {first.request}{others} reaches {where}, not {first.healthy}")
    return lines


def _listed(lines: Iterable[str], what: str) -> str:
    every = list(dict.fromkeys(lines))
    more = [f"… and {len(every) - _MOST} more {what}"] * (len(every) > _MOST)
    return "\n".join([*every[:_MOST], *more])


def _table(host: str, cases: Sequence[Case]) -> str:
    """A row for each fault, a column for each policy; cells that are too long take several lines."""
    policies = list(dict.fromkeys(case.policy for case in cases))
    rows = {
        fault: [
            _cell([each for each in cases if (each.fault, each.policy) == (fault, name)]) for name in policies
        ]
        for fault in dict.fromkeys(case.fault for case in cases)
    }
    healthy: dict[int, str] = {}
    for case in cases:
        healthy.setdefault(case.scene, case.healthy)
    rows = {"no fault": ["/".join(dict.fromkeys(healthy.values()))] * len(policies), **rows}
    first = max(map(len, rows))
    width = max(_LEAST, (_WIDTH - first) // len(policies) - 2)
    lines = [_row(host, policies, first, width)]
    for name, cells in rows.items():
        wrapped = [textwrap.wrap(cell, width, break_on_hyphens=False) or [""] for cell in cells]
        for number in range(max(map(len, wrapped))):
            texts = [each[number] if number < len(each) else "" for each in wrapped]
            lines.append(_row("" if number else name, texts, first, width))
    return "\n".join(lines)


def _row(name: str, cells: Iterable[str], first: int, width: int) -> str:
    return "  ".join([f"{name:<{first}}", *(f"{each:<{width}}" for each in cells)]).rstrip()


def _cell(cases: Sequence[Case]) -> str:
    """What the clients of some requests saw, and then, if that isn't what they see without a fault."""
    if not cases:
        return "-"
    text = "/".join(dict.fromkeys(case.during for case in cases))
    if later := dict.fromkeys(case.after for case in cases if case.after not in ("", case.healthy_after)):
        text += f", then {'/'.join(later)}"
    marks = ["CRASH"] * any(case.crash and not case.panic for case in cases)
    marks += ["HOLE"] * any(case.hole for case in cases)
    return " ".join([text, *marks])
