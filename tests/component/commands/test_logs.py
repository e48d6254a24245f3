"""`scaffold logs` where nothing runs: what it refuses, and the log that a deployment left."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import scaffold
from scaffold.core.events import Noted, listening
from scaffold.errors import TargetError, UsageError
from scaffold.hosts.background import deployments
from scaffold.hosts.envoy.run_folder import LOG


@pytest.fixture(autouse=True)
def root(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path


def left(root: Path, *lines: tuple[str, str, str]) -> None:
    """Leave the log of a deployment that has ended: levels, loggers and messages."""
    place = deployments.logs(deployments.folder(root), make=True)
    (place / LOG).write_text(
        "".join(
            json.dumps({"time": "", "level": level, "logger": logger, "message": text}) + "\n"
            for level, logger, text in lines
        )
    )


def shown(root: Path, **wanted) -> tuple[list[str], list[str]]:
    """The lines that are shown, and what is noted."""
    heard: list[str] = []
    with listening(lambda event: heard.append(event.text) if isinstance(event, Noted) else None):
        return [line.text for line in scaffold.logs(root, **wanted)], heard


@pytest.mark.parametrize(
    ("wanted", "message", "hint"),
    [
        ({"level": "infos"}, "--level can't be `infos`", "did you mean `info`?"),
        ({"tail": -1}, "--tail can't be -1", "0 shows none, and 10 the last ten lines"),
        ({"since": "soon"}, "--since", None),
        (
            {"grep": "(a b"},
            "--grep isn't a regular expression: missing )",
            r"for the text itself: --grep '\(a\ b'",
        ),
    ],
    ids=str,
)
def test_a_wish_that_cannot_be_met_is_refused_before_anything_is_read(root, wanted, message, hint):
    with pytest.raises(UsageError) as caught:
        scaffold.logs(root, **wanted)
    assert message in caught.value.message
    assert hint is None or caught.value.hint == hint


def test_the_log_of_the_last_deployment_is_shown_as_that(root):
    left(
        root,
        ("info", "wasm", "wasm log p: saw /first"),
        ("debug", "main", "Envoy's own"),
        ("warning", "wasm", "wasm log p: saw /second"),
    )
    noted = ["nothing is deployed now; this is the log of the last deployment"]
    assert shown(root) == (["saw /first", "saw /second"], noted)
    assert shown(root, tail=1) == (["saw /second"], noted)
    assert shown(root, tail=0) == ([], noted)
    assert shown(root, level="warning") == (["saw /second"], noted)
    assert shown(root, grep="/f.*t$") == (["saw /first"], noted)


def test_a_plugin_that_has_logged_nothing_is_told_why_unless_lines_are_chosen(root):
    left(root, ("info", "scaffold", "deployed hello"), ("info", "main", "starting"))
    lines, (_, why) = shown(root)
    assert lines == ["deployed hello"]
    assert why.startswith("the plugin has logged nothing yet")
    assert len(shown(root, level="info")[1]) == 1
    left(root, ("info", "wasm", "wasm log p: saw /"))
    assert len(shown(root)[1]) == 1


def test_what_has_ended_cannot_be_followed(root):
    left(root, ("info", "wasm", "wasm log p: saw /"))
    with pytest.raises(TargetError, match="nothing is deployed from here"):
        scaffold.logs(root, follow=True)
