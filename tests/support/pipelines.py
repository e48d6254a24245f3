"""What a CI provider does with a workflow, in the small: its shell lines run as they stand, in its order.

Every job gets a machine of its own: a clone of the repository and an empty home. What the provider does
itself (a checkout, an artifact, an output) is done here; anything it would do that isn't known here fails.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import product
from pathlib import Path
from typing import Any

import yaml

# what leads to package mirrors and to the toolchain that the provider's image brings along
_OF_THE_MACHINE = re.compile(
    r"PIP_.*|(CARGO|RUSTUP)_HOME|SSL_CERT_.*|RUSTUP_.*|.*_proxy|.*_PROXY|SCAFFOLD_DEBIAN_MIRROR"
)


@dataclass
class Pipeline:
    """A tag's pipeline of a repository. `reached` is what its jobs said: variables, outputs, summaries."""

    repository: Path
    folder: Path
    env: dict[str, str]
    reached: dict[str, str] = field(default_factory=dict)
    summary: str = ""
    ran: list[str] = field(default_factory=list)

    def machine(self, name: str) -> tuple[Path, dict[str, str]]:
        """A clone, and the environment of a machine on which nobody has worked yet."""
        home, work = self.folder / name / "home", self.folder / name / "work"
        home.mkdir(parents=True)
        subprocess.run(["git", "clone", "--quiet", self.repository, work], check=True)
        return work, machines_own(self.folder) | {"HOME": str(home), "CI": "true"} | self.env

    def run(self, job: str, lines: str, work: Path, env: dict[str, str]) -> None:
        """Run lines as both providers do: by bash, which ends at the first that fails."""
        argv = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", lines]
        ran = subprocess.run(
            argv, cwd=work, env=env, text=True, capture_output=True, stdin=subprocess.DEVNULL
        )
        said = f"{job}:\n{lines}\n{ran.stdout}\n{ran.stderr}"
        print(said)  # pytest shows it when the test fails, as a log
        assert ran.returncode == 0, f"{job}: exit code {ran.returncode}"
        self.ran.append(said)


def machines_own(folder: Path) -> dict[str, str]:
    """The environment of an image: Python, git, and a Rust toolchain."""
    python = folder / "python"
    if not python.exists():
        python.mkdir()
        base = Path(sys.base_prefix) / "bin" / "python3"
        for name in ("python", "python3"):
            (python / name).symlink_to(base)
    path = [part for part in os.environ["PATH"].split(os.pathsep) if not part.startswith(sys.prefix)]
    user = Path.home()
    kept = {key: value for key, value in os.environ.items() if _OF_THE_MACHINE.fullmatch(key)}
    homes = {"CARGO_HOME": str(user / ".cargo"), "RUSTUP_HOME": str(user / ".rustup")}
    caches = {"PIP_CACHE_DIR": str(folder / "pip")}
    return homes | kept | caches | {"PATH": os.pathsep.join([str(python), *path]), "LANG": "C.UTF-8"}


# --- GitHub


def github(pipeline: Pipeline, token: str) -> None:
    """Run the jobs of .github/workflows/ci.yml for a pushed tag."""
    workflow = yaml.safe_load((pipeline.repository / ".github/workflows/ci.yml").read_text())
    assert workflow["defaults"] == {"run": {"shell": "bash"}}
    done: set[str] = set()
    for name, job in workflow["jobs"].items():
        assert set(_list(job.get("needs"))) <= done, f"{name} doesn't wait for what it needs"
        for cell in _cells(job.get("strategy", {}).get("matrix", {})):
            known = {f"matrix.{key}": value for key, value in cell.items()}
            known |= {"github.token": token} | pipeline.reached
            _github_job(pipeline, "-".join([name, *cell.values()]), job, known)
            for key, value in job.get("outputs", {}).items():
                pipeline.reached[f"needs.{name}.outputs.{key}"] = _evaluated(value, known)
        done.add(name)


def _github_job(pipeline: Pipeline, name: str, job: dict[str, Any], known: dict[str, str]) -> None:
    work, env = pipeline.machine(name)
    files = {
        key: work.parent / key
        for key in ("GITHUB_PATH", "GITHUB_ENV", "GITHUB_OUTPUT", "GITHUB_STEP_SUMMARY")
    }
    for path in files.values():
        path.touch()
    env |= {key: str(path) for key, path in files.items()} | {"GITHUB_ACTIONS": "true"}
    for step in job["steps"]:
        if "uses" in step:
            _action(pipeline, step["uses"].partition("@")[0], step.get("with", {}), work)
            continue
        given = {key: _evaluated(value, known) for key, value in step.get("env", {}).items()}
        pipeline.run(name, step["run"], work, env | given)
        env |= _pairs(files["GITHUB_ENV"])
        env["PATH"] = os.pathsep.join([*files["GITHUB_PATH"].read_text().split(), env["PATH"]])
        for key, value in _pairs(files["GITHUB_OUTPUT"]).items():
            known[f"steps.{step.get('id')}.outputs.{key}"] = value
        for key in ("GITHUB_PATH", "GITHUB_OUTPUT"):
            files[key].write_text("")
    pipeline.summary += files["GITHUB_STEP_SUMMARY"].read_text()


