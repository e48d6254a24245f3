"""Bad input through the real command line: one sentence, its exit code, nothing lost, no process left."""

from __future__ import annotations

import json
import os
import random
import re
import shutil
import signal
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from support import wasm_asm
from support.commands import error, listing, terminal

import scaffold
from scaffold.hosts.background import deployments
from scaffold.project.crate import Project
from scaffold.wasm.module import WasmModule

SCAFFOLD = (sys.executable, "-m", "scaffold")
MANIFEST = '[package]\nname = "a"\nversion = "1.0.0"\n\n[lib]\ncrate-type = ["cdylib"]\n'
BUILDS = [["build"], ["run", "--port=0"], ["test"], ["deploy", "--port=0"]]
PLACES = [["run", "--port=0"], ["deploy", "envoy", "--port=0"]]  # 8080 may be anybody's


def first(value: object) -> str | None:
    """A command's name, to call a test by it."""
    return value[0] if isinstance(value, list) else None


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with a crate's manifest."""
    (tmp_path / "Cargo.toml").write_text(MANIFEST)
    return tmp_path


@pytest.fixture
def listener() -> Iterator[socket.socket]:
    """A stranger who has a port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        yield listening


def left(folder: Path) -> list[str]:
    """What runs that has to do with a folder: by its words, where it is, or a deployment's."""
    words = (str(folder), str(deployments.folder(folder)))
    found = []
    for process in psutil.process_iter(["pid", "cmdline", "cwd", "status"]):
        info = process.info
        told = f"{info['cmdline']} {info['cwd']}"
        if info["status"] != psutil.STATUS_ZOMBIE and any(word in told for word in words):
            found.append(told)
    return found


def nothing_left(folder: Path, within: float = 5) -> bool:
    deadline = time.monotonic() + within
    while left(folder):
        if time.monotonic() > deadline:
            raise AssertionError(left(folder))
        time.sleep(0.05)
    return True


# --- files of the project


@pytest.mark.parametrize("words", [*BUILDS, ["clean"]], ids=first)
def test_no_manifest(words, run, tmp_path):
    ran = run(*SCAFFOLD, *words, "--root", tmp_path)
    hint = "run `scaffold new NAME` first, or pass --root"
    assert (ran.returncode, ran.stdout) == (3, "")
    assert ran.stderr == error(f"no Cargo.toml in {tmp_path}", hint)
    assert listing(tmp_path) == []


@pytest.mark.parametrize("words", BUILDS, ids=first)
@pytest.mark.parametrize(
    ("manifest", "message", "hint"),
    [
        (
            '[package]\nname = "a"\nversion 1',
            "{path} is not TOML: Expected '=' after a key in a key/value pair (at line 3, column 9)",
            None,
        ),
        (
            MANIFEST + '[package.metadata.proxy-wasm]\nroot_id = "a"\n',
            "unknown key `root_id` in [package.metadata.proxy-wasm] of {path}",
            "did you mean `root-id`?",
        ),
        (
            MANIFEST.replace("cdylib", "rlib"),
            "{path} doesn't build a cdylib, the crate type of wasm modules",
            'add `[lib]` with `crate-type = ["cdylib"]`',
        ),
        (
            MANIFEST + '[package.metadata.proxy-wasm]\ntriple = "wasm32-wasip2"\n',
            "`triple` in [package.metadata.proxy-wasm] of {path} is 'wasm32-wasip2'",
            "known: wasm32-wasip1, wasm32-unknown-unknown",
        ),
    ],
    ids=["broken", "unknown key", "no cdylib", "triple"],
)
def test_a_manifest_that_cannot_be(words, manifest, message, hint, run, place):
    (place / "Cargo.toml").write_text(manifest)
    ran = run(*SCAFFOLD, *words, "--root", place)
    assert (ran.returncode, ran.stdout) == (3, "")
    assert ran.stderr == error(message.format(path=place / "Cargo.toml"), hint)
    assert listing(place) == ["Cargo.toml"]


