"""A glob in `members` that matches a whole disk: this machine's own."""

from pathlib import Path

import pytest

from scaffold.errors import ProjectError
from scaffold.project import member_globs


@pytest.mark.faults(
    "R18", injected='`members = ["/**/**/x"]`', seen="exit code 3 within seconds, or no member"
)
def test_a_pattern_over_the_whole_disk_ends(tmp_path):
    try:
        found = member_globs.folders(tmp_path, "/**/**/x", Path("Cargo.toml"), member_globs.Budget())
        assert tmp_path not in found
    except ProjectError as error:
        assert "matches too much of the disk" in error.message
