"""From a saved edit to the new answer under load, what is lost on the way, and what 300 reloads cost."""

from __future__ import annotations

import os
import shlex
import shutil
import signal
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
SAVES, MANY = 20, 100
_PAUSE = 0.3  # seconds between two saves
CARGO = ("cargo", "build", "--target", "wasm32-wasip1")
_USED = """
        if let Ok(rule) = regex::Regex::new("^/h[a-z]+") {
            log::debug!("{}", rule.is_match("/headers"));
        }
        if let Ok(value) = serde_json::from_str::<serde_json::Value>("[1, 2]") {
            log::debug!("{value}");
        }"""
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
    """A save under `scaffold dev`, against cargo-watch that builds and starts Envoy again; without load."""
    return [*_dev("small", ""), *_dev("with regex and serde_json", 'regex = "1"\nserde_json = "1"\n')]


def _dev(what: str, dependencies: str) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        ours, theirs = (_crate(place / side, dependencies) for side in ("ours", "theirs"))
        module = theirs / "target/wasm32-wasip1/debug/edited.wasm"
        port = Envoy.free_port()
        envoy = Envoy(place / "envoy", module)
        with _developing(ours, port), _watched(theirs, envoy) as watcher:
            for each in (port, envoy.port):
                await_answer(each)

            def save(crate: Path, at: int, number: int) -> float:
                mark, begun = _save(crate, f"dev{number}")
                seconds = await_answer(at, mark) - begun
                time.sleep(_PAUSE)
                return seconds

            medians = interleaved(
                {"ours": lambda n: save(ours, port, n), "theirs": lambda n: save(theirs, envoy.port, n)},
                SAVES,
            )
    row = f"a save under `dev`, {what}: saved to answered, against {watcher}"
    return [Row(row, medians["ours"], medians["theirs"], 1.0)]


def saves() -> list[Row]:
    """100 saves under load: what is lost, and the slowest answers, to those while rustc alone is busy."""
    with tempfile.TemporaryDirectory() as name:
        ours, other = (_crate(Path(name) / side) for side in ("ours", "other"))
        port = Envoy.free_port()
        with _developing(ours, port):
            await_answer(port)
            with load(port) as without:
                for number in range(MANY):
                    _save(other, f"save{number}")
                    run(*CARGO, cwd=other)
                    time.sleep(_PAUSE)
            with load(port) as seen:
                for number in range(MANY):
                    mark, _ = _save(ours, f"save{number}")
                    await_answer(port, mark)
                    time.sleep(_PAUSE)
    lost = f"{seen['sent']:,.0f} requests at {RATE}/s"
    slow = f"p50 {seen['p50']:.1f} ms, worst {seen['worst']:.0f} ms; without a swap {without['worst']:.0f} ms"
    return [
        Row(f"requests lost in {MANY} saves under `dev`", seen["failed"], None, 0, "", "ours", lost),
        Row("p99.9 then, to rustc alone", seen["p99.9"], without["p99.9"], 50, "ms", "difference", slow),
    ]


def saves_memory() -> list[Row]:
    """500 saves: what `dev` and its Envoy hold then, to what they held after 100.

    By then they remember as many requests as they ever do.
    """
    held: list[tuple[int, int]] = []
    with tempfile.TemporaryDirectory() as name:
        crate, port = _crate(Path(name) / "ours"), Envoy.free_port()
        with _developing(crate, port) as pid:
            await_answer(port)
            process = psutil.Process(pid)
            envoy = next(child for child in process.children(recursive=True) if "envoy" in child.name())
            for number in range(501):
                mark, _ = _save(crate, f"save{number}")
                await_answer(port, mark)
                if number in (100, 500):
                    held.append((process.memory_info().rss, envoy.memory_info().rss))
    (ours, theirs), (ours_after, theirs_after) = held
    megabyte = 1 << 20
    what = "memory after 500 saves, to after 100"
    return [
        Row(f"`dev`: {what}", ours_after / megabyte, ours / megabyte, 1.05, "MB"),
        Row(f"its Envoy: {what}", theirs_after / megabyte, theirs / megabyte, 1.05, "MB"),
    ]


def _crate(folder: Path, dependencies: str = "") -> Path:
    """A crate that is built already; it uses those of its dependencies that are more than the template's."""
    run(BIN / "scaffold", "new", "edited", "--no-input", "--output-dir", folder)
    crate = folder / "edited"
    if dependencies:
        manifest, source = crate / "Cargo.toml", crate / "src/lib.rs"
        manifest.write_text(
            manifest.read_text().replace("[dependencies]\n", f"[dependencies]\n{dependencies}")
        )
        source.write_text(source.read_text().replace("-> Action {", f"-> Action {{{_USED}", 1))
    run(*CARGO, cwd=crate)
    return crate


@contextmanager
def _developing(crate: Path, port: int) -> Iterator[int]:
    """Run `scaffold dev --no-tests` while the block does; the pid."""
    words = [BIN / "scaffold", "dev", "--no-tests", "--port", str(port), "--root", crate]
    with subprocess.Popen(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as developing:
        try:
            yield developing.pid
        finally:
            developing.terminate()


@contextmanager
def _watched(crate: Path, envoy: Envoy) -> Iterator[str]:
    """Build, and start Envoy again, after each save, while the block runs; what does that."""
    start = shlex.join(["exec", *envoy.words])
    command = f"{shlex.join(CARGO)} && cd {shlex.quote(str(envoy.folder))} && {start}"
    name = "cargo-watch" if shutil.which("cargo-watch") else "watchfiles and a restart"
    if name == "cargo-watch":
        words = ["cargo-watch", "watch", "--delay", "0.01", "--watch", "src", "--shell", command]
    else:
        words = [str(BIN / "watchfiles"), f"sh -c {shlex.quote(command)}", "src"]
    output = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    with subprocess.Popen(words, cwd=crate, start_new_session=True, **output) as watching:  # type: ignore[call-overload]
        try:
            yield name
        finally:
            os.killpg(watching.pid, signal.SIGTERM)
            envoy.close()


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
    seen |= {"p50": answers.quantile(0.5), "p99.9": answers.quantile(0.999), "worst": answers.quantile(1)}


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
