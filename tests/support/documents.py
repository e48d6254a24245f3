"""The repository's Markdown: its pages, their fenced blocks, code spans and links.

A fence's info string says what becomes of a block in `docs/`: `console`, whose lines that begin with
`$ ` are run (`> ` goes on with one) and whose others must appear in the output, `…` standing for
anything; a language and a path (`rust src/lib.rs`), which is written; anything else is only read.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[2]
_FENCE = re.compile(r"^```([^\n`]*)\n(.*?)^```$", re.MULTILINE | re.DOTALL)


@dataclass(frozen=True)
class Block:
    """A fenced block: `kind` is its info string's first word, `path` what follows that."""

    kind: str
    path: str
    text: str
    line: int


@dataclass(frozen=True)
class Step:
    """A command of a console block, and what must appear in its output."""

    command: str
    shows: tuple[str, ...]
    line: int

    def pattern(self) -> str:
        """What `shows` asks of the output: these whole lines, one after the other.

        A line that is `…` stands for any lines, none too; within a line `…` stands for any text.
        """

        def line(text: str) -> str:
            return "(?:.*\n)*?" if text.strip() == "…" else re.escape(text).replace("…", ".*?") + "\n"

        return "(?m)^" + "".join(map(line, self.shows))


def pages() -> list[Path]:
    """Every Markdown file that people read here."""
    found = [*ROOT.glob("*.md"), *ROOT.glob("docs/**/*.md"), *ROOT.glob("cookiecutters/*/*/**/*.md")]
    return sorted(path for path in found if "target" not in path.parts)


def blocks(text: str) -> list[Block]:
    """The fenced blocks of a page."""
    found = []
    for match in _FENCE.finditer(text):
        kind, _, path = match[1].strip().partition(" ")
        found.append(Block(kind, path.strip(), match[2], text.count("\n", 0, match.start()) + 2))
    return found


def steps(block: Block) -> list[Step]:
    """The commands of a console block."""
    found: list[Step] = []
    for number, line in enumerate(block.text.splitlines(), block.line):
        if line.startswith("$ "):
            found.append(Step(line[2:], (), number))
        elif line.startswith("> ") and found and not found[-1].shows:
            found[-1] = Step(f"{found[-1].command}\n{line[2:]}", (), found[-1].line)
        else:
            assert found, f"line {number}: output without a command"
            found[-1] = Step(found[-1].command, (*found[-1].shows, line), found[-1].line)
    return found


def prose(text: str) -> str:
    """A page without its fenced blocks, its lines where they were."""
    return _FENCE.sub(lambda match: "\n" * match[0].count("\n"), text)


def spans(text: str) -> Iterator[str]:
    """The code spans of a page's prose."""
    for match in re.finditer(r"(`+)(?!`)(.+?)(?<!`)\1(?!`)", prose(text), re.DOTALL):
        yield " ".join(match[2].split())


def links(text: str) -> Iterator[str]:
    """Where a page's links lead."""
    for match in re.finditer(r"\[[^]]*\]\(([^)\s]+)\)", re.sub(r"`[^`\n]*`", "", prose(text))):
        yield match[1]


def anchors(text: str) -> set[str]:
    """The headings of a page as GitHub names them in links."""
    titles = re.findall(r"^#+ +(.+?) *$", prose(text), re.MULTILINE)
    kept = (re.sub(r"[^\w\- ]", "", re.sub(r"\[([^]]*)\]\([^)]*\)", r"\1", title)) for title in titles)
    return {title.strip().lower().replace(" ", "-") for title in kept}
