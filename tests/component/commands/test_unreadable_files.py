"""Wherever a command takes a file, a device, a pipe or a file without measure is refused by name, at once."""

import os
import time
from pathlib import Path

import pytest
from support import wasm_asm
from support.commands import SCAFFOLD, run
from support.foreign_templates import template

MANIFEST = """\
[package]
name = "gate"
version = "0.1.0"
[lib]
crate-type = ["cdylib"]
[package.metadata.proxy-wasm]
configuration = "config.json"
"""
KINDS = {
    "/dev/zero": "it is a device, not a regular file",
    "a pipe": "it is a pipe, not a regular file",
    "a terabyte": "it is larger than",
}
# what a command reads: its words, {} for the file; or the file's path below the crate
OPTIONS = [
    "bootstrap gate.wasm --config {}",
    "run gate.wasm --port 0 --config {}",
    "bootstrap gate.wasm --vm-config {}",
    "bootstrap gate.wasm --bootstrap {}",
    "run gate.wasm --port 0 --bootstrap {}",
    "deploy envoy gate.wasm --port 0 --bootstrap {}",
    "package gate.wasm --tag gate:1 --runtime-config {}",
    "inspect {}",
    "package {} --tag gate:1",
    "bootstrap {}",
]
PATHS = [
    ("Cargo.toml", "bootstrap"),
    ("config.json", "manifest envoy gate.wasm --file=/gate.wasm"),
    ("config.schema.json", "manifest envoy gate.wasm --file=/gate.wasm"),
    ("mine/cookiecutter.json", "new other --template ./mine --trust"),
    (".github/workflows/ci.yml", "ci github"),
    ("docker/config.json", "logout example.com"),
    ("store/one/image_ref", "import-wasme --store store"),
    ("store/one/filter.wasm", "import-wasme --store store"),
    ("store/one/descriptor.json", "import-wasme --store store"),
]


@pytest.fixture
def crate(tmp_path, monkeypatch):
    """A crate with one of each file that a command reads."""
    for kind in ("DATA", "CACHE", "STATE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / "xdg" / kind))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "gate/docker"))
    root = tmp_path / "gate"
    (root / "store/one").mkdir(parents=True)
    (root / "docker").mkdir()
    (root / ".github/workflows").mkdir(parents=True)
    (root / "Cargo.toml").write_text(MANIFEST)
    (root / "config.json").write_text("{}")
    (root / "store/one/image_ref").write_text("example.com/gate:1")
    (root / "store/one/descriptor.json").write_text("{}")
    for module in ("gate.wasm", "store/one/filter.wasm"):
        (root / module).write_bytes(wasm_asm.plugin())
    template(root / "mine")
    return root


def put(path: Path, kind: str) -> None:
    path.unlink(missing_ok=True)
    if kind == "/dev/zero":
        path.symlink_to(kind)
    elif kind == "a pipe":
        os.mkfifo(path)
    else:
        with path.open("wb") as file:
            file.write(b"\0asm\1\0\0\0")
            file.truncate(1 << 40)


def refused(crate: Path, kind: str, *words: object) -> str:
    """Run a command that refuses what it is to read; what it prints."""
    begun = time.monotonic()
    ran = run(*SCAFFOLD, *words, cwd=crate)
    assert "Traceback" not in ran.err, ran.err
    assert ran.code in (2, 3, 4, 6, 7), ran.err
    why = [KINDS[kind], "is outside the project"]  # where a link leads is judged first
    if kind == "a terabyte":
        why.append("no host takes more than 1 GiB")
    assert any(each in ran.err for each in why), ran.err
    assert time.monotonic() - begun < 20
    return ran.err


@pytest.mark.faults(
    "R18",
    injected="--config, --bootstrap, --runtime-config, a module: /dev/zero, a pipe, a terabyte",
    seen="exit code 2, 3 or 6 within seconds, named",
)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("line", OPTIONS)
def test_an_option_that_names_no_file_to_read(crate, kind, line):
    path = crate / "given.json"
    put(path, kind)
    told = refused(crate, kind, *(word.format(path) for word in line.split()))
    hint = "hint: save what comes out of it in a file, and name that"  # <(…) is a pipe
    assert (hint in told) is (kind == "a pipe")


@pytest.mark.faults(
    "R18",
    injected="Cargo.toml, schema, template, workflow, credentials: /dev/zero, a pipe, a terabyte",
    seen="exit code 2, 3, 4 or 7 within seconds, named",
)
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(("name", "line"), PATHS, ids=[name for name, _ in PATHS])
def test_a_file_that_is_none_to_read(crate, kind, name, line):
    put(crate / name, kind)
    refused(crate, kind, *line.split())


@pytest.mark.faults(
    "R18", injected="--rustc, $RUSTC, --envoy: a pipe", seen="exit code 4 within seconds, named"
)
@pytest.mark.parametrize(
    "line", ["build --rustc {}", "build", "run gate.wasm --port 0 --envoy {}", "doctor --rustc {} --envoy {}"]
)
def test_a_program_that_is_a_pipe(crate, line, monkeypatch):
    pipe = crate / "program"
    os.mkfifo(pipe, 0o755)
    if line == "build":
        monkeypatch.setenv("RUSTC", str(pipe))
    begun = time.monotonic()
    ran = run(*SCAFFOLD, *line.format(pipe, pipe).split(), cwd=crate)
    assert (ran.code, str(pipe) in ran.out + ran.err) == (4, True), ran.err
    assert time.monotonic() - begun < 20


def test_nothing_but_a_file_is_replaced_by_what_out_names(crate):
    os.mkfifo(crate / "pipe")
    ran = run(*SCAFFOLD, *"manifest envoy gate.wasm --file=/gate.wasm --out pipe".split(), cwd=crate)
    assert (ran.code, (crate / "pipe").is_fifo()) == (2, True)
    assert "cannot write pipe: it isn't a regular file" in ran.err
