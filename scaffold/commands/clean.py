"""`clean`: remove what cargo built."""

from __future__ import annotations

from pathlib import Path

from scaffold.project.model import Project
from scaffold.project.plugins import plugins_at
from scaffold.toolchain import cargo


def clean(root: Path = Path()) -> None:
    """Remove what cargo built; in a workspace, for all its crates."""
    project, *_ = plugins_at(root) or [Project.load(root)]
    cargo.clean(project)
