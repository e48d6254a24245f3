"""R11 to R14: filters that loop, panic, eat memory, and modules that are none."""

from __future__ import annotations

import hashlib
import http.client
import re
import resource
import subprocess
import sys
import time
from pathlib import Path

import pytest
from support import wasm_asm
from support.places import Place, answers, envoys, get, until

LOOPS = """def test_it_loops(proxy):
    assert proxy.get("/loop").status == 200
"""
# on a machine with much to do, the watchdog may end it before it has eaten all
EATS = """from scaffold.errors import HostError


def test_it_eats(proxy):
    try:
        exchange = proxy.get("/eat")
    except HostError:
        return
    assert exchange.status == 503
    assert "memory allocation of" in exchange.logs
"""
PANICS = """def test_it_panics(proxy):
    exchange = proxy.get("/panic")
    assert exchange.status == 503
    assert "asked to panic" in exchange.logs
"""
THEN = """

def test_the_next_has_one_that_works(proxy):
    assert proxy.get("/headers").status == 200
"""
MOST = 1_500_000_000  # bytes: Envoy lets a filter have 1 GiB
TRAP_IN_VM_START = wasm_asm.plugin(
    callbacks={"proxy_on_vm_start": (wasm_asm.signature(2 * wasm_asm.I32, wasm_asm.I32), b"\x00")}
)


def played(place: Place, probe, body: str):
    crate = place.tiny()
    (crate / "tests/test_tiny.py").write_text(body)
    return place.run("test", "--root", crate, "--module", probe.path)


def served(place: Place, module: Path, *words: object) -> tuple[subprocess.Popen[str], str]:
    """A `scaffold run` that serves, and its URL."""
    child = place.start("run", module, "--root", place.project(), "--port=0", *words)
    url = re.search(r"answers at (http://\S+)", place.until("Press Ctrl-C to stop", child))
    assert url
    return child, url[1]


def largest(place: Place) -> int:
    """The most memory that an Envoy of this place has had, in bytes."""
    peaks = [
        int(re.search(r"VmHWM:\s+(\d+)", Path(f"/proc/{envoy.pid}/status").read_text())[1]) * 1024
        for envoy in envoys(place)
    ]
    return max(peaks)


# --- R11


@pytest.mark.faults("R11")
def test_a_loop_that_the_probe_of_deploy_meets(place, probe, record):
    root = place.project()
    begun = time.monotonic()
    words = ("deploy", "envoy", probe.path, "--root", root, "--port=0", "--probe", "/loop")
    ran = place.run(*words)
    took = time.monotonic() - begun
    assert ran.code == 9, ran.err
    assert "the plugin doesn't return from a callback: GET /loop got no whole answer" in ran.err
    assert answers(place.status(root)["url"]), "it met the loop elsewhere"
    assert "Envoy runs again" not in place.run("logs", "--root", root).out
    record("deploy: the probe meets `loop {}`", f"exit code 9 after {took:.0f} s, named; nothing restarts")


@pytest.mark.faults("R11")
def test_a_loop_in_a_test(place, probe, record):
    begun = time.monotonic()
    ran = played(place, probe, LOOPS + THEN)
    took = time.monotonic() - begun
    assert ran.code == 1, ran.err
    assert "got no whole answer" in ran.err + ran.out
    assert "1 failed, 1 passed" in ran.err + ran.out, ran.err
    place.nothing_left()
    record("test: a test meets `loop {}`", f"that test fails, the next passes; {took:.0f} s in all")


@pytest.mark.faults("R11")
def test_a_loop_in_run_is_named(place, probe, record):
    child, url = served(place, probe.path)
    with pytest.raises(OSError):
        get(url, "/loop")
    ran = place.end(child)
    assert ran.code == 8
    assert "watchdog" in ran.err
    place.nothing_left()
    record("run: a request meets `loop {}`", "exit code 8, names the watchdog and the loop")


# --- R12


@pytest.mark.faults("R12")
def test_a_panic_in_vm_start(place, probe, record):
    module = place.folder / "trap.wasm"
    module.write_bytes(TRAP_IN_VM_START)
    root = place.project()
    for words in (("run", module), ("deploy", "envoy", module)):
        ran = place.run(*words, "--root", root, "--port=0")
        assert ran.code == 6, ran.err
        assert "proxy_on_vm_start failed" in ran.err
        place.nothing_left()
    ran = played(place, type("Module", (), {"path": module}), PANICS)
    assert (ran.code, "proxy_on_vm_start failed" in ran.err + ran.out) == (6, True), ran.err
    place.nothing_left()
    url = place.deploy(root, "envoy", probe.path, "--config", '"old"')["url"]
    ran = place.run("deploy", "envoy", module, "--root", root)
    assert ran.code == 6
    assert get(url)[1]["x-configuration"] == '"old"'
    record(
        "run, deploy, test: a trap in on_vm_start",
        "exit code 6 with Envoy's message; the previous version keeps serving",
    )


