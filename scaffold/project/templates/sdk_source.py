"""Move Rust source from proxy-wasm 0.1 to 0.2: its entry point, its callbacks, and whoever calls them.

Source: proxy-wasm-rust-sdk, the traits and hostcalls of 0.1.4 and 0.2.5.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field

from scaffold.project import rust_text

MENTIONED = "on_http_re(quest|sponse)_headers|get_configuration|clear_http_route_cache|[^a-z]_start"
_ATTRIBUTE = r"#\[(?:[^\]\"]|\"[^\"]*\")*\]"
_START = re.compile(
    rf"(?P<before>(?:(?:{_ATTRIBUTE}|//[^\n]*\n)\s*)*)(?P<public>pub\s+)?(?:unsafe\s+)?"
    r'(?:extern\s+"C"\s+)?fn\s+_start\s*\(\s*\)\s*(?:->\s*\(\)\s*)?(?=\{)'
)
_NO_MANGLE = re.compile(r"#\[[^\]\n]*\bno_mangle\b[^\]\n]*\]\s*")
_HEADERS = re.compile(r"\bon_http_(?:request|response)_headers\b")
_CONFIGURATION = re.compile(r"\bget_configuration\b")
_ROUTE_CACHE = re.compile(r"\bclear_http_route_cache\b")
_ON_VM_START = re.compile(r"\bfn\s+on_vm_start\b[^{;]*(?=\{)")
_ROOT_CONTEXT = re.compile(r"\bimpl\b[^{;]*\bRootContext\s+for\b[^{;]*(?=\{)")
_END = "end_of_stream"


@dataclass(frozen=True)
class Moved:
    """The changed files, path -> text; notes; and the places that need a person, each `path:line: why`."""

    texts: Mapping[str, str]
    notes: tuple[str, ...] = ()
    stuck: tuple[str, ...] = ()


@dataclass
class _Edits:
    """What to insert into, or put in the place of, a part of one file."""

    path: str
    text: str
    stuck: list[str]
    done: list[tuple[int, int, str]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.code = rust_text.code(self.text)

    def put(self, begin: int, end: int, text: str) -> None:
        """Put a text in the place of another."""
        self.done.append((begin, end, text))

    def stop(self, position: int, why: str) -> None:
        """Leave a place to a person."""
        self.stuck.append(f"{self.place(position)}: {why}")

    def place(self, position: int) -> str:
        """A position as a compiler names it."""
        return f"{self.path}:{rust_text.line_of(self.text, position)}"

    def result(self) -> str:
        """The text with all of it."""
        text = self.text
        for begin, end, new in sorted(self.done, reverse=True):
            text = text[:begin] + new + text[end:]
        return text


def is_of_0_1(texts: Iterable[str]) -> bool:
    """Whether source can only be meant for proxy-wasm 0.1."""
    for text in texts:
        code = rust_text.code(text)
        for match in _HEADERS.finditer(code):
            if _is_definition(code, match.start()) and len(_arguments(code, match.end())) == 2:
                return True
        if _ROUTE_CACHE.search(code) or re.search(r"\bself\.get_configuration\(", code):
            return True
    return False


def with_main(text: str, sdk: str) -> str:
    """Replace the user's own entry point by the macro that exports the right one; `sdk` names the crate."""
    begin = 0
    while start := _START.search(text, begin):
        code = rust_text.code(text)
        end = rust_text.end_of_group(code, start.end())
        exported = start["public"] or _NO_MANGLE.search(start["before"])
        name = start.start() + start[0].rindex("_start")
        if not exported or end == start.end() or not code.startswith("_start", name):
            begin = start.end()
            continue
        before = _NO_MANGLE.sub("", start["before"])
        block = text[start.end() : end]
        text = f"{text[: start.start()]}{before}{sdk}::main! {{{block}}}{text[end:]}"
    return text


def moved(texts: Mapping[str, str]) -> Moved:
    """Move the files of one crate, path -> text, from 0.1 to 0.2; those that change are in the result."""
    stuck: list[str] = []
    notes: list[str] = []
    files = [_Edits(path, text, stuck) for path, text in texts.items()]
    own = any(re.search(r"\bfn\s+get_configuration\b", each.code) for each in files)
    told = dict.fromkeys(
        (
            f"header callbacks have the parameter `{_END}`",
            "`get_configuration` has become one for the VM, one for the plugin",
            "`clear_http_route_cache` has become a call of Envoy's function `clear_route_cache`",
        ),
        0,
    )
    for each in files:
        counts = (_headers(each, notes), _configuration(each, own=own), _route_cache(each))
        told = {note: told[note] + count for note, count in zip(told, counts, strict=True)}
    changed = {each.path: new for each in files if (new := each.result()) != each.text}
    return Moved(changed, (*(note for note, count in told.items() if count), *notes), tuple(stuck))


