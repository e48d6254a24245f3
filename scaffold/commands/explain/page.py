"""An explanation as one page of HTML: it needs no other file and no network, and is readable in the dark."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape

from scaffold.hosts.explanation import Explanation, Explanations, Step

_STYLE = """
:root { color-scheme: light dark; --ground: #fff; --text: #1d2430; --faint: #5d6675; --line: #d9dde3;
  --bad: #c2410c; --bar: #1668c7; }
@media (prefers-color-scheme: dark) { :root { --ground: #14181f; --text: #e6e9ee; --faint: #9aa4b2;
  --line: #333b47; --bad: #fb923c; --bar: #5aa7ff; } }
body { background: var(--ground); color: var(--text); font: 15px/1.5 system-ui, sans-serif;
  max-width: 1000px; margin: 2rem auto; padding: 0 1rem; }
h1 { font-size: 1.5rem; margin: 0; } h2 { font-size: 1.1rem; margin: 2rem 0 .3rem; }
p { margin: .3rem 0; } .faint { color: var(--faint); } .bad { color: var(--bad); }
.trap { border-left: 4px solid var(--bad); padding: .2rem .8rem; margin: .8rem 0; }
table { border-collapse: collapse; width: 100%; font-variant-numeric: tabular-nums; font-size: .85rem; }
td { padding: .15rem .4rem; border-bottom: 1px solid var(--line); vertical-align: top; }
td.time { text-align: right; white-space: nowrap; color: var(--faint); }
td.text { font-family: ui-monospace, monospace; overflow-wrap: anywhere; white-space: pre-wrap; }
tr.inside td.text { padding-left: 2rem; } tr.callback td.text { font-weight: 600; }
.scale { width: 160px; }
.scale div { height: .6rem; margin-top: .4rem; background: var(--bar); min-width: 2px; }
"""


def page(found: Explanation | Explanations) -> str:
    """The page's text."""
    requests = found.requests if isinstance(found, Explanations) else (found,)
    title = requests[0].request if len(requests) == 1 and requests[0].request else "What the plugin did"
    body = "\n".join(line for each in requests for line in _request(each))
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>{escape(title)}</title><style>{_STYLE}</style></head>\n"
        f"<body><h1>{escape(title)}</h1>\n{body}\n</body></html>\n"
    )


def _request(each: Explanation) -> Iterator[str]:
    yield f"<h2>{escape(each.title)}</h2>"
    if each.outcome:
        yield f"<p>{escape(each.outcome)}</p>"
    for trap in each.traps:
        what = f'<b class="bad">{escape(trap.name)}</b>: {escape(trap.what)}'
        yield f'<div class="trap"><p>{what}</p><p>Cure: {escape(trap.cure)}</p></div>'
    if not each.traps:
        yield '<p class="faint">No known trap.</p>'
    longest = max((step.at + (step.took or 0) for step in each.steps if step.at is not None), default=0.0)
    yield "<table>"
    yield from (_row(step, longest) for step in each.steps)
    yield "</table>"
    yield from (f'<p class="faint">{escape(note)}</p>' for note in each.notes)


def _row(step: Step, longest: float) -> str:
    kind = step.kind if step.kind == "callback" else "inside"
    bad = " bad" if step.is_bad else ""
    at = "" if step.at is None else f"{step.at:.3f} ms"
    took = "" if step.took is None else f"{step.took:.3f} ms"
    cells = [
        f'<td class="time">{at}</td>',
        f'<td class="text{bad}">{escape(step.text)}</td>',
        f'<td class="{bad.strip()}">{escape(step.result)}</td>',
        f'<td class="time">{took}</td>',
        f'<td class="scale">{_bar(step, longest)}</td>',
    ]
    return f'<tr class="{kind}">{"".join(cells)}</tr>'


def _bar(step: Step, longest: float) -> str:
    """Where in the request a callback, or a wait, lies."""
    if step.kind not in ("callback", "wait") or step.at is None or step.took is None or not longest:
        return ""
    left, width = 100 * step.at / longest, 100 * step.took / longest
    return f'<div style="margin-left:{left:.1f}%;width:{width:.1f}%"></div>'
