"""Rendering folders that are cookiecutter templates: those of projects, and those of CI workflows."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any


def bundled(kind: str) -> Mapping[str, Path]:
    """The templates of a kind ("cookiecutters", "ci") that come with us: name -> folder."""
    here = Path(__file__).parent
    for place in (here / kind, here.parent / kind):  # a wheel's, a checkout's
        found = {path.parent.name: path.parent for path in sorted(place.glob("*/cookiecutter.json"))}
        if found:
            return found
    return {}


def variables(folder: Path) -> dict[str, Any]:
    """What a template's cookiecutter.json says: the variables with their defaults, and its settings."""
    read: dict[str, Any] = json.loads((folder / "cookiecutter.json").read_text())
    return read


def render(folder: Path, context: dict[str, Any], made: Path) -> None:
    """Render a template's files into the folder `made`, called like the variable `name`."""
    # not cookiecutter's `main`: that reads ~/.cookiecutterrc, writes a replay file, and runs hooks
    from cookiecutter.generate import generate_files

    generate_files(
        repo_dir=str(folder),
        context={"cookiecutter": context | {"name": made.name}},
        output_dir=str(made.parent),
        overwrite_if_exists=True,  # the folder is there already
        accept_hooks=False,
    )
    for compiled in list(made.rglob("__pycache__")):  # pip compiles whatever a wheel has of Python
        shutil.rmtree(compiled)
