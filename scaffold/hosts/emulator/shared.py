"""What VMs of one process share: data with versions, queues, and metrics.

Source: proxy-wasm-cpp-host, src/shared_data.cc and shared_queue.cc; envoyproxy/envoy,
source/extensions/common/wasm/context.cc (metrics).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field

from scaffold.hosts.emulator.status import BAD_ARGUMENT, CAS_MISMATCH, EMPTY, NOT_FOUND, OK

_OBJECT = 40  # bytes that Python takes for a message, beside its content
COUNTER, GAUGE, HISTOGRAM = range(3)
_MOST = (1 << 64) - 1  # a value beyond it begins again at 0


class Data:
    """Values by key, apart for each VM id; each has a number that changes whenever it is set."""

    def __init__(self) -> None:
        self._values: dict[tuple[bytes, bytes], tuple[bytes, int]] = {}
        self._last = 0
        self.size = 0  # bytes of all keys and values

    def get(self, vm_id: bytes, key: bytes) -> tuple[bytes, int] | None:
        """A value with its number; None if there is none."""
        return self._values.get((vm_id, key))

    def set(self, vm_id: bytes, key: bytes, value: bytes, number: int) -> int:
        """Set a value, if `number` is 0 or its present one; one that isn't there yet takes any."""
        present = self._values.get((vm_id, key))
        if present and number and number != present[1]:
            return CAS_MISMATCH
        self._last += 1
        self.size += len(value) - len(present[0]) if present else len(key) + len(value)
        self._values[vm_id, key] = (value, self._last)
        return OK


@dataclass
class Queue:
    """Messages, and who is told of a new one."""

    ready: Callable[[], None]
    messages: deque[bytes] = field(default_factory=deque)


class Queues:
    """Queues by VM id and name; their tokens count from 1."""

    def __init__(self) -> None:
        self._tokens: dict[tuple[bytes, bytes], int] = {}
        self._queues: dict[int, Queue] = {}
        self.size = 0  # bytes of all messages

    def register(self, vm_id: bytes, name: bytes, ready: Callable[[int], None]) -> int:
        """The token of a queue, which is made if need be; from now on `ready` is told of its messages."""
        token = self._tokens.setdefault((vm_id, name), len(self._tokens) + 1)
        earlier = self._queues.get(token)
        self._queues[token] = Queue(lambda: ready(token), earlier.messages if earlier else deque())
        return token

    def resolve(self, vm_id: bytes, name: bytes) -> int | None:
        """The token of a queue; None if there is none."""
        return self._tokens.get((vm_id, name))

    def enqueue(self, token: int, message: bytes) -> int:
        """Add a message."""
        queue = self._queues.get(token)
        if queue is None:
            return NOT_FOUND
        queue.messages.append(message)
        self.size += len(message) + _OBJECT
        queue.ready()
        return OK

    def dequeue(self, token: int) -> tuple[int, bytes]:
        """The oldest message, which is taken out."""
        queue = self._queues.get(token)
        if queue is None:
            return NOT_FOUND, b""
        if not queue.messages:
            return EMPTY, b""
        message = queue.messages.popleft()
        self.size -= len(message) + _OBJECT
        return OK, message


@dataclass
class Metric:
    """A metric; a histogram keeps what was recorded. Envoy doesn't show one that was only ever decreased."""

    name: str
    kind: int
    value: int = 0
    recorded: list[int] = field(default_factory=list)
    is_used: bool = False


class Metrics:
    """The metrics that plugins define; the low two bits of an id are the metric's kind, as in Envoy."""

    def __init__(self) -> None:
        self.by_name: dict[tuple[str, int], Metric] = {}  # a name may be of several kinds, each by itself

    def define(self, name: str, kind: int) -> Metric:
        """The metric of that name, which is made if need be."""
        return self.by_name.setdefault((name, kind), Metric(name, kind))


def increment(metric: Metric, offset: int) -> int:
    """Add to a counter (only what is positive) or a gauge."""
    if metric.kind == HISTOGRAM or (metric.kind == COUNTER and offset <= 0):
        return BAD_ARGUMENT
    metric.value = (metric.value + offset) & _MOST
    metric.is_used = metric.is_used or offset > 0
    return OK


def record(metric: Metric, value: int) -> int:
    """Set a gauge, add to a counter, or record in a histogram."""
    metric.is_used = True
    if metric.kind == HISTOGRAM:
        metric.recorded.append(value)
    elif metric.kind == GAUGE:
        metric.value = value
    else:
        metric.value = (metric.value + value) & _MOST
    return OK