@pytest.mark.faults("R12")
@pytest.mark.parametrize("configuration", ["panic", "refuse"])
def test_a_panic_in_configure(place, probe, record, configuration):
    root, config = place.project(), f'"{configuration}"'
    said = "asked to panic in on_configure" if configuration == "panic" else "refused, as asked"
    for words in (("run", probe.path), ("deploy", "envoy", probe.path)):
        ran = place.run(*words, "--root", root, "--port=0", "--config", config)
        assert ran.code == 6, ran.err
        assert said in ran.err
        place.nothing_left()
    url = place.deploy(root, "envoy", probe.path, "--config", '"old"')["url"]
    ran = place.run("deploy", "envoy", probe.path, "--root", root, "--config", config)
    assert (ran.code, said in ran.err) == (6, True)
    assert get(url)[1]["x-configuration"] == '"old"'
    place.well("deploy", "envoy", probe.path, "--root", root, "--config", '"good again"')
    assert get(url)[1]["x-configuration"] == '"good again"'
    record(
        f"run, deploy: {configuration} in on_configure",
        "exit code 6 with its message; the previous version keeps serving",
    )


@pytest.mark.faults("R12")
def test_a_panic_in_a_request(place, probe, record):
    child, url = served(place, probe.path)
    assert get(url, "/panic")[0] == 503
    until(lambda: "asked to panic" in place.said("out"))
    assert re.search(r"src.lib\.rs:\d+", place.said("out")), "where it is"
    until(lambda: answers(url), 10)
    child.terminate()
    place.end(child)
    ran = played(place, probe, PANICS + THEN)
    assert ran.code == 0, ran.err + ran.out
    record("run, test: a panic in a request", "503, the words and file:line; the next requests work")


# --- R13


@pytest.mark.faults("R13")
def test_a_filter_that_eats_memory(place, probe, record):
    child, url = served(place, probe.path)
    try:
        status = get(url, "/eat", timeout=60)[0]
    except (OSError, http.client.HTTPException):  # the watchdog was quicker than the filter's hunger
        ran = place.end(child)
        assert (ran.code, "watchdog" in ran.err) == (8, True), ran.err
        record("run: a request eats memory", "exit code 8, names the watchdog")
        return
    assert status == 503
    most = largest(place)
    until(lambda: "memory allocation of" in place.said("out"))
    until(lambda: answers(url), 10)
    child.terminate()
    place.end(child)
    assert most < MOST
    record("run: a request eats memory", f"503, Envoy had {most / 1e6:.0f} MB at most; the next work")


@pytest.mark.faults("R13")
def test_a_filter_that_eats_memory_in_deploy_and_test(place, probe, record):
    root = place.project()
    ran = place.run("deploy", "envoy", probe.path, "--root", root, "--port=0", "--probe", "/eat")
    assert ran.code == 9, ran.err
    assert "memory allocation of" in ran.err or "got no whole answer" in ran.err
    url = place.status(root)["url"]
    until(lambda: answers(url), 10)
    assert largest(place) < MOST
    place.well("undeploy", "--root", root)
    ran = played(place, probe, EATS + THEN)
    assert ran.code == 0, ran.err + ran.out
    record(
        "deploy, test: the probe, a test eats memory", "exit code 9 with its message; the next requests work"
    )


# --- R14

N = 1_000_000
SMALL = (wasm_asm.signature(), wasm_asm.signature(wasm_asm.I32, wasm_asm.I32))


def many_functions() -> bytes:
    return wasm_asm.module(
        wasm_asm.types(*SMALL),
        wasm_asm.functions(*[0] * N, 1),
        wasm_asm.memory(),
        wasm_asm.exports(
            ("memory", wasm_asm.MEMORY, 0),
            *((name, wasm_asm.FUNCTION, 0) for name in (wasm_asm.MARKER, "_initialize")),
            ("malloc", wasm_asm.FUNCTION, N),
        ),
        wasm_asm.code(*[b""] * N, wasm_asm.const(1024)),
    )


