"""Where a test of a fault happens: a folder with a user's state, cache and temporary files of its own."""

from __future__ import annotations

import hashlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psutil
import pytest

import scaffold
from support.commands import entered
from support.processes import heed_hangups

SCAFFOLD = (sys.executable, "-m", "scaffold")
GONE_WITHIN = 3.0  # seconds in which all must be gone that a command started
OTHERWISE_HUNG = 300.0  # seconds after which a command counts as one that never ends

# compiles in 0.1 s: what matters here is how a build ends, not what is built
TINY = {
    "Cargo.toml": """[package]
name = "tiny"
version = "0.1.0"
edition = "2021"

[lib]
crate-type = ["cdylib"]

[profile.release]
panic = "abort"
""",
    "src/lib.rs": """#![cfg_attr(target_arch = "wasm32", no_std)]
#[cfg(target_arch = "wasm32")]
mod plugin {
    #[panic_handler]
    fn panic(_: &core::panic::PanicInfo) -> ! {
        loop {}
    }
    #[no_mangle]
    pub extern "C" fn proxy_abi_version_0_2_1() {}
    #[no_mangle]
    pub extern "C" fn _initialize() {}
    #[no_mangle]
    pub extern "C" fn malloc(_: usize) -> usize {
        1024
    }
    #[no_mangle]
    pub extern "C" fn turn() -> u32 {
        0
    }
}
""",
    "tests/test_tiny.py": 'def test_it_answers(proxy):\n    assert proxy.get("/headers").status == 200\n',
}


@dataclass(frozen=True)
class Ran:
    """How a command ended, and what it printed."""

    code: int
    out: str
    err: str

    @property
    def explained(self) -> bool:
        """Whether it ended well, or with a sentence: no traceback, no signal, none of our bugs."""
        said = "Traceback" not in self.err and "a bug in scaffold" not in self.err
        return said and (self.code == 0 or (0 < self.code < 70 and "error: " in self.err))

    @property
    def sentence(self) -> str:
        """The error's sentence."""
        return self.err.rpartition("error: ")[2].partition("\n")[0] if "error: " in self.err else ""


@dataclass
class Place:
    """A folder in which everything lies; `env` points every program there."""

    folder: Path
    env: dict[str, str] = field(default_factory=dict)
    wrapper: tuple[str, ...] = ()  # what starts our commands, such as one that drops root's rights

    def start(self, *words: object, cwd: Path | None = None, **env: str) -> subprocess.Popen[str]:
        """Start `scaffold WORDS`; its words go to files, which nobody needs to read."""
        argv = [
            *self.wrapper,
            *SCAFFOLD,
            *(os.fspath(word) if isinstance(word, Path) else str(word) for word in words),
        ]
        with (self.folder / "out").open("wb") as out, (self.folder / "err").open("wb") as err:
            return subprocess.Popen(
                argv,
                cwd=cwd or self.folder,
                env=self.env | env,
                stdin=subprocess.DEVNULL,
                stdout=out,
                stderr=err,
                text=True,
                preexec_fn=heed_hangups,
            )

    def said(self, name: str = "err") -> str:
        """What the command that was started last has said so far."""
        return (self.folder / name).read_text(errors="replace")

    def run(self, *words: object, cwd: Path | None = None, **env: str) -> Ran:
        """Run `scaffold WORDS` to its end."""
        child = self.start(*words, cwd=cwd, **env)
        return self.end(child)

    def end(self, child: subprocess.Popen[str]) -> Ran:
        """Wait for the end of what was started last."""
        try:
            code = child.wait(OTHERWISE_HUNG)
        except subprocess.TimeoutExpired:
            child.kill()
            raise AssertionError(f"it never ended: {self.said()}") from None
        return Ran(code, self.said("out"), self.said())

    def well(self, *words: object, cwd: Path | None = None, **env: str) -> Ran:
        """Run `scaffold WORDS`, which must succeed."""
        ran = self.run(*words, cwd=cwd, **env)
        assert ran.code == 0, f"{ran.code}: {ran.out}{ran.err}"
        return ran

    def until(self, text: str, child: subprocess.Popen[str], name: str = "err") -> str:
        """Wait until a command has said a text."""
        until(lambda: text in self.said(name) or child.poll() is not None, OTHERWISE_HUNG)
        assert text in self.said(name), f"it ended ({child.poll()}): {self.said()}"
        return self.said(name)

    def left(self) -> list[str]:
        """What runs that has to do with this place: by its words, its folder or its environment."""
        return processes(self.folder)

    def nothing_left(self, within: float = GONE_WITHIN) -> float:
        """See that all is gone; how many seconds that took."""
        begun = time.monotonic()
        until(lambda: not self.left(), within, lambda: f"still there: {self.left()}")
        return time.monotonic() - begun

    def temporary(self) -> list[str]:
        """What lies in the folder for temporary files."""
        return names(self.folder / "t")

    def tiny(self, name: str = "tiny") -> Path:
        """A crate that compiles in no time."""
        for path, text in TINY.items():
            file = self.folder / name / path
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
        return self.folder / name

    def project(self, name: str = "project") -> Path:
        """A folder to deploy modules from; no crate."""
        (self.folder / name).mkdir(exist_ok=True)
        return self.folder / name

    @property
    def deployments(self) -> list[Path]:
        """The folders of what is deployed."""
        return sorted((self.folder / "s/proxy-wasm-scaffold/deployments").glob("*/"))

    @property
    def cache(self) -> Path:
        """Our folder in the user's cache."""
        return self.folder / "c/proxy-wasm-scaffold"

    def status(self, root: Path) -> dict[str, Any] | None:
        """What is deployed from there."""
        found = json.loads(self.well("status", "--root", root, "--json").out)
        return found[0] if found else None

    def deploy(self, root: Path, *words: object) -> dict[str, Any]:
        """Deploy, which must succeed; its result."""
        return dict(json.loads(self.well("deploy", *words, "--root", root, "--port=0", "--json").out))


