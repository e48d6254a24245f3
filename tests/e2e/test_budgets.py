"""A budget in Cargo.toml, held by the commands that build, with a real cargo."""

from __future__ import annotations

import re
import shlex
import subprocess
from pathlib import Path

import pytest
from support.places import TINY, get

import scaffold
from scaffold.commands.ci import providers
from scaffold.errors import BudgetExceeded

MOUNTED = scaffold.ClusterOptions(file="/plugin.wasm")
OPERATIONS = {
    "build": lambda root: scaffold.build(root),
    "check": lambda root: scaffold.check(root),
    "package": lambda root: scaffold.package(root),
    "deploy": lambda root: scaffold.deploy(root, run=scaffold.RunOptions(port=0)),
    "manifest": lambda root: scaffold.manifest("envoy", None, MOUNTED, root=root),
}


@pytest.fixture
def crate(root: Path) -> Path:
    """A crate without dependencies, which is formatted and locked."""
    for path, text in TINY.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    subprocess.run(["cargo", "generate-lockfile", "--quiet"], cwd=root, check=True)
    return root


def allow(root: Path, lines: str) -> None:
    path = root / "Cargo.toml"
    path.write_text(f"{TINY['Cargo.toml']}\n[package.metadata.proxy-wasm.budget]\n{lines}\n")


@pytest.mark.parametrize("name", OPERATIONS)
def test_a_release_over_its_budget_is_refused(crate, name):
    size = scaffold.build(crate).size
    allow(crate, f"module-bytes = {size - 1}\ninitial-memory-bytes = 65_536")
    with pytest.raises(BudgetExceeded) as caught:
        OPERATIONS[name](crate)
    assert f"`module-bytes = {size - 1:_}` is exceeded by 1 (" in caught.value.message
    assert (
        "`initial-memory-bytes = 65_536` is exceeded by 983,040 (16 times the limit): it is 1,048,576"
        in caught.value.message
    )
    allow(crate, f"module-bytes = {size}\ninitial-memory-bytes = 1_048_576")
    assert OPERATIONS[name](crate)


def test_the_exit_code_is_that_of_failed_tests(crate, run):
    allow(crate, "module-bytes = 10")
    ran = run("scaffold", "build", "--root", crate)
    assert ran.returncode == 1
    assert "tiny is over its budget: `module-bytes = 10`" in ran.stderr
    assert "make it smaller, or raise the limit in [package.metadata.proxy-wasm.budget]" in ran.stderr


def test_a_key_that_nothing_checks_is_refused(crate, run):
    allow(crate, "module-size = 10")
    ran = run("scaffold", "build", "--root", crate)
    assert ran.returncode == 3
    assert "unknown key `module-size` in `budget`" in ran.stderr
    assert "did you mean `module-bytes`?" in ran.stderr


def test_only_releases_that_are_built_are_judged(crate):
    built = scaffold.build(crate)
    allow(crate, "module-bytes = 10")
    development = scaffold.BuildOptions(profile="dev")
    assert scaffold.build(crate, development).size > 10
    assert scaffold.package(crate, build=development)
    packaged = scaffold.package(crate, module=str(built.path))
    for module in (str(built.path), packaged.reference):
        deployed = scaffold.deploy(crate, module=module, run=scaffold.RunOptions(port=0))
        assert get(deployed.url, "/headers")[0] == 200


def test_a_refused_deploy_leaves_what_is_deployed(crate):
    deployed = scaffold.deploy(crate, run=scaffold.RunOptions(port=0))
    allow(crate, "module-bytes = 10")
    with pytest.raises(BudgetExceeded):
        scaffold.deploy(crate)
    assert get(deployed.url, "/headers")[0] == 200


def test_every_plugin_of_a_workspace_that_is_over_is_named(tmp_path):
    (tmp_path / "Cargo.toml").write_text('[workspace]\nmembers = ["one", "two", "three"]\nresolver = "2"\n')
    for name, limit in (("one", 10), ("two", 1_000_000), ("three", 20)):
        for path, text in TINY.items():
            (tmp_path / name / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name / path).write_text(text.replace("tiny", name))
        manifest = tmp_path / name / "Cargo.toml"
        table = f"[package.metadata.proxy-wasm.budget]\nmodule-bytes = {limit}\n"
        manifest.write_text(manifest.read_text() + table)
    with pytest.raises(BudgetExceeded) as caught:
        scaffold.build(tmp_path)
    assert "one is over its budget: `module-bytes = 10`" in caught.value.message
    assert "; three is over its budget: `module-bytes = 20`" in caught.value.message
    assert "two" not in caught.value.message


@pytest.mark.parametrize("provider", list(providers()))
def test_the_first_job_of_ci_holds_it(crate, run, provider):
    """The line of the workflow that checks the crate is run as it stands there."""
    allow(crate, "module-bytes = 10")
    (workflow,) = scaffold.ci(provider, crate).written
    (line,) = re.findall(r"^ +- (?:run: )?(scaffold check .*)$", workflow.read_text(), re.MULTILINE)
    ran = run(*shlex.split(line), cwd=crate)
    assert ran.returncode == 1, ran.stderr
    assert "tiny is over its budget: `module-bytes = 10` is exceeded by" in ran.stderr
