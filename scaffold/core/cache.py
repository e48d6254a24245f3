"""What programs said when they were asked, remembered in the cache as long as they are the same."""

from __future__ import annotations

import json
from contextlib import suppress
from pathlib import Path

from scaffold.core import files

_ANSWERS = "answers.json"


def recall(question: str, program: Path | str) -> str | None:
    """What this very file, or an image of that digest, said to a question; None when it wasn't remembered."""
    stamp = _stamp(program)
    known = _remembered().get(question, [None, ""])
    return known[1] if stamp and known[0] == stamp else None


def remember(question: str, program: Path | str, said: str) -> None:
    """Remember what a program said; of a script, which may run another program any time, nothing is."""
    stamp = _stamp(program)
    if stamp:
        with suppress(OSError):  # a cache that can't be written is none
            files.cache_dir().mkdir(parents=True, exist_ok=True)
            answers = _remembered() | {question: [stamp, said]}
            files.write(files.cache_dir() / _ANSWERS, json.dumps(answers))


def _stamp(program: Path | str) -> str | None:
    """What tells a compiled program from a later one of its name, as a digest does; None for a script."""
    if isinstance(program, str):
        return program
    try:
        stat = program.stat()
        with program.open("rb") as file:
            script = file.read(2) == b"#!"
    except OSError:
        return None
    return None if script else f"{stat.st_mtime_ns} {stat.st_size} {stat.st_ino}"


def _remembered() -> dict[str, list[str]]:
    try:
        known = json.loads((files.cache_dir() / _ANSWERS).read_text())
    except (OSError, ValueError):
        return {}
    whole = isinstance(known, dict) and all(
        isinstance(answer, list) and [type(part) for part in answer] == [str, str]
        for answer in known.values()
    )
    return known if whole else {}
