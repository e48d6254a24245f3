"""Whether a text is what a suite expects: exactly that, or one that RE2 matches as a whole."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from functools import lru_cache
from typing import Any

_LONGEST = 300  # characters of a text that a message shows


@dataclass(frozen=True)
class Matcher:
    """One expectation of texts. `written` is it for a message; `regex` is compiled, None for `exact`."""

    exact: bytes
    regex: Any = field(default=None, compare=False)
    invert: bool = False
    written: str = ""

    def agrees(self, texts: Iterable[bytes]) -> bool:
        """Whether one of the texts matches; with `invert`, whether none does."""
        found = any(self._matches(text) for text in texts)
        return found != self.invert

    def _matches(self, text: bytes) -> bool:
        return text == self.exact if self.regex is None else self.regex.fullmatch(text) is not None


@lru_cache
def compiled(pattern: str) -> Any:
    """A pattern, compiled by RE2. Raises `ValueError` with RE2's reason."""
    import re2

    options = re2.Options()
    options.log_errors = False
    try:
        return re2.compile(pattern.encode(), options)  # bytes: a text needn't be UTF-8
    except re2.error as error:
        why = error.args[0] if error.args else error
        raise ValueError(why.decode(errors="replace") if isinstance(why, bytes) else str(why)) from error


def shown(text: bytes) -> str:
    """A text for a message: short, in quotes, on one line."""
    words = text.decode(errors="backslashreplace")
    more = f"… ({len(text):,} bytes)" if len(words) > _LONGEST else ""
    return repr(words[:_LONGEST]) + more
