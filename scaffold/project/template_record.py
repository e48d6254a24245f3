"""The template that a project was rendered from, as recorded in Cargo.toml for `scaffold update`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaffold.errors import ProjectError

KEY = "template"  # in [package.metadata.proxy-wasm]
_WHY = "# Where this project came from, for `scaffold update`."


@dataclass(frozen=True)
class Rendered:
    """A template's state, and the answers to its questions, including the crate's name.

    `source` is the value of `--template`: a bundled template's name, a folder or a URL. `version` is
    scaffold's own for a bundled template, otherwise a commit or the digest of the content; `directory` is the
    template's place in the source.
    """

    source: str
    version: str
    answers: Mapping[str, Any]
    directory: str | None = None

    @classmethod
    def parse(cls, table: object, path: Path) -> Rendered:
        """Read the table of the manifest `path`. Raises `ProjectError` when it isn't valid."""
        where = f"[package.metadata.proxy-wasm.{KEY}] of {path}"
        if not isinstance(table, dict):
            raise ProjectError(f"package.metadata.proxy-wasm.{KEY} in {path} is not a table")
        known = {"source", "version", "directory", "answers"}
        for key in table:
            if key not in known:
                raise ProjectError(
                    f"unknown key `{key}` in {where}", hint=f"known: {', '.join(sorted(known))}"
                )
        texts = {key: table.get(key) for key in ("source", "version", "directory")}
        for key, value in texts.items():
            if not isinstance(value, str) and (key != "directory" or value is not None):
                raise ProjectError(f"`{key}` in {where} is not a string")
        answers = table.get("answers", {})
        if not isinstance(answers, dict) or not isinstance(answers.get("name"), str):
            raise ProjectError(
                f"`answers` in {where} has no name", hint="`git log -p Cargo.toml` shows what it had"
            )
        return cls(str(texts["source"]), str(texts["version"]), answers, table.get("directory"))

    def text(self) -> str:
        """The table as TOML, for the end of Cargo.toml."""
        import tomlkit

        table: dict[str, Any] = {"source": self.source, "version": self.version}
        if self.directory:
            table["directory"] = self.directory
        table["answers"] = dict(self.answers)
        whole = {"package": {"metadata": {"proxy-wasm": {KEY: table}}}}
        return f"\n{_WHY}\n{tomlkit.dumps(whole)}"
