"""Trimming changes no behaviour: what a plugin and Envoy call of each other is the same with and without it.

Each template's own tests, and requests to the probe plugins, are played with the trimmed module and with the
untrimmed one. Envoy's traces of both have to be the same, in these words:

- A *life* is what happens to one context, from its creation on: each callback with its arguments and its
  result, and inside it each call of the host with arguments and result, and what is logged. The start of a VM
  is a life, too. What comes in its own time, such as a timer or the answer to a call, stands for itself.
- Pointers, ids, tokens, and the numbers in what is logged are masked (support/transcripts.py has the list).
- The untrimmed module has callbacks that the trimmed one lacks. A call of one is left out of the comparison
  if the plugin did nothing in it, neither called the host nor logged, and returned what the host takes for
  granted where there is no callback: 1 for `proxy_on_vm_start`, `proxy_on_configure` and `proxy_on_done`,
  otherwise 0 or nothing. Any other call of such a callback is a difference.
- Into how many parts a body comes is up to the network: a part that isn't the last, and about which the
  plugin does nothing, is left out.
- What comes more than once counts once, as a test that waits asks again. Two modules are the same if a run
  of each shows exactly the same lives. Where lives depend on timing, runs of the same module differ; so both
  are run again, up to `ROUNDS` times, and it is also enough if all that one has shown by then, the other has.
- `BY_CHANCE` has the tests in which the network decides what a connection's bytes come in, so that hardly any
  two runs are the same.
"""

from __future__ import annotations

import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import dataclass
from functools import reduce
from pathlib import Path

import pytest
from support.crates import EVERYTHING, PLUGINS, plugin_of
from support.transcripts import Call, Transcript, recorded, recorder

import scaffold
from scaffold.hosts import host as hosts
from scaffold.hosts.envoy import installed
from scaffold.hosts.exchange import Headers, Request
from scaffold.hosts.options import HostSettings
from scaffold.project.templates import render as rendering
from scaffold.toolchain import relink
from scaffold.wasm.module import WasmModule

ROUNDS = 4
VERSIONS = ("1.36", "1.37", "1.39", "1.40.0")  # the wheel of 1.38 has no V8
TEMPLATES = list(rendering.bundled("cookiecutters"))
PROBES = ("probe", "service", "limits")
BY_CHANCE = {"tcp": "held_back or too_much or large_response"}
SAMPLE = [("http", "1.37"), ("ratelimit", "1.39"), ("tcp", "1.36")]
PROBE_SAMPLE = [("probe", "1.40.0"), ("service", "1.37"), ("limits", "1.39")]
ALL = [(template, version) for template in TEMPLATES for version in VERSIONS]
NOT_LOADED = ("1.36", "1.37")  # by these, `limits`, which asks for a file
ALL_PROBES = [
    (name, version)
    for name in PROBES
    for version in VERSIONS
    if name != "limits" or version not in NOT_LOADED
]
PATHS = {  # of requests, in this order
    "probe": "headers local strip secrets vm metadata measure/3 hold call-nowhere panic-response headers",
    "service": "",
    "limits": "system names own late many longer late-answer log call headers catch headers",
}


@dataclass(frozen=True)
class Modules:
    """A plugin's module, trimmed and not, and the callbacks that only the second has."""

    root: Path
    trimmed: WasmModule
    plain: WasmModule
    dropped: tuple[str, ...]


Play = Callable[[WasmModule, Path], None]  # with a module, in the Envoy of that program


@pytest.fixture(scope="module")
def built(tmp_path_factory, state) -> Callable[[str], Modules]:
    """Builds each plugin once."""
    folder, made = tmp_path_factory.mktemp("plugins"), {}

    def copied(module: WasmModule, name: str) -> WasmModule:
        kept = folder / name / module.path.name
        kept.parent.mkdir(exist_ok=True)
        return WasmModule.read(Path(shutil.copyfile(module.path, kept)))

    def build(name: str) -> Modules:
        if name not in made:
            root = folder / f"{name}_t"
            if name in PROBES:
                shutil.copytree(PLUGINS / name, root)
            else:
                scaffold.new(root.name, template=name, output_dir=folder, no_input=True)
            plain = copied(scaffold.build(root, scaffold.BuildOptions(yes=True, no_trim=True)), "plain")
            module = scaffold.build(root)
            record = relink.made(module.path)
            assert record
            made[name] = Modules(root, copied(module, "trimmed"), plain, record.dropped)
        return made[name]

    return build


def compare(modules: Modules, version: str, play: Play) -> None:
    """Play both modules until they have shown the same; fail with what only one of them shows."""
    envoy = installed.find(version).path

    def shown(module: WasmModule) -> list[list[Call]]:
        with tempfile.TemporaryDirectory() as folder:
            play(module, recorder(envoy, Path(folder)))
            return recorded(Path(folder))

    runs: tuple[list[Transcript], list[Transcript]] = ([], [])
    for _ in range(ROUNDS):
        calls = shown(modules.plain)
        names = {call.name for thread in calls for call in thread}
        assert names & {*modules.dropped}, "it calls what the other one hasn't"
        runs[0].append(Transcript.of(calls, modules.dropped))
        calls = shown(modules.trimmed)
        assert not {call.name for thread in calls for call in thread} & {*modules.dropped}
        runs[1].append(Transcript.of(calls))
        plain, trimmed = (reduce(Transcript.__or__, each) for each in runs)
        if plain == trimmed or any(each in runs[1] for each in runs[0]):
            break
    else:
        pytest.fail(f"only one of them shows this:\n{plain.difference(trimmed)}")
    assert len(plain.lives) > 1
    print(f"the same after {len(runs[0])} rounds")


@pytest.mark.parametrize(("template", "version"), ALL if EVERYTHING else SAMPLE)
def test_a_template_does_the_same(template, version, built):
    modules = built(template)

    def play(module: WasmModule, envoy: Path) -> None:
        words = ["-q", "-p", "no:cacheprovider", "-p", "scaffold.pytest_plugin", "--hypothesis-seed=1"]
        words += ["-k", f"not ({BY_CHANCE[template]})"] if template in BY_CHANCE else []
        argv = [sys.executable, "-m", "pytest", *words, f"--proxy-module={module.path}"]
        ran = subprocess.run(
            [*argv, f"--proxy-envoy={envoy}"], cwd=modules.root, text=True, capture_output=True
        )
        assert ran.returncode == 0, ran.stdout

    compare(modules, version, play)


@pytest.mark.parametrize(("name", "version"), ALL_PROBES if EVERYTHING else PROBE_SAMPLE)
def test_a_probe_does_the_same(name, version, built, tmp_path_factory):
    modules = built(name)

    def play(module: WasmModule, envoy: Path) -> None:
        plugin, settings = plugin_of(modules.root, module), HostSettings(envoy=str(envoy))
        with hosts.find("envoy")(plugin, folder=tmp_path_factory.mktemp("host"), settings=settings) as host:
            for path in PATHS[name].split():
                host.play(Request("POST" if path == "late" else "GET", f"/{path}", Headers(), b"a body"))
            if name == "service":
                deadline = time.monotonic() + 20
                while "the upstream answered" not in "\n".join(line.text for line in host.log.since(0)):
                    assert time.monotonic() < deadline, "the service's call has no answer"
                    time.sleep(0.01)

    compare(modules, version, play)
