"""A machine made of stand-ins: its PATH, home and programs are the test's own."""

from __future__ import annotations

import platform
from dataclasses import dataclass
from pathlib import Path

import pytest

from scaffold.core import events
from scaffold.toolchain.debian import packages

WASI = "wasm32-wasip1"
GNU = f"{platform.machine()}-linux-gnu"
HOST = f"{platform.machine()}-unknown-linux-gnu"

_RUSTC = """#!/bin/sh
case "$*" in
-vV) echo "rustc {version} (0123456 2025-03-15)"; echo "commit-hash: 0ddba11"; echo "host: {host}" ;;
--version) echo "rustc {version} (0123456 2025-03-15)" ;;
"--print target-libdir --target "*) echo "{home}/lib/rustlib/$4/lib" ;;
*" -o "*) exit 0 ;;
*) exit 1 ;;
esac
"""


@dataclass
class Machine:
    """`bin` is all of PATH; `said` every event."""

    folder: Path
    bin: Path
    said: list[events.Event]

    def program(self, name: str, text: str, folder: Path | None = None) -> Path:
        """Put a shell script on PATH, or into another folder."""
        path = (folder or self.bin) / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text if text.startswith("#!") else f"#!/bin/sh\n{text}\n")
        path.chmod(0o755)
        return path

    def rustc(
        self, folder: Path | None = None, *, version: str = "1.85.1", triples: tuple[str, ...] = (WASI,)
    ) -> Path:
        """A rustc with std for some triples and its own linker, and a cargo beside it."""
        folder = folder or self.bin
        home = self.folder / f"sysroot-{folder.parent.name}-{folder.name}"
        for triple in triples:
            give_std(home, triple)
        linker = home / "lib/rustlib/host/bin/rust-lld"
        linker.parent.mkdir(parents=True)
        linker.touch()
        self.program("cargo", 'echo "cargo 1.85.1"', folder)
        return self.program(
            "rustc",
            _RUSTC.format(version=version, home=home, host=HOST),
            folder,
        )

    def rustup(self, rustc: Path, *, name: str = "stable-here", add: str = "") -> Path:
        """A rustup whose active toolchain has this rustc; `add` is what adding a target runs."""
        return self.program(
            "rustup",
            f"""case "$*" in
            --version) echo "rustup 1.29.0" ;;
            "show active-toolchain") [ -e rust-toolchain.toml ] && echo "pinned" || echo "{name} (default)" ;;
            "which rustc") echo "{rustc}" ;;
            "target add "*) triple=$3; {add or ":"} ;;
            *) exit 1 ;;
            esac""",
        )

    def notes(self) -> list[str]:
        """The lines that were noted."""
        return [event.text for event in self.said if isinstance(event, events.Noted)]


def give_std(home: Path, triple: str) -> None:
    libdir = home / "lib/rustlib" / triple / "lib"
    libdir.mkdir(parents=True)
    (libdir / "libstd-0123456789abcdef.rlib").touch()


@pytest.fixture
def machine(tmp_path, monkeypatch):
    """A machine with nothing on PATH and an empty home; a question is answered yes by nobody."""
    for name in ("RUSTC", "RUSTDOC", "RUSTUP_TOOLCHAIN", "RUSTUP_AUTO_INSTALL", packages.MIRROR):
        monkeypatch.delenv(name, raising=False)
    for triple in (
        "WASM32_WASIP1",
        "WASM32_UNKNOWN_UNKNOWN",
        f"{platform.machine().upper()}_UNKNOWN_LINUX_GNU",
    ):
        monkeypatch.delenv(f"CARGO_TARGET_{triple}_LINKER", raising=False)
    for name, folder in (("HOME", "home"), ("XDG_DATA_HOME", "data"), ("XDG_CACHE_HOME", "cache")):
        (tmp_path / folder).mkdir()
        monkeypatch.setenv(name, str(tmp_path / folder))
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    monkeypatch.chdir(tmp_path / "home")
    said: list[events.Event] = []
    with events.listening(said.append):
        yield Machine(tmp_path, tmp_path / "bin", said)


_APT = """folder="${{2%/*}}"
case "$*" in
*update) {update} ;;
*--print-uris*) cat <<END
Need to get 3,000 kB of archives.
After this operation, 7,000 kB of additional disk space will be used.
'http://mirror.invalid/rust.deb' rust_1%3a1.deb 2000000 MD5Sum:0
'http://mirror.invalid/libc.deb' libc_2.deb 1000000 MD5Sum:0
END
;;
*--download-only*)
    echo downloaded >> "{log}"
    echo "dlstatus:1:50.0000:Retrieving file 1 of 2"
    {download}
    echo > "$folder/archives/rust_1%3a1.deb"
    echo > "$folder/archives/libc_2.deb"
;;
esac"""
_WASM_OPT = 'case "$1" in --version) echo "wasm-opt version 120" ;; *) /bin/cp "$2" "$4" ;; esac'
_LOADER = """#!/bin/sh
shift 4
exec "$@"
"""


@pytest.fixture
def debian(machine, monkeypatch):
    """Makes the machine Debian's kin: `debian(download=...)` puts an apt-get and a dpkg-deb on PATH."""
    if not list(Path("/usr/share/keyrings").glob("debian-archive-keyring.*")):
        pytest.skip("this machine has no Debian keyring")
    monkeypatch.setenv(packages.MIRROR, "http://mirror.invalid/debian")
    payload = machine.folder / "payload"
    usr = payload / "usr"
    machine.program("ld-linux-fake.so.2", _LOADER, usr / "lib64")
    for name in (
        "bin/cargo",
        "bin/rustdoc",
        "lib/llvm-19/bin/lld",
        f"libexec/gcc/{GNU}/14/cc1",
        f"libexec/gcc/{GNU}/14/collect2",
        f"bin/{GNU}-as",
        f"bin/{GNU}-ar",
        f"bin/{GNU}-gcc-14",
    ):
        machine.program(name, "echo stand-in", usr)
    machine.program("wasm-opt", _WASM_OPT, usr / "bin")
    rustc = _RUSTC.format(version="1.85.1", home="${0%/*}/..", host=HOST)
    machine.program("rustc", rustc, usr / "bin")
    give_std(usr, WASI)

    def make(
        *, update: str = ":", download: str = ":", unpack: str = ":", log: Path = machine.folder / "log"
    ):
        outside = "PATH=/usr/bin:/bin\n"
        machine.program("apt-get", outside + _APT.format(update=update, download=download, log=log))
        machine.program("dpkg-deb", f'{outside}{unpack}\nexec cp -a {payload}/. "$3"')
        return log

    return make
