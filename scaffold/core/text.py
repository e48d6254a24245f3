"""Text for a terminal: foreign text made safe and short, and lines broken between words.

What comes from a template, a server, a module or a log may contain anything. It passes one of the functions
here before it becomes part of a message; the console applies `safe` to every message as well.
"""

from __future__ import annotations

import json
import re
import textwrap
from collections.abc import Iterator

_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f]")  # all but tabs and ends of lines
_USER_INFO = re.compile(r"//[^/]*@")
_TITLED = re.compile(r"( *\S+(?: \S+)* {2,})(\S.*)")  # a name, and its description in a column beside it
_ELLIPSIS = "…"


def safe(text: str) -> str:
    """The text with its control characters replaced, except for tabs and ends of lines."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def one_line(text: str, limit: int = 200) -> str:
    """Prose, such as a server's explanation, as one line of at most `limit` characters."""
    words = "".join(each if each.isprintable() else " " for each in text).split()
    return _shortened(" ".join(words), limit)


def escaped(text: str, limit: int = 100) -> str:
    r"""A name on one line, with escapes such as \n and \x1b, cut after `limit` characters."""
    short = _shortened(text, limit)
    return "".join(each if each.isprintable() else repr(each)[1:-1] for each in short)


def quoted(value: object, limit: int = 60) -> str:
    """A value as JSON, on one line, cut after `limit` characters."""
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return _shortened(text if text.isprintable() else json.dumps(value, default=repr), limit)


def without_secret(url: str) -> str:
    """A URL, or what was meant as one, without the user and the password in it."""
    return escaped(_USER_INFO.sub("//", url), 200)


def age(seconds: float) -> str:
    """How long ago something happened, in its largest unit: "2 d", "40 s"."""
    for size, unit in ((86400 * 365, "y"), (86400, "d"), (3600, "h"), (60, "min")):
        if seconds >= size:
            return f"{seconds / size:.0f} {unit}"
    return f"{seconds:.0f} s"


def _shortened(text: str, limit: int) -> str:
    return text if len(text) <= limit else text[:limit] + _ELLIPSIS


def fit(text: str, columns: int) -> str:
    """The text with its lines broken between words; a word that fits into no line stays whole."""
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
    """A word of at most `width` columns: a longer one keeps both of its ends."""
    if len(word) <= width:
        return word
    end = max(0, width - 1) // 2
    return f"{word[: max(0, width - 1 - end)]}{_ELLIPSIS}{word[len(word) - end :]}"
