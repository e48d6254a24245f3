"""Remember what a program answered, in the user's cache, for as long as the program stays the same."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path

from scaffold.core import files, records
from scaffold.core.foreign_files import open_regular


def recall(question: str, program: Path | str) -> str | None:
    """What this very program answered; None if that isn't known.

    `program` is a file, or the digest of an image.
    """
    stamp = _stamp(program)
    known = _answers().get(question)
    return known[1] if stamp and known and known[0] == stamp else None


def remember(question: str, program: Path | str, answer: str) -> None:
    """Remember what a program answered. Not for a script, which may run another program at any time."""
    stamp = _stamp(program)
    if stamp:
        with suppress(OSError):  # the cache can't be written: we ask again next time
            records.write(_path(), _answers() | {question: [stamp, answer]}, mode=0o644)


def _stamp(program: Path | str) -> str | None:
    """What tells a compiled program from a later one at its path; None for a script."""
    if isinstance(program, str):
        return program
    try:
        stat = program.stat()
        with open_regular(program) as file:
            script = file.read(2) == b"#!"
    except OSError:
        return None
    return None if script else f"{stat.st_mtime_ns} {stat.st_size} {stat.st_ino}"


def _answers() -> dict[str, list[str]]:
    """Stamps and answers by question; none where the record is damaged."""
    try:
        known = records.read(_path(), dict[str, list[str]]) or {}
    except (OSError, records.DamagedRecord):
        return {}
    return {question: pair for question, pair in known.items() if len(pair) == 2}


def _path() -> Path:
    return files.cache_dir() / "answers.json"
