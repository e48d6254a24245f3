"""This repository's tasks: scaffold's own commands, and under `dev` the repository's chores."""

import os
import shlex
import socket
import sys
import tempfile
import urllib.request
from pathlib import Path

import yaml
from invoke import Collection, Context, Exit, task

from scaffold.hosts.options import default_port
from scaffold.tasks import ns as commands

ROOT = Path(__file__).parent
BIN = Path(sys.executable).parent
PYTEST = (BIN / "pytest", "-q", "-n", "2")
UNIT = (*PYTEST, "--dist", "worksteal", "tests/unit")
COMPONENT = (*PYTEST, "--dist", "worksteal", "tests/component")
E2E = (*PYTEST, "--dist", "loadgroup", "--durations=15", "tests/e2e")  # conftest.py's groups
FAULTS = (*PYTEST, "--dist", "worksteal", "--durations=15", "tests/faults")


def _run(*words: str | Path, cwd: Path = ROOT) -> None:
    """Show a command, run it, and exit with its exit code unless that is 0."""
    import subprocess

    print(f"$ {shlex.join(str(word) for word in words)}", flush=True)
    env = os.environ | {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}"}
    env.pop("PYTHONDONTWRITEBYTECODE", None)  # our modules are compiled once, as an installation's are
    with subprocess.Popen([str(word) for word in words], cwd=cwd, env=env) as child:
        try:
            code = child.wait()
        except KeyboardInterrupt:  # it got that, too, and cleans up; `subprocess.run` would kill it
            code = child.wait()
    if code:
        raise Exit(code=code)


@task
def test(_: Context) -> None:
    """The unit tests: no process, no socket; in seconds."""
    _run(*UNIT)


@task
def component(_: Context) -> None:
    """The tests with real processes, git, sockets, kubectl and cookiecutter: minutes."""
    _run(*COMPONENT)


@task
def e2e(_: Context) -> None:
    """The tests with real cargo, Envoy, Docker and registries: half an hour."""
    _run(*E2E)


@task(name="all")
def every_test(_: Context) -> None:
    """Every test, folder by folder, to the end; of the fault suite 20 kills per command."""
    failed = []
    for folder in (UNIT, COMPONENT, E2E, FAULTS):
        try:
            _run(*folder)
        except Exit:
            failed.append(str(folder[-1]))
    if failed:
        raise Exit(f"failed: {', '.join(failed)}", code=1)


@task
def faults(_: Context, kills: int = 200, page: bool = False) -> None:
    """The fault suite with many kills; prints what was injected and seen, --page writes docs/faults.md."""
    os.environ["SCAFFOLD_KILLS"] = str(kills)
    if page:
        os.environ["SCAFFOLD_FAULTS_PAGE"] = str(ROOT / "docs" / "faults.md")
    _run(*FAULTS)


@task
def mutants(_: Context, only: str = "", tier: str = "component", unchecked: bool = False) -> None:
    """Put the bugs of tests/mutants/ into copies of this repository, one at a time; prints what survives."""
    words = ["--only", only, "--tier", tier, *(["--unchecked"] if unchecked else [])]
    _run(BIN / "python", ROOT / "tests" / "mutants" / "run.py", *words)


@task
def lint(_: Context) -> None:
    """Every linter that .pre-commit-config.yaml names, over all files; git isn't needed."""
    for hook in yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"][0]["hooks"]:
        program, *words = shlex.split(hook["entry"])
        named = [] if hook.get("pass_filenames") is False else sorted(ROOT.glob(".github/workflows/*"))
        _run(BIN / program, *words, *named)


@task
def bench(_: Context) -> None:
    """Every benchmark, next to the same job without scaffold; prints a table."""
    _run(BIN / "python", "-m", "bench")


@task
def demo(_: Context) -> None:
    """The main job in a temporary folder: make a plugin, build, deploy, call and test it."""
    port = _free(default_port())
    on_port = [] if port == default_port() else [f"--port={port}"]
    with tempfile.TemporaryDirectory(prefix="scaffold-demo-") as name:
        crate = Path(name) / "hello_world"
        _run("scaffold", "new", "hello_world", "--no-input", cwd=Path(name))
        print("$ cd hello_world")
        _run("invoke", "setup", "--yes", cwd=crate)
        try:
            _run("invoke", "build", "deploy", *on_port, cwd=crate)
            print(f"$ curl localhost:{port}/headers")
            with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(
                f"http://localhost:{port}/headers"
            ) as answer:
                print(f"HTTP {answer.status}\n{answer.read().decode()}", flush=True)
            _run("invoke", "logs", cwd=crate)
            _run("invoke", "test", cwd=crate)
        finally:
            _run("invoke", "undeploy", cwd=crate)
    print("\nNow make your own: `. .venv/bin/activate`, `scaffold new my_plugin`, then edit src/lib.rs.")
    print("The README says what next.")


def _free(wanted: int) -> int:
    """The wanted port if it is free, otherwise any free port."""
    for port in (wanted, 0):
        with socket.socket() as probe:
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return int(probe.getsockname()[1])
    raise Exit("no free port", code=8)


# the command `dev` is for a plugin; here that name is this repository's chores
ns = Collection(*(each for name, each in commands.tasks.items() if name != "dev"))
ns.add_collection(Collection("dev", test, component, e2e, every_test, faults, mutants, lint, bench, demo))
