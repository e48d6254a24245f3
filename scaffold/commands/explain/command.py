"""`explain`: show what the plugin did with one request, call by call, and which known traps are in it."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Sequence
from pathlib import Path

from scaffold.commands.explain import sending
from scaffold.commands.explain.past import found, of_past
from scaffold.core import files
from scaffold.core.events import Noted, emit
from scaffold.core.foreign_files import read_bytes
from scaffold.errors import ProjectError, UsageError
from scaffold.hosts import timeline
from scaffold.hosts.explanation import Explanation, Explanations, explain_timeline
from scaffold.hosts.timeline import no_constants
from scaffold.project import curl
from scaffold.wasm.floor import constant_data
from scaffold.wasm.module import WasmFile

_ID = re.compile(r"[0-9a-fA-F][0-9a-fA-F-]{3,63}")  # of a request, or its beginning
_LIMIT = 256 << 20  # bytes of a trace
_HINT = "such as `scaffold explain -- curl http://localhost:8080/`, an id from `scaffold requests`, or a file"
_NO_CALLS = (
    "run Envoy with `--component-log-level wasm:trace`; with Istio:"
    " `istioctl proxy-config log POD --level wasm:trace`"
)


def explain(
    what: Sequence[str],
    root: Path = Path(),
    *,
    request: int | None = None,
    module: Path | None = None,
    html: Path | None = None,
) -> Explanation | Explanations:
    """What the plugin did with a request: each callback and hostcall, and the known traps.

    `what` is the words of a curl command line, whose request is sent to the deployed plugin with tracing
    switched on meanwhile; or the id of a request in the live view; or a file with a trace of Envoy's, "-" for
    standard input. Of a trace, `request` chooses a request, and `module` is the plugin that ran. `html` is a
    file that gets the result as a page.
    """
    words = curl.in_one_word([str(each) for each in what])
    if not words:
        raise UsageError("what is to be explained?", hint=_HINT)
    if html is not None and not html.absolute().parent.is_dir():
        raise UsageError(f"--html can't be {html}: there is no folder {html.parent}", hint="make it first")
    explained: Explanation | Explanations
    if words[0] == "curl":
        _only_of_trace(request, module)
        explained = sending.explained(curl.parse(words), root)
    elif len(words) > 1:
        raise UsageError(f"`{words[0]}` isn't a curl command line", hint=_HINT)
    elif words[0] == "-" or not _ID.fullmatch(words[0]) or Path(words[0]).exists():
        explained = _of_log(words[0], request, module)
    else:
        _only_of_trace(request, module)
        explained = _of_id(words[0], root)
    if html is not None:
        from scaffold.commands.explain.page import page

        files.write(html, page(explained))
        emit(Noted(f"wrote {html}"))
    return explained


def _only_of_trace(request: int | None, module: Path | None) -> None:
    if request is not None:
        raise UsageError("--request chooses a request of a trace, and this is one request")
    if module is not None:
        raise UsageError("--module is for a trace: of what is deployed the module is known")


def _of_log(name: str, request: int | None, module: Path | None) -> Explanation | Explanations:
    """The requests of a trace, or one of them."""
    text = _trace(name)
    constants = constant_data(WasmFile.read(module)) if module else no_constants
    found = timeline.read_text(text, constants)
    if not found:
        where = "what came on standard input" if name == "-" else name
        raise ProjectError(f"there is no call of a plugin in {where}", hint=_NO_CALLS)
    if request is not None and request > len(found):
        raise UsageError(f"--request can't be {request}: the trace has {len(found)}")
    explained = [
        explain_timeline(each, number=number, count=len(found)) for number, each in enumerate(found, 1)
    ]
    if request is not None or len(found) == 1:
        return explained[(request or 1) - 1]
    return Explanations(tuple(explained))


def _trace(name: str) -> str:
    if name != "-":
        # not Path.exists, which raises an error for a name that is too long
        if not os.path.exists(name):  # noqa: PTH110
            raise UsageError(
                f"{name} is neither a file nor a request's id (4 characters or more)",
                hint=_HINT,
            )
        return read_bytes(Path(name), _LIMIT).decode(errors="replace")
    content = sys.stdin.buffer.read(_LIMIT + 1) if sys.stdin else b""
    if len(content) > _LIMIT:
        raise UsageError(f"a trace can't be larger than {_LIMIT >> 20} MiB", hint="cut it around the request")
    return content.decode(errors="replace")


def _of_id(request_id: str, root: Path) -> Explanation:
    return of_past(*found(request_id, root))
