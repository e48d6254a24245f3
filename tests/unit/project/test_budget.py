"""The setting `budget`: what it may be, how it is refused, and what is over it."""

from __future__ import annotations

from pathlib import Path

import pytest
from support import wasm_asm as asm

from scaffold.errors import BudgetExceeded, ProjectError
from scaffold.project.budget import Budget, Excess, of_module, of_request, over_budget, refuse
from scaffold.wasm.module import WasmFile

WHERE = "[package.metadata.proxy-wasm] of Cargo.toml"
OF_REQUESTS = "request-fuel, request-crossings, request-copied-bytes"
KNOWN = f"known: module-bytes, initial-memory-bytes, peak-memory-bytes, cpu-over-native-us, {OF_REQUESTS}"


@pytest.mark.parametrize(
    ("value", "budget"),
    [
        ({}, Budget()),
        ({"module-bytes": 1}, Budget(module_bytes=1)),
        (
            {"initial-memory-bytes": 65536, "peak-memory-bytes": 2**40, "cpu-over-native-us": 12.5},
            Budget(initial_memory_bytes=65536, peak_memory_bytes=2**40, cpu_over_native_us=12.5),
        ),
        ({"cpu-over-native-us": 12}, Budget(cpu_over_native_us=12)),
    ],
    ids=str,
)
def test_each_limit_is_read(value, budget):
    assert Budget.parse(value, WHERE) == budget


@pytest.mark.parametrize(
    ("key", "hint"),
    [
        ("module-byte", "did you mean `module-bytes`?"),
        ("module_bytes", "did you mean `module-bytes`?"),
        ("initial-memory", "did you mean `initial-memory-bytes`?"),
        ("cpu-over-native", "did you mean `cpu-over-native-us`?"),
        ("request-fules", "did you mean `request-fuel`?"),
        ("hostcalls", KNOWN),
    ],
)
def test_an_unknown_key_is_refused_with_the_nearest(key, hint):
    with pytest.raises(ProjectError) as caught:
        Budget.parse({"module-bytes": 1, key: 1}, WHERE)
    assert caught.value.message == f"unknown key `{key}` in `budget` in {WHERE}"
    assert caught.value.hint == hint


@pytest.mark.parametrize("value", [True, 100_000, "100 kB", [], [{"module-bytes": 1}]], ids=str)
def test_it_is_a_table(value):
    with pytest.raises(ProjectError, match=r"`budget` in .* is not a table"):
        Budget.parse(value, WHERE)


@pytest.mark.parametrize("limit", [0, -1, True, "100_000", 1.5, [1]], ids=repr)
def test_bytes_are_a_whole_number(limit):
    with pytest.raises(ProjectError, match=r"`module-bytes` in `budget` in .* isn't a whole number above 0"):
        Budget.parse({"module-bytes": limit}, WHERE)


@pytest.mark.parametrize("limit", [0, -0.5, True, "12", float("inf"), float("nan")], ids=repr)
def test_time_is_a_number(limit):
    with pytest.raises(ProjectError, match=r"`cpu-over-native-us` in `budget` in .* isn't a number above 0"):
        Budget.parse({"cpu-over-native-us": limit}, WHERE)


def test_what_is_over_has_its_line_and_by_how_much():
    budget = Budget(module_bytes=70_000, initial_memory_bytes=65_536, cpu_over_native_us=12)
    (found,) = over_budget(budget, module_bytes=78_400, initial_memory_bytes=65_536, peak_memory_bytes=1)
    assert found == Excess("module-bytes", 70_000, 78_400)
    assert found.over == 8_400
    assert str(found) == "`module-bytes = 70_000` is exceeded by 8,400 (12.0 %): it is 78,400"
    (found,) = over_budget(budget, cpu_over_native_us=13.5)
    assert str(found) == "`cpu-over-native-us = 12` is exceeded by 1.5 (12.5 %): it is 13.5"
    (found,) = over_budget(Budget(module_bytes=100), module_bytes=124_500)
    assert str(found) == "`module-bytes = 100` is exceeded by 124,400 (1,245 times the limit): it is 124,500"


def test_what_has_no_limit_is_never_over():
    assert over_budget(Budget(), module_bytes=2**40, cpu_over_native_us=1e9) == []


def test_a_module_decides_its_bytes_and_its_memory():
    module = WasmFile.parse(asm.plugin(), Path("m.wasm"))
    pages = module.memory_pages
    assert pages
    assert of_module(Budget(module.size, pages * 65_536), module) == []
    found = of_module(Budget(module.size - 1, pages * 65_536 - 1), module)
    assert [(each.key, each.over) for each in found] == [("module-bytes", 1), ("initial-memory-bytes", 1)]


def test_every_line_of_every_plugin_is_in_the_error():
    refuse({"one": [], "two": []})
    lines = [Excess("module-bytes", 1_000, 1_500), Excess("initial-memory-bytes", 65_536, 131_072)]
    with pytest.raises(BudgetExceeded) as caught:
        refuse({"one": lines, "two": [], "three": lines[:1]})
    assert caught.value.exit_code == 1
    assert caught.value.message == (
        "one is over its budget: `module-bytes = 1_000` is exceeded by 500 (50.0 %): it is 1,500;"
        " `initial-memory-bytes = 65_536` is exceeded by 65,536 (100.0 %): it is 131,072;"
        " three is over its budget: `module-bytes = 1_000` is exceeded by 500 (50.0 %): it is 1,500"
    )
    assert caught.value.hint
    assert "[package.metadata.proxy-wasm.budget]" in caught.value.hint


def test_a_test_has_limits_of_its_own_and_the_rest_of_all():
    tests = {"test_huge": {"request-fuel": 500}}
    budget = Budget.parse({"request-fuel": 10, "request-crossings": 3, "tests": tests}, WHERE)
    assert budget.of_test("test_huge") == Budget(
        request_fuel=500, request_crossings=3, tests={"test_huge": Budget(request_fuel=500)}
    )
    assert budget.of_test("test_other") is budget


@pytest.mark.parametrize(
    ("tests", "message"),
    [
        (5, r"`tests` in `budget` in .* is not a table"),
        ({"test_it": 5}, r"`budget.tests.test_it` in .* is not a table"),
        ({"test_it": {"module-bytes": 5}}, r"unknown key `module-bytes` in `budget.tests.test_it`"),
        ({"test_it": {"tests": {}}}, r"unknown key `tests` in `budget.tests.test_it`"),
        ({"test_it": {"request-fuel": 0}}, r"`request-fuel` in `budget.tests.test_it` in .* above 0"),
    ],
    ids=str,
)
def test_a_test_has_limits_of_requests_only(tests, message):
    with pytest.raises(ProjectError, match=message):
        Budget.parse({"tests": tests}, WHERE)


def test_a_request_is_over_each_line_that_it_exceeds():
    budget = Budget(request_fuel=100, request_crossings=5, request_copied_bytes=10)
    assert of_request(budget, fuel=100, crossings=5, copied_bytes=10) == []
    assert of_request(budget, fuel=101, crossings=5, copied_bytes=20) == [
        Excess("request-fuel", 100, 101),
        Excess("request-copied-bytes", 10, 20),
    ]
