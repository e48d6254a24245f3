"""`doctor`: check this machine, and say what is wrong and what to type about it."""

from __future__ import annotations

import os
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from scaffold.commands.doctor import folders, leftovers, network, programs, rust, system
from scaffold.commands.doctor.finding import (
    Check,
    Diagnosis,
    Finding,
    Repair,
    Scope,
    State,
    without_consequences,
)
from scaffold.core import files
from scaffold.core.events import Warned, emit, step
from scaffold.core.option_fields import refuse
from scaffold.errors import ProjectError, ScaffoldError, UsageError
from scaffold.hosts.options import RunOptions
from scaffold.project.crate import TRIPLES
from scaffold.project.projects import triples_at
from scaffold.toolchain.options import BuildOptions

__all__ = ["Diagnosis", "Finding", "doctor"]

# causes first: a full disk or a missing loopback makes many later checks fail
CHECKS: Mapping[str, Check] = {  # by the name of the first finding of each
    "python": system.check,
    "temp folder": folders.temp_folder,
    "state folder": folders.state_folder,
    "cache folder": folders.cache_folder,
    "loopback": system.loopback,
    "network": network.check,
    "project": rust.project,
    "rust": rust.check,
    "wasm-opt": rust.optimiser,
    "envoy": programs.envoy,
    "port": system.port,
    "deployments": leftovers.deployments,
    "leftovers": leftovers.half_made,
    "docker": programs.docker,
    "git": programs.git,
    "kubectl": programs.kubectl,
}
MINOR = (
    "cache folder",
    "network",
    "leftovers",
    "wasm-opt",
    "docker",
    "git",
    "kubectl",
)  # no command always needs these
# a finding -> those that must be ok for it to be ok
NEEDS: Mapping[str, tuple[str, ...]] = {
    "rust": ("data folder",),
    "cargo": ("rust",),
    "linker": ("temp folder", "rust"),
    "envoy": ("system",),
    "v8": ("envoy",),
    "port": ("loopback", "state folder"),
    "deployments": ("state folder",),
}
# a finding -> its repair where it is fixable, which needs no privileges and removes only our own files
REPAIRS: Mapping[str, Repair] = {
    "temp folder": lambda _: folders.make(folders.temp()),
    "state folder": lambda _: folders.make(files.state_dir()),
    "cache folder": lambda _: folders.make(files.cache_dir()),
    "data folder": lambda _: folders.make(files.data_dir()),
    "rust": rust.install,
    "deployments": leftovers.forget,
}


def doctor(
    root: Path = Path(),
    *,
    fix: bool = False,
    build: BuildOptions = BuildOptions(),
    run: RunOptions = RunOptions(),
) -> Diagnosis:
    """Check this machine: each program, folder and address that a command may need, and what to do about it.

    The toolchain is the one that builds the project in `root`, or `build.rustc`; `run.envoy` is another Envoy
    to check. `fix` repairs what is safe to repair: it makes
    missing folders, installs a toolchain, forgets dead deployments; then everything is checked again.
    """
    if not root.is_dir():
        raise UsageError(
            f"there is no folder {root}", hint="pass a plugin's crate by --root, or leave it out"
        )
    refuse(build, "doctor", supported=("rustc",))
    refuse(run, "doctor", supported=("envoy",))
    triple, broken = _triple(root)
    scope = Scope(root, triple, build.rustc, run.envoy)
    diagnosis = _diagnose(scope, broken)
    if fix and diagnosis.fixable:
        for finding in diagnosis.fixable:
            _repair(finding, scope)
        diagnosis = _diagnose(scope, broken)
    return diagnosis


def _diagnose(scope: Scope, first: list[Finding]) -> Diagnosis:
    """Run all checks, in parallel: most only wait for a program to answer."""
    with ThreadPoolExecutor(len(CHECKS)) as threads:
        groups = list(threads.map(lambda name: _check(name, scope), CHECKS))
    findings = [finding for group in [first, *groups] for finding in group]
    return Diagnosis(tuple(without_consequences(findings, NEEDS)))


def _check(name: str, scope: Scope) -> list[Finding]:
    """Run one check. Its failure is a finding too: doctor is called where things are broken."""
    state: State = "warning" if name in MINOR else "failed"
    try:
        return CHECKS[name](scope)
    except ScaffoldError as error:
        return [Finding(name, state, error.message, remedy=error.hint)]
    except OSError as error:
        denied = isinstance(error, PermissionError) and error.filename
        remedy = f'sudo chown -R "$USER" {Path(str(error.filename)).parent}' if denied else None
        return [Finding(name, state, f"{error.filename or name}: {error.strerror or error}", remedy=remedy)]


def _repair(finding: Finding, scope: Scope) -> None:
    """Repair one finding. A failure is a warning: the checks that follow say what is left."""
    with step(f"Repairing: {finding.name}"):
        try:
            REPAIRS[finding.name](scope)
        except ScaffoldError as error:
            emit(Warned(error.message))
        except OSError as error:
            emit(
                Warned(f"{error.filename or finding.name}: {error.strerror or os.strerror(error.errno or 0)}")
            )


def _triple(root: Path) -> tuple[str, list[Finding]]:
    """The project's triple, or the default where there is no project or its Cargo.toml is broken."""
    try:
        return triples_at(root)[0], []
    except ProjectError as error:
        why = f"the toolchain is checked for {TRIPLES[0]} instead of the project's triple"
        return TRIPLES[0], [Finding("Cargo.toml", "warning", error.message, why, error.hint)]
