"""From a saved edit to the new answer under load, what is lost on the way, and what 300 reloads cost."""

from __future__ import annotations

import subprocess
import tempfile
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil

import scaffold
from bench.by_hand import Envoy, await_answer
from bench.measure import BIN, Row, interleaved, run
from scaffold.errors import ModuleError
from scaffold.hosts.background import deployments
from scaffold.hosts.load import Sent, client
from scaffold.wasm.module import WasmFile

RATE = 500
SAVES = 20
REQUEST = b"GET /status/200 HTTP/1.1\r\nhost: bench\r\n\r\n"


def edit() -> list[Row]:
    """Both sides under load; the same crate, edited in turn, each with its own target folder."""
    rows: list[Row] = []
    with tempfile.TemporaryDirectory() as name:
        sides = [Path(name) / side / "edited" for side in ("ours", "theirs")]
        for crate in sides:
            run(BIN / "scaffold", "new", "edited", "--no-input", "--output-dir", crate.parent)
        for profile in ("release", "dev"):
            rows += _edit(profile, *sides, Path(name))
    return rows


def _edit(profile: str, ours: Path, theirs: Path, place: Path) -> list[Row]:
    folder = "release" if profile == "release" else "debug"
    cargo = ["cargo", "build", "--target", "wasm32-wasip1", "--profile", profile]
    run(*cargo, cwd=theirs)
    scaffold.deploy(root=ours, run=scaffold.RunOptions(port=0), build=scaffold.BuildOptions(profile=profile))
    deployment = deployments.load(ours)
    assert deployment
    module = theirs / f"target/wasm32-wasip1/{folder}/edited.wasm"
    with Envoy(place / f"envoy-{profile}", module) as envoy:
        await_answer(envoy.port)

        def by_deploy(number: int) -> float:
            mark, begun = _save(ours, f"{profile}{number}")
            seen: list[float] = []
            watcher = threading.Thread(target=lambda: seen.append(await_answer(deployment.port, mark)))
            watcher.start()
            run(BIN / "scaffold", "deploy", "--root", ours, "--port", "0", "--profile", profile)
            watcher.join()
            return seen[0] - begun

        def by_hand(number: int) -> float:
            mark, begun = _save(theirs, f"{profile}{number}")
            run(*cargo, cwd=theirs)
            envoy.stop()
            envoy.start()
            return await_answer(envoy.port, mark) - begun

        with load(deployment.port) as at_ours, load(envoy.port) as at_theirs:
            medians = interleaved({"ours": by_deploy, "by hand": by_hand}, 5)
    scaffold.undeploy(ours)
    what = f"an edit in profile {profile}"
    return [
        Row(f"{what}: saved to answered", medians["ours"], medians["by hand"], 1.0),
        Row(f"{what}: requests lost of 5 reloads", at_ours["failed"], at_theirs["failed"], 0, "", "ours"),
        Row(f"{what}: worst stall", at_ours["worst"], at_theirs["worst"], None, "ms"),
    ]


def dev() -> list[Row]:
    """Saves under `scaffold dev --no-tests`, against cargo and a restart of Envoy; both under load."""
    with tempfile.TemporaryDirectory() as name:
        ours, theirs = (Path(name) / side / "edited" for side in ("ours", "theirs"))
        for crate in (ours, theirs):
            run(BIN / "scaffold", "new", "edited", "--no-input", "--output-dir", crate.parent)
        cargo = ["cargo", "build", "--target", "wasm32-wasip1"]
        run(*cargo, cwd=theirs)
        port = Envoy.free_port()
        words = [BIN / "scaffold", "dev", "--no-tests", "--port", str(port), "--root", ours]
        module = theirs / "target/wasm32-wasip1/debug/edited.wasm"
        with (
            subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as developing,
            Envoy(Path(name) / "envoy", module) as envoy,
        ):
            try:
                for each in (port, envoy.port):
                    await_answer(each)

                def by_dev(number: int) -> float:
                    mark, begun = _save(ours, f"dev{number}")
                    return await_answer(port, mark) - begun

                def by_hand(number: int) -> float:
                    mark, begun = _save(theirs, f"dev{number}")
                    run(*cargo, cwd=theirs)
                    envoy.stop()
                    envoy.start()
                    return await_answer(envoy.port, mark) - begun

                with load(port) as at_ours, load(envoy.port) as at_theirs:
                    medians = interleaved({"ours": by_dev, "by hand": by_hand}, SAVES)
            finally:
                developing.terminate()
    return [
        Row("a save under `dev`: saved to answered", medians["ours"], medians["by hand"], 1.0),
        Row(f"requests lost in {SAVES} such saves", at_ours["failed"], at_theirs["failed"], 0, "", "ours"),
        Row("a save under `dev`: worst stall", at_ours["worst"], at_theirs["worst"], None, "ms"),
    ]


