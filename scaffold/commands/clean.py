"""`clean`: remove what cargo built."""

from __future__ import annotations

from pathlib import Path

from scaffold.project.plugins import projects_at
from scaffold.toolchain import cargo


def clean(root: Path = Path()) -> None:
    """Remove what cargo built: of the whole workspace, where the crate is in one."""
    cargo.clean(projects_at(root))
