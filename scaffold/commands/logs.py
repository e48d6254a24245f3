"""`logs`: show the log of the deployed plugin."""

from __future__ import annotations

import re
import shlex
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

from scaffold.commands.deploy_targets import nothing_deployed, roots_of, targets
from scaffold.core import times
from scaffold.core.events import Logged, Noted, emit, until_interrupted
from scaffold.errors import UsageError, nearest
from scaffold.hosts.background import target as here
from scaffold.hosts.envoy.log import OURS, Wanted, nothing_logged
from scaffold.hosts.options import LEVELS


def logs(
    root: Path = Path(),
    *,
    follow: bool = False,
    since: str | None = None,
    tail: int | None = None,
    level: str | None = None,
    grep: str | None = None,
) -> Iterator[Logged]:
    """What the deployed plugin has logged, line by line; with `follow`, new lines too, until Ctrl-C.

    Where nothing is deployed any more, the log of the last deployment. `since` is a time, or how long ago:
    `10m`. `level` is the lowest, `grep` a regular expression; of the lines that fit come the last `tail`.
    """
    if level is not None and level not in LEVELS:
        raise UsageError(f"--level can't be `{level}`", hint=nearest(level, LEVELS))
    if tail is not None and tail < 0:
        raise UsageError(f"--tail can't be {tail}", hint="0 shows none, and 10 the last ten lines")
    start = None if since is None else times.parse(since, "--since")
    wanted = Wanted(start, level or LEVELS[0], _pattern(grep), tail)
    roots = roots_of(root)
    read: Callable[[Sequence[Path], Wanted], Iterator[Logged] | None] = _lines
    lines = _lines(roots, wanted, follow)
    if lines is None and not follow:
        read, lines = here.kept_log_lines, here.kept_log_lines(roots, wanted)
        if lines is not None:
            emit(Noted("nothing is deployed now; this is the log of the last deployment"))
    if lines is None:
        raise nothing_deployed(roots)
    is_empty = wanted == Wanted() and _is_empty(read(roots, wanted) or ())
    return _until_interrupted(lines, [nothing_logged("deploy")] if is_empty else [])


def _lines(roots: Sequence[Path], wanted: Wanted, follow: bool = False) -> Iterator[Logged] | None:
    """What is logged of what is deployed; None if nothing is."""
    found = (target.log_lines(roots, wanted, follow) for target in targets())
    return next((each for each in found if each is not None), None)


def _is_empty(lines: Iterable[Logged]) -> bool:
    """Whether no line is the plugin's, or Envoy's about it."""
    return all(line.source == OURS for line in lines)


def _pattern(text: str | None) -> re.Pattern[str] | None:
    try:
        return None if text is None else re.compile(text)
    except re.error as error:
        hint = f"for the text itself: --grep {shlex.quote(re.escape(text or ''))}"
        raise UsageError(f"--grep isn't a regular expression: {error}", hint=hint) from None


def _until_interrupted(lines: Iterator[Logged], notes: Iterable[Noted]) -> Iterator[Logged]:
    with until_interrupted():
        for note in notes:
            emit(note)
        yield from lines
