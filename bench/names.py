"""What the kept names are for: how soon a panic is shown with its place, and how long blame takes."""

from __future__ import annotations

import http.client
import os
import re
import resource
import statistics
import subprocess
import tempfile
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

import scaffold
from bench.measure import BIN, Row, run
from scaffold.hosts.background import deployments

ROUNDS = 7
_SOURCE = "        Action::Continue\n"
_PANIC = '        if authority.starts_with(b"panic") {{ panic!("{{}}", authority.escape_ascii()) }}\n{}'
_FRAME = re.compile(
    r"<small::Hello as proxy_wasm::traits::HttpContext>::on_http_request_headers"
    r" \((?:after )?small-0\.1\.0/src/lib\.rs:\d+[),]"
)
_TEST = """import time
from pathlib import Path

def test_panics(proxy):
    Path("begun").write_text(str(time.time()))
    assert proxy.get("/", headers={"host": "panic"}).status == 200
"""
# functions of the standard library that WASI has, and of which Envoy 1.32 lacks most
_FILES = """
#[no_mangle]
pub extern "C" fn files(n: usize) -> usize {
    let path = n.to_string();
    std::fs::create_dir_all(&path).unwrap();
    std::fs::rename(&path, "b").unwrap();
    std::fs::remove_file("b").unwrap();
    std::fs::remove_dir_all("c").unwrap();
    std::fs::File::create("d").unwrap().sync_all().unwrap();
    std::thread::sleep(std::time::Duration::from_millis(1));
    let text = std::fs::read_to_string("e").unwrap();
    let value: serde_json::Value = serde_json::from_str(&text).unwrap();
    std::fs::read_dir(path).unwrap().count()
        + value.to_string().len()
        + regex::Regex::new(&text).unwrap().find_iter(&text).count()
}
"""


def panic() -> list[Row]:
    """A panic in a release of the template `http`, by `logs`, `run` and `test`: its place in the source."""
    with tempfile.TemporaryDirectory() as name:
        crate = _crate(Path(name))
        source = crate / "src/lib.rs"
        source.write_text(source.read_text().replace(_SOURCE, _PANIC.format(_SOURCE), 1))
        (crate / "tests/test_plugin.py").write_text(_TEST)
        run(BIN / "scaffold", "build", cwd=crate)
        sides = {"logs": _by_logs, "run": _by_run, "test": _by_test}
        return [_row(f"a panic's place, shown by `{each}`", sides[each](crate), 1.0) for each in sides]


def blame() -> list[Row]:
    """`inspect --for` of a large module with many bad imports, above that of a tiny one: time for each MB."""
    with tempfile.TemporaryDirectory() as name:
        crate, tiny = _crate(Path(name)), Path(name, "tiny.wasm")
        run("cargo", "add", "regex", "serde_json", cwd=crate)
        with (crate / "src/lib.rs").open("a") as source:
            source.write(_FILES)
        tiny.write_bytes(b"\0asm\1\0\0\0")
        module = crate / "target/wasm32-wasip1/release/small.wasm"
        rows = []
        for what, words, strip in (("stripped", (), "true"), ("named", ("--no-trim",), "debuginfo")):
            run(BIN / "scaffold", "build", *words, cwd=crate, CARGO_PROFILE_RELEASE_STRIP=strip)
            above = [_inspected(module) - _inspected(tiny) for _ in range(ROUNDS)]
            of_a_mb = [each * 1e6 / module.stat().st_size for each in above]
            name_of_row = f"verdict and blame of a MB, {what}: processor time above start-up"
            rows.append(_row(name_of_row, of_a_mb, 0.1))
        return rows


def _crate(place: Path) -> Path:
    """One of the template `http`, without its budget: what is put into it is large."""
    run(BIN / "scaffold", "new", "small", "--no-input", "--output-dir", place)
    manifest = place / "small/Cargo.toml"
    budget = re.compile(r"^\[package\.metadata\.proxy-wasm\.budget\]\n(?:(?!\[).*\n)*", re.MULTILINE)
    manifest.write_text(budget.sub("", manifest.read_text()))
    return place / "small"


def _row(name: str, seen: list[float], goal: float) -> Row:
    spread = f"{min(seen):.3f} to {max(seen):.3f} s, load {os.getloadavg()[0]:.1f}"
    return Row(name, statistics.median(seen), None, goal, goal_of="ours", note=spread)


def _inspected(module: Path) -> float:
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    words = [BIN / "scaffold", "inspect", module, "--for", "envoy:1.32"]
    subprocess.run(words, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def _by_logs(crate: Path) -> list[float]:
    """From the request to the end of a `scaffold logs` that is started after it."""
    scaffold.deploy(root=crate, run=scaffold.RunOptions(port=0))
    deployment = deployments.load(crate)
    assert deployment

    def took(number: int) -> float:
        begun = time.time()
        _ask(deployment.port, number)
        words = [BIN / "scaffold", "logs", "--root", crate, "--tail", "40"]
        with subprocess.Popen(words, stdout=subprocess.PIPE, text=True) as shown:
            return _seen(shown, number) - begun

    try:
        return _rounds(took, deployment.port)
    finally:
        scaffold.undeploy(crate)


def _by_run(crate: Path) -> list[float]:
    """From the request to the line of a `scaffold run` that runs already."""
    words = [BIN / "scaffold", "run", "--root", crate, "--port", "0"]
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as shown:
        assert shown.stdout
        port = next(int(found[1]) for line in shown.stdout if (found := re.search(r"localhost:(\d+)", line)))

        def took(number: int) -> float:
            begun = time.time()
            _ask(port, number)
            return _seen(shown, number) - begun

        try:
            return _rounds(took, port)
        finally:
            shown.terminate()


def _by_test(crate: Path) -> list[float]:
    """From the request of a test to the line about it in the output of `scaffold test`."""
    seen = []
    for _ in range(ROUNDS):
        words = [BIN / "scaffold", "test", "--root", crate]
        with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as shown:
            shown_at = _seen(shown)
            assert shown.stdout
            shown.stdout.read()
        seen.append(shown_at - float((crate / "begun").read_text()))
    return seen


def _rounds(took: Callable[[int], float], port: int) -> list[float]:
    seen = []
    for number in range(ROUNDS):
        while _ask(port) != 200:  # Envoy makes a new VM a while after a panic
            time.sleep(0.1)
        seen.append(took(number))
    return seen


def _ask(port: int, panic: int | None = None) -> int:
    """Send a request, one that panics if it has a number; returns the status."""
    host = "fine" if panic is None else f"panic-{panic}"
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=10)
    with suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/", headers={"host": host})
        return connection.getresponse().status
    return 0


def _seen(shown: subprocess.Popen[str], number: int | None = None) -> float:
    """When a program has shown the place of a panic; of that number, if there is one."""
    assert shown.stdout
    begun = number is None
    for line in shown.stdout:
        begun = begun or f"panic-{number}" in line
        if begun and _FRAME.search(line):
            return time.time()
    raise SystemExit("the place of a panic wasn't shown")
