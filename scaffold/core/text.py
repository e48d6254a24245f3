"""Text in the columns of a terminal, which would break it in the middle of words."""

from __future__ import annotations

import re
import textwrap
from collections.abc import Iterator

_TITLED = re.compile(r"( *\S+(?: \S+)* {2,})(\S.*)")  # a name, and in a column beside it what it is
_CUT = "…"


def fit(text: str, columns: int) -> str:
    """The text, its lines broken between words; a word that fits into no line stays whole."""
    return "\n".join(short for line in text.split("\n") for short in _broken(line, columns))


def _broken(line: str, columns: int) -> Iterator[str]:
    if len(line) <= columns:
        yield line
        return
    margin = " " * (len(line) - len(line.lstrip()) + 2)
    titled = _TITLED.fullmatch(line)
    first, rest = titled.groups() if titled else (margin[2:], line.lstrip())
    below = " " * len(first) if titled else margin
    if titled and len(below) + max(map(len, rest.split())) > columns:
        yield first.rstrip()
        first = below = margin
    yield from textwrap.wrap(
        rest,
        columns,
        initial_indent=first,
        subsequent_indent=below,
        break_long_words=False,
        break_on_hyphens=False,
    )


def cut(word: str, width: int) -> str:
    """A word in at most `width` columns: both of its ends, where it is longer."""
    if len(word) <= width:
        return word
    end = max(0, width - 1) // 2
    return f"{word[: max(0, width - 1 - end)]}{_CUT}{word[len(word) - end :]}"
