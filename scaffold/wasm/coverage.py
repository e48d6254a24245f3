"""Which functions and lines of a plugin's source were reached: as numbers, as text, and as lcov has it.

Source: linux-test-project/lcov, man/geninfo.1 (tracefile format).
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from scaffold.wasm.instrument import Instrumented

Place = tuple[str, int]  # a file, and a line of it


@dataclass(frozen=True)
class FunctionCoverage:
    """A function of the source and how often it was called; generic ones count together."""

    name: str
    file: str
    line: int
    count: int


@dataclass(frozen=True)
class FileCoverage:
    """A file of the source. `lines` are those with code, and how often each was reached."""

    file: str
    functions: list[FunctionCoverage]
    lines: dict[int, int]

    @property
    def missed(self) -> list[int]:
        """The lines that weren't reached."""
        return [line for line, count in self.lines.items() if not count]


@dataclass(frozen=True)
class Coverage:
    """What tests have reached, by file."""

    files: list[FileCoverage]

    @classmethod
    def of(cls, measured: Iterable[tuple[Instrumented, Sequence[int]]]) -> Coverage:
        """That of modules, each with what its counters say."""
        lines: defaultdict[str, Counter[int]] = defaultdict(Counter)
        called: Counter[tuple[str, int, str]] = Counter()
        for made, counts in measured:
            # a line's parts are reached by turns, so the most is how often the line was
            own: Counter[Place] = Counter()
            first: dict[int, int] = {}
            for number, point in enumerate(made.points):
                count = counts[number] if counts else 0
                place = point.step.file, point.step.line
                own[place] = max(own[place], count)
                first.setdefault(point.function.index, count)
            for (file, line), count in own.items():
                lines[file][line] += count
            for each in made.functions:
                called[each.file, each.line, each.name] += first.get(each.index, 0)
        functions: defaultdict[str, list[FunctionCoverage]] = defaultdict(list)
        for (file, line, name), count in sorted(called.items()):
            functions[file].append(FunctionCoverage(name, file, line, count))
        return cls(
            [FileCoverage(file, functions[file], dict(sorted(lines[file].items()))) for file in sorted(lines)]
        )

    def summary(self) -> str:
        """A table with a line for each file, and the functions that weren't called."""
        if not self.files:
            return "no function of the plugin's own sources is in the module"
        width = max(len(each.file) for each in self.files)
        rows = [f"{'':<{width}}  functions      lines  not reached"]
        rows += [_row(each, width) for each in self.files]
        missed = [each for file in self.files for each in file.functions if not each.count]
        if missed:
            rows += ["", "not called:"]
            rows += [f"  {each.file}:{each.line}  {each.name}" for each in missed]
        return "\n".join(rows)

    def lcov(self) -> str:
        """The content of an lcov file."""
        return "".join(f"{line}\n" for file in self.files for line in _record(file))


def _row(file: FileCoverage, width: int) -> str:
    called = sum(each.count > 0 for each in file.functions)
    functions = f"{called} of {len(file.functions)}"
    lines = f"{len(file.lines) - len(file.missed)} of {len(file.lines)}"
    return f"{file.file:<{width}}  {functions:>9}  {lines:>9}  {ranges(file)}".rstrip()


def ranges(file: FileCoverage) -> str:
    """The lines that weren't reached: "5, 8-12". Lines without code between two don't part them."""
    parts: list[list[int]] = []
    reached_before = True
    for line, count in file.lines.items():
        if count:
            reached_before = True
            continue
        if reached_before:
            parts.append([line, line])
        parts[-1][1] = line
        reached_before = False
    return ", ".join(f"{first}-{last}" if last > first else f"{first}" for first, last in parts)


def _record(file: FileCoverage) -> Iterator[str]:
    """The lines of one file's part. A name that several functions have gets its line, as lcov knows names."""
    times = Counter(each.name for each in file.functions)
    names = [
        each.name if times[each.name] == 1 else f"{each.name} (line {each.line})" for each in file.functions
    ]
    yield from ("TN:", f"SF:{file.file}")
    for name, each in zip(names, file.functions, strict=True):
        yield f"FN:{each.line},{name}"
    for name, each in zip(names, file.functions, strict=True):
        yield f"FNDA:{each.count},{name}"
    yield f"FNF:{len(file.functions)}"
    yield f"FNH:{sum(each.count > 0 for each in file.functions)}"
    yield from (f"DA:{line},{count}" for line, count in file.lines.items())
    yield f"LF:{len(file.lines)}"
    yield f"LH:{len(file.lines) - len(file.missed)}"
    yield "end_of_record"
