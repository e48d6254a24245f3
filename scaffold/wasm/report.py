"""A report on a wasm file: its content, the tools that made it, and the hosts that load it."""

from __future__ import annotations

import textwrap
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from scaffold.core.text import escaped
from scaffold.errors import ModuleError
from scaffold.wasm import check, targets
from scaffold.wasm.check import Verdict
from scaffold.wasm.module import WasmFile
from scaffold.wasm.size import Row, Saved, Sizes
from scaffold.wasm.targets import Confirmed, Target, TargetVerdict

_WIDTH = 80
_LIMIT = 60  # names or lines of a kind; `--json` shows them all
_LARGEST = 20  # functions


@dataclass(frozen=True)
class ModuleReport:
    """What is known about a wasm file. `imports` are names by group; `envoys` says which of them load it.

    `sizes` is None unless somebody asked where its bytes are.
    """

    module: WasmFile
    imports: dict[str, tuple[str, ...]]
    callbacks: tuple[str, ...]
    other_exports: tuple[str, ...]
    envoys: tuple[Verdict, ...]
    targets: tuple[TargetVerdict, ...] = ()
    sizes: Sizes | None = None

    @property
    def exit_code(self) -> int:
        """That of `ModuleError` if a target doesn't load it."""
        return ModuleError.exit_code if any(each.fails for each in self.targets) else 0

    def summary(self) -> str:
        """A page of text."""
        parts = (
            _module(self.module),
            self._imports(),
            self._exports(),
            _sections(self.module),
            self._loads(),
            self._for(),
            *(_sizes(self.sizes) if self.sizes else ()),
        )
        return "\n\n".join("\n".join(part) for part in parts if part)

    def _imports(self) -> list[str]:
        if not any(self.imports.values()):
            return []
        titled = {f"{name} ({len(names)})": _listed(names) for name, names in self.imports.items() if names}
        return ["imports", *_details(titled)]

    def _exports(self) -> list[str]:
        groups = {"callbacks": self.callbacks, "others": self.other_exports}
        titled = {f"{name} ({len(names)})": _listed(names) for name, names in groups.items() if names}
        return ["exports", *_details(titled)] if titled else []

    def _loads(self) -> list[str]:
        lines = ["loads in (Istio, Envoy Gateway and Higress run an Envoy)"]
        for verdict in self.envoys:
            lines += _verdict(f"Envoy {verdict.envoys}", verdict)
        return lines

    def _for(self) -> list[str]:
        if not self.targets:
            return []
        lines = ["asked for"]
        for each in self.targets:
            lines += _verdict(each.title, each)
            if each.confirmed:
                lines += _wrapped(_confirmed(each.confirmed, each.loads), 4)
        return lines


def report(module: WasmFile, asked: Iterable[Target] = (), sizes: Sizes | None = None) -> ModuleReport:
    """Report on a wasm file: a plugin, another module or a component. `asked` are hosts that may load it."""
    imports: dict[str, list[str]] = {"hostcalls": [], "WASI": [], "others": []}
    for each in module.imports:
        group = check.group(each)
        imports[group].append(each.name if group != "others" else str(each))
    names = [each.name for each in module.exports]
    return ModuleReport(
        module=module,
        imports={group: tuple(sorted(found)) for group, found in imports.items()},
        callbacks=tuple(sorted(name for name in names if check.is_callback(name))),
        other_exports=tuple(sorted(name for name in names if not check.is_callback(name))),
        envoys=check.verdicts(module),
        targets=tuple(targets.judge(module, target) for target in asked),
        sizes=sizes,
    )


def _verdict(title: str, verdict: Verdict | TargetVerdict) -> list[str]:
    lines = [f"  {title}: {'yes' if verdict.loads else 'no'}"]
    for problem in sorted(verdict.problems, key=lambda each: not each.fatal):
        kind = "" if problem.fatal else "warning: "
        lines += _wrapped(kind + problem.message, 4)
        lines += _wrapped(f"hint: {problem.hint}", 6) if problem.hint else []
    return lines


def _confirmed(confirmed: Confirmed, loads: bool) -> str:
    """What a real Envoy did, beside the verdict."""
    did = "loads it" if confirmed.loads else "doesn't load it"
    subject = f"confirmed: Envoy {confirmed.envoy}"
    if confirmed.loads != loads:
        subject = f"the verdict and Envoy disagree: Envoy {confirmed.envoy}"
    if confirmed.loads and confirmed.said:
        did += ", and the plugin refuses to start"
    return f"{subject} {did}" + (f": {confirmed.said}" if confirmed.said else "")


