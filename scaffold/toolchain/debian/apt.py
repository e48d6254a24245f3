"""apt-get for one Debian suite in a folder of its own, leaving the system's packages alone."""

from __future__ import annotations

import os
import re
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from scaffold.core import files, process
from scaffold.core.events import Progressed, emit
from scaffold.errors import MachineError

_UPDATE_SECONDS = 180.0
SUITES = frozenset(
    "buster bullseye bookworm trixie forky duke sid oldoldstable oldstable stable testing unstable".split()
)
_LISTS = ("uris", "suites", "components")
_KEYRING = "debian-archive-"
_SCHEMES = ("http:", "https:", "file:", "copy:", "ftp:", "mirror")
_ONE_LINE = re.compile(r"deb\s+(?:\[(?P<options>[^]]*)\]\s*)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<parts>.+)")
# Read after the machine's configuration, so its proxies still apply. Its hooks would change the system's
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
    """What an installation needs: archives as (file name, bytes), and bytes on disk once unpacked."""

    archives: tuple[tuple[str, int], ...]
    unpacked: int

    @property
    def download(self) -> int:
        """The size of all archives, in bytes."""
        return sum(size for _, size in self.archives)


@dataclass(frozen=True)
class Apt:
    """apt-get with `folder` for its lists and archives, so that nothing is downloaded twice."""

    folder: Path
    arch: str

    @classmethod
    def prepare(cls, folder: Path, *, mirror: str, suite: str, arch: str, keyring: Path) -> Apt:
        """Write the configuration for a suite of a mirror. `arch` is Debian's name, such as "amd64"."""
        for needed in ("lists/partial", "archives/partial", "none/partial"):
            (folder / needed).mkdir(parents=True, exist_ok=True)
        if mirror.startswith("file:"):  # apt would read the archives in place, and leave none here
            mirror = f"copy:{mirror.removeprefix('file:')}"
        files.write(folder / "status", "")
        files.write(folder / "sources.list", f"deb [arch={arch} signed-by={keyring}] {mirror} {suite} main\n")
        files.write(folder / "apt.conf", _CONFIGURATION.format(folder=folder, arch=arch))
        return cls(folder, arch)

    def update(self) -> None:
        """Fetch the suite's lists, verified by the keyring."""
        self._get("-o", "Acquire::Retries=0", "update", timeout=_UPDATE_SECONDS)

    def plan(self, packages: tuple[str, ...]) -> Plan:
        """Resolve packages and their dependencies. Archives that are here already are included."""
        nowhere = f"Dir::Cache::archives={self.folder}/none"
        printed = self._get("--print-uris", "-o", nowhere, "install", *packages, quiet="-q")
        archives = re.findall(r"^'[^']+' (\S+\.deb) (\d+) ", printed, re.MULTILINE)
        unpacked = re.search(r"operation, ([\d.,]+) ([kMG]?)B of additional", printed)
        if not archives:
            raise MachineError(f"apt finds no archives for {' '.join(packages)}")
        factor = {"": 1, "k": 1e3, "M": 1e6, "G": 1e9}[unpacked[2]] if unpacked else 0
        disk = int(float(unpacked[1].replace(",", "")) * factor) if unpacked else 0
        return Plan(tuple((name, int(size)) for name, size in archives), disk)

    def missing(self, plan: Plan) -> int:
        """How many bytes are still to be downloaded."""
        return sum(size for name, size in plan.archives if not (self.folder / "archives" / name).exists())

    def download(self, packages: tuple[str, ...], plan: Plan, title: str) -> None:
        """Download what is missing, with progress in bytes under the title of a step."""
        rest = self.missing(plan)

        def progressed(line: str) -> None:
            fields = line.split(":")
            if fields[0] == "dlstatus":
                done = plan.download - rest + rest * float(fields[2]) / 100
                emit(Progressed(title, done, plan.download, "B"))

        words = ("-y", "--download-only", "-o", "APT::Status-Fd=1", "install", *packages)
        self._get(*words, on_line=progressed)

    def unpack(self, plan: Plan, into: Path, title: str) -> None:
        """Unpack the archives of a plan into one folder, with progress under the title of a step."""
        done = 0
        for name, size in plan.archives:
            ran = process.run(["dpkg-deb", "-x", self.folder / "archives" / name, into], guarded=True)
            if ran.code != 0:
                raise MachineError(f"can't unpack {name}: {_message(ran.stderr)}")
            done += size
            emit(Progressed(title, done, plan.download, "B"))

    def _get(
        self,
        *words: str,
        quiet: str = "-qq",
        timeout: float | None = None,
        on_line: Callable[[str], None] | None = None,
    ) -> str:
        """Run apt-get and return its output. Raises `MachineError` with apt's own message when it fails."""
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
            raise MachineError(f"apt-get failed: {_message(stderr)}")
        return stdout


def _message(stderr: str) -> str:
    """apt's first error, or else the last line of what it printed."""
    lines = [line.strip() for line in stderr.splitlines() if line.strip()]
    errors = [line.removeprefix("E: ") for line in lines if line.startswith("E: ")]
    return (errors or lines[-1:] or ["no message"])[0]


@dataclass(frozen=True)
class Source:
    """An entry for binary packages. `signed_by` is a path, a key, or "" for apt's own keys."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str = ""


def mirror(etc: Path = Path("/etc/apt")) -> str | None:
    """The URI of Debian's archive that the system's apt uses, or None when its source files name none.

    Other projects' archives are listed in the same folder, with the same suite names. So an entry counts
    only when it is signed by Debian's keyring, or when it names no keyring and its URI ends like Debian's.
    """
    entries = [
        source for source in _sources(etc) if "main" in source.components and SUITES & {*source.suites}
    ]
    for is_debian in (_signed_by_debian, _looks_like_debian):
        for source in entries:
            for uri in source.uris:
                if uri.startswith(_SCHEMES) and is_debian(source, uri):
                    return uri.rstrip("/")
    return None


def _signed_by_debian(source: Source, uri: str) -> bool:
    return Path(source.signed_by).name.startswith(_KEYRING)


def _looks_like_debian(source: Source, uri: str) -> bool:
    return not source.signed_by and uri.rstrip("/").endswith("/debian")


def _sources(etc: Path) -> Iterator[Source]:
    for path in (etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))):
        try:
            text = path.read_text(errors="replace")
        except OSError:
            continue
        if path.suffix == ".list":
            yield from parse_list(text)
        elif path.suffix == ".sources":
            yield from parse_deb822(text)


def parse_list(text: str) -> Iterator[Source]:
    """The entries of a file in the one-line style."""
    for line in text.splitlines():
        entry = _ONE_LINE.fullmatch(line.partition("#")[0].strip())
        if entry:
            signed = re.search(r"signed-by=(\S+)", entry["options"] or "", re.IGNORECASE)
            parts = tuple(entry["parts"].split())
            yield Source((entry["uri"],), (entry["suite"],), parts, signed[1] if signed else "")


def parse_deb822(text: str) -> Iterator[Source]:
    """The enabled entries of a file in the deb822 style."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for stanza in re.split(r"\n\s*\n", "\n".join(lines)):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line[:1].isspace():
                fields[name] = f"{fields.get(name, '')} {line.strip()}"
            else:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        off = fields.get("enabled", "yes").lower() in ("no", "false", "0", "off", "without", "disable")
        if "deb" in fields.get("types", "").split() and not off:
            uris, suites, parts = (tuple(fields.get(key, "").split()) for key in _LISTS)
            yield Source(uris, suites, parts, fields.get("signed-by", "").strip())
