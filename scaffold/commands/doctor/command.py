"""What is wrong with the machine: every outside thing found, judged, and its remedy said."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from scaffold.commands.doctor import folders, network, programs, remains, rust, system
from scaffold.commands.doctor.finding import Check, Diagnosis, Finding, Patient, Repair, State, settle
from scaffold.core import files
from scaffold.core.events import Warned, emit, step
from scaffold.errors import ProjectError, ScaffoldError, UsageError
from scaffold.project.model import TRIPLES
from scaffold.project.plugins import triples

__all__ = ["Diagnosis", "Finding", "doctor"]

# causes first: a disk that is full or a loopback that is down breaks much of what comes after
CHECKS: Mapping[str, Check] = {  # by the name of the first thing that each finds
    "python": system.look,
    "temp folder": folders.temp_folder,
    "state folder": folders.state_folder,
    "cache folder": folders.cache_folder,
    "loopback": system.loopback,
    "network": network.look,
    "project": rust.project,
    "rust": rust.look,
    "envoy": programs.envoy,
    "port 8080": system.port,
    "deployments": remains.recorded,
    "leftovers": remains.leftovers,
    "docker": programs.docker,
    "git": programs.git,
    "kubectl": programs.kubectl,
}
MINOR = ("cache folder", "network", "leftovers", "docker", "git", "kubectl")  # nothing needs them always
# a finding -> those without which it can't be ok
NEEDS: Mapping[str, tuple[str, ...]] = {
    "rust": ("data folder",),
    "cargo": ("rust",),
    "linker": ("temp folder", "rust"),
    "envoy": ("system",),
    "v8": ("envoy",),
    "port 8080": ("loopback", "state folder"),
    "deployments": ("state folder",),
}
# a finding -> what mends it where it says that it is fixable; it asks for no rights, and removes nothing
# that isn't ours
REPAIRS: Mapping[str, Repair] = {
    "temp folder": lambda _: folders.make(folders.temp()),
    "state folder": lambda _: folders.make(files.state_dir()),
    "cache folder": lambda _: folders.make(files.cache_dir()),
    "data folder": lambda _: folders.make(files.data_dir()),
    "rust": rust.install,
    "deployments": remains.forget,
}


def doctor(
    root: Path = Path(), *, fix: bool = False, rustc: str | None = None, envoy: str | None = None
) -> Diagnosis:
    """Look at everything outside that may be needed: is it there, which version, is it fit, and if not, why.

    The toolchain is the one that the project in `root` would be built by. `fix` does what is safe: makes
    missing folders, installs a toolchain, forgets deployments that are dead; then all is looked at again.
    """
    if not root.is_dir():
        raise UsageError(f"there is no folder {root}", hint="give --root a plugin's crate, or leave it out")
    triple, broken = _triple(root)
    patient = Patient(root, triple, rustc, envoy)
    diagnosis = _diagnose(patient, broken)
    if fix and diagnosis.fixable:
        for finding in diagnosis.fixable:
            _mend(finding, patient)
        diagnosis = _diagnose(patient, broken)
    return diagnosis


def _diagnose(patient: Patient, first: list[Finding]) -> Diagnosis:
    """All checks, side by side: most only wait for a program to answer."""
    with ThreadPoolExecutor(len(CHECKS)) as threads:
        found = list(threads.map(lambda name: _look(name, patient), CHECKS))
    findings = [finding for group in [first, *found] for finding in group]
    return Diagnosis(tuple(settle(findings, NEEDS)))


def _look(name: str, patient: Patient) -> list[Finding]:
    """One check. What it can't look at is a finding too: a doctor is called where things are broken."""
    state: State = "warning" if name in MINOR else "failed"
    try:
        return CHECKS[name](patient)
    except ScaffoldError as error:
        return [Finding(name, state, error.message, remedy=error.hint)]
    except OSError as error:
        owned = isinstance(error, PermissionError) and error.filename
        remedy = f'sudo chown -R "$USER" {Path(str(error.filename)).parent}' if owned else None
        return [Finding(name, state, f"{error.filename or name}: {error.strerror or error}", remedy=remedy)]


def _mend(finding: Finding, patient: Patient) -> None:
    """Mend one thing; where that fails, say so and go on: the next look tells what is left."""
    with step(f"Mending: {finding.name}"):
        try:
            REPAIRS[finding.name](patient)
        except ScaffoldError as error:
            emit(Warned(error.message))
        except OSError as error:
            emit(
                Warned(f"{error.filename or finding.name}: {error.strerror or os.strerror(error.errno or 0)}")
            )


def _triple(root: Path) -> tuple[str, list[Finding]]:
    """The project's triple, or the default where there is no project or its Cargo.toml is broken."""
    try:
        return triples(root)[0], []
    except ProjectError as error:
        why = f"the toolchain is looked for as if it asked for {TRIPLES[0]}"
        return TRIPLES[0], [Finding("Cargo.toml", "warning", error.message, why, error.hint)]
