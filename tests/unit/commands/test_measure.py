"""What `test` measures: where that is possible, and how it is told."""

from __future__ import annotations

import pytest

from scaffold.commands.measure import Mutants, Survivor, check_place
from scaffold.errors import UsageError
from scaffold.hosts.measure_options import MeasureOptions

COVERAGE, MUTANTS = MeasureOptions(coverage=True), MeasureOptions(mutants=True)


def test_it_is_measured_on_the_emulator():
    """Nothing is raised."""
    for measure, host, envoy in (
        (COVERAGE, "emulator", None),
        (MUTANTS, "emulator", "1.36"),
        (MeasureOptions(), "docker", None),
    ):
        assert check_place(measure, host, envoy, deployed=False) is None


@pytest.mark.parametrize(
    ("measure", "host", "envoy", "deployed", "why"),
    [
        (COVERAGE, "envoy", None, False, "--coverage needs the emulator, and --host says `envoy`"),
        (COVERAGE, "docker", None, False, "--coverage needs the emulator, and --host says `docker`"),
        (MUTANTS, "all", None, False, "--mutants needs the emulator, and --host says `all`"),
        (MUTANTS, "envoy", None, True, "--mutants needs the emulator"),
        (COVERAGE, "emulator", "1.36,1.40", False, "--coverage needs one Envoy to emulate, not several"),
        (MeasureOptions(mutants_for=5), "envoy", None, False, "--mutants-for is for --mutants"),
        (MeasureOptions(mutants=True, mutants_for=0), "envoy", None, False, "--mutants-for can't be `0`"),
    ],
)
def test_nothing_is_measured_elsewhere(measure, host, envoy, deployed, why):
    with pytest.raises(UsageError) as raised:
        check_place(measure, host, envoy, deployed=deployed)
    assert raised.value.message == why
    assert raised.value.hint


def test_a_file_that_cannot_be_written_is_refused_before_anything_is_built(tmp_path):
    for path, why in ((tmp_path, "is a folder"), (tmp_path / "no/x.info", "is in a folder that isn't there")):
        with pytest.raises(UsageError, match=why):
            check_place(MeasureOptions(lcov=path), "emulator", None, deployed=False)
    assert check_place(MeasureOptions(lcov=tmp_path / "x.info"), "emulator", None, deployed=False) is None


def test_the_text_says_how_many_of_how_many():
    survivors = [
        Survivor("`401` became 402", "<Gate>::on", "src/lib.rs", 9, 1),
        Survivor("a condition turned", "f", "src/lib.rs", 10, 2),
    ]
    assert Mutants(70, 60, 60, 57, 9.94, survivors).summary() == (
        "tried all 60 changes to the plugin that the tests reach, in 9.9 s (10 more aren't reached):"
        " 57 noticed, 3 not\n"
        "  src/lib.rs:9   `401` became 402, in <Gate>::on\n"
        "  src/lib.rs:10  a condition turned (2 times), in f"
    )
    assert Mutants(70, 60, 20, 20, 9.94, []).summary() == (
        "tried 20 of 60 changes to the plugin that the tests reach, in 9.9 s (10 more aren't reached):"
        " 20 noticed, 0 not\n"
        "--mutants-for gives it more time"
    )
    assert Mutants(7, 0, 0, 0, 0.1, []).summary() == (
        "the tests reach nothing that could be changed (of 7 changes known)"
    )
