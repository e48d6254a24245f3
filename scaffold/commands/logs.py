"""`logs`: print the log of the deployed plugin."""

from __future__ import annotations

from contextlib import nullcontext
from pathlib import Path

from scaffold.commands.deploy_targets import nothing_deployed, roots_of, targets
from scaffold.core.events import Noted, emit, until_interrupted

_EMPTY = (
    "the plugin has logged nothing yet; if it should have: the SDK logs nothing without"
    " `proxy_wasm::set_log_level(proxy_wasm::types::LogLevel::Info);` in `proxy_wasm::main!`,"
    " and `scaffold deploy --log-level debug` shows more"
)


def logs(root: Path = Path(), *, follow: bool = False) -> None:
    """Announce what the deployed plugin has logged; with `follow`, new lines too, until Ctrl-C."""
    roots = roots_of(root)
    logs = (target.log_lines(roots, follow) for target in targets())
    lines = next((each for each in logs if each is not None), None)
    if lines is None:
        raise nothing_deployed(roots)
    empty = True
    with until_interrupted() if follow else nullcontext():
        for line in lines:
            empty = False
            emit(line)
    if empty and not follow:
        emit(Noted(_EMPTY))
