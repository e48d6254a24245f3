"""Real cargo: the crates that tests build once a session, and commands run to their end.

A plugin of pytest's: a conftest that wants the fixtures says `import_plugin("support.crates")`, so that
two such conftests share one build.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import scaffold
from scaffold.errors import MachineError
from scaffold.hosts.options import RunOptions
from scaffold.hosts.plugin import Plugin
from scaffold.hosts.source import Source
from scaffold.project.crate import Project
from scaffold.toolchain import wasm_opt
from scaffold.toolchain.debian import binaryen
from scaffold.wasm.module import WasmModule

BIN = Path(sys.executable).parent
PLUGINS = Path(__file__).parent / "plugins"

# a nightly run tries every combination, where another takes a few of each kind
EVERYTHING = bool(os.environ.get("SCAFFOLD_TEST_EVERYTHING"))

Run = Callable[..., subprocess.CompletedProcess[str]]


@pytest.fixture(scope="session")
def state(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A state and a cache of our own; the toolchain stays the user's, where it is dear to make."""
    folder = tmp_path_factory.mktemp("xdg")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_STATE_HOME", str(folder / "state"))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        patch.setenv("PATH", f"{BIN}{os.pathsep}{os.environ['PATH']}")
        # `invoke dev.mutants` keeps what is compiled, and compiles the changed template alone
        patch.setenv("CARGO_TARGET_DIR", os.environ.get("SCAFFOLD_TESTS_TARGET") or str(folder / "target"))
        patch.delenv("PYTEST_ADDOPTS", raising=False)
        yield folder
        scaffold.undeploy(everything=True)


@pytest.fixture
def no_optimiser(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Nothing on PATH is called wasm-opt, and the user has no private one; the folder that is PATH."""
    tools = tmp_path / "bin"
    tools.mkdir()
    seen = {"wasm-opt"}
    for folder in os.environ["PATH"].split(os.pathsep):
        for path in Path(folder).iterdir() if Path(folder).is_dir() else ():
            if path.name not in seen:
                seen.add(path.name)
                (tools / path.name).symlink_to(path)
    monkeypatch.setenv("PATH", str(tools))
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    return tools


@pytest.fixture(scope="session")
def optimiser(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A wasm-opt: the user's, or else Debian's, downloaded for real."""
    found = wasm_opt.find()
    if found:
        return found
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("binaryen")
        patch.setenv("XDG_DATA_HOME", str(folder / "data"))
        patch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
        try:
            return binaryen.install(yes=True)
        except MachineError as error:
            pytest.skip(f"there is no wasm-opt, and none can be had: {error}")


@pytest.fixture(scope="session")
def run() -> Run:
    """Run a command to its end; its exit code is the test's business."""

    def run(*words: object, cwd: Path | None = None, timeout: float = 600, **env: str):
        return subprocess.run(
            [str(word) for word in words],
            cwd=cwd,
            env=os.environ | env,
            timeout=timeout,
            text=True,
            capture_output=True,
            stdin=subprocess.DEVNULL,
        )

    return run


@pytest.fixture(scope="session")
def crate(tmp_path_factory: pytest.TempPathFactory, state: Path) -> Path:
    """A built hello_world; don't change it: `copy` does that."""
    project = scaffold.new("hello_world", output_dir=tmp_path_factory.mktemp("crate"), no_input=True)
    scaffold.build(project.root, options=scaffold.BuildOptions(yes=True))
    return project.root


@pytest.fixture(scope="module")
def own_target(crate: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """A target folder in which no other process builds, for tests of what cargo does."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CARGO_TARGET_DIR", str(tmp_path_factory.mktemp("target")))
        yield


@pytest.fixture
def copy(crate: Path, tmp_path: Path) -> Iterator[Path]:
    """A hello_world of the test's own."""
    yield Path(shutil.copytree(crate, tmp_path / "hello_world"))
    touch_what_differs(crate, tmp_path / "hello_world")


def touch_what_differs(original: Path, copy: Path) -> None:
    """Make sources newer than what was built of a copy: they share a target folder, which knows but times."""
    for source in original.rglob("*.rs"):
        other = copy / source.relative_to(original)
        if not other.exists() or other.read_bytes() != source.read_bytes():
            source.touch()


@pytest.fixture(scope="session")
def hello(crate: Path, tmp_path_factory: pytest.TempPathFactory) -> WasmModule:
    """hello_world's module, where no other crate of the name is built over it."""
    kept = tmp_path_factory.mktemp("hello") / "hello_world.wasm"
    return WasmModule.read(Path(shutil.copyfile(scaffold.build(crate).path, kept)))


@pytest.fixture(scope="session")
def service(tmp_path_factory: pytest.TempPathFactory, state: Path) -> WasmModule:
    """The module of the service, in its crate; don't change that."""
    root = shutil.copytree(PLUGINS / "service", tmp_path_factory.mktemp("plugins") / "service")
    return scaffold.build(Path(root), scaffold.BuildOptions(yes=True))


@pytest.fixture(scope="session")
def probe(tmp_path_factory: pytest.TempPathFactory, state: Path) -> WasmModule:
    """The module of the plugin that shows, and breaks, everything."""
    root = shutil.copytree(PLUGINS / "probe", tmp_path_factory.mktemp("plugins") / "probe")
    return scaffold.build(Path(root), scaffold.BuildOptions(yes=True))


def plugin_of(root: Path, module: WasmModule, config: str | None = None) -> Plugin:
    """The plugin of a module of the project in `root`, or of no project."""
    project = Project.load(root) if (root / "Cargo.toml").exists() else None
    return Source(module, project).plugin(RunOptions(config=config))
