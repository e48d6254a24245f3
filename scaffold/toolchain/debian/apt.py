"""apt, pointed at one Debian suite and a folder of its own: it touches nothing of the system's."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from scaffold.core import files, process
from scaffold.core.events import Progressed, emit
from scaffold.errors import MachineError

_UPDATE_SECONDS = 180.0
# Read after the machine's configuration, whose proxies stay in force; its hooks act on the system's
# cache, and its pins are for the system's suite. The empty status file says that nothing is installed.
_CONFIGURATION = """\
#clear APT::Update::Pre-Invoke;
#clear APT::Update::Post-Invoke;
#clear APT::Update::Post-Invoke-Success;
#clear DPkg::Pre-Invoke;
#clear DPkg::Post-Invoke;
#clear DPkg::Pre-Install-Pkgs;
#clear APT::Architectures;
#clear APT::Default-Release;
APT::Architecture "{arch}";
APT::Architectures {{ "{arch}"; }};
APT::Install-Recommends "false";
APT::Install-Suggests "false";
APT::Get::AllowUnauthenticated "false";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
APT::Keep-Downloaded-Packages "true";
Acquire::AllowInsecureRepositories "false";
Acquire::IndexTargets::deb::DEP-11::DefaultEnabled "false";
Acquire::Languages "none";
Acquire::Retries "2";
Acquire::http::Timeout "20";
Acquire::https::Timeout "20";
Dir::Cache "{folder}";
Dir::Cache::archives "{folder}/archives";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
Dir::Etc::sourcelist "{folder}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::State "{folder}";
Dir::State::lists "{folder}/lists";
Dir::State::status "{folder}/status";
"""


@dataclass(frozen=True)
class Plan:
    """What an installation takes: archives as (file name, bytes), and bytes on disk once unpacked."""

    archives: tuple[tuple[str, int], ...]
    unpacked: int

    @property
    def download(self) -> int:
        """The bytes of all archives."""
        return sum(size for _, size in self.archives)


@dataclass(frozen=True)
class Apt:
    """apt-get with `folder` for its lists and archives, which are kept: what was downloaded once stays."""

    folder: Path
    arch: str

    @classmethod
    def prepare(cls, folder: Path, *, mirror: str, suite: str, arch: str, keyring: Path) -> Apt:
        """Write the configuration for a suite of a mirror. `arch` is Debian's name, such as "amd64"."""
        for needed in ("lists/partial", "archives/partial", "none/partial"):
            (folder / needed).mkdir(parents=True, exist_ok=True)
        if mirror.startswith("file:"):  # which apt reads in place: no archive would come to lie here
            mirror = f"copy:{mirror.removeprefix('file:')}"
        files.write(folder / "status", "")
        files.write(folder / "sources.list", f"deb [arch={arch} signed-by={keyring}] {mirror} {suite} main\n")
        files.write(folder / "apt.conf", _CONFIGURATION.format(folder=folder, arch=arch))
        return cls(folder, arch)

    def update(self) -> None:
        """Fetch the suite's lists, verified by the keyring."""
        self._get("-o", "Acquire::Retries=0", "update", timeout=_UPDATE_SECONDS)

    def plan(self, packages: tuple[str, ...]) -> Plan:
        """Resolve packages with what they depend on. An archive that lies here already counts, too."""
        nowhere = f"Dir::Cache::archives={self.folder}/none"
        said = self._get("--print-uris", "-o", nowhere, "install", *packages, quiet="-q")
        archives = re.findall(r"^'[^']+' (\S+\.deb) (\d+) ", said, re.MULTILINE)
        unpacked = re.search(r"operation, ([\d.,]+) ([kMG]?)B of additional", said)
        if not archives:
            raise MachineError(f"apt resolved {' '.join(packages)} to no archive at all")
        factor = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[unpacked[2]] if unpacked else 0
        disk = int(float(unpacked[1].replace(",", "")) * factor) if unpacked else 0
        return Plan(tuple((name, int(size)) for name, size in archives), disk)

    def missing(self, plan: Plan) -> int:
        """The bytes that are still to download."""
        return sum(size for name, size in plan.archives if not (self.folder / "archives" / name).exists())

    def download(self, packages: tuple[str, ...], plan: Plan, title: str) -> None:
        """Download what isn't here yet, with progress in bytes under the title of a step."""
        rest = self.missing(plan)

        def progressed(line: str) -> None:
            fields = line.split(":")
            if fields[0] == "dlstatus":
                done = plan.download - rest + rest * float(fields[2]) / 100
                emit(Progressed(title, done, plan.download, "B"))

        words = ("-y", "--download-only", "-o", "APT::Status-Fd=1", "install", *packages)
        self._get(*words, on_line=progressed)

    def unpack(self, plan: Plan, into: Path, title: str) -> None:
        """Unpack the archives of a plan over one another, with progress under the title of a step."""
        done = 0
        for name, size in plan.archives:
            ran = process.run(["dpkg-deb", "-x", self.folder / "archives" / name, into])
            if ran.code != 0:
                raise MachineError(f"cannot unpack {name}: {_last(ran.stderr)}")
            done += size
            emit(Progressed(title, done, plan.download, "B"))

    def _get(
        self,
        *words: str,
        quiet: str = "-qq",
        timeout: float | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> str:
        """Run apt-get; what it printed. Raises `MachineError` with its own words when it fails."""
        argv: process.Argv = ["apt-get", "-c", self.folder / "apt.conf", quiet, *words]
        env = os.environ | {"LC_ALL": "C", "LANGUAGE": "C"}
        if on_line is None:
            ran = process.run(argv, env=env, timeout=timeout, guarded=True)
            code, stdout, stderr = ran.code, ran.stdout, ran.stderr
        else:
            stdout = ""
            with (
                tempfile.TemporaryFile() as errors,
                process.spawn(argv, env=env, stdout=process.PIPE, stderr=errors) as child,
            ):
                assert child.stdout  # noqa: S101 - for the type checker
                for line in child.stdout:
                    on_line(line.decode(errors="replace"))
                code = child.wait()
                errors.seek(0)
                stderr = errors.read().decode(errors="replace")
        if code != 0:
            raise MachineError(f"apt-get failed: {_last(stderr)}")
        return stdout


def _last(stderr: str) -> str:
    """The line that says it: apt's first error, or else the last there is."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("E: ") for line in lines if line.startswith("E: ")]
    return (errors or lines[-1:] or ["it said nothing"])[0]