def test_a_configuration_that_is_not_there(run, place, hello):
    with (place / "Cargo.toml").open("a") as file:
        file.write('[package.metadata.proxy-wasm]\nconfiguration = "nowhere.json"\n')
    for words in PLACES:
        ran = run(*SCAFFOLD, *words, hello.path, "--root", place)
        assert ran.returncode == 3
        why = "No such file or directory"
        assert ran.stderr == error(f"cannot read the configuration {place / 'nowhere.json'}: {why}")


# --- modules

MARKER = "does its src/lib.rs have `proxy_wasm::main!`, and does it depend on proxy-wasm 0.2?"
MODULES = {
    "empty": (b"", "is empty", None),
    "text": (b"hello", "isn't a wasm module (it begins with b'hell')", None),
    "elf": (
        b"\x7fELF\x02\x01",
        "isn't a wasm module (it is a program or library for this kind of machine, not for wasm)",
        "`scaffold build` compiles for wasm, and prints where the module is",
    ),
    "header": (wasm_asm.HEADER[:6], "has an unknown wasm version (0100)", None),
    "truncated": (wasm_asm.plugin()[:-9], "is a broken wasm module: it is cut short", None),
    "component": (
        b"\0asm\x0d\x00\x01\x00",
        "is a WebAssembly component; proxy-wasm hosts load core modules",
        "compile for wasm32-wasip1, not wasm32-wasip2",
    ),
    "no marker": (
        wasm_asm.HEADER,
        "exports no proxy-wasm ABI marker, so no host would load it",
        MARKER,
    ),
}


@pytest.mark.faults(
    "R14",
    injected="modules: empty, text, ELF, cut, component, no marker",
    seen="exit code 6, reason and byte",
)
@pytest.mark.parametrize(("content", "message", "hint"), MODULES.values(), ids=MODULES)
def test_a_module_that_no_host_loads(content, message, hint, run, crate, tmp_path):
    path = tmp_path / "a.wasm"
    path.write_bytes(content)
    for words in (*([*words, path] for words in PLACES), ["test", "--module", path]):
        ran = run(*SCAFFOLD, *words, "--root", crate)
        assert (ran.returncode, ran.stdout) == (6, "")
        said = ran.stderr[ran.stderr.index("error: ") :]  # `test` begins with the native ones
        assert re.sub(r" \(at byte \d+\)", "", said) == error(f"{path} {message}", hint)
    assert deployments.load(crate) is None
    assert nothing_left(crate)


def test_a_module_that_is_not_there(run, tmp_path):
    ran = run(*SCAFFOLD, *PLACES[0], tmp_path / "a.wasm")
    why = "No such file or directory"
    hint = "`scaffold build` compiles for wasm, and prints where the module is"
    assert ran.returncode == 6
    assert ran.stderr == error(f"cannot read the module {tmp_path / 'a.wasm'}: {why}", hint)


# --- ports, upstreams, Envoys


@pytest.mark.faults("R15", injected="a port that a stranger has", seen="exit code 8, names the pid")
def test_a_port_that_a_stranger_has(run, place, hello, listener):
    port = listener.getsockname()[1]
    name = psutil.Process().name()
    for words in PLACES:
        ran = run(*SCAFFOLD, *words, hello.path, "--root", place, "--port", port)
        assert (ran.returncode, ran.stdout) == (8, "")
        assert ran.stderr.endswith(
            error(f"port {port} is taken by {name} (pid {os.getpid()})", "--port 0 takes any free one")
        )
    assert nothing_left(place)


@pytest.mark.faults(
    "R15", injected="a port that another deployment has", seen="exit code 8, names the project"
)
def test_a_port_that_our_own_deployment_has(run, place, hello, tmp_path):
    other = tmp_path / "the other"
    other.mkdir()
    served = json.loads(
        run(*SCAFFOLD, "deploy", "envoy", hello.path, "--root", other, "--port=0", "--json").stdout
    )
    port = served["url"].rpartition(":")[2]
    try:
        for words in PLACES:
            ran = run(*SCAFFOLD, *words, hello.path, "--root", place, "--port", port)
            assert (ran.returncode, ran.stdout) == (8, "")
            hint = f"--port 0 takes any free one; `scaffold undeploy --root '{other}'` ends that deployment"
            assert ran.stderr.endswith(error(f"port {port} is taken by the deployment of {other}", hint))
        assert b"Hello world" in urllib.request.urlopen(f"{served['url']}/headers", timeout=10).read()
    finally:
        assert run(*SCAFFOLD, "undeploy", "--root", other).returncode == 0
    assert nothing_left(tmp_path)


