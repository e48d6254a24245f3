"""The wheel, in an environment of its own, and the README's lines as they stand."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest
from support.documents import ROOT
from support.ports import moved


@pytest.fixture(scope="module")
def fresh(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """The environment of a user who has just made a virtual environment."""
    folder = tmp_path_factory.mktemp("fresh") / "venv"
    subprocess.run([sys.executable, "-m", "venv", str(folder)], check=True)
    env = {key: value for key, value in os.environ.items() if key not in ("CARGO_TARGET_DIR", "PYTHONPATH")}
    path = [str(folder / "bin"), *(p for p in env["PATH"].split(os.pathsep) if not p.startswith(sys.prefix))]
    return env | {"PATH": os.pathsep.join(path), "VIRTUAL_ENV": str(folder), "CI": "1"}


def blocks(document: str) -> list[str]:
    return re.findall(r"^```\n(.*?)^```$", document, re.MULTILINE | re.DOTALL)


def test_the_wheel_holds_the_templates_and_nothing_of_the_tests(wheel):
    names = zipfile.ZipFile(wheel).namelist()
    assert "scaffold/cookiecutters/http/cookiecutter.json" in names
    assert any(name.endswith("src/lib.rs") for name in names)
    assert not [name for name in names if Path(name).name.startswith("test_") and "cookiecutters" not in name]
    assert not [name for name in names if name.endswith((".wasm", ".so")) or "/target/" in name]


def test_a_users_tests_are_checked_against_our_types(wheel, tmp_path):
    """The package says that it is typed (PEP 561), so mypy knows what the fixture returns."""
    env = tmp_path / "venv"
    subprocess.run([sys.executable, "-m", "venv", "--without-pip", str(env)], check=True)
    pip = [sys.executable, "-m", "pip", f"--python={env}/bin/python"]
    subprocess.run([*pip, "install", "-q", "--no-deps", str(wheel)], check=True)
    mine = tmp_path / "test_mine.py"
    mine.write_text(
        "from scaffold.pytest_plugin import Proxy\n\n\n"
        "def test_it(proxy: Proxy) -> None:\n"
        '    status: int = proxy.get("/").status\n'
        '    length: int = proxy.get("/").response.text\n'
    )
    argv = [sys.executable, "-m", "mypy", "--strict", f"--python-executable={env}/bin/python", str(mine)]
    ran = subprocess.run(argv, cwd=tmp_path, text=True, capture_output=True)
    errors = [line for line in ran.stdout.splitlines() if ": error:" in line]
    assert len(errors) == 1, ran.stdout
    assert errors[0].startswith(f"{mine.name}:6: error: Incompatible types in assignment")


def test_the_readmes_lines_do_the_main_job_from_the_wheel(wheel, fresh, tmp_path):
    """As they stand but for the port, in one shell that ends at the first that fails.

    pip finds our wheel by its name.
    """
    if not shutil.which("curl"):
        pytest.skip("no curl")
    readme, ports = moved((ROOT / "README.md").read_text())
    (lines,) = [block for block in blocks(readme) if "pip install" in block]
    assert "invoke build deploy test" in lines
    links = f"{wheel.parent} {fresh.get('PIP_FIND_LINKS', '')}".strip()
    ran = subprocess.run(
        ["bash", "-euxc", lines],
        cwd=tmp_path,
        env=fresh | ports | {"PIP_FIND_LINKS": links, "no_proxy": "localhost"},
        text=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )
    assert ran.returncode == 0, ran.stderr
    assert '"X-Hello": "Hello world from localhost:' + ports["SCAFFOLD_PORT"] in ran.stdout
    assert "5 passed" in ran.stderr


JOB = """
scaffold new hello_world --no-input
cd hello_world
invoke build deploy test
curl -s localhost:$SCAFFOLD_PORT/headers
invoke undeploy
"""


@pytest.mark.parametrize("tool", ["uv", "pipx"])
def test_each_tool_that_installs_programs_leads_to_the_main_job(tool, wheel, fresh, tmp_path):
    """By the README's line, in folders of its own."""
    (line,) = [each for each in (ROOT / "README.md").read_text().splitlines() if each.startswith(f"{tool} ")]
    _, ports = moved("localhost:8080")
    links = f"{wheel.parent} {fresh.get('PIP_FIND_LINKS', '')}".strip()
    bin_folder = tmp_path / "bin"
    own = {"UV_TOOL_DIR": "uv", "UV_TOOL_BIN_DIR": "bin", "PIPX_HOME": "pipx", "PIPX_BIN_DIR": "bin"}
    env = fresh | ports | {name: str(tmp_path / folder) for name, folder in own.items()}
    env |= {"PATH": f"{bin_folder}{os.pathsep}{env['PATH']}", "no_proxy": "localhost"}
    env |= {"PIP_FIND_LINKS": links, "UV_FIND_LINKS": str(wheel.parent), "UV_NO_CACHE": "1"}
    subprocess.run(["pip", "install", "-q", tool], env=env, check=True)
    ran = subprocess.run(
        ["bash", "-euxc", line + JOB],
        cwd=tmp_path,
        env=env,
        text=True,
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )
    assert ran.returncode == 0, ran.stderr
    assert '"X-Hello": "Hello world from localhost:' + ports["SCAFFOLD_PORT"] in ran.stdout
    assert "5 passed" in ran.stderr
    assert {"scaffold", "invoke", "pytest"} <= {each.name for each in bin_folder.iterdir()}


