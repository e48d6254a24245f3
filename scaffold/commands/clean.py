"""`clean`: remove what cargo has built."""

from __future__ import annotations

from pathlib import Path

from scaffold.project.projects import projects_at
from scaffold.toolchain import cargo


def clean(root: Path = Path()) -> None:
    """Remove what cargo has built, for the whole workspace if the crate is in one."""
    cargo.clean(projects_at(root))
