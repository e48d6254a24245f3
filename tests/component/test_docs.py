"""The documentation against the code and against itself. What it says to type is run in e2e/test_docs.py."""

from __future__ import annotations

import re
import subprocess
import sys

import pytest
from support import documents, fault_table


@pytest.fixture(scope="module")
def shown() -> list[tuple[str, str]]:
    """Of the rows of docs/faults.md: the fault's id, and the test."""
    rows = re.findall(
        r"^\| (R\d+) \|.*\| `(.*)` \|$", (documents.ROOT / "docs/faults.md").read_text(), re.MULTILINE
    )
    return [(fault, test.replace("\\|", "|")) for fault, test in rows]


def test_the_page_of_faults_shows_every_test_of_the_suite(shown):
    words = [sys.executable, "-m", "pytest", "tests/faults", "-m", "faults", "--collect-only", "-q"]
    listed = subprocess.run(words, cwd=documents.ROOT, text=True, capture_output=True).stdout
    there = {
        line.removeprefix(fault_table.HERE)
        for line in listed.splitlines()
        if line.startswith(fault_table.HERE)
    }
    assert there
    assert there == {test for _, test in shown if not test.startswith("tests/")}, (
        "it has drifted: run `invoke dev.faults --page`"
    )
