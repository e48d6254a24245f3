"""What a plugin's source says about it that its Cargo.toml doesn't, and that nobody else would report."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

from scaffold.core import foreign_files
from scaffold.core.events import Warned, emit
from scaffold.project import called_clusters, rust_text
from scaffold.project.cargo_toml import FILE
from scaffold.project.crate import TABLE, Project

_LARGEST = 1_000_000  # bytes of a source file
_CONTEXT = r"\bset_{0}_context\b|\bfn create_{0}_context\b|\bContextType::{1}Context\b"
_CONTEXTS = {  # by the type of plugin
    "http": re.compile(_CONTEXT.format("http", "Http")),
    "network": re.compile(_CONTEXT.format("stream", "Stream")),
}


def contexts(texts: Iterable[str]) -> list[str]:
    """The types of plugins whose contexts some Rust source makes: "http", "network", both or none."""
    codes = [rust_text.code(text) for text in texts]
    return [kind for kind, made in _CONTEXTS.items() if any(made.search(code) for code in codes)]


def warn_of_type(project: Project) -> None:
    """Warn of a service that makes contexts: no request and no connection ever reaches them."""
    made = contexts(_sources(project.root)) if project.settings.type == "service" else []
    if made:
        emit(
            Warned(
                f'{project.name} has `type = "service"`, which no traffic passes, but its code makes contexts'
                f' for traffic: in {project.root / FILE}, write `type = "{made[0]}"` into [{TABLE}]'
            )
        )


def warn_of_clusters(project: Project) -> None:
    """Warn of clusters that the source calls but nothing defines: Envoy logs nothing when a call fails."""
    for calls, entry in called_clusters.missing(project.root, project.settings.clusters):
        emit(
            Warned(
                f"{calls}, which isn't defined, so the call fails: in {project.root / FILE}, write"
                f" `clusters = {{ {entry} }}` into [{TABLE}], or the cluster's URL instead of upstream"
            )
        )


def _sources(root: Path) -> Iterator[str]:
    for path in sorted((root / "src").glob("**/*.rs")):
        with suppress(OSError, UnicodeDecodeError):
            yield foreign_files.read_text(path, _LARGEST)