@contextmanager
def a_place() -> Iterator[Place]:
    """A place whose deployments are ended, and whose processes are counted, at the end.

    Its path is short: a socket's may not be long.
    """
    folder = Path(tempfile.mkdtemp(prefix="faults-", dir="/tmp"))
    folder.chmod(0o755)
    env = dict(os.environ)
    for name in ("CARGO_TARGET_DIR", "PYTEST_ADDOPTS", "PYTEST_CURRENT_TEST", "CI", "GITHUB_ACTIONS"):
        env.pop(name, None)
    for variable, name in (("XDG_STATE_HOME", "s"), ("XDG_CACHE_HOME", "c"), ("TMPDIR", "t")):
        (folder / name).mkdir()
        env[variable] = str(folder / name)
    place = Place(folder, env)
    try:
        yield place
        place.wrapper = ()
        if place.deployments:
            place.run("undeploy", "--all")
        place.nothing_left()
    finally:
        for pid in pids(folder):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        shutil.rmtree(folder, ignore_errors=True)


def pids(folder: Path) -> list[int]:
    """The processes that have to do with a folder, those that only wait for their parent aside.

    Only those that are younger than this one, which makes the folders: to read them all takes long.
    """
    ours = psutil.Process()
    found = []
    for process in psutil.process_iter():
        with suppress(psutil.Error):
            if process.create_time() < ours.create_time() or process.pid == ours.pid:
                continue
            info = process.as_dict(["cmdline", "cwd", "environ", "status"])
            told = f"{info['cmdline']} {info['cwd']} {info['environ']}"
            if str(folder) in told and info["status"] != psutil.STATUS_ZOMBIE:
                found.append(process.pid)
    return found


def processes(folder: Path) -> list[str]:
    """The command lines of the processes that have to do with a folder."""
    found = []
    for pid in pids(folder):
        with suppress(psutil.Error):
            found.append(f"{pid}: {' '.join(psutil.Process(pid).cmdline())[:300]}")
    return found


