"""The history of a project's deploys: what it keeps, what it forgets, and what damage it bears."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from pathlib import Path

import pytest
from support import wasm_asm
from support.deployments import recorded
from support.repositories import commit

from scaffold.core import files
from scaffold.core.events import Warned, listening
from scaffold.errors import ModuleError, ProjectError
from scaffold.hosts.background import history
from scaffold.hosts.background.deployments import Record
from scaffold.hosts.options import HostSettings
from scaffold.hosts.plugin import Plugin
from scaffold.wasm.module import WasmModule


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def record(tmp_path) -> Record:
    (tmp_path / "project").mkdir()
    return recorded(tmp_path / "project")


def plugin(folder: Path, text: str = "", configuration: bytes = b"") -> Plugin:
    """One whose module is built at the same path as any other."""
    path = folder / "built.wasm"
    path.write_bytes(wasm_asm.plugin() + wasm_asm.custom("text", text.encode()))
    return Plugin("hello", "hello", WasmModule.read(path), configuration)


def numbers(record: Record) -> list[int]:
    return [each.number for each in history.read(Path(record.root))]


def kept(record: Record) -> list[Path]:
    return sorted((history.folder(Path(record.root)) / "modules").iterdir())


def test_what_was_deployed_is_kept_whatever_becomes_of_the_build(record, tmp_path):
    first = plugin(tmp_path, "first", b"\xff")
    assert history.add(record, [first]) == 1
    assert history.add(record, [plugin(tmp_path, "second")]) == 2
    one, two = history.read(Path(record.root))
    (again,) = one.chain
    assert (again.module.digest, again.configuration) == (first.module.digest, b"\xff")
    one.check()
    two.check()
    assert again.module.path != first.module.path
    assert {path.stat().st_mode & 0o777 for path in kept(record)} == {0o600}


def test_the_same_once_more_is_one_deploy_unless_it_was_a_rollback(record, tmp_path):
    assert history.add(record, [plugin(tmp_path)]) == 1
    assert history.add(record, [plugin(tmp_path)]) == 1
    assert history.add(record, [plugin(tmp_path)], again=1) == 2
    assert [each.again for each in history.read(Path(record.root))] == [0, 1]


@pytest.mark.parametrize(
    "change",
    [{"said": "it answered 503"}, {"options": {"port": 1}}, {"target": "docker"}, {"envoy_version": [2]}],
    ids=str,
)
def test_what_tells_two_deploys_of_one_module_apart(record, tmp_path, change):
    history.add(record, [plugin(tmp_path)])
    assert history.add(replace(record, **change), [plugin(tmp_path)]) == 2
    assert history.add(replace(record, **change), [plugin(tmp_path, configuration=b"x")]) == 3


def test_the_oldest_are_forgotten_and_numbers_go_on(record, tmp_path):
    for number in range(history.MOST + 2):
        assert history.add(record, [plugin(tmp_path, str(number))]) == number + 1
    assert numbers(record) == list(range(3, history.MOST + 3)), "in the order of their numbers"
    assert len(kept(record)) == history.MOST
    for each in history.read(Path(record.root)):
        each.check()


def test_a_module_that_is_gone_or_was_changed_is_not_deployed_again(record, tmp_path):
    history.add(record, [plugin(tmp_path)])
    (entry,), (module,) = history.read(Path(record.root)), kept(record)
    module.write_bytes(wasm_asm.plugin())
    with pytest.raises(ModuleError, match="the module of deploy 1 is gone, or was changed"):
        entry.check()
    module.unlink()
    with pytest.raises(ModuleError, match="the module of deploy 1 is gone, or was changed"):
        entry.check()


def test_a_bootstrap_is_kept_as_it_was(record, tmp_path):
    path = tmp_path / "envoy.yaml"

    def add(text: str, deployed: str) -> None:
        path.write_text(text)
        settings = HostSettings(bootstrap=str(path), bootstrap_digest=files.digest(deployed.encode()))
        history.add(replace(record, settings=settings), [plugin(tmp_path)])

    for text in ("one", "two"):
        add(text, deployed=text)
    path.write_text("three")
    one, two = history.read(Path(record.root))
    for each, text in ((one, "one"), (two, "two")):
        assert Path(each.bootstrap).read_text() == text
        assert Path(each.bootstrap).stat().st_mode & 0o777 == 0o600
        each.check()
    Path(one.bootstrap).write_text("two")
    with pytest.raises(ProjectError, match="the bootstrap of deploy 1 is gone, or was changed"):
        one.check()
    add("three", deployed="what was edited meanwhile")
    assert history.read(Path(record.root))[-1].bootstrap == ""


@pytest.mark.parametrize(
    ("damage", "why"),
    [
        ({"plugins": [{"surprise": 1}]}, "its `plugins` aren't valid"),
        ({"options": {"port": "x"}}, "its `port` isn't valid"),
        ({"target": "moon"}, "its `target` isn't valid"),
        ({"number": "1"}, "its `number` isn't valid"),
    ],
    ids=str,
)
def test_a_damaged_entry_is_named_and_leaves_the_others(record, tmp_path, damage, why):
    history.add(record, [plugin(tmp_path, "first")])
    history.add(record, [plugin(tmp_path, "second")])
    path = history.folder(Path(record.root)) / "1.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | damage))
    heard: list[str] = []
    with listening(lambda event: heard.append(event.text) if isinstance(event, Warned) else None):
        assert numbers(record) == [2]
    assert heard == [f"{path} is damaged: {why}"]


def test_a_commit_says_whether_something_had_changed_since(record, tmp_path):
    root = Path(record.root)
    (root / "file").write_text("x")
    head = commit(root)
    history.add(record, [plugin(tmp_path, "first")])
    (root / "file").write_text("y")
    history.add(record, [plugin(tmp_path, "second")])
    assert [each.commit for each in history.read(root)] == [head[:12], f"{head[:12]}+"]


def test_another_projects_history_stays_when_one_is_forgotten(record, tmp_path):
    (tmp_path / "other").mkdir()
    other = recorded(tmp_path / "other", since=time.time())
    for each in (record, other):
        history.add(each, [plugin(tmp_path)])
    history.forget(Path(record.root))
    assert (numbers(record), numbers(other)) == ([], [1])
