"""Play a suite as Google's tester does: a VM for each case, fixed phases, a clock that stands still.

Source: GoogleCloudPlatform/service-extensions, plugins/test/dynamic_test.cc.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

from scaffold.core.versions import Version
from scaffold.errors import HostError, ModuleError
from scaffold.hosts.emulator import engine, load
from scaffold.hosts.emulator.clock import VirtualClock
from scaffold.hosts.emulator.plugin_vm import PluginVm, Refused
from scaffold.hosts.emulator.vm import Trap
from scaffold.hosts.emulator.world import World
from scaffold.hosts.gcp import expectations
from scaffold.hosts.gcp.contexts import MAPS, Result, StreamContext
from scaffold.hosts.gcp.headers import SortedHeaders
from scaffold.hosts.gcp.hostcalls import HOSTCALLS
from scaffold.hosts.gcp.outcome import Failure, Played
from scaffold.hosts.plugin import Plugin
from scaffold.project.suites.suite import Case, Phase, Suite
from scaffold.wasm.check import facts
from scaffold.wasm.symbols import explained

_MILLISECOND = 1_000_000  # nanoseconds: the time of a suite that says none


class StoppedClock(VirtualClock):
    """A clock that stands still."""

    def __init__(self, nanoseconds: int) -> None:
        super().__init__()
        self._nanoseconds = nanoseconds

    def nanoseconds(self) -> int:
        """The time since 1970."""
        return self._nanoseconds


@dataclass
class TesterWorld(World):
    """The surroundings of plugins in the tester: no VM has an id, or an environment."""

    def environment(self, plugin: Plugin) -> dict[str, str]:
        """None."""
        return {}

    def vm_id(self, plugin: Plugin) -> bytes:
        """None."""
        return b""


class Dead(Exception):
    """The VM has failed, or wouldn't start: a case ends there."""


class GcpTester:
    """Plays cases with a plugin. What VMs share is shared by all of them, as in the tester's process."""

    def __init__(self, plugin: Plugin, suite: Suite, *, log_level: int | None = None) -> None:
        engine.engine()
        version = Version.parse(facts()["envoy"]["last"])
        if why := load.refusal(plugin.module, version):
            raise ModuleError(f"the plugin {plugin.name} isn't loaded: {why}")
        self.plugin = plugin
        nanoseconds = _MILLISECOND if suite.seconds is None else suite.seconds * 10**9
        level = suite.log_level if log_level is None else log_level
        self.world = TesterWorld(version, level, clock=StoppedClock(nanoseconds), hostcalls=HOSTCALLS)

    @contextmanager
    def vm(self) -> Iterator[PluginVm]:
        """A new VM, which isn't started yet. Raises `Dead`."""
        try:
            made = PluginVm(self.plugin, self.world)
        except Refused as refused:
            raise Dead(str(refused)) from refused
        try:
            yield made
        finally:
            made.stop()

    def play(self, case: Case) -> Played:
        """Play a case to its end, or until its VM fails."""
        begin = self.world.transcript.size()
        run = _Run(self, case)
        try:
            run.play()
        except (Dead, Trap) as error:
            run.failures.append(Failure(run.phase, "the VM", "that it goes on", _why(error, run.logs())))
        except HostError as error:
            run.failures.append(Failure(run.phase, "the VM", "that it goes on", (error.message,)))
        return Played(case.name, run.failures, self.logged(begin))

    def logged(self, begin: int) -> list[str]:
        """What the plugin has logged since."""
        return [line.text for line in self.world.transcript.since(begin) if line.plugin is not None]


class _Run:
    """One case on its way through a VM; `phase` is where it is."""

    def __init__(self, tester: GcpTester, case: Case) -> None:
        self._tester, self._case = tester, case
        self.failures: list[Failure] = []
        self.phase = "plugin_init"
        self._mark = tester.world.transcript.size()

    def logs(self) -> list[str]:
        """What the plugin has logged in this phase."""
        return self._tester.logged(self._mark)

    def play(self) -> None:
        """All phases in their order. Raises `Dead` or `Trap`."""
        case = self._case
        with self._tester.vm() as plugin:
            self._enter("plugin_init")
            start(plugin)
            self.failures += expectations.of_logs(self.phase, case.plugin_init, self.logs())
            self._enter("stream_init")
            stream = StreamContext(plugin, case.properties)
            stream.create()
            self.failures += expectations.of_logs(self.phase, case.stream_init, self.logs())
            for phase in case.phases:
                self._enter(phase.name)
                self._play_phase(stream, phase)
            self._enter("stream_destroy")
            stream.destroy()
            self.failures += expectations.of_logs(self.phase, case.stream_destroy, self.logs())
            self._enter("plugin_destroy")
            shut_down(plugin)

    def _enter(self, phase: str) -> None:
        self.phase, self._mark = phase, self._tester.world.transcript.size()

    def _play_phase(self, stream: StreamContext, phase: Phase) -> None:
        if phase.name in MAPS:
            result = stream.send_headers(phase.name, SortedHeaders(phase.headers))
        else:
            result = Result(body=self._send_body(stream, phase))
        name, expected = phase.name, phase.expected
        self.failures += expectations.of_output(name, expected, result.headers, result.body)
        self.failures += expectations.of_reply(name, expected.immediate, result)
        self.failures += expectations.of_logs(name, expected, self.logs())

    def _send_body(self, stream: StreamContext, phase: Phase) -> bytes:
        parts = []
        for number, chunk in enumerate(phase.chunks, 1):
            self._enter(phase.name)  # a chunk's logs replace the one's before
            parts.append(stream.send_body(phase.name, chunk, number == len(phase.chunks)))
        return b"".join(parts)


def start(plugin: PluginVm) -> None:
    """Start a plugin in its VM. Raises `Dead`."""
    try:
        plugin.start()
    except Refused as refused:
        raise Dead(str(refused)) from refused
    if plugin.vm.failed:
        raise Dead(plugin.vm.failed)


def shut_down(plugin: PluginVm) -> None:
    """Tell a plugin that it is over. Raises `Trap`."""
    root = plugin.root
    if not plugin.calls("proxy_on_done") or root.call("proxy_on_done", root.id):
        root.call("proxy_on_delete", root.id)


def _why(error: Exception, logs: Sequence[str]) -> tuple[str, ...]:
    return (*explained(str(error)).splitlines(), *(f"log: {line}" for line in logs))
