"""What a check found, and all that was found as a table. Nothing here looks at anything."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from scaffold.errors import MachineError

# ok: fit · warning: one can do without it · failed: one can't · skipped: something before it failed
State = Literal["ok", "warning", "failed", "skipped"]

_MARKS = {"ok": "✓", "warning": "–", "failed": "✗", "skipped": "?", "remedy": "→"}  # noqa: RUF001
_ASCII = {"ok": "+", "warning": "-", "failed": "x", "skipped": "?", "remedy": "->"}


@dataclass(frozen=True)
class Finding:
    """One outside thing: `found` says where it is and which version, or what is wrong with it.

    `why` is what doesn't work without it, `remedy` what to type (or to do) about it, and `fixable`
    whether `--fix` does that by itself.
    """

    name: str
    state: State
    found: str
    why: str | None = None
    remedy: str | None = None
    fixable: bool = False

    def after(self, cause: str) -> Finding:
        """This finding where `cause` failed: no failure of its own, as it may pass once that is mended."""
        return replace(
            self,
            state="skipped",
            why=f"look again when `{cause}` is mended",
            remedy=None,
            fixable=False,
        )


@dataclass(frozen=True)
class Patient:
    """What is looked at: the project's folder, its triple, the rustc and the Envoy that the user named."""

    root: Path
    triple: str
    rustc: str | None = None
    envoy: str | None = None


Check = Callable[[Patient], list[Finding]]
Repair = Callable[[Patient], None]


@dataclass(frozen=True)
class Diagnosis:
    """Everything that was found, causes before what follows from them."""

    findings: tuple[Finding, ...]

    @property
    def failed(self) -> list[Finding]:
        """What must be mended; the first is where to begin."""
        return [finding for finding in self.findings if finding.state == "failed"]

    @property
    def fixable(self) -> list[Finding]:
        """What `--fix` can do something about."""
        return [finding for finding in self.findings if finding.fixable]

    @property
    def exit_code(self) -> int:
        """0 when all that is needed is fit."""
        return MachineError.exit_code if self.failed else 0

    def summary(self) -> str:
        """A line for each finding, with the remedy below where there is something to do."""
        marks = _MARKS if _can_show("".join(_MARKS.values())) else _ASCII
        width = max((len(finding.name) for finding in self.findings), default=0)
        lines = [line for finding in self.findings for line in _lines(finding, width, marks)]
        return "\n".join([*lines, "", self._conclusion()])

    def _conclusion(self) -> str:
        if not self.failed:
            return "Everything that is needed is here."
        names = [finding.name for finding in self.failed]
        rest = f", then {', '.join(names[1:])}" if names[1:] else ""
        helps = any(finding.fixable for finding in self.failed)
        return f"To mend: {names[0]}{rest}." + (" `scaffold doctor --fix` may do it." if helps else "")


def settle(findings: list[Finding], needs: Mapping[str, tuple[str, ...]]) -> list[Finding]:
    """The findings without the failures that only follow from an earlier one: `needs` says which would."""
    settled: dict[str, Finding] = {}
    for finding in findings:
        before = [settled[name] for name in needs.get(finding.name, ()) if name in settled]
        cause = next((other for other in before if other.state in ("failed", "skipped")), None)
        if cause and finding.state != "ok":
            finding = finding.after(cause.name)
        settled[finding.name] = finding
    return list(settled.values())


def _lines(finding: Finding, width: int, marks: Mapping[str, str]) -> list[str]:
    first, *more = finding.found.splitlines() or [""]
    below = " " * (width + 4)
    lines = [f"{marks[finding.state]} {finding.name:<{width}}  {first}", *(below + line for line in more)]
    if finding.state != "ok":
        lines += [below + finding.why] if finding.why else []
        lines += [f"{below}{marks['remedy']} {finding.remedy}"] if finding.remedy else []
    return lines


def _can_show(text: str) -> bool:
    """Whether whoever reads our standard output can read these characters."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
