"""What commands do with what is, or was, deployed: which one they take, and what they say if it is dead."""

from __future__ import annotations

import json
import os
import shutil
import time
from pathlib import Path

import pytest
from support import wasm_asm
from support.deployments import recorded

import scaffold
from scaffold.errors import TargetError, UsageError
from scaffold.hosts.background import deployments, history
from scaffold.hosts.envoy.run_folder import LOG
from scaffold.hosts.plugin import Plugin
from scaffold.wasm.module import WasmModule

MEMBER = """\
[package]
name = "{name}"
version = "0.1.0"

[lib]
crate-type = ["cdylib"]
"""


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def workspace(tmp_path) -> Path:
    root = tmp_path / "ours"
    for name in ("one", "two"):
        (root / name).mkdir(parents=True)
        (root / name / "Cargo.toml").write_text(MEMBER.format(name=name))
    (root / "Cargo.toml").write_text('[workspace]\nmembers = ["one", "two"]\n')
    return root


def deployed(root: Path, *, now: bool) -> None:
    """Leave what a deploy leaves, still deployed or not: a history of one, and a log."""
    module = root.parent / "built.wasm"
    module.write_bytes(wasm_asm.plugin())
    record = recorded(root, pid=0)
    history.add(record, [Plugin(root.name, "", WasmModule.read(module))])
    (deployments.logs(Path(record.folder), make=True) / LOG).write_text(
        json.dumps({"level": "info", "logger": "wasm", "message": f"wasm log: hello from {root.name}"}) + "\n"
    )
    if not now:
        shutil.rmtree(record.folder)


@pytest.mark.parametrize(("now", "tense"), [(True, "are"), (False, "were")])
def test_of_several_plugins_none_is_taken_silently(now, tense, workspace):
    deployed(workspace / "one", now=now)
    deployed(workspace / "two", now=now)
    for ask in (
        scaffold.history,
        lambda root: scaffold.rollback(root=root),
        lambda root: list(scaffold.logs(root)),
    ):
        with pytest.raises(UsageError) as caught:
            ask(workspace)
        assert caught.value.message == f"several plugins {tense} deployed from this workspace"
        assert "ours/one, --root " in caught.value.hint
        assert "ours/two" in caught.value.hint
    (entry,) = scaffold.history(workspace / "two")
    assert [each.name for each in entry.plugins] == ["two"]


@pytest.mark.parametrize("now", [True, False])
def test_the_only_one_is_taken(now, workspace):
    deployed(workspace / "two", now=now)
    (entry,) = scaffold.history(workspace)
    assert [each.name for each in entry.plugins] == ["two"]
    if not now:
        assert [line.text for line in scaffold.logs(workspace)] == ["hello from two"]


def test_what_is_deployed_comes_before_what_was(workspace):
    deployed(workspace / "one", now=False)
    deployed(workspace / "two", now=True)
    (entry,) = scaffold.history(workspace)
    assert [each.name for each in entry.plugins] == ["two"]


@pytest.mark.parametrize("now", [True, False])
def test_the_chain_comes_before_its_plugins(now, workspace):
    deployed(workspace / "one", now=now)
    deployed(workspace, now=now)
    (entry,) = scaffold.history(workspace)
    assert [each.name for each in entry.plugins] == ["ours"]


@pytest.mark.parametrize("ask", [scaffold.metrics, lambda root: scaffold.admin("/stats", root)])
def test_a_dead_envoy_is_said_to_be_dead(ask, workspace):
    recorded(workspace / "one", pid=0)
    with pytest.raises(TargetError, match="hello doesn't run any more") as caught:
        ask(workspace / "one")
    assert caught.value.hint.startswith("`scaffold deploy` starts it again")
    recorded(workspace / "two")
    with pytest.raises(TargetError, match="the Envoy of hello isn't running"):
        ask(workspace / "two")


def test_undeploy_forgets_what_was_deployed_long_ago_elsewhere(workspace, state):
    deployed(workspace / "one", now=False)
    deployed(workspace / "two", now=False)
    long_ago = time.time() - deployments.KEPT - 1
    kept = history.folder(workspace / "two")
    for place in (history.folder(workspace / "one"), deployments.logs(deployments.folder(workspace / "one"))):
        for path in [*place.iterdir(), place]:
            os.utime(path, (long_ago, long_ago))
    scaffold.undeploy(workspace / "two")
    assert list((state / "proxy-wasm-scaffold/history").iterdir()) == [kept]
    assert [path.name for path in (state / "proxy-wasm-scaffold/logs").iterdir()] == [kept.name]


def test_only_its_user_may_read_what_is_kept(workspace, state):
    deployed(workspace / "one", now=True)
    for kind in ("history", "deployments", "logs"):
        for path in (state / "proxy-wasm-scaffold" / kind).rglob("*"):
            assert path.stat().st_mode & 0o077 == 0 or path.parent.stat().st_mode & 0o077 == 0, path
