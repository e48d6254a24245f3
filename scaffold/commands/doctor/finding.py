"""The findings of the checks, and the diagnosis as a table. Nothing here checks anything."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Literal

from scaffold.core.text import LINES
from scaffold.errors import MachineError

# ok · warning: only some commands need it · failed: every user needs it · skipped: its cause has failed
State = Literal["ok", "warning", "failed", "skipped"]

_MARKS = {"ok": "✓", "warning": "–", "failed": "✗", "skipped": "?", "remedy": "→"}  # noqa: RUF001
_ASCII = {"ok": "+", "warning": "-", "failed": "x", "skipped": "?", "remedy": "->"}


@dataclass(frozen=True)
class Finding:
    """The result for one thing: `detail` is its version and place, or what is wrong with it.

    `why` says what doesn't work without it, `remedy` what to type (or do) about it, and `fixable`
    whether `--fix` does that.
    """

    name: str
    state: State
    detail: str = field(metadata=LINES)
    why: str | None = None
    remedy: str | None = None
    fixable: bool = False

    def after(self, cause: str) -> Finding:
        """This finding when `cause` has failed: skipped, as it may be ok once that is fixed."""
        return replace(
            self,
            state="skipped",
            why=f"check again when `{cause}` is fixed",
            remedy=None,
            fixable=False,
        )


@dataclass(frozen=True)
class Scope:
    """What to check: the project's folder, its triple, and the rustc and the Envoy that the user names."""

    root: Path
    triple: str
    rustc: str | None = None
    envoy: str | None = None


Check = Callable[[Scope], list[Finding]]
Repair = Callable[[Scope], None]


@dataclass(frozen=True)
class Diagnosis:
    """All findings, causes before their consequences."""

    findings: tuple[Finding, ...]

    @property
    def failed(self) -> list[Finding]:
        """What must be fixed, in this order."""
        return [finding for finding in self.findings if finding.state == "failed"]

    @property
    def fixable(self) -> list[Finding]:
        """What `--fix` may repair."""
        return [finding for finding in self.findings if finding.fixable]

    @property
    def exit_code(self) -> int:
        """0 when nothing has failed."""
        return MachineError.exit_code if self.failed else 0

    def summary(self) -> str:
        """A line for each finding, with its remedy below."""
        marks = _MARKS if _can_show("".join(_MARKS.values())) else _ASCII
        width = max((len(finding.name) for finding in self.findings), default=0)
        lines = [line for finding in self.findings for line in _lines(finding, width, marks)]
        return "\n".join([*lines, "", self._conclusion()])

    def _conclusion(self) -> str:
        if not self.failed:
            return "Everything required is here."
        names = [finding.name for finding in self.failed]
        rest = f", then {', '.join(names[1:])}" if names[1:] else ""
        fixable = any(finding.fixable for finding in self.failed)
        return f"To fix: {names[0]}{rest}." + (" `scaffold doctor --fix` may do it." if fixable else "")


def without_consequences(findings: list[Finding], needs: Mapping[str, tuple[str, ...]]) -> list[Finding]:
    """The findings, with those skipped whose cause is another: `needs` has the possible causes by name."""
    seen: dict[str, Finding] = {}
    for finding in findings:
        causes = [seen[name] for name in needs.get(finding.name, ()) if name in seen]
        cause = next((other for other in causes if other.state in ("failed", "skipped")), None)
        if cause and finding.state != "ok":
            finding = finding.after(cause.name)
        seen[finding.name] = finding
    return list(seen.values())


def _lines(finding: Finding, width: int, marks: Mapping[str, str]) -> list[str]:
    first, *more = finding.detail.splitlines() or [""]
    below = " " * (width + 4)
    lines = [f"{marks[finding.state]} {finding.name:<{width}}  {first}", *(below + line for line in more)]
    if finding.state != "ok":
        lines += [below + finding.why] if finding.why else []
        lines += [f"{below}{marks['remedy']} {finding.remedy}"] if finding.remedy else []
    return lines


def _can_show(text: str) -> bool:
    """Whether standard output can show these characters."""
    try:
        text.encode(getattr(sys.stdout, "encoding", None) or "ascii")
    except (UnicodeEncodeError, LookupError):
        return False
    return True