def test_an_upstream_that_is_down(run, place, hello, listener):
    port = listener.getsockname()[1]
    listener.close()
    for words in PLACES:
        url = f"http://127.0.0.1:{port}"
        ran = run(*SCAFFOLD, *words, hello.path, "--root", place, "--upstream", url)
        assert (ran.returncode, ran.stdout) == (8, "")
        message = f"nothing answers at the upstream {url}: Connection refused"
        assert ran.stderr.endswith(error(message, "start it first"))
    assert nothing_left(place)


@pytest.mark.parametrize(
    "url",
    ["localhost:80", "ftp://a", "http://", "http://a:99999", "http://a/b", "", "http://[::1", "http://a..b"],
)
def test_an_upstream_that_is_none(url, run, place, hello):
    for words in PLACES:
        ran = run(*SCAFFOLD, *words, hello.path, "--root", place, f"--upstream={url}")
        assert (ran.returncode, ran.stdout) == (2, "")
        assert ran.stderr.endswith(
            error(f"`{url}` isn't a valid upstream URL", "write it as http://host:port, or grpc://host:port")
        )


def test_a_configuration_that_is_neither_a_file_nor_json(run, place, hello):
    for words in PLACES:
        ran = run(*SCAFFOLD, *words, hello.path, "--root", place, "--config", "{a: 1}")
        assert ran.returncode == 2
        why = "Expecting property name enclosed in double quotes: line 1 column 2 (char 1)"
        hint = """for example --config '{"key": "value"}', or a .yaml file"""
        assert ran.stderr == error(f"--config is neither a file nor JSON: {why}", hint)


def test_an_envoy_that_is_none(run, place, hello):
    said = {
        shutil.which("true"): "{} isn't an Envoy that runs here",
        shutil.which("false"): "{} isn't an Envoy that runs here",
        str(place / "nowhere"): "{} doesn't exist",
        str(place): "{} is a folder",
        str(place / "Cargo.toml"): "{} isn't executable",
    }
    for path, message in said.items():
        for words in PLACES:
            ran = run(*SCAFFOLD, *words, hello.path, "--root", place, "--envoy", path)
            assert (ran.returncode, ran.stdout) == (4, "")
            assert f"error: {message.format(path)}\n" in ran.stderr
    assert nothing_left(place)


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["deploy", "envoi"], "no target named `envoi`"),
        (["test", "--host", "envoi"], "no host named `envoi`"),
        (["new", "a", "--template", "htpp"], "no template named `htpp`"),
    ],
)
def test_a_name_that_there_is_not(words, message, run, place):
    ran = run(*SCAFFOLD, *words, cwd=place)
    near = "http" if words[0] == "new" else "envoy"
    assert (ran.returncode, ran.stdout) == (2, "")
    assert ran.stderr == error(message, f"did you mean `{near}`?")
    assert listing(place) == ["Cargo.toml"]


# --- cargo


def test_a_compile_error_is_cargos_words(run, copy):
    (copy / "src" / "lib.rs").write_text("fn broken() -> u32 { nothing }\n")
    for words in BUILDS:
        ran = run(*SCAFFOLD, *words, "--root", copy)
        assert (ran.returncode, ran.stdout) == (5, "")
        assert "error[E0425]: cannot find value `nothing` in this scope" in ran.stderr
        assert " --> src/lib.rs:1:22" in ran.stderr
        last = "cargo could not compile the native tests" if words == ["test"] else "cargo build failed"
        assert ran.stderr.splitlines()[-1].startswith(f"error: {last}")
    assert nothing_left(copy)


def test_a_profile_that_there_is_not(run, copy):
    ran = run(*SCAFFOLD, "build", "--profile", "fast", "--root", copy)
    assert (ran.returncode, ran.stdout) == (5, "")
    assert "profile `fast` is not defined" in ran.stderr


