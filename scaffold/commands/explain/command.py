"""`explain`: show what the plugin did with one request, call by call, and which known traps are in it."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scaffold.commands.explain import sending
from scaffold.commands.explain.past import of_past
from scaffold.commands.named_request import Named, content, found, named
from scaffold.core import files
from scaffold.core.events import Noted, emit
from scaffold.errors import ProjectError, UsageError
from scaffold.hosts import timeline
from scaffold.hosts.explanation import Explanation, Explanations, explain_timeline
from scaffold.hosts.timeline import no_constants
from scaffold.project import curl
from scaffold.wasm.floor import constant_data
from scaffold.wasm.module import WasmFile

_LIMIT = 256 << 20  # bytes of a trace
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
    name = named(what, command="explain", question="what is to be explained?")
    if html is not None and not html.absolute().parent.is_dir():
        raise UsageError(f"--html can't be {html}: there is no folder {html.parent}", hint="make it first")
    explained: Explanation | Explanations
    if name.kind == "file":
        explained = _of_log(name, request, module)
    else:
        _only_of_trace(request, module)
        by_curl = name.kind == "curl"
        explained = (
            sending.explained(curl.parse(name.words), root) if by_curl else of_past(*found(name.word, root))
        )
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


def _of_log(name: Named, request: int | None, module: Path | None) -> Explanation | Explanations:
    """The requests of a trace, or one of them."""
    text = content(name.word, _LIMIT, hint="cut it around the request").decode(errors="replace")
    constants = constant_data(WasmFile.read(module)) if module else no_constants
    traced = timeline.read_text(text, constants)
    if not traced:
        raise ProjectError(f"there is no call of a plugin in {name.of_file}", hint=_NO_CALLS)
    if request is not None and request > len(traced):
        raise UsageError(f"--request can't be {request}: the trace has {len(traced)}")
    explained = [
        explain_timeline(each, number=number, count=len(traced)) for number, each in enumerate(traced, 1)
    ]
    if request is not None or len(traced) == 1:
        return explained[(request or 1) - 1]
    return Explanations(tuple(explained))
