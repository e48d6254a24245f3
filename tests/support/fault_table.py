"""The suite's table: each fault, how it was injected, what was seen and left; docs/faults.md keeps one."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterable, Mapping

import pytest

from support.documents import ROOT

PROPERTY = "fault"  # of a report: its fault's id, then the lines that its test recorded
HERE = "tests/faults/"
OUTCOMES = ("passed", "failed", "error", "xfailed", "skipped")
HEAD = """\
# Faults

<!-- written by `invoke dev.faults --page`; a test fails when it is out of date -->

The faults that we inject, what scaffold did, and what was left behind, as the tests of the fault suite
recorded it in one run. `invoke dev.faults` injects them all again and prints the table;
`SCAFFOLD_SEED=NUMBER` repeats the random moments of a line. Tests with a folder in their name belong to other
suites.

"""

Row = tuple[str, str, str, str, str]


def rows(stats: Mapping[str, Iterable[object]]) -> list[Row]:
    """What the tests of a run recorded, and the faults that tests elsewhere inject; none when none ran."""
    found: list[Row] = []
    for outcome in OUTCOMES:
        for report in stats.get(outcome, ()):
            if isinstance(report, pytest.TestReport) and (outcome != "passed" or report.when == "call"):
                found += _of(report, outcome)
    if found:
        found += elsewhere()
    return sorted(
        found, key=lambda row: (int(row[0].removeprefix("R")), row[-1].startswith("tests/"), row[-1])
    )


def elsewhere() -> list[Row]:
    """The faults that tests outside of this suite inject, from the tests' own marks."""
    found: list[Row] = []
    for path in sorted((ROOT / "tests").rglob("test_*.py")):
        text, name = path.read_text(), str(path.relative_to(ROOT))
        if "@pytest.mark.faults(" not in text or name.startswith(HERE):
            continue
        for test in ast.parse(text).body:
            for call in getattr(test, "decorator_list", ()):
                if ast.unparse(call).startswith("pytest.mark.faults("):
                    says = {keyword.arg: ast.literal_eval(keyword.value) for keyword in call.keywords}
                    fault = ast.literal_eval(call.args[0])
                    found.append((fault, says["injected"], says["seen"], "nothing", f"{name}::{test.name}"))
    return found


def _of(report: pytest.TestReport, outcome: str) -> list[Row]:
    told = [value for name, value in report.user_properties if name == PROPERTY]
    if not told:
        return []
    name = report.nodeid.removeprefix(HERE)
    (fault,), *recorded = told
    if outcome != "passed":
        skipped = isinstance(report.longrepr, tuple)
        why = report.longrepr[2] if skipped else getattr(report, "wasxfail", "")
        recorded = [[name.partition("::")[2], f"{outcome.upper()} {why}".strip(), "?"]]
    return [(fault, injected, seen, left, name) for injected, seen, left in recorded]


def lines(table: Iterable[Row]) -> list[str]:
    """A table in Markdown."""
    made = ["| fault | injected how | seen | left behind | test |", "|---|---|---|---|---|"]
    made += [_line(*map(_cell, row[:-1]), f"`{_cell(row[-1])}`") for row in table]
    return made


def page(table: Iterable[Row]) -> str:
    """The table as a page of the documentation."""
    return HEAD + "\n".join(lines(table)) + "\n"


def summary(table: Iterable[Row]) -> str:
    """How many rows there are, and how many of them are bad news."""
    seen = [row[2] for row in table]
    bad = sum(text.startswith(("FAILED", "ERROR")) for text in seen)
    skipped = sum(text.startswith("SKIPPED") for text in seen)
    return f"{len(seen)} rows, {bad} failed, {skipped} skipped"


def brief(text: str) -> str:
    """What was seen, without what is each run's own: paths but for their last name, digests, line ends."""
    text = re.sub(r"/(?:[^\s/`'\",:]+/){2,}([^\s/`'\",:]+)", r"…/\1", " ".join(text.split()))
    return re.sub(r"[0-9a-f]{20,}", "…", text)


def _line(*cells: str) -> str:
    return f"| {' | '.join(cells)} |"


def _cell(text: str) -> str:
    return text.replace("\n", " ").replace("|", "\\|")