def loss() -> list[Row]:
    """50 reloads under load, every third a module that Envoy refuses."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        modules = _modules(place)
        bad = place / "bad.wasm"
        bad.write_bytes(modules[0].read_bytes()[:-100])
        deployed = scaffold.deploy(module=modules[0], root=place, run=scaffold.RunOptions(port=0))
        port = int(deployed.url.rpartition(":")[2])
        refused = 0
        with load(port) as seen:
            for number in range(50):
                if number % 3 == 2:
                    try:
                        scaffold.deploy(
                            module=_spoilt(modules[0], bad), root=place, run=scaffold.RunOptions(port=0)
                        )
                    except ModuleError:
                        refused += 1
                else:
                    scaffold.deploy(module=modules[number % 2], root=place, run=scaffold.RunOptions(port=0))
        scaffold.undeploy(place)
    note = f"{refused} refused modules among them, {seen['sent']} requests at {RATE}/s"
    return [
        Row("requests lost of 50 reloads", seen["failed"], None, 0, "", "ours", note),
        Row("worst stall of these", seen["worst"], None, None, "ms", note=f"p50 {seen['p50']:.1f} ms"),
    ]


def memory() -> list[Row]:
    """300 reloads of two modules in turn: what the supervisor and Envoy hold then, to what they held."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        modules = _modules(place)
        scaffold.deploy(module=modules[0], root=place, run=scaffold.RunOptions(port=0))
        deployment = deployments.load(place)
        assert deployment
        supervisor = psutil.Process(deployment.pid)
        envoy = next(child for child in supervisor.children() if "envoy" in child.name())
        held: list[tuple[int, int]] = []
        for number in range(301):
            scaffold.deploy(module=modules[number % 2], root=place, run=scaffold.RunOptions(port=0))
            if number % 300 == 20 or number == 300:
                held.append((supervisor.memory_info().rss, envoy.memory_info().rss))
        scaffold.undeploy(place)
    (ours, theirs), (ours_after, theirs_after) = held[0], held[-1]
    megabyte = 1 << 20
    return [
        Row(
            "supervisor's memory after 300 reloads, to after 20",
            ours_after / megabyte,
            ours / megabyte,
            1.05,
            "MB",
        ),
        Row("Envoy's", theirs_after / megabyte, theirs / megabyte, None, "MB"),
    ]


@contextmanager
def load(port: int) -> Iterator[dict[str, float]]:
    """Requests at a steady rate while the block runs; what came of them is there afterwards.

    An answer other than 200 is a failure.
    """
    seen: dict[str, float] = {}
    with client() as sender, sender.sending([Sent(port, REQUEST)], RATE) as end:
        time.sleep(0.5)
        yield seen
        answers = end()
    seen |= {"sent": answers.sent, "failed": answers.sent - answers.statuses.get("200", 0)}
    seen |= {"p50": answers.quantile(0.5), "p99": answers.quantile(0.99), "worst": answers.quantile(1)}


def _save(crate: Path, mark: str) -> tuple[str, float]:
    source = crate / "src" / "lib.rs"
    text = source.read_text()
    begin = text.index('[b"Hello ') + len('[b"Hello ')
    source.write_text(f"{text[:begin]}{mark}{text[text.index(' from ', begin) :]}")
    return f"Hello {mark} from", time.perf_counter()


def _modules(place: Path) -> list[Path]:
    """Two modules that differ."""
    built = []
    for number in range(2):
        run(BIN / "scaffold", "new", f"module{number}", "--no-input", "--output-dir", place)
        _save(place / f"module{number}", f"module {number}")
        built.append(scaffold.build(place / f"module{number}").path)
    return built


def _spoilt(module: Path, path: Path) -> Path:
    """A module that reads well but that no Envoy compiles: its code section is nonsense."""
    content = bytearray(module.read_bytes())
    code = next(each for each in WasmFile.read(module).sections if each.kind == "code")
    middle = code.at + code.size // 2
    content[middle : middle + 1000] = b"\xff" * 1000
    path.write_bytes(content)
    return path