def _module(module: WasmFile) -> list[str]:
    languages, tools = (module.producers.get(field, {}) for field in ("language", "processed-by"))
    details = {
        "size": f"{module.size:,} bytes",
        "ABI": "none: a WebAssembly component" if module.component else module.abi_version or "none",
        "SDK": module.sdk,
        "languages": _listed(languages),
        "made by": _listed(f"{tool} {version.split(' (')[0]}".strip() for tool, version in tools.items()),
        "features": _listed(module.features),
        "functions": "" if module.component else f"{module.functions:,}",
        "memory": f"{module.memory_pages:,} pages ({module.memory_pages / 16:,.1f} MiB) at start"
        if module.memory_pages
        else "",
        "module digest": module.digest,
    }
    return [str(module.path), *_details({name: text for name, text in details.items() if text})]


def _sections(module: WasmFile) -> list[str]:
    lines = ["sections"]
    largest = sorted(module.sections, key=lambda section: -section.size)
    for section in largest[:_LIMIT]:
        name = f'custom "{escaped(section.name)}"' if section.kind == "custom" else section.name
        lines.append(f"  {section.size:>13,}  {section.size / module.size:>4.0%}  {name}")
    if len(largest) > _LIMIT:
        lines.append(f"  and {len(largest) - _LIMIT:,} more")
    return lines if largest else []


def _sizes(sizes: Sizes) -> Iterator[list[str]]:
    """The bytes by crate, the largest functions, and what trimming saved."""
    lines = [f"{sizes.size:,} bytes by crate and section"]
    lines += [_share(row.bytes, sizes.size) + _called(row) for row in sizes.rows[:_LIMIT]]
    rest = sizes.rows[_LIMIT:]
    lines += [_share(sum(row.bytes for row in rest), sizes.size) + f"{len(rest)} more"] if rest else []
    yield [*lines, *_wrapped(f"crates aren't known: {sizes.unnamed}", 2)] if sizes.unnamed else lines
    if sizes.functions:
        largest = sizes.functions[:_LARGEST]
        yield [
            f"largest functions, of {len(sizes.functions):,}",
            *(_share(each.bytes, sizes.size) + escaped(each.name) for each in largest),
        ]
    if sizes.saved:
        yield ["trimming", *_wrapped(_spared(sizes.saved, sizes.size), 2)]


def _share(size: int, whole: int) -> str:
    return f"  {size:>13,}  {size / whole:>4.0%}  "


def _called(row: Row) -> str:
    """What a row is about."""
    functions = f"{row.functions:,} function{'s' * (row.functions != 1)}"
    if row.kind == "code":
        return f"code that isn't known to belong to a crate ({functions})"
    if row.kind == "section":
        return f"section {row.name}" if row.name != "header" else "the module's header"
    if row.kind in ("custom", "names"):
        return f'section custom "{escaped(row.name)}"'
    named = escaped(f"{row.name} {row.version}".strip())
    return f"{named} ({functions if row.kind == 'crate' else f'{row.kind}, {functions}'})"


def _spared(saved: Saved, size: int) -> str:
    """What trimming saved, in a sentence."""
    count = len(saved.left_out)
    how = [f"{count} callbacks left out that the plugin doesn't override"] if count else []
    how += [f"no callback left out, as {saved.undecided}"] if saved.undecided else []
    how += ["wasm-opt"] if saved.optimised else []
    spared = saved.before - size
    return (
        f"{spared:,} bytes ({100 * spared / saved.before:.0f} %) of the {saved.before:,} that the linker made"
        f" ({', '.join(how) or 'shorter numbers'})"
    )


def _details(texts: dict[str, str]) -> Iterator[str]:
    """A line for each text, or several where it is too long."""
    width = max(map(len, texts), default=0) + 4
    for name, text in texts.items():
        first, *rest = _wrapped(text, width)
        yield f"  {name}".ljust(width) + first[width:]
        yield from rest


def _wrapped(text: str, indent: int) -> list[str]:
    margin = " " * indent
    return textwrap.wrap(
        text,
        _WIDTH,
        initial_indent=margin,
        subsequent_indent=margin,
        break_long_words=False,
        break_on_hyphens=False,
    )


def _listed(names: Iterable[str]) -> str:
    listed = [escaped(name) for name in names]
    more = f", and {len(listed) - _LIMIT:,} more" if len(listed) > _LIMIT else ""
    return ", ".join(listed[:_LIMIT]) + more