def until(
    condition: Callable[[], object],
    seconds: float = 20,
    why: Callable[[], str] = lambda: "it never came",
) -> None:
    """Wait for a sign."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, why()
        time.sleep(0.01)


def logged(root: Path, text: str) -> list[str]:
    """What `scaffold logs` shows, once a line has `text`: it comes a moment after the request is answered."""
    shown: list[str] = []

    def found() -> bool:
        shown[:] = [line.text for line in scaffold.logs(root)]
        return any(text in line for line in shown)

    until(found, why=lambda: f"no line of the log has {text!r}: {shown}")
    return shown


def get(
    url: str, path: str = "/headers", timeout: float = 20, headers: Mapping[str, str] = {}
) -> tuple[int, dict[str, str]]:
    """Status and headers of an answer."""
    connection = http.client.HTTPConnection(url.removeprefix("http://"), timeout=timeout)
    try:
        connection.request("GET", path, headers=dict(headers))
        answer = connection.getresponse()
        answer.read()
        return answer.status, dict(answer.getheaders())
    finally:
        connection.close()


def in_this_process(capsys: pytest.CaptureFixture[str], *words: object) -> Ran:
    """Run `scaffold WORDS` without a process of its own, which is quicker; of `here`."""
    ran = entered(capsys, *words)
    return Ran(ran.code, ran.out, ran.err)


def answers(url: str) -> bool:
    """Whether a filter answers there."""
    try:
        return get(url, timeout=5)[0] == 200
    except (OSError, http.client.HTTPException):
        return False


def names(folder: Path) -> list[str]:
    """What lies in a folder."""
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


def tree(folder: Path) -> str | None:
    """A digest of all that is in a folder: names, kinds, modes and bytes; None when it isn't there."""
    if not folder.is_dir():
        return None
    digest = hashlib.sha256()
    for path in sorted(folder.rglob("*")):
        digest.update(os.fsencode(path.relative_to(folder)) + b"%o" % path.lstat().st_mode)
        if path.is_symlink():
            digest.update(os.fsencode(path.readlink()))
        elif path.is_file():
            digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:12]


def digest(path: Path) -> str | None:
    """A module's digest, as we print it; None when it isn't there."""
    try:
        return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"
    except FileNotFoundError:
        return None


def envoys(place: Place) -> list[psutil.Process]:
    """The Envoys that run for a place."""
    found = []
    for pid in pids(place.folder):
        with suppress(psutil.Error):
            process = psutil.Process(pid)
            if process.name() == "envoy" and "--version" not in process.cmdline():
                found.append(process)
    return found


def supervisors(place: Place) -> list[str]:
    """The supervisors that run for a place."""
    return [line for line in place.left() if "scaffold.hosts.background.supervisor" in line]


def as_root() -> None:
    """Skip where only root could do what comes."""
    if os.geteuid() != 0:
        pytest.skip("namespaces are root's")


@contextmanager
def namespace(*kinds: str, first: str = ":", arguments: Sequence[object] = ()) -> Iterator[tuple[str, ...]]:
    """Namespaces of our own, such as "mount" or "net", that end with the block; yields what enters them.

    `first` is a line of shell that prepares them. Nothing of it is seen outside, and nothing stays.
    """
    as_root()
    flags = [f"--{kind}" for kind in kinds]
    argv = ["unshare", *flags, "sh", "-ec", f"{first}; echo ready; exec cat", "sh", *map(str, arguments)]
    with subprocess.Popen(
        argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as holder:
        assert holder.stdin and holder.stdout and holder.stderr
        try:
            if holder.stdout.readline() != b"ready\n":
                pytest.skip(f"namespaces aren't allowed here: {holder.stderr.read().decode().strip()}")
            yield ("nsenter", f"--target={holder.pid}", *flags, "--")
        finally:
            holder.stdin.close()


def inside(enter: Sequence[str], path: Path) -> Path:
    """A path as the holder of a mount namespace sees it."""
    pid = next(word for word in enter if word.startswith("--target=")).removeprefix("--target=")
    return Path("/proc", pid, "root") / path.relative_to("/")


def ordinary() -> tuple[str, ...]:
    """What starts a program that permissions bind: root without root's rights over files.

    Not another user: that one couldn't even read a Python below root's home.
    """
    if os.geteuid() != 0:
        return ()
    setpriv = shutil.which(
        "setpriv", path=f"{os.environ.get('PATH', '')}{os.pathsep}/usr/bin{os.pathsep}/bin"
    )
    words = (str(setpriv), "--bounding-set=-dac_override,-dac_read_search,-net_bind_service")
    if not setpriv or subprocess.run([*words, sys.executable, "-c", ""], capture_output=True).returncode:
        pytest.skip("setpriv can't take root's rights away here")
    return words


def copy_env(env: Mapping[str, str], **changed: str | None) -> dict[str, str]:
    """An environment with some variables changed, or without them."""
    made = dict(env) | {key: value for key, value in changed.items() if value is not None}
    return {key: value for key, value in made.items() if changed.get(key, "") is not None}
