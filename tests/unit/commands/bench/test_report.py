from __future__ import annotations

import dataclasses
import itertools
import re
from collections import Counter
from html.parser import HTMLParser
from pathlib import Path

import pytest
from support import wasm_asm as asm

from scaffold.commands.bench.figures import Estimate
from scaffold.commands.bench.judging import judge
from scaffold.commands.bench.page import page
from scaffold.commands.bench.report import (
    Benchmark,
    Machine,
    Measured,
    compare,
    costs,
    histogram,
    signed,
    title_of,
)
from scaffold.commands.bench.rounds import Pace, Rounds
from scaffold.commands.bench.starts import Starts
from scaffold.project.budget import Budget
from scaffold.wasm.module import WasmFile

NAMES = ("none", "native", "lua", "floor", "plugin", "base")
HOSTILE = '<script>alert("&")</script>'


def measured(cpu: float, size: int | None = None) -> Measured:
    rounds = Rounds(
        cpu=[cpu + number for number in range(8)],
        p50=[0.3] * 8,
        p99=[1.0 + cpu / 100] * 8,
        latencies=[0.2, 0.3, 0.4, 2.0],
        late=[0.1] * 4,
        statuses=Counter({"200": 4}),
    )
    starts = Starts([80 + cpu, 81 + cpu, 80.5 + cpu], {1: [6e7 + cpu, 6e7, 6e7], 3: [7e7, 7e7, 7e7 + cpu]})
    return Measured("", rounds, starts, size)


@pytest.fixture
def found() -> Benchmark:
    sides = {
        name: dataclasses.replace(measured(60 + 10 * place), title=title_of(name, HOSTILE, "HEAD~1"))
        for place, name in enumerate(NAMES)
    }
    sides["plugin"] = dataclasses.replace(sides["plugin"], module_bytes=70_000)
    sides["base"] = dataclasses.replace(sides["base"], module_bytes=60_000)
    comparison = compare(sides["base"], sides["plugin"])
    machine = Machine(2, 1.0, 2.0, 0.1, 0.2)
    return Benchmark(HOSTILE, "1.40.0", "a request", Pace(), costs(sides), comparison, "", machine)


def test_a_difference_is_claimed_only_beyond_the_noise():
    assert signed(Estimate(4.25, 3, 5), " µs") == "+4.2 µs (+3.0 to +5.0)"
    assert signed(Estimate(-4, -5, -3), " µs", ranged=False) == "-4.0 µs"
    assert signed(Estimate(4, -1, 9), " µs") == "within the noise (-1.0 to +9.0 µs)"
    assert signed(Estimate(4, -1, 9), " µs", ranged=False) == "noise"
    assert signed(Estimate(2e6, 1e6, 3e6), " MB", 1, 1e6) == "+2.0 MB (+1.0 to +3.0)"


def test_the_sides_come_in_their_order_with_what_they_add(found):
    assert [each.name for each in found.sides] == list(NAMES)
    assert [each.cpu_added.median for each in found.sides] == [0, 10, 20, 30, 40, 50]
    assert found.comparison.cpu == Estimate(-10, -10, -10)
    assert found.comparison.module_bytes == 10_000
    assert found.side("base").title == "HEAD~1"
    assert found.side("nothing") is None


def test_the_text_says_what_the_machine_hides(found):
    text = found.summary()
    assert "\nCompared with HEAD~1\n  CPU per request  -10.0 µs (-10.0 to -10.0)\n" in text
    assert "  module           +10,000 bytes\n" in text
    assert f"\nBeyond its floor, the CPU of {HOSTILE} is +10.0 µs (+10.0 to +10.0) per request.\n" in text
    assert text.endswith("the client was late by 0.20 ms at most, in 99 of 100 requests.")
    busy = dataclasses.replace(found, machine=Machine(2, 9.0, 9.0, 0.5, 3.0), no_floor="it calls x")
    assert "\nThere is no floor: it calls x.\n" in busy.summary()
    assert busy.summary().endswith("It is busy: trust differences only, or run more rounds when it is idle.")


