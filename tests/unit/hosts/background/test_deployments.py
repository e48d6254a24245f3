"""The records of what is deployed: read whole, or not at all."""

from __future__ import annotations

import dataclasses
import json
import os
from pathlib import Path

import pytest
from support.deployments import edited, recorded

from scaffold.core.events import Warned, listening
from scaffold.hosts.background import deployments
from scaffold.hosts.background.deployments import Record
from scaffold.hosts.options import HostSettings


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


@pytest.fixture
def saved(tmp_path) -> Record:
    """A deployment whose supervisor is this process."""
    settings = HostSettings(envoy_args=("-l", "info"), upstream="http://localhost:1")
    return recorded(tmp_path, settings=settings, options={"port": 8080, "bootstrap": "/somewhere/envoy.yaml"})


def read(saved: Record) -> tuple[Record | None, list[str]]:
    """What is read of it, and the warnings."""
    heard: list[str] = []
    with listening(lambda event: heard.append(event.text) if isinstance(event, Warned) else None):
        found = deployments.load(Path(saved.root))
    return found, heard


def test_what_was_saved_is_read(saved):
    assert read(saved) == (saved, [])
    assert list(deployments.every()) == [saved]
    assert saved.alive


def test_a_record_of_the_first_release_is_read(tmp_path):
    """Its keys are on people's disks."""
    folder = deployments.folder(tmp_path)
    folder.mkdir(parents=True)
    plugin = {"name": "hello_world", "module_digest": "sha256:aac88f", "image": ""}
    settings = {"port": 0, "upstream": None, "envoy": None, "log_level": "info", "bootstrap": None}
    settings |= {"bootstrap_digest": None, "envoy_args": ["-l", "info"], "envoy_image": None}
    settings |= {"docker_args": [], "anywhere": False, "clusters": {"beta": "upstream"}, "types": ["http"]}
    written = {"root": os.path.realpath(tmp_path), "target": "envoy", "folder": str(folder)}
    written |= {"plugins": [plugin], "port": 36699, "settings": settings, "envoy_version": [1, 40, 0]}
    written |= {"options": {"port": 36699, "id": "x"}, "pid": 2089, "started": 232052.0, "since": 17.5}
    (folder / "deployment.json").write_text(json.dumps(written))
    record = deployments.load(tmp_path)
    assert record is not None
    settings |= {
        "adds_clusters": False,
        "internal": "",
        "names": [],
        "keep_host": False,
        "tls": [],
        "tls_digest": None,
        "changes": False,
    }  # which came later
    assert json.loads(json.dumps(dataclasses.asdict(record))) == written | {
        "restarts": False,
        "config": "",
        "said": "",
        "number": 0,
    }


def test_the_image_that_is_deployed_is_named(saved):
    image = f"registry.example/acme/hello:1@sha256:{'0' * 64}"
    assert "  image  " not in deployments.Status.of(saved, None).summary()
    edited(saved, plugins=[{"name": "hello", "module_digest": "sha256:0", "image": image}])
    found, _ = read(saved)
    status = deployments.Status.of(found, None)
    assert [plugin.image for plugin in status.plugins] == [image]
    assert f"\n  image     {image}\n" in status.summary()


def test_another_versions_record_is_read_as_far_as_we_know_it(saved):
    settings = {"port": 0, "of a later version": 1}  # what isn't there has its default
    edited(saved, plugins=[{"name": "hello", "module_digest": "sha256:0", "of a later version": 1}])
    edited(saved, more=1, settings=settings, options={"of a later version": 1})
    found, heard = read(saved)
    assert (found.settings, found.options, heard) == (HostSettings(), {}, [])


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("root", 1),
        ("plugins", None),
        ("plugins", ["hello"]),
        ("port", "8080"),
        ("port", True),
        ("port", 8080.5),
        ("settings", []),
        ("settings", {"upstream": 1}),
        ("settings", {"envoy_args": "x"}),
        ("options", {"port": "x"}),
        ("options", {"bootstrap": 1}),
        ("envoy_version", ["1", "40"]),
        ("envoy_version", "1.40"),
        ("pid", None),
        ("started", "now"),
    ],
)
def test_a_value_of_another_kind_makes_it_no_record_and_is_named(saved, field, value):
    edited(saved, **{field: value})
    found, (warning,) = read(saved)
    assert found is None
    named = next(iter(value)) if isinstance(value, dict) else field
    assert warning == f"{saved.folder}/{deployments.RECORD} is damaged: its `{named}` isn't valid"


def test_a_plugin_in_a_record_lacks_nothing(saved):
    edited(saved, plugins=[{"name": "hello"}])
    found, (warning,) = read(saved)
    assert (found, warning.endswith("its `module_digest` is missing")) == (None, True)


def test_a_chain_is_told_by_each_of_its_plugins(saved):
    image = f"registry.example/acme/guard:1@sha256:{'0' * 64}"
    more = {"name": "guard", "module_digest": "sha256:1", "image": image}
    edited(saved, plugins=[{"name": "hello", "module_digest": "sha256:0"}, more])
    found, _ = read(saved)
    summary = deployments.Status.of(found, None).summary()
    assert summary.startswith("the chain hello, guard: http://localhost:8080, ")
    assert (
        f"  module    sha256:0  (hello)\n  image     {image}  (guard)\n  module    sha256:1  (guard)\n"
        in summary
    )


def test_a_record_with_a_target_that_we_dont_have_is_damaged(saved):
    edited(saved, target="e~voy")
    found, (warning,) = read(saved)
    assert found is None
    assert warning.endswith("is damaged: its `target` isn't valid")


def test_a_record_tells_of_no_other_project_and_no_other_folder(saved, tmp_path):
    edited(saved, folder="/")
    assert read(saved) == (saved, [])
    edited(saved, root=str(tmp_path / "other"))
    assert read(saved)[0] is None


def test_what_a_command_meets_at_every_look_is_said_once(saved):
    edited(saved, pid=None)
    assert [len(read(saved)[1]) for _ in range(3)] == [1, 0, 0]