def many_exports() -> bytes:
    return wasm_asm.module(
        wasm_asm.types(*SMALL),
        wasm_asm.functions(0, 1),
        wasm_asm.memory(),
        wasm_asm.exports(
            ("memory", wasm_asm.MEMORY, 0),
            *((name, wasm_asm.FUNCTION, 0) for name in (wasm_asm.MARKER, "_initialize")),
            ("malloc", wasm_asm.FUNCTION, 1),
            *((f"e{number}", wasm_asm.FUNCTION, 0) for number in range(N // 4)),
        ),
        wasm_asm.code(b"", wasm_asm.const(1024)),
    )


HUGE = wasm_asm.number(2**32 - 1)
# what it is: the bytes, the exit code of deploy, and what is said
MODULES = {
    "200 MB of custom section": (
        lambda: wasm_asm.plugin() + wasm_asm.custom("big", bytes(200_000_000)),
        0,
        "",
    ),
    "1,000,000 functions": (many_functions, 6, "has 1,000,001 functions: 1,000,000 is the limit"),
    "250,000 exports": (many_exports, 6, "is a broken wasm module: its section `export` has"),
    "4,294,967,295 imports stated": (
        lambda: wasm_asm.HEADER + wasm_asm.section(2, HUGE),
        6,
        "is a broken wasm module: it is cut short",
    ),
    "4,294,967,295 exports stated": (
        lambda: wasm_asm.HEADER + wasm_asm.section(7, HUGE + b"\x01a\x00\x00"),
        6,
        "is a broken wasm module: it is cut short",
    ),
    "a name of 4 GiB stated": (
        lambda: wasm_asm.HEADER + wasm_asm.section(7, b"\x01" + HUGE + b"a"),
        6,
        "is a broken wasm module: it is cut short",
    ),
    "a section of 4 GiB stated": (
        lambda: wasm_asm.HEADER + b"\x07" + HUGE,
        6,
        "is a broken wasm module: it is cut short",
    ),
    "a number without end": (
        lambda: wasm_asm.HEADER + b"\x07" + b"\x80" * 40,
        6,
        "is a broken wasm module: a number is too long",
    ),
    "a hostcall that there is not": (
        lambda: wasm_asm.plugin(hostcalls=[("__wbindgen_throw", wasm_asm.signature())]),
        6,
        "missing import: env.__wbindgen_throw",
    ),
    "a hostcall of another signature": (
        lambda: wasm_asm.plugin(hostcalls=[("proxy_log", wasm_asm.signature())]),
        6,
        "Envoy refused the plugin",
    ),
    "no malloc": (
        lambda: wasm_asm.plugin(
            callbacks={"malloc": (wasm_asm.signature(), b"")},
        ),
        6,
        "Envoy refused the plugin",
    ),
    "a start function that traps": (
        lambda: wasm_asm.plugin(callbacks={"_initialize": (wasm_asm.signature(), b"\x00")}),
        6,
        "_initialize failed",
    ),
}
READ = """
import sys
from pathlib import Path
from scaffold.errors import ModuleError
from scaffold.wasm.module import WasmModule
try:
    print(WasmModule.read(Path(sys.argv[1])).size)
except ModuleError as error:
    print(error)
"""


@pytest.mark.faults("R14")
@pytest.mark.parametrize("name", MODULES)
def test_a_module_that_is_none_or_too_much(place, record, name):
    make, code, words = MODULES[name]
    path = place.folder / "odd.wasm"
    path.write_bytes(make())
    size = path.stat().st_size

    def limited() -> None:
        resource.setrlimit(resource.RLIMIT_AS, (3 * size + 400_000_000,) * 2)
        resource.setrlimit(resource.RLIMIT_CPU, (60, 60))

    read = subprocess.run(
        [sys.executable, "-c", READ, path], capture_output=True, text=True, preexec_fn=limited
    )
    assert (read.returncode, read.stderr) == (0, ""), read.stderr
    root = place.project()
    begun = time.monotonic()
    ran = place.run("deploy", "envoy", path, "--root", root, "--port=0")
    took = time.monotonic() - begun
    assert ran.code == code, ran.err
    assert words in ran.err, ran.err
    assert ran.explained
    if ran.code:
        place.nothing_left()
    record(f"deploy: {name}", f"exit code {ran.code} after {took:.0f} s: {ran.sentence or 'it serves'}")


@pytest.mark.faults("R14")
def test_a_module_that_grows_while_it_is_read_is_what_was_read(place, probe, record):
    """What is hashed is what is deployed, whatever becomes of the file meanwhile."""
    path = place.folder / "changing.wasm"
    content = probe.path.read_bytes()
    path.write_bytes(content)
    root = place.project()
    child = place.start("deploy", "envoy", path, "--root", root, "--port=0")
    number = 0
    while child.poll() is None:
        number += 1
        staged = place.folder / "staged.wasm"
        staged.write_bytes(content + wasm_asm.custom("n", b"%d" % number))
        staged.replace(path)
        time.sleep(0.02)
    ran = place.end(child)
    assert ran.explained, ran.err
    for module in place.folder.glob("s/**/modules/*.wasm"):
        assert hashlib.sha256(module.read_bytes()).hexdigest() == module.stem
    if ran.code == 0:
        assert answers(place.status(root)["url"])
    record(f"deploy: the module's file is replaced {number} times meanwhile", f"exit code {ran.code}, whole")
