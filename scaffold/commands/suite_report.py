"""What `test` says of suites: in text, in JSON, and as JUnit has it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

from scaffold.core import files
from scaffold.errors import TestsFailed
from scaffold.hosts.gcp.outcome import Benchmark, Failure


@dataclass(frozen=True)
class CaseReport:
    """A case: "passed", "failed" or "skipped", for a `reason`; `failures` are what didn't hold."""

    name: str
    outcome: str
    failures: tuple[Failure, ...] = ()
    reason: str = ""
    seconds: float = field(default=0.0, compare=False)

    def lines(self) -> list[str]:
        """It as text; nothing if it passed."""
        if self.reason:
            return [f"not played: {self.name}: {self.reason}"]
        below = [f"  {line}" for each in self.failures for line in each.lines()]
        return [f"FAILED {self.name}", *below, ""] if below else []


@dataclass(frozen=True)
class SuiteReport:
    """A suite on a host: its cases, and what its benchmarks cost."""

    suite: str
    host: str
    cases: tuple[CaseReport, ...]
    benchmarks: tuple[Benchmark, ...] = ()

    @property
    def exit_code(self) -> int:
        """0, or that of failed tests: also if the plugin failed in a benchmark."""
        failed = self.count("failed") or any(each.error for each in self.benchmarks)
        return TestsFailed.exit_code if failed else 0

    def count(self, outcome: str) -> int:
        """How many cases ended so."""
        return sum(case.outcome == outcome for case in self.cases)

    def summary(self) -> str:
        """What failed, what wasn't played, the costs, and a line that counts."""
        counts = f"{self.count('passed')} passed, {self.count('failed')} failed"
        if skipped := self.count("skipped"):
            counts += f", {skipped} not played"
        cases = [line for case in self.cases for line in case.lines()]
        return "\n".join([*cases, *_table(self.benchmarks), f"{self.suite} on {self.host}: {counts}"])


class SuiteReports(tuple[SuiteReport, ...]):
    """The reports of some suites."""

    @property
    def exit_code(self) -> int:
        """0, or that of failed tests."""
        return max(report.exit_code for report in self)

    def summary(self) -> str:
        """One after the other."""
        return "\n".join(report.summary() for report in self)


def _table(benchmarks: Sequence[Benchmark]) -> list[str]:
    if not benchmarks:
        return []
    width = max(len(each.name) for each in benchmarks)
    head = f"{'benchmark':<{width}}  {'fuel':>12}  {'crossings':>9}  {'bytes copied':>12}  {'memory':>12}"
    rows = [
        f"{each.name:<{width}}  failed: {each.error}"
        if each.error
        else f"{each.name:<{width}}  {each.fuel:>12,}  {each.crossings:>9,}  {each.copied_bytes:>12,}"
        f"  {each.memory:>12,}"
        for each in benchmarks
    ]
    return [head, *rows, ""]


def write_junit(path: Path, reports: Sequence[SuiteReport]) -> None:
    """Write a report as JUnit has it."""
    from xml.etree import ElementTree

    top = ElementTree.Element("testsuites")
    for report in reports:
        counts = {"failures": report.count("failed"), "skipped": report.count("skipped")}
        attributes = {"name": report.suite, "tests": str(len(report.cases))}
        suite = ElementTree.SubElement(top, "testsuite", attributes | {k: str(v) for k, v in counts.items()})
        for case in report.cases:
            shown = {"name": case.name, "classname": report.suite, "time": f"{case.seconds:.3f}"}
            one = ElementTree.SubElement(suite, "testcase", shown)
            if case.reason:
                ElementTree.SubElement(one, "skipped", {"message": case.reason})
            elif case.failures:
                text = "\n".join(line for each in case.failures for line in each.lines())
                failed = ElementTree.SubElement(one, "failure", {"message": case.failures[0].what})
                failed.text = _printable(text)
    files.write(path, ElementTree.tostring(top, encoding="utf-8", xml_declaration=True))


def _printable(text: str) -> str:
    """A text without what XML can't express."""
    return "".join(each if each in "\n\t" or each >= " " else f"\\x{ord(each):02x}" for each in text)
