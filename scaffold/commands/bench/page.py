"""A benchmark as one page of HTML: it needs no other file and no network, and is readable in the dark."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from html import escape

from scaffold.commands.bench.figures import Estimate
from scaffold.commands.bench.report import BASE, NONE, PLUGIN, Benchmark, Comparison, Cost, signed

_WIDTH, _LEFT, _RIGHT = 880, 170, 250  # of a chart, of its names, and of its figures
_PLOT = _WIDTH - _LEFT - _RIGHT
_ROW, _RIDGE, _BAR = 34, 46, 16  # heights
_LONGEST = 22  # characters of a name
_MB = 1e6
_CLASSES = {PLUGIN: "mine", BASE: "base"}
_STYLE = """
:root { color-scheme: light dark; --ground: #fff; --text: #1d2430; --faint: #5d6675; --line: #d9dde3;
  --other: #9aa5b4; --mine: #1668c7; --base: #c2410c; }
@media (prefers-color-scheme: dark) { :root { --ground: #14181f; --text: #e6e9ee; --faint: #9aa4b2;
  --line: #333b47; --other: #6f7b8b; --mine: #5aa7ff; --base: #fb923c; } }
body { background: var(--ground); color: var(--text); font: 15px/1.5 system-ui, sans-serif;
  max-width: 1000px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2.2rem 0 .2rem; }
p { margin: .3rem 0; } .faint { color: var(--faint); }
svg { width: 100%; height: auto; display: block; }
svg text { font: 13px system-ui, sans-serif; fill: var(--text); }
svg .faint { fill: var(--faint); font-size: 12px; }
.other { fill: var(--other); } .mine { fill: var(--mine); } .base { fill: var(--base); }
.bar { opacity: .35; } .dot { opacity: .75; }
.axis, .range { stroke: var(--line); stroke-width: 1; } .range { stroke: var(--text); stroke-width: 1.5; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; }
th, td { text-align: right; padding: .25rem .35rem; border-bottom: 1px solid var(--line);
  font-weight: normal; white-space: nowrap; font-size: .82rem; }
th:first-child, td:first-child { text-align: left; } th { color: var(--faint); }
.scroll { overflow-x: auto; }
"""


def page(found: Benchmark) -> str:
    """The page's text."""
    pace = found.pace
    about = (
        f"Envoy {found.envoy}, {pace.rounds} rounds of {pace.seconds:g} s at {pace.rate:,} requests/s, "
        f"with {found.requests}"
    )
    parts = [
        f"<h1>What {escape(found.plugin)} costs</h1>",
        f'<p class="faint">{escape(about)}</p>',
        *(_compared(found, found.comparison) if found.comparison else ()),
        "<h2>CPU per request</h2>",
        '<p class="faint">A bar is the median of the rounds, each dot is a round, and the line is the range '
        "in which the median lies with a confidence of 95 %.</p>",
        _cpu(found.sides),
        "<h2>Latency</h2>",
        '<p class="faint">How the latencies are distributed, from the planned time of each request; the '
        "scale is logarithmic. The lines are p50 and p99.</p>",
        _latencies(found.sides),
        "<h2>All figures</h2>",
        _table(found),
        *(f"<p>{escape(note)}</p>" for note in found.floor_notes()),
        "<h2>How far to trust this</h2>",
        f"<p>{escape(found.machine.summary())}</p>",
        *_budget(found),
    ]
    title = escape(f"What {found.plugin} costs")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n<body>\n"
        + "\n".join(filter(None, parts))
        + "\n</body>\n</html>\n"
    )


def _cpu(sides: Sequence[Cost]) -> str:
    most = max((max(each.cpu_of_rounds) for each in sides), default=1) or 1

    def x(value: float) -> float:
        return _LEFT + _PLOT * value / most

    shapes = [_scale(f"{value:g} µs", x(value), len(sides) * _ROW) for value in _round_values(most)]
    for place, side in enumerate(sides):
        y = place * _ROW + _ROW / 2
        kind = _CLASSES.get(side.name, "other")
        said = f"{side.cpu.median:.1f} µs"
        said += "" if side.name == NONE else f", {_said(signed(side.cpu_added, ' µs', ranged=False))}"
        shapes += [_name(side.title, y), _bar(_LEFT, y, x(side.cpu.median) - _LEFT, f"{kind} bar")]
        shapes += [
            f'<circle class="{kind} dot" cx="{x(each):.1f}" cy="{y + _scatter(number):.1f}" r="2.5"/>'
            for number, each in enumerate(side.cpu_of_rounds)
        ]
        shapes += [_line(x(max(0, side.cpu.low)), y, x(min(most, side.cpu.high)), y), _figure(said, y)]
    return _svg("CPU per request of each side", shapes, len(sides) * _ROW + 22)


def _latencies(sides: Sequence[Cost]) -> str:
    bounds = [bound for side in sides for bound, _ in side.histogram]
    if not bounds:
        return "<p>No request was answered.</p>"
    least, most = math.log10(min(bounds)) - 1 / 12, math.log10(max(bounds))

    def x(value: float) -> float:
        return _LEFT + _PLOT * (math.log10(max(value, 10**least)) - least) / (most - least or 1)

    ticks = (n * 10.0**power for power in range(math.floor(least), math.ceil(most) + 1) for n in (1, 2, 5))
    shapes = [
        _scale(f"{value:g} ms", x(value), len(sides) * _RIDGE)
        for value in ticks
        if least + 0.1 <= math.log10(value) <= most
    ]
    step = _PLOT / 12 / (most - least or 1)
    for place, side in enumerate(sides):
        floor = (place + 1) * _RIDGE
        highest = max((count for _, count in side.histogram), default=1) or 1
        kind = _CLASSES.get(side.name, "other")
        for bound, count in side.histogram:
            height = (_RIDGE - 8) * count / highest
            if count:
                left = x(bound) - step
                shapes.append(_rect(left, floor - max(height, 1), step, max(height, 1), f"{kind} dot"))
        shapes += [_name(side.title, floor - 12)]
        shapes += [_line(x(value), floor - _RIDGE + 8, x(value), floor) for value in (side.p50, side.p99)]
        shapes.append(_figure(f"p50 {side.p50:.2f} ms, p99 {side.p99:.2f} ms", floor - 12))
    return _svg("The distribution of latencies of each side", shapes, len(sides) * _RIDGE + 22)


def _compared(found: Benchmark, comparison: Comparison) -> Iterable[str]:
    """A pair of bars for each figure, before and after."""
    before, after = found.side(BASE), found.side(PLUGIN)
    if before is None or after is None:
        return
    pairs = [
        ("CPU/request", before.cpu.median, after.cpu.median, "µs", 1.0, comparison.cpu),
        ("p50", before.p50, after.p50, "ms", 1.0, comparison.p50),
        ("p99", before.p99, after.p99, "ms", 1.0, comparison.p99),
        ("memory added", *_medians(before.memory_added, after.memory_added), "MB", _MB, comparison.memory),
        ("time to load", *_medians(before.ready_added, after.ready_added), "ms", 1.0, comparison.ready),
        ("module", before.module_bytes or 0, after.module_bytes or 0, "kB", 1e3, None),
    ]
    shapes: list[str] = []
    height = 2 * _BAR + 16
    for place, (name, old, new, unit, scale, difference) in enumerate(pairs):
        top = place * height + 8
        longest = max(old, new, 0) or 1
        shapes.append(_name(name, top + _BAR))
        for row, (kind, value) in enumerate((("base", old), ("mine", new))):
            y = top + row * _BAR + _BAR / 2
            width = (_PLOT - 70) * max(value, 0) / longest
            shapes.append(_bar(_LEFT, y, width, kind, _BAR - 4))
            shown = f"{value / scale:,.2f}" if abs(value / scale) < 10 else f"{value / scale:,.1f}"
            shapes.append(
                f'<text class="faint" x="{_LEFT + width + 6:.1f}" y="{y + 4:.1f}">{shown} {unit}</text>'
            )
        said = (
            f"{comparison.module_bytes:+,} bytes"
            if difference is None
            else signed(difference, f" {unit}", 2, scale, ranged=False)
        )
        shapes.append(_figure(_said(said), top + _BAR))
    yield f"<h2>Before and after: {escape(comparison.base)}, {escape(found.plugin)}</h2>"
    yield _svg("Figures before and after", shapes, len(pairs) * height + 8)


def _said(difference: str) -> str:
    return "within the noise" if difference == "noise" else difference


def _medians(before: Estimate | None, after: Estimate | None) -> tuple[float, float]:
    return before.median if before else 0.0, after.median if after else 0.0


def _budget(found: Benchmark) -> Iterable[str]:
    """What holds of the budget, if it was checked."""
    if found.verdict:
        yield "<h2>Budget</h2>"
        yield from (f"<p>{escape(line)}</p>" for line in found.verdict.summary(found.plugin).splitlines())


def _table(found: Benchmark) -> str:
    heads, *rows = found.rows()
    head = "".join(f"<th>{escape(cell)}</th>" for cell in heads)
    body = "".join(f"<tr>{''.join(f'<td>{escape(cell)}</td>' for cell in row)}</tr>\n" for row in rows)
    return f'<div class="scroll"><table>\n<tr>{head}</tr>\n{body}</table></div>'


# --- shapes


def _svg(label: str, shapes: Iterable[str], height: float) -> str:
    return (
        f'<svg role="img" aria-label="{escape(label)}" viewBox="0 0 {_WIDTH} {height:.0f}">\n'
        + "\n".join(shapes)
        + "\n</svg>"
    )


def _name(text: str, y: float) -> str:
    shown = text if len(text) <= _LONGEST else f"{text[: _LONGEST - 1]}…"
    full = f"<title>{escape(text)}</title>"
    return f'<text x="{_LEFT - 10}" y="{y + 4:.1f}" text-anchor="end">{escape(shown)}{full}</text>'


def _figure(text: str, y: float) -> str:
    return f'<text x="{_LEFT + _PLOT + 14}" y="{y + 4:.1f}">{escape(text)}</text>'


def _bar(x: float, y: float, width: float, kind: str, height: float = _BAR) -> str:
    return _rect(x, y - height / 2, width, height, kind)


def _rect(x: float, y: float, width: float, height: float, kind: str) -> str:
    return f'<rect class="{kind}" x="{x:.1f}" y="{y:.1f}" width="{max(width, 0):.1f}" height="{height:.1f}"/>'


def _line(x1: float, y1: float, x2: float, y2: float, kind: str = "range") -> str:
    return f'<line class="{kind}" x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}"/>'


def _scale(text: str, x: float, bottom: float) -> str:
    label = f'<text class="faint" x="{x:.1f}" y="{bottom + 17:.1f}" text-anchor="middle">{text}</text>'
    return _line(x, 0, x, bottom + 4, "axis") + label


def _scatter(number: int) -> float:
    """How far a dot is moved from its line, so that dots at the same place are seen."""
    return (number % 5 - 2) * 2.2


def _round_values(most: float) -> list[float]:
    """Some round numbers up to the largest value."""
    step = 10 ** math.floor(math.log10(most))
    step = step / 5 if most / step < 2 else step / 2 if most / step < 5 else step
    return [step * number for number in range(int(most / step) + 1)]
