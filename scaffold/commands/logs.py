"""`logs`: print the log of the deployed plugin."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import nullcontext
from pathlib import Path

from scaffold.commands.deploy_targets import nothing_deployed, roots_of, targets
from scaffold.core.events import Logged, Noted, emit, until_interrupted


def logs(root: Path = Path(), *, follow: bool = False) -> None:
    """Announce what the deployed plugin has logged; with `follow`, new lines too, until Ctrl-C."""
    roots = roots_of(root)
    lines = _lines(roots)
    with until_interrupted() if follow else nullcontext():
        first = next(lines, None)
        if first is None:
            emit(nothing_logged("deploy"))
        elif not follow:
            emit(first)
        for line in _lines(roots, follow=True) if follow else lines:
            emit(line)


def nothing_logged(command: str) -> Noted:
    """What may be the reason that the log is empty, for a plugin that a command runs."""
    return Noted(
        "the plugin has logged nothing yet; if it should have: the SDK logs nothing without"
        " `proxy_wasm::set_log_level(proxy_wasm::types::LogLevel::Info);` in `proxy_wasm::main!`,"
        f" and `scaffold {command} --log-level debug` shows more"
    )


def _lines(roots: list[Path], *, follow: bool = False) -> Iterator[Logged]:
    logs = (target.log_lines(roots, follow) for target in targets())
    lines = next((each for each in logs if each is not None), None)
    if lines is None:
        raise nothing_deployed(roots)
    return lines
