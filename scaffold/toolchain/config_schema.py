"""config.schema.json, derived from the types in src/config.rs by schemars.

A native example of the crate prints it (`examples/config_schema.rs`, behind the feature `schema`), so that
no byte of schemars is in the module. It is run when src/config.rs isn't the one that the schema is of.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from scaffold.core import files, process
from scaffold.core.events import Warned, emit, step
from scaffold.errors import ProjectError, ScaffoldError, ToolFailed, of_os_error
from scaffold.project import schema
from scaffold.project.model import Project
from scaffold.project.schema import Schema
from scaffold.toolchain import readme
from scaffold.toolchain.find import Toolchain

EXAMPLE = "config_schema"


def is_due(project: Project) -> bool:
    """Whether the crate derives its schema, and has none of its present src/config.rs."""
    if not (project.root / "examples" / f"{EXAMPLE}.rs").is_file():
        return False
    wanted = schema.comment(project.root)
    try:
        return wanted is not None and Schema.read(project.root / schema.FILE).comment != wanted
    except ProjectError:  # there is none yet, or it is broken
        return True


def derive(project: Project, tools: Toolchain, env: Mapping[str, str]) -> None:
    """Write the schema anew, and the table of its options into the README; `env` is cargo's environment.

    What hinders is a warning: the module doesn't need it, and nothing is checked by an old schema.
    """
    comment = schema.comment(project.root)  # of what cargo is about to read: an edit meanwhile makes it due
    path = project.root / schema.FILE
    try:
        with step(f"Deriving {schema.FILE} of {project.name}"):
            made = _printed(project, tools, env)
            content = {"$schema": made.get("$schema"), "$comment": comment} | made | {"$comment": comment}
            Schema(str(path), content).validator()
            _fill_in(project.root / readme.FILE, content)
            files.write(path, json.dumps(content, indent=2, ensure_ascii=False) + "\n")
    except (ScaffoldError, OSError) as error:
        why = (of_os_error(error) or error) if isinstance(error, OSError) else error
        lacking = f"no {schema.FILE} of this {schema.SOURCE}"
        emit(Warned(f"configurations aren't checked, since there is {lacking}: {why}"))


def _printed(project: Project, tools: Toolchain, env: Mapping[str, str]) -> dict[str, Any]:
    """What the example prints, run natively: a crate's own .cargo/config.toml may make wasm the default."""
    words = ["run", "--example", EXAMPLE, "--features", "schema", "--target", tools.host]
    lines: list[str] = []
    code = process.show([tools.cargo, *words], cwd=project.root, env=env, on_line=lines.append)
    if code:
        raise ToolFailed(f"`cargo {' '.join(words[:5])}` failed (exit code {code})")
    try:
        made = schema.parse("".join(lines).encode())
    except ValueError as error:
        raise ProjectError(f"what examples/{EXAMPLE}.rs prints is not JSON: {error}") from error
    if not isinstance(made, dict):
        raise ProjectError(f"what examples/{EXAMPLE}.rs prints is no JSON object")
    return made


def _fill_in(path: Path, content: dict[str, Any]) -> None:
    """Write the options' table into a README that has a place for it."""
    if not path.is_file():
        return
    before = path.read_bytes()
    after = readme.with_table(before, content)
    if after != before:
        files.write(path.resolve(), after, mode=path.stat().st_mode & 0o777)
