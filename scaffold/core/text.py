"""Text for a terminal: foreign text made safe and short, and lines broken between words.

What comes from a template, a server, a module or a log may contain anything. Nobody needs to think of that
where a message or a result is made: the console passes every message through `indented`, and every result
through `flat`. The others here make a foreign name or sentence short enough to be part of a message.
"""

from __future__ import annotations

import copy
import dataclasses
import json
import re
import textwrap
from collections.abc import Iterator, Mapping
from pathlib import PurePath
from typing import Any

LINES = {"lines": True}  # the metadata of a result's field whose text has lines that are meant

# All but tabs and ends of lines; also what makes a terminal show letters in another order, and what can't be
# encoded. The bytes of a name that isn't UTF-8 (\udc80 to \udcff) pass.
_CONTROLS = re.compile(r"[\x00-\x08\x0b-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udc7f\udd00-\udfff]")
_COLOURS = re.compile(r"(\x1b\[[0-9;:]*m)")
_NEXT_LINE = re.compile(r"\n ?(?=\S)")
_USER_INFO = re.compile(r"//[^/]*@")
_TITLED = re.compile(r"( *\S+(?: \S+)* {2,})(\S.*)")  # a name, and its description in a column beside it
_ELLIPSIS = "…"


def safe(text: str) -> str:
    """The text with its control characters replaced, except for tabs and ends of lines."""
    return _CONTROLS.sub("\N{REPLACEMENT CHARACTER}", text)


def indented(text: str) -> str:
    """A safe text whose first line alone begins at the left: no other can pass for an error of ours."""
    return _NEXT_LINE.sub("\n  ", safe(text))


def coloured(text: str) -> str:
    """The text of a tool that was asked for colours: they stay, its other control characters go."""
    parts = _COLOURS.split(text)
    return "".join(part if place % 2 else safe(part) for place, part in enumerate(parts))


def line(text: str) -> str:
    r"""The whole text on one line, with escapes such as \n and \x1b."""
    return _CONTROLS.sub(_escape, text).replace("\n", r"\n")


def _escape(found: re.Match[str]) -> str:
    return repr(found[0])[1:-1]


def flat(value: Any) -> Any:
    """A result in which every text is one line, so that only its summary decides where lines end.

    It goes into dataclasses, lists and mappings. A field with the metadata `LINES` keeps its lines.
    """
    if isinstance(value, str):
        return line(value)
    if isinstance(value, PurePath):
        return value if line(str(value)) == str(value) else type(value)(line(str(value)))
    if isinstance(value, Mapping):
        return {flat(key): flat(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        parts = [flat(each) for each in value]
        return value if all(new is old for new, old in zip(parts, value, strict=True)) else type(value)(parts)
    if not dataclasses.is_dataclass(value) or isinstance(value, type):
        return value
    names = [each.name for each in dataclasses.fields(value) if not each.metadata.get("lines")]
    made = {name: flat(getattr(value, name)) for name in names}
    changed = {name: new for name, new in made.items() if new is not getattr(value, name)}
    if not changed:
        return value
    value = copy.copy(value)
    for name, new in changed.items():
        object.__setattr__(value, name, new)
    return value


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


def human(size: float) -> str:
    """A number of bytes in a readable form, in powers of ten: "271 MB", "1.1 GB"."""
    if size >= 1e9:
        return f"{size / 1e9:.1f} GB"
    return f"{size / 1e6:.0f} MB" if size >= 1e6 else f"{size / 1e3:.0f} kB"
