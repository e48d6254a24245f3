"""Which deploy `rollback` brings back."""

from __future__ import annotations

from pathlib import Path

import pytest
from support.deployments import recorded

from scaffold.commands.rollback import _chosen
from scaffold.errors import UsageError
from scaffold.hosts.background.history import Deployed


@pytest.fixture(autouse=True)
def state(tmp_path, monkeypatch) -> Path:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "state"


def entries(*said: str) -> list[Deployed]:
    """Deploys 3, 4 and so on, each with what was wrong with it."""
    return [
        Deployed(number, 0.0, "envoy", [], {}, [1, 40, 0], said=each) for number, each in enumerate(said, 3)
    ]


@pytest.mark.parametrize(
    ("said", "live", "number"),
    [
        (["", "", ""], 5, 4),
        (["", "", ""], 4, 3),
        (["", "it answered 503", ""], 5, 3),
    ],
)
def test_the_last_one_before_what_runs_that_worked(tmp_path, said, live, number):
    assert _chosen(entries(*said), None, recorded(tmp_path, number=live)).number == number


@pytest.mark.parametrize("ended", [False, True])
def test_where_nothing_runs_it_is_the_last_one_that_worked(tmp_path, ended):
    """Whether it was undeployed, or its supervisor was killed."""
    record = recorded(tmp_path, pid=2**22 + 1, number=4) if ended else None
    assert _chosen(entries("", "", "it answered 503"), None, record).number == 4


@pytest.mark.parametrize(("said", "live"), [([""], 3), (["it answered 503", ""], 4)])
def test_where_none_worked_before_that_is_said(tmp_path, said, live):
    with pytest.raises(UsageError, match="nothing that worked was deployed before the version that runs"):
        _chosen(entries(*said), None, recorded(tmp_path, number=live))


def test_a_number_is_that_deploy_even_if_something_was_wrong_with_it(tmp_path):
    record = recorded(tmp_path, number=4)
    assert _chosen(entries("it answered 503", ""), 3, record).number == 3
    assert _chosen(entries("", ""), 4, record).number == 4
    with pytest.raises(UsageError, match="deploy 5 isn't in the history, which has 3 to 4"):
        _chosen(entries("", ""), 5, record)
    with pytest.raises(UsageError, match="deploy 5 isn't in the history, which has none"):
        _chosen([], 5, None)
