"""What a suite's benchmarks cost, in wasm's fuel: the same on every machine, where time isn't.

Source: GoogleCloudPlatform/service-extensions, plugins/test/dynamic_test.cc: what is measured, and beside
which other streams.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from statistics import median_low

from scaffold.hosts.emulator.plugin_vm import PluginVm
from scaffold.hosts.emulator.status import LEVELS
from scaffold.hosts.emulator.vm import Trap
from scaffold.hosts.exchange import Cost
from scaffold.hosts.gcp.contexts import MAPS, StreamContext
from scaffold.hosts.gcp.headers import SortedHeaders
from scaffold.hosts.gcp.outcome import Benchmark
from scaffold.hosts.gcp.tester import Dead, GcpTester, shut_down, start
from scaffold.hosts.plugin import Plugin
from scaffold.project.suites.suite import Case, Suite

_SILENT = LEVELS.index("critical")  # nothing else is logged in a benchmark
_ROUNDS = 11
_FIGURES = ("fuel", "crossings", "copied_bytes")
LIFECYCLES = "PluginLifecycle", "StreamLifecycle"


def benchmarks(plugin: Plugin, suite: Suite) -> list[Benchmark]:
    """The benchmarks of a suite: a plugin's life, a stream's, and the cases that are marked."""
    marked = [case for case in suite.cases if case.benchmark]
    if not marked:
        return []
    tester = GcpTester(plugin, suite, log_level=_SILENT)
    of_plugin, of_stream = LIFECYCLES
    found = [_tried(of_plugin, lambda: _of_plugin(tester))]
    for name, case in [(of_stream, replace(marked[0], phases=())), *((case.name, case) for case in marked)]:
        found.append(_tried(name, partial(_of_streams, tester, name, case, suite)))
    return found


def _tried(name: str, measure: Callable[[], Benchmark]) -> Benchmark:
    try:
        return measure()
    except (Dead, Trap) as error:
        return Benchmark(name, error=str(error).partition("\n")[0])


def _of_plugin(tester: GcpTester) -> Benchmark:
    """From a VM's start to its end; the tester keeps the VM, whose first round costs more than the others."""
    costs = []
    for _ in range(_ROUNDS):
        with tester.vm() as plugin:
            before = replace(plugin.vm.use)
            start(plugin)
            shut_down(plugin)
            costs.append(plugin.vm.use.since(before))
            memory = plugin.vm.memory_size
    return _benchmark(LIFECYCLES[0], costs, memory)


def _of_streams(tester: GcpTester, name: str, case: Case, suite: Suite) -> Benchmark:
    """A case's callbacks, one stream after the other; without phases, a stream's beginning and end."""
    with tester.vm() as plugin:
        start(plugin)
        others = [_endless(plugin, case) for _ in range(suite.streams)]
        for each in others:
            next(each)
            next(each)
        choice = random.Random(0)  # noqa: S311 - a run is to repeat exactly
        costs = []
        for _ in range(_ROUNDS):
            for _ in range(suite.advanced if others and case.phases else 0):
                next(choice.choice(others))
            costs.append(_round(plugin, case))
        return _benchmark(name, costs[1:], plugin.vm.memory_size)


def _round(plugin: PluginVm, case: Case) -> Cost:
    """What a stream's callbacks cost, or its life."""
    before = replace(plugin.vm.use)
    stream = StreamContext(plugin, case.properties)
    stream.create()
    if not case.phases:
        stream.destroy()
        return plugin.vm.use.since(before)
    before = replace(plugin.vm.use)
    for step in _steps(stream, case):
        step()
    cost = plugin.vm.use.since(before)
    stream.destroy()
    return cost


def _steps(stream: StreamContext, case: Case) -> Iterator[Callable[[], object]]:
    """The callbacks of a case. Each raises `Trap` if the plugin fails."""
    for phase in case.phases:
        if phase.name in MAPS:
            yield partial(stream.send_headers, phase.name, SortedHeaders(phase.headers))
        for number, chunk in enumerate(phase.chunks, 1):
            yield partial(stream.send_body, phase.name, chunk, number == len(phase.chunks))


def _endless(plugin: PluginVm, case: Case) -> Iterator[None]:
    """Streams without end, one after the other, which go on by a callback each time."""
    while True:
        stream = StreamContext(plugin, case.properties)
        stream.create()
        yield
        for step in _steps(stream, case):
            step()
            yield
        stream.destroy()
        yield


def _benchmark(name: str, costs: list[Cost], memory: int) -> Benchmark:
    middle = [median_low(getattr(each, kind) for each in costs) for kind in _FIGURES]
    return Benchmark(name, middle[0], middle[1], middle[2], memory)
