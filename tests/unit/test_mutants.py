"""The bugs of `invoke dev.mutants`: each fits its file, and the tests that should notice it are there."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture
def runner(monkeypatch) -> ModuleType:
    spec = importlib.util.spec_from_file_location("mutants", ROOT / "tests/mutants/run.py")
    assert spec and spec.loader
    made = importlib.util.module_from_spec(spec)
    monkeypatch.setitem(sys.modules, "mutants", made)  # where its dataclass looks for itself
    spec.loader.exec_module(made)
    return made


def test_every_bug_fits_its_file_and_its_tests_are_there(runner):
    named = {test for each in runner.mutants(ROOT, "") for test in each.tests if "::" in test}
    missing = []
    for test in sorted(named):
        path, _, name = test.partition("::")
        if f"\ndef {name.partition('[')[0]}(" not in (ROOT / path).read_text():
            missing.append(test)
    assert missing == []