def _headers(file: _Edits, notes: list[str]) -> int:
    """Give the callbacks for headers, and their callers, the argument that 0.2 added."""
    calls = []
    bodies: list[tuple[int, int, tuple[int, int]]] = []
    for match in _HEADERS.finditer(file.code):
        if _is_definition(file.code, match.start()):
            bodies += _definition(file, match)
        elif place := _call(file, match):
            calls.append(place)
    passed = set()
    for begin, last in calls:
        around = [body for body in bodies if body[0] <= begin < body[1]]
        inner = max(around, default=None)
        if inner:
            passed.add(inner)
        else:
            notes.append(f"{file.place(begin)}: `{_END}` is passed as `false`; correct it if that matters")
        file.put(last, last, f", {_END if inner else 'false'}")
    for body in bodies:
        begin, end = body[2]
        space = re.search(r"\n[ \t]*$", file.code[:begin])
        name = _END if body in passed else f"_{_END}"
        file.put(end, end, f",{space[0] if space else ' '}{name}: bool")
    return len(bodies) + len(calls)


def _definition(file: _Edits, match: re.Match[str]) -> Iterator[tuple[int, int, tuple[int, int]]]:
    """The body of an old callback, and its last parameter; nothing for one that is new already."""
    found = _arguments(file.code, match.end())
    if len(found) == 2:
        after = re.compile(r"[{;]").search(file.code, found[-1][1])
        begin = after.start() if after else len(file.code)
        end = rust_text.end_of_group(file.code, begin) if after and after[0] == "{" else begin
        yield begin, end, found[-1]
    elif len(found) != 3:
        file.stop(match.start(), f"the parameters of `{match[0]}` aren't those of proxy-wasm 0.1")


def _call(file: _Edits, match: re.Match[str]) -> tuple[int, int] | None:
    """Where a call is that lacks an argument, and where its last argument ends."""
    before = file.code[: match.start()].rstrip()
    found = _arguments(file.code, match.end())
    expected = 1 if before.endswith(".") else 2
    if found and before.endswith((".", "::")) and len(found) in (expected, expected + 1):
        return (match.start(), found[-1][1]) if len(found) == expected else None
    file.stop(match.start(), f"`{match[0]}` takes `{_END}` since proxy-wasm 0.2, and this isn't a plain call")
    return None


def _configuration(file: _Edits, *, own: bool) -> int:
    """Rename `get_configuration`: it returned the VM's in `on_vm_start`, elsewhere the plugin's.

    With a function of that name of the crate's `own`, only what is surely the SDK's.
    """
    at_start = _blocks(file.code, _ON_VM_START)
    contexts = _blocks(file.code, _ROOT_CONTEXT)
    count = 0
    for match in _CONFIGURATION.finditer(file.code):
        before, begin = file.code[: match.start()].rstrip(), match.start()
        called = file.code[match.end() :].lstrip().startswith("(")
        if _is_definition(file.code, begin):
            continue
        if before.endswith("hostcalls::") or (not own and not (called and before.endswith((".", "::")))):
            why = "`get_configuration` is gone; `get_buffer` reads a configuration since proxy-wasm 0.2"
            file.stop(begin, why)
        elif not own or (_within(begin, contexts) and before.endswith("self.")):
            whose = "vm" if _within(begin, at_start) else "plugin"
            file.put(begin, match.end(), f"get_{whose}_configuration")
            count += 1
    return count


def _route_cache(file: _Edits) -> int:
    """Clear the route cache by Envoy's foreign function; the SDK's own is gone."""
    count = 0
    for match in _ROUTE_CACHE.finditer(file.code):
        statement = re.compile(r"\(\s*\)(?=\s*;)").match(file.code, match.end())
        if statement and file.code[: match.start()].rstrip().endswith("."):
            end = statement.end()
            file.put(match.start(), end, 'call_foreign_function("clear_route_cache", None).ok()')
            count += 1
        elif not _is_definition(file.code, match.start()):
            why = "`clear_http_route_cache` is gone; Envoy's foreign function `clear_route_cache` does it"
            file.stop(match.start(), why)
    return count


def _is_definition(code: str, begin: int) -> bool:
    return bool(re.search(r"\bfn\s+$", code[max(0, begin - 80) : begin]))


def _arguments(code: str, after: int) -> list[tuple[int, int]]:
    """The arguments of what is called or defined before `after`; none if there are no parentheses."""
    opened = re.compile(r"\s*\(").match(code, after)
    return rust_text.arguments(code, opened.end() - 1) if opened else []


def _blocks(code: str, pattern: re.Pattern[str]) -> list[tuple[int, int]]:
    return [(match.end(), rust_text.end_of_group(code, match.end())) for match in pattern.finditer(code)]


def _within(position: int, blocks: Iterable[tuple[int, int]]) -> bool:
    return any(begin <= position < end for begin, end in blocks)