def test_two_builds_at_once(copy):
    change(copy)
    both = [
        subprocess.Popen(
            [*SCAFFOLD, "build", "--root", copy, "--json"], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        for _ in range(2)
    ]
    made = [json.loads(build.communicate(timeout=120)[0]) for build in both]
    assert [build.returncode for build in both] == [0, 0]
    assert made[0] == made[1]
    assert WasmModule.read(Path(made[0]["path"])).digest == made[0]["digest"]


def test_two_deploys_at_once(run, copy):
    argv = [*SCAFFOLD, "deploy", "--root", copy, "--port", "0", "--json"]
    both = [subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL) for _ in range(2)]
    try:
        said = [json.loads(deploy.communicate(timeout=120)[0]) for deploy in both]
        assert [deploy.returncode for deploy in both] == [0, 0]
        assert said[0]["url"] == said[1]["url"]
        assert len([told for told in left(copy) if "scaffold.hosts.background.supervisor" in told]) == 1
        assert b"Hello world" in urllib.request.urlopen(f"{said[0]['url']}/headers", timeout=10).read()
    finally:
        assert run(*SCAFFOLD, "undeploy", "--root", copy).returncode == 0
    assert nothing_left(copy)


# --- Ctrl-C


def plain(seen: str) -> str:
    """What a terminal shows, without colours."""
    return re.sub(r"\x1b\[[0-9;]*m", "", seen)


def change(crate: Path) -> None:
    """Give cargo something to do."""
    source = crate / "src" / "lib.rs"
    source.write_text(source.read_text().replace("Got ", f"Got {random.randrange(10**9)} "))


def test_ctrl_c_in_new(tmp_path):
    """At a question, in a terminal; at other moments tests/component/commands/test_new.py does it."""
    with terminal(*SCAFFOLD, "new", "a_filter", cwd=tmp_path) as screen:
        screen.asks("]: ")
        screen.type("\x03")
        assert screen.end() == 130
    assert listing(tmp_path) == []
    assert Project.load(scaffold.new("a_filter", output_dir=tmp_path, no_input=True).root)


@pytest.mark.faults(
    "R9",
    injected="Ctrl-C in a terminal at random moments of build, run, deploy, test",
    seen="all gone; again succeeds",
)
@pytest.mark.parametrize(
    ("words", "sign", "length"),
    [
        (["build"], "Building", 3.0),
        (["run", "--port=0"], "Building", 2.0),
        (["deploy", "--port=0"], "Building", 2.0),
        (["test"], "Testing", 3.0),
    ],
    ids=first,
)
def test_ctrl_c_leaves_nothing_and_the_same_again_succeeds(words, sign, length, run, copy):
    """In a terminal, where cargo, pytest and Envoy get it too; and sent to scaffold alone."""
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    argv = [*SCAFFOLD, *words, "--root", copy]
    for turn in range(4):
        if words == ["build"]:
            change(copy)
        with terminal(*argv, cwd=copy) as screen:
            screen.until(sign)
            time.sleep(chance.uniform(0, length))
            if turn % 2:
                screen.child.send_signal(signal.SIGINT)
            else:
                screen.type("\x03")
            code = screen.end()
        shown = plain(screen.seen)
        if words[0] == "run" and "Press Ctrl-C to stop" in shown and code == 0:  # that is its way to end
            assert shown.endswith("Stopped\r\n"), shown
        elif code not in (0, -signal.SIGINT):  # it had come to its end, or to Python's
            assert (code, "error: interrupted" in shown) == (130, True), shown
        ours = re.search(r'File ".*/scaffold/(__main__|cli)\.py"', screen.seen)  # pytest may begin with one
        assert not ours or code == -signal.SIGINT, screen.seen
        deployment = deployments.load(copy)
        if deployment and deployment.alive:  # it had come to the last step, of seeing it work
            assert run(*SCAFFOLD, "undeploy", "--root", copy).returncode == 0
        assert nothing_left(copy)
    if words[0] == "run":
        with terminal(*argv, cwd=copy) as screen:
            screen.until("Press Ctrl-C to stop")
            screen.type("\x03")
            assert screen.end() in (0, 130)  # the second in the moment before it listens
    else:
        ran = run(*argv)
        assert ran.returncode == 0, ran.stderr
    if words[0] == "deploy":
        assert run(*SCAFFOLD, "undeploy", "--root", copy).returncode == 0
    assert nothing_left(copy)
