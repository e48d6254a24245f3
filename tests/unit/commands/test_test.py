"""The report of tests that were played in several Envoys."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

import scaffold
from scaffold.cli import console
from scaffold.commands.test import Outcome, Report, Reports
from scaffold.errors import ModuleError, ProjectError, TestsFailed, UsageError

GOOD = Outcome("Envoy 1.36.4", 4, 0, 0, 1, 1.23, None)
BAD = Outcome("Envoy 1.40.0", 12, 3, 0, 0, 12.5, TestsFailed("tests failed"))
REFUSED = Outcome("Envoy 1.9.0", 0, 0, 0, 0, 0.5, ModuleError("the tests could not start"))


def without_tests(outcome: Outcome) -> Outcome:
    return Outcome(outcome.host, 0, 0, 0, 0, 0.2, ProjectError("no tests ran"))


def test_the_table_has_a_line_for_each_envoy():
    assert Report([GOOD, BAD, REFUSED]).summary() == (
        "              passed  failed  errors  skipped    time\n"
        "Envoy 1.36.4       4       0       0        1   1.2 s\n"
        "Envoy 1.40.0      12       3       0        0  12.5 s  tests failed\n"
        "Envoy 1.9.0        0       0       0        0   0.5 s  the tests could not start"
    )


@pytest.mark.parametrize("outcome", [GOOD, BAD])
def test_of_a_single_one_nothing_more_is_said(outcome, capsys):
    console.show(Report([outcome]))
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize(
    ("outcomes", "code"),
    [
        ([GOOD, GOOD], 0),
        ([GOOD, BAD], 1),
        ([GOOD, REFUSED], 6),
        ([BAD, REFUSED], 1),
        ([without_tests(GOOD), without_tests(BAD)], 3),
    ],
)
def test_the_exit_code_is_that_of_what_is_wrong(outcomes, code):
    assert Report(outcomes).exit_code == code


def test_as_json_it_has_every_number(capsys):
    console.show(Report([GOOD, BAD]), as_json=True)
    good, bad = json.loads(capsys.readouterr().out)["outcomes"]
    assert good == {
        "host": "Envoy 1.36.4",
        "passed": 4,
        "failed": 0,
        "errors": 0,
        "skipped": 1,
        "seconds": 1.23,
        "error": None,
    }
    assert bad["error"] == "tests failed"


def test_of_a_workspace_there_is_a_line_for_each_plugin_and_the_worst_counts(capsys):
    reports = Reports([Report([GOOD], "auth"), Report([BAD, GOOD], "limit")])
    assert reports.summary() == (
        "                       passed  failed  errors  skipped    time\n"
        "auth in Envoy 1.36.4        4       0       0        1   1.2 s\n"
        "limit in Envoy 1.40.0      12       3       0        0  12.5 s  tests failed\n"
        "limit in Envoy 1.36.4       4       0       0        1   1.2 s"
    )
    assert (reports.exit_code, Reports([Report([GOOD], "auth")]).exit_code) == (1, 0)
    assert Reports([Report([GOOD]), Report([REFUSED])]).exit_code == 6
    console.show(reports, as_json=True)
    assert [each["plugin"] for each in json.loads(capsys.readouterr().out)] == ["auth", "limit"]


def test_a_deployment_has_its_envoy(tmp_path: Path):
    (tmp_path / "Cargo.toml").write_text(
        '[package]\nname = "a"\nversion = "1.0.0"\n[lib]\ncrate-type = ["cdylib"]\n'
    )
    with pytest.raises(UsageError, match="the deployed plugin runs in its own Envoy"):
        scaffold.test(tmp_path, run=scaffold.RunOptions(envoy="1.36.4"), deployed=True)
