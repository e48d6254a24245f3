"""Why a request got no whole answer, as far as its Envoy shows that, and what to do about it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scaffold.core import process
from scaffold.errors import HostError
from scaffold.hosts.client import CutOff, why
from scaffold.hosts.envoy.running import ABORTED, died
from scaffold.hosts.exchange import (
    ANSWER_PAUSED,
    NO_ANSWER,
    REQUEST_PAUSED,
    Exchange,
    Incomplete,
    Request,
)
from scaffold.project.envoy_clusters import UPSTREAM

if TYPE_CHECKING:
    from scaffold.hosts.envoy.observation import Observation
    from scaffold.hosts.envoy.running import EnvoyHost

_END_SECONDS = 5.0  # that an Envoy which doesn't answer any more may take to end
_LOOPS = "the plugin doesn't return from a callback", "is there an endless loop, or a wait for something?"
_MISSES = "watchdog_mega_miss"  # a thread hasn't come back for half a second


def explained(error: HostError, host: EnvoyHost, sent: Request, seen: Observation) -> HostError:
    """The error with the reason first, if there is one, and with what came of the answer, if anything."""
    found = _why(error, host, seen)
    made = HostError(f"{found[0]}: {error.message}", hint=found[1]) if found else error
    cut = error.__cause__
    if not isinstance(cut, CutOff):
        return made
    details = seen.await_end(seen.request_id, cut.port)
    return Incomplete(made, Exchange(sent, cut.response, seen.logs, details, seen.trapped, seen))


def _why(error: HostError, host: EnvoyHost, seen: Observation) -> tuple[str, str] | None:
    """The reason, and a hint."""
    if not seen.trapped and not host.pulse.live():
        return _ended(host)
    if found := why(error.__cause__, seen.logs):
        return found
    if not isinstance(error.__cause__, TimeoutError):
        return None
    if any(name.endswith(_MISSES) for name in seen.metrics):
        return _LOOPS
    return None if host.origin is None else _paused(seen)


def _paused(seen: Observation) -> tuple[str, str]:
    """Where the plugin, or the upstream, holds a request."""
    if seen.upstream is None:
        return REQUEST_PAUSED
    if not any(each.startswith(f"cluster.{UPSTREAM}.upstream_rq_completed") for each in seen.metrics):
        return NO_ANSWER
    return ANSWER_PAUSED


def _ended(host: EnvoyHost) -> tuple[str, str]:
    """What happened to an Envoy that doesn't answer any more."""
    try:
        code = host.process.wait(_END_SECONDS) if host.process else None
    except process.TimeoutExpired:
        code = None
    if code == ABORTED:
        return _LOOPS
    if code is not None:
        return died(code, []).message, "its log may say why"
    why = "Envoy doesn't run any more, or doesn't answer: does a callback loop?"
    return why, "every callback has to return soon"
