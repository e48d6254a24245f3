"""Fetch the templates of other releases of scaffold, and keep them in the cache."""

from __future__ import annotations

import re
import shutil
from contextlib import suppress
from pathlib import Path

from scaffold import __version__
from scaffold.core import files
from scaffold.core import package_index as wheels
from scaffold.core.events import step
from scaffold.errors import UsageError
from scaffold.project.templates import render

_PACKAGE = wheels.Package("proxy-wasm-scaffold", "scaffold", "update via a release that the index has")
_KEPT = ("cookiecutters", "ci")
_VERSION = re.compile(r"\d+(\.\d+)*([a-z.+-]+\d+)*")


def templates(kind: str, version: str) -> dict[str, Path]:
    """The templates of a kind ("cookiecutters", "ci") in a version of scaffold: name -> folder.

    Raises `UsageError` when there is no such version, `MachineError` when it can't be fetched.
    """
    if version == __version__:
        return dict(render.bundled(kind))
    if not _VERSION.fullmatch(version):
        raise UsageError(f"`{version}` isn't a version of scaffold", hint=f"this one is {__version__}")
    folder = files.cache_dir() / "releases" / version
    if not folder.is_dir():
        _fetch(version, folder)
    return {path.parent.name: path.parent for path in sorted((folder / kind).glob("*/cookiecutter.json"))}


def _fetch(version: str, folder: Path) -> None:
    with step(f"Fetching the templates of scaffold {version}"), files.scratch() as scratch:
        _PACKAGE.fetch(version, scratch / "package")
        with suppress(FileExistsError), files.tree(folder) as made:  # another process was faster
            for kind in _KEPT:
                shutil.copytree(scratch / "package" / "scaffold" / kind, made / kind)