def _action(pipeline: Pipeline, name: str, given: dict[str, Any], work: Path) -> None:
    if name == "actions/upload-artifact":
        shutil.copy(work / given["path"], _artifacts(pipeline) / given["name"])
    elif name == "actions/download-artifact":
        (work / given["path"]).mkdir(parents=True)
        shutil.copy(_artifacts(pipeline) / given["name"], work / given["path"] / "plugin.wasm")
    else:  # these the machine has done already, or, the last, has nothing to do
        assert name in ("actions/checkout", "actions/setup-python", "actions/cache"), name


def _artifacts(pipeline: Pipeline) -> Path:
    folder = pipeline.folder / "artifacts"
    folder.mkdir(exist_ok=True)
    return folder


def _evaluated(text: str, known: dict[str, str]) -> str:
    return re.sub(r"\$\{\{ (.*?) \}\}", lambda found: known[found[1]], text)


# --- GitLab


class Loader(yaml.SafeLoader):
    """YAML with GitLab's `!reference [job, key]`."""


Loader.add_constructor("!reference", lambda loader, node: tuple(loader.construct_sequence(node)))


def gitlab(pipeline: Pipeline) -> None:
    """Run the jobs of .gitlab-ci.yml for a pushed tag."""
    said = yaml.load((pipeline.repository / ".gitlab-ci.yml").read_text(), Loader)
    jobs = {name: _extended(said, name) for name, job in said.items() if "script" in job}
    done: dict[str, dict[str, str]] = {}
    for name in sorted(jobs, key=lambda name: said["stages"].index(jobs[name]["stage"])):
        job = jobs[name]
        assert set(job.get("needs", [])) <= set(done), f"{name} doesn't wait for what it needs"
        given = {key: value for need in job.get("needs", []) for key, value in done[need].items()}
        (matrix,) = job.get("parallel", {}).get("matrix", [{}])
        for cell in _cells(matrix):
            done[name] = _gitlab_job(pipeline, "-".join([name, *cell.values()]), said, job, given | cell)
            pipeline.reached |= done[name]


def _gitlab_job(
    pipeline: Pipeline, name: str, said: dict[str, Any], job: dict[str, Any], given: dict[str, str]
) -> dict[str, str]:
    """Run a job; returns the variables that it hands on."""
    work, env = pipeline.machine(name)
    env |= {"CI_PROJECT_DIR": str(work)} | given
    for key, value in job.get("variables", {}).items():
        env[key] = re.sub(r"\$(\w+)", lambda found: env[found[1]], value)
    kept = _artifacts(pipeline)
    for path in kept.rglob("*"):
        if path.is_file() and job.get("needs"):
            (work / path.relative_to(kept)).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(path, work / path.relative_to(kept))
    lines = [*_lines(said, job.get("before_script", [])), *_lines(said, job["script"])]
    pipeline.run(name, "\n".join(lines), work, env)
    artifacts = job.get("artifacts", {})
    for path in artifacts.get("paths", []):
        (kept / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(work / path, kept / path)
    reports = artifacts.get("reports", {})
    if "junit" in reports:
        assert "<testsuite" in (work / reports["junit"]).read_text()
    return _pairs(work / reports["dotenv"]) if "dotenv" in reports else {}


def _extended(said: dict[str, Any], name: str) -> dict[str, Any]:
    job = dict(said[name])
    base = job.pop("extends", None)
    return _extended(said, base) | job if base else job


def _lines(said: dict[str, Any], script: list[Any]) -> Iterator[str]:
    for line in script:
        if isinstance(line, tuple):
            job, key = line
            yield from _lines(said, said[job][key])
        else:
            yield line


# --- both


def _cells(matrix: dict[str, list[str]]) -> list[dict[str, str]]:
    return [dict(zip(matrix, values, strict=True)) for values in product(*matrix.values())]


def _list(value: str | list[str] | None) -> list[str]:
    return [value] if isinstance(value, str) else value or []


def _pairs(path: Path) -> dict[str, str]:
    return dict(line.split("=", 1) for line in path.read_text().splitlines())