def test_uvx_runs_it_by_the_packages_name(wheel, fresh, tmp_path):
    subprocess.run(["pip", "install", "-q", "uv"], env=fresh, check=True)
    env = fresh | {"UV_FIND_LINKS": str(wheel.parent), "UV_CACHE_DIR": str(tmp_path / "cache")}
    for words in (["proxy-wasm-scaffold"], ["--from", "proxy-wasm-scaffold", "scaffold"]):
        argv = ["uvx", "-q", *words, "new", "hello_world", "--no-input", "--output-dir", f"from-{len(words)}"]
        subprocess.run(argv, cwd=tmp_path, env=env, check=True, capture_output=True)
        assert (tmp_path / f"from-{len(words)}/hello_world/Cargo.toml").is_file()


def test_the_templates_readme_says_the_same(wheel, fresh, tmp_path):
    (lines,) = blocks((ROOT / "cookiecutters/http/{{cookiecutter.name}}/README.md").read_text())
    shown = [line.split("#")[0].strip() for line in lines.splitlines()]
    (readme,) = [block for block in blocks((ROOT / "README.md").read_text()) if "pip install" in block]
    assert set(shown) <= set(readme.splitlines())


def test_make_build_needs_no_scaffold(crate, tmp_path, fresh):
    """Only cargo on PATH; where the user's cargo has no wasm target, cargo itself says so."""
    root = shutil.copytree(crate, tmp_path / "hello_world")
    tools = tmp_path / "bin"
    tools.mkdir()
    (tools / "cargo").write_text(f'#!/bin/sh\necho "$@" > {tmp_path}/said\n')
    (tools / "cargo").chmod(0o755)
    env = {"PATH": f"{tools}:/usr/bin:/bin"}
    subprocess.run(["make", "build"], cwd=root, env=env, check=True, capture_output=True)
    assert (tmp_path / "said").read_text() == "build --release --target wasm32-wasip1\n"


def test_the_demo_shows_a_request_that_passed_the_filter(run):
    ran = run("invoke", "dev.demo", cwd=ROOT)
    assert ran.returncode == 0, ran.stderr
    assert re.search(r'"X-Hello": "Hello world from localhost:\d+"', ran.stdout)
    assert "$ invoke build deploy" in ran.stdout
    assert re.search(r"Got \d+ HTTP headers in #\d+", ran.stdout), "what the plugin logged"
    assert "5 passed" in ran.stderr