def test_other_answers_are_named():
    odd = measured(60)
    odd.rounds.failures["reset"] = 2
    odd.rounds.statuses["503"] = 1
    sides = {"none": dataclasses.replace(measured(60), title="no filter"), "plugin": odd}
    made = Benchmark("a", "1.40.0", "b", Pace(), costs(sides), None, "", Machine(2, 0, 0, 0, 0))
    assert " answered 200 to 4, 503 to 1, nothing to 2 (reset) requests.\n" in made.summary()
    assert "no filter answered" not in made.summary()


def test_a_histogram_has_every_latency():
    bars = histogram([0.1, 0.1, 0.11, 5.0])
    assert sum(count for _, count in bars) == 4
    assert bars[0] == (pytest.approx(0.1), 2)
    assert all(later[0] > earlier[0] for earlier, later in itertools.pairwise(bars))
    assert histogram([]) == []


class Tags(HTMLParser):
    """The elements that are open, and all attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.links: list[str] = []

    def handle_starttag(self, tag, attributes):
        self.seen.append(tag)
        self.links += [name for name, _ in attributes if name in ("src", "href", "onload", "onclick")]
        if tag != "meta":
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.seen.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


def test_the_page_stands_alone_and_foreign_text_stays_text(found):
    text = page(dataclasses.replace(found, no_floor="a < b"))
    tags = Tags()
    tags.feed(text)
    assert (tags.open, tags.links) == ([], [])
    assert not {"script", "link", "img", "iframe"} & set(tags.seen)
    assert tags.seen.count("svg") == 3
    assert not re.search(r"https?:|url\(|@import", text)
    assert "prefers-color-scheme: dark" in text
    assert "&lt;script&gt;" in text
    assert "There is no floor: a &lt; b." in text
    assert "NaN" not in text
    for title in ("no filter", "header_mutation", "Lua", "the floor", "HEAD~1"):
        assert f">{title}<" in text


def test_the_page_of_a_plugin_without_an_answer_or_a_base(found):
    silent = [dataclasses.replace(each, histogram=[], cpu_of_rounds=[0.0]) for each in found.sides[:5]]
    text = page(dataclasses.replace(found, sides=silent, comparison=None))
    assert "No request was answered." in text
    assert text.count("<svg") == 1


@pytest.mark.parametrize(
    ("limit", "held", "over", "undecided"),
    [(29.0, 0, 1, 0), (30.0, 1, 0, 0), (31.0, 1, 0, 0), (None, 0, 0, 0)],
)
def test_a_budget_is_judged_by_what_the_plugin_adds_to_the_native_filter(found, limit, held, over, undecided):
    module = WasmFile.parse(asm.plugin(), Path("a.wasm"))
    verdict = judge(Budget(cpu_over_native_us=limit), found, module)
    assert (len(verdict.held), len(verdict.over), len(verdict.undecided)) == (held, over, undecided)
    judged = dataclasses.replace(found, verdict=verdict)
    assert judged.exit_code == over
    assert ("<h2>Budget</h2>" in page(judged)) is True
    if over:
        said = "`cpu-over-native-us = 29.0` is exceeded by 1 (3.4 %): it is 30, and 30.0 at least"
        assert judged.summary().endswith(f" is over its budget: {said}")


def test_what_the_noise_leaves_open_is_no_failure(found):
    noisy = [
        dataclasses.replace(each, cpu_of_rounds=[60 + 20 * number for number in range(8)])
        if each.name == "plugin"
        else each
        for each in found.sides
    ]
    module = WasmFile.parse(asm.plugin(), Path("a.wasm"))
    budget = Budget(module_bytes=10, initial_memory_bytes=131_072, cpu_over_native_us=40)
    verdict = judge(budget, dataclasses.replace(found, sides=noisy), module)
    assert [len(each) for each in (verdict.held, verdict.over, verdict.undecided)] == [1, 1, 1]
    assert verdict.undecided[0].startswith("`cpu-over-native-us = 40`, measured ")
    assert verdict.over[0].startswith("`module-bytes = 10` is exceeded by ")
    assert verdict.held == ["`initial-memory-bytes = 131_072`"]
