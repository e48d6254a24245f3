"""Play a plugin's requests under every fault: which requests, which faults, and what came of each."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scaffold.commands.faults.report import Case
from scaffold.core.events import Progressed, emit
from scaffold.errors import HostError
from scaffold.hosts.envoy.resources import SOON, failing
from scaffold.hosts.exchange import Request
from scaffold.hosts.faults import fault as known
from scaffold.hosts.faults.emulated import Emulated
from scaffold.hosts.faults.fault import Fault
from scaffold.hosts.faults.scenes import Scene
from scaffold.hosts.faults.stage import Healthy, Seen, Stage, Trial
from scaffold.hosts.plugin import Plugin
from scaffold.project.envoy_clusters import UPSTREAM
from scaffold.wasm.module import WasmModule
from scaffold.wasm.rewrite import with_trap

_MOST_TRIED = 60  # requests that are played while nothing is wrong
_MOST = 12  # of those, that are played under faults
_FAILURES = ("failure_policy", "fail_open", "reload_config")
_TICK = "proxy_on_tick"
_CALLBACK = "proxy_on_"
_ALLOCATOR = "proxy_on_memory_allocate"  # no callback, whatever its name


@dataclass(frozen=True)
class Known:
    """A scene, its number, and what comes of it while nothing is wrong."""

    number: int
    scene: Scene
    healthy: Healthy

    @property
    def kind(self) -> tuple[object, ...]:
        """What tells it from other scenes: of two of a kind, one is enough."""
        healthy, body = self.healthy, bool(self.scene.request.body)
        calls = frozenset(healthy.callbacks)
        sort = (type(self.scene.request), body, self.scene.configuration)
        return (*sort, str(healthy.seen), healthy.seen.reached, calls)


def chosen(plugin: Plugin, scenes: Sequence[Scene], stage: Emulated) -> list[Known]:
    """One scene of each kind, those first that the plugin denies access; a plain GET if there are none."""
    found: dict[object, Known] = {}
    for scene in _varied(scenes or [Scene(Request("GET", "/"), plugin.configuration)])[:_MOST_TRIED]:
        each = Known(len(found), scene, stage.healthy(_with(plugin, scene), scene))
        found.setdefault(each.kind, each)
    return sorted(found.values(), key=lambda each: not each.healthy.seen.denied)[:_MOST]


def _varied(scenes: Sequence[Scene]) -> list[Scene]:
    """The scenes in another order: the first of each sort, then the second of each, and so on."""
    counts: Counter[object] = Counter()
    places = []
    for scene in scenes:
        request = scene.request
        sort = (scene.configuration, repr(scene.answers), request.method, bool(request.body))
        places.append(counts[sort])
        counts[sort] += 1
    return [scenes[at] for at in sorted(range(len(scenes)), key=places.__getitem__)]


def faults(plugin: Plugin, scenes: Sequence[Known]) -> tuple[list[Fault], dict[str, str]]:
    """The faults for a plugin; and those that nothing would come of, with the reason."""
    called = dict.fromkeys(name for each in scenes for name in each.healthy.callbacks)
    clusters = {name for each in scenes for name in each.healthy.clusters}
    found = known.panics(called)
    for cluster in dict.fromkeys([UPSTREAM, *plugin.clusters]):
        found += known.of_service(cluster) if cluster in clusters else []
    found += known.OF_REQUESTS
    unfit = [fault for fault in found if not any(_fits(fault, each) for each in scenes)]
    found = [fault for fault in found if fault not in unfit]
    left_out = {fault.name: f"no request has {fault.needs}" for fault in unfit}
    exported = [name for name in plugin.module.exports if name.startswith(_CALLBACK) and name != _ALLOCATOR]
    if never := [name.removeprefix("proxy_") for name in exported if name not in called]:
        left_out[f"panic in {', '.join(never)}"] = "no request leads there"
    if _TICK in called:
        found.append(known.STORM)
    else:
        left_out[known.STORM.name] = "the plugin has no timer"
    if any(each.healthy.shares for each in scenes):
        found.append(known.CONTENTION)
    else:
        left_out[known.CONTENTION.name] = "the plugin writes no shared data that it has read"
    return found, left_out


def sample(scenes: Sequence[Known], faults: Sequence[Fault]) -> list[Known]:
    """The scenes that are enough to have one for each fault."""
    first = (next((each for each in scenes if _fits(fault, each)), None) for fault in faults)
    wanted = [each for each in first if each]
    return [each for each in scenes if each in wanted]


@dataclass(frozen=True)
class Round:
    """The faults on one host; with `sampled`, one scene is enough for each."""

    host: str
    stage: Stage
    plugin: Plugin
    policies: Sequence[str]
    folder: Path
    sampled: bool = False

    def play(self, scenes: Sequence[Known], faults: Sequence[Fault]) -> Iterator[Case]:
        """Every case. Raises the host's error, with the fault that led to it."""
        for number, fault in enumerate(faults):
            emit(Progressed(f"Faults on {self.host}", number, len(faults)))
            plugin = self._broken(fault)
            fitting = [each for each in scenes if _fits(fault, each)]
            for each in fitting[:1] if self.sampled or fault.at_start else fitting:
                try:
                    yield from self._cases(plugin, fault, each)
                except HostError as error:
                    raise HostError(
                        f"under the fault `{fault.name}`, {self.host} itself failed: {error.message}",
                        hint=error.hint,
                    ) from error
        emit(Progressed(f"Faults on {self.host}", len(faults), len(faults)))

    def _broken(self, fault: Fault) -> Plugin:
        """The plugin, with the panic if the fault is one."""
        if not fault.traps:
            return self.plugin
        path = self.folder / f"{fault.traps}.wasm"
        path.write_bytes(with_trap(self.plugin.module.file, fault.traps))
        return replace(self.plugin, module=WasmModule.read(path))

    def _cases(self, plugin: Plugin, fault: Fault, each: Known) -> Iterator[Case]:
        """A scene under a fault, with each policy."""
        trial: Trial | None = None
        for policy in self.policies:
            # the policies differ only once a plugin has crashed
            if trial is None or trial.crashed or fault.traps:
                made = self._following(_with(plugin, each.scene), policy)
                trial = self.stage.trial(made, each.scene, fault)
            yield self._case(fault, policy, each, trial)

    def _following(self, plugin: Plugin, policy: str) -> Plugin:
        more = {name: value for name, value in plugin.more.items() if name not in _FAILURES}
        more |= failing(policy, self.stage.version)
        return replace(plugin, more=more | (SOON if policy == "fail-reload" else {}))

    def _case(self, fault: Fault, policy: str, each: Known, trial: Trial) -> Case:
        healthy = each.healthy.again if fault.contended else each.healthy.seen
        seen = [one for one in (trial.during, trial.after) if one]
        reached = sorted({name for one in seen for name in _only_now(one, healthy)})
        return Case(
            self.host,
            fault.name,
            policy,
            str(each.scene),
            each.number,
            str(healthy),
            str(each.healthy.again),
            str(trial.during),
            str(trial.after or ""),
            tuple(reached),
            healthy.denied and bool(reached),
            next((one.crash for one in seen if one.crash), ""),
            bool(fault.traps),
        )


def _fits(fault: Fault, each: Known) -> bool:
    """Whether a fault concerns a scene at all."""
    if fault.traps and fault.traps not in each.healthy.callbacks:
        return False
    if fault.cluster and fault.cluster not in each.healthy.clusters:
        return False
    if fault.contended and not each.healthy.shares:
        return False
    return fault.sent(each.scene.request) is not None


def _only_now(seen: Seen, healthy: Seen) -> set[str]:
    return set(seen.reached) - set(healthy.reached)


def _with(plugin: Plugin, scene: Scene) -> Plugin:
    return replace(plugin, configuration=scene.configuration)
