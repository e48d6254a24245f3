"""The rows of the table that point elsewhere point to tests that there are."""

from __future__ import annotations

from pathlib import Path

import pytest
from faults.elsewhere import ELSEWHERE

ROOT = Path(__file__).parents[2]


@pytest.mark.faults("R0")
@pytest.mark.parametrize(("file", "name"), sorted({row[3:] for row in ELSEWHERE}))
def test_what_the_table_points_to_is_there(file, name):
    assert f"def {name}(" in (ROOT / file).read_text()
