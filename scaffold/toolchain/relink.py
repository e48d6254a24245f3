"""Link modules a second time: without callbacks that the plugin doesn't override, and with names to keep.

A script stands in for the linker. It does what rustc asks for, and copies what it linked, because rustc
removes its temporary objects. So the module that cargo knows is made by rustc and its linker alone, and
whatever goes wrong here leaves that.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field, replace
from itertools import pairwise
from pathlib import Path

from scaffold.core import files, process, records
from scaffold.core.events import Noted, Warned, emit
from scaffold.core.foreign_files import read_bytes
from scaffold.errors import MachineError, ScaffoldError, ToolFailed
from scaffold.toolchain import trim, wasm_opt
from scaffold.toolchain.reproducible import script
from scaffold.toolchain.trim import Crate, Package, Undecided
from scaffold.wasm import symbols
from scaffold.wasm.module import SIZE_LIMIT, WasmFile
from scaffold.wasm.symbols import Symbols

_VERSION = 4  # of what is done here: another one does it again
_EXPORT, _STRIP_ALL, _STRIP_DEBUG = "--export", "--strip-all", "--strip-debug"
_SHORTEN = "--compress-relocations"  # numbers that the linker fills in take five bytes otherwise
# rustc tells linkers apart by their names. Words may contain anything but NUL.
_SCRIPT = """#!/bin/sh
# rustc's linker for wasm, which keeps what it links in the folder MODULE.link.
"$SCAFFOLD_REAL_LINKER" "$@" || exit
module= before= count=0
for word do
    [ "$before" != -o ] || module="$word"
    before="$word"
done
keep() {
    rm -rf "$module.link" && mkdir "$module.link" && cd -P . || return
    for word in "$(command -v "$SCAFFOLD_REAL_LINKER")" "$PWD" "${SCAFFOLD_MIR-}" "$@"; do
        case "$word" in *.o | */rustc??????/*)
            count=$((count + 1))
            cp "$word" "$module.link/$count.o" || return
            word="$module.link/$count.o" ;;
        esac
        printf '%s\\0' "$word"
    done >"$module.link/words"
    ln "$module" "$module.link/linked.wasm" || cp "$module" "$module.link/linked.wasm"
}
[ -z "$module" ] || keep "$@" 2>/dev/null || rm -rf "$module.link"
exit 0
"""


@dataclass(frozen=True)
class Build:
    """What a module was built from: its package, the libraries, the lock file; and whether to trim it."""

    package: Package
    crates: Sequence[Crate]
    lock: Path
    trim: bool = True


@dataclass(frozen=True)
class Made:
    """What was made of a link: digests of the module and of the linker's own, and from what `how` follows.

    `before` is the size of the linker's own. `undecided` says why no callback was left out.
    """

    made: str
    of: str
    how: str
    before: int = 0
    dropped: tuple[str, ...] = ()
    kept: Mapping[str, str] = field(default_factory=dict)
    undecided: str = ""
    optimised: bool = False


@dataclass(frozen=True)
class Link:
    """What the script has kept of the last link of the module at `path`, whose crate's MIR is in `mir`."""

    path: Path
    folder: Path
    linker: str
    cwd: Path
    mir: Path
    words: tuple[str, ...]

    @classmethod
    def of(cls, module: Path) -> Link | None:
        """That of a module where cargo leaves modules for people; None if nothing was kept."""
        path = module.parent / "deps" / module.name
        folder = path.with_name(f"{path.name}.link")
        try:
            linker, cwd, mir, *words = (folder / "words").read_bytes().decode().split("\0")[:-1]
        except (OSError, ValueError):
            return None
        return cls(path, folder, linker, Path(cwd), Path(mir), tuple(words))

    @property
    def strips_all(self) -> bool:
        """Whether the module is to have no names."""
        return _STRIP_ALL in self.words

    def exports(self) -> frozenset[str]:
        """The functions that rustc has the linker export."""
        return frozenset(word for before, word in pairwise(self.words) if before == _EXPORT)

    def again(self, *ways: tuple[str, ...], drop: Collection[str] = ()) -> list[bytes]:
        """Link without the exports `drop`, once for each of some words in place of those that strip.

        Raises `ToolFailed` with the linker's first line.
        """
        with files.temporary(self.folder) as folder:
            made = [folder / f"{number}.wasm" for number in range(len(ways))]
            argvs = [self._words(path, drop, more) for path, more in zip(made, ways, strict=True)]
            programs = [process.Program(argv, self.cwd) for argv in argvs]
            for ran in process.run_many(programs, env=os.environ, limit=process.cores()):
                if ran.code:
                    said = ran.output.strip().partition("\n")[0] or f"exit code {ran.code}"
                    raise ToolFailed(f"{Path(self.linker).name}: {said}")
            return [read_bytes(path, SIZE_LIMIT) for path in made]

    def _words(self, out: Path, drop: Collection[str], more: Sequence[str]) -> list[str]:
        words = [word for word in self.words if word not in (_STRIP_ALL, _STRIP_DEBUG)]
        words[words.index("-o") + 1] = str(out)
        for name in drop:
            at = next(at for at, pair in enumerate(pairwise(words)) if pair == (_EXPORT, name))
            del words[at : at + 2]
        return [self.linker, *words, *more]


def env() -> dict[str, str]:
    """What to add to the environment of cargo, beside `reproducible.env_for`."""
    linker = script(_SCRIPT, "linker-{}/wasm-ld")
    return {"SCAFFOLD_LINKER": str(linker)} if linker else {}


def finish(module: Path, build: Build) -> bool:
    """Trim a module that cargo has made, keep its functions' names, and let Envoy write backtraces for it.

    Nothing happens if that is done. A failure is a warning. False if a cargo without `env` made the module.
    """
    try:
        with _cargo_waits(module):
            return _finish(module, build)
    except (ScaffoldError, OSError, ValueError, LookupError, StopIteration) as error:
        emit(Warned(f"{module.name} stays as the linker made it, with no names for backtraces: {error}"))
        return True


def made(module: Path) -> Made | None:
    """What was made of the last link of a module; None if nothing was."""
    link = Link.of(module)
    return records.read_or_warn(link.folder / "made", Made) if link else None


def explained(module: Path) -> list[str]:
    """Which callbacks of the SDK a module has and why, a line for each."""
    known = made(module)
    if known is None:
        return [f"{module.name} has every callback: it wasn't linked by way of scaffold"]
    if known.undecided:
        return [f"{module.name} has every callback: {known.undecided}"]
    kept = [f"{name}: kept, because of {why}" for name, why in known.kept.items()]
    dropped = [f"{name}: left out, as no crate that can reach the SDK has its name" for name in known.dropped]
    return [*kept, *dropped] or [f"{module.name} has every callback: it isn't trimmed"]


def give_up(module: Path) -> None:
    """Leave a module as it is until cargo makes another one: it wasn't linked by way of us."""
    folder = (module.parent / "deps" / module.name).with_name(f"{module.name}.link")
    with suppress(OSError):
        folder.mkdir(exist_ok=True)
        records.write(folder / "left", files.digest(read_bytes(module, SIZE_LIMIT)))


def _finish(module: Path, build: Build) -> bool:
    link, current = Link.of(module), read_bytes(module, SIZE_LIMIT)
    digest = files.digest(current)
    if link is None:  # in another layout of cargo's folders, nothing can be done about it
        return not (module.parent / "deps" / module.name).exists() or _is_left(module, digest)
    before, names = made(module), module.parent / symbols.FOLDER
    optimiser = wasm_opt.find() if build.trim and link.strips_all else None
    how = f"{_VERSION} trim={build.trim} {wasm_opt.NAME}={wasm_opt.stamp(optimiser)}"
    if before and (before.made, before.how) == (digest, how):
        symbols.restore(symbols.id_of(symbols.stripped(current)), names)
        return True
    linked = read_bytes(link.folder / "linked.wasm", SIZE_LIMIT)
    if current != linked and not (before and before.made == digest):
        return _is_left(module, digest)
    try:
        content, record = _made(link, linked, build, names, optimiser)
    except (ScaffoldError, OSError):
        if current != linked:
            _replace(link.path, module, linked)
        raise
    record = replace(record, made=files.digest(content), of=files.digest(linked), how=how)
    records.write(link.folder / "made", record)  # first: a kill leaves `linked`
    if content != current:
        _replace(link.path, module, content)
    if build.trim:
        emit(Noted(_report(module.name, record, len(content))))
    return True


def _is_left(module: Path, digest: str) -> bool:
    try:
        return records.read(module.parent / "deps" / f"{module.name}.link" / "left", str) == digest
    except MachineError:
        return False


def _made(link: Link, linked: bytes, build: Build, names: Path, optimiser: Path | None) -> tuple[bytes, Made]:
    """The module that is made of a link, and how, as far as that is known here."""
    record = Made("", "", "", len(linked))
    if build.trim:
        try:
            decision = trim.decide(build.package, link.mir, build.crates, build.lock)
            dropped = tuple(name for name in decision.dropped if name in link.exports())
            record = replace(record, dropped=dropped, kept=decision.kept)
        except Undecided as why:
            record = replace(record, undecided=str(why))
    if not link.strips_all:
        return (_trimmed(link, linked, record) if build.trim else linked), record
    ways = [(), (_STRIP_ALL, _SHORTEN)] if build.trim else [()]
    again, *small = link.again(*ways, drop=record.dropped)
    content = small[0] if small else symbols.stripped(again)
    _check(content, linked, record.dropped)
    found = Symbols.of(content, named=again, linked=again)
    if optimiser:
        try:
            content, found = _optimised(optimiser, again, linked, record.dropped)
            record = replace(record, optimised=True)
        except ScaffoldError as error:
            emit(Warned(f"{link.path.name} is as small as the linker makes it: {error}"))
    symbols.keep(found, symbols.id_of(content), names)
    return symbols.marked(content), record


def _trimmed(link: Link, linked: bytes, record: Made) -> bytes:
    """A trimmed module that keeps its names, or even its lines, as the profile says."""
    ways = (_STRIP_DEBUG, _SHORTEN) if _STRIP_DEBUG in link.words else ()
    (content,) = link.again(ways, drop=record.dropped)
    _check(content, linked, record.dropped)
    return content


def _optimised(
    optimiser: Path, again: bytes, linked: bytes, dropped: Collection[str]
) -> tuple[bytes, Symbols]:
    features = WasmFile.parse(again, Path(wasm_opt.NAME)).features
    given = symbols.without_lines(again)
    named, positions = wasm_opt.optimise(optimiser, given, symbols.positions(again), features)
    _check(named, linked, dropped)
    content = symbols.stripped(named)
    return content, Symbols.of(content, named=named, linked=again, positions=positions)


def _check(content: bytes, linked: bytes, dropped: Collection[str]) -> None:
    """Raise `ToolFailed` unless a module is like the one that rustc had linked, without some exports."""
    new, old = (WasmFile.parse(each, Path("the module")) for each in (content, linked))
    exports = {each for each in old.exports if each.name not in dropped}
    if {*new.exports} != exports or not {*new.imports} <= {*old.imports}:
        raise ToolFailed("the second link makes another module")


def _report(name: str, record: Made, size: int) -> str:
    how = [f"{len(record.dropped)} callbacks left out that it doesn't override"] if record.dropped else []
    how += [f"no callback left out, as {record.undecided}"] if record.undecided else []
    how += [wasm_opt.NAME] if record.optimised else []
    return f"{name}: {record.before:,} bytes became {size:,} ({', '.join(how) or 'shorter numbers'})"


def _replace(path: Path, uplifted: Path, content: bytes) -> None:
    """Replace the module that cargo knows, and the link to it that cargo makes for people."""
    mode = path.stat().st_mode & 0o777
    files.write(path, content, mode=mode)
    with files.staging(uplifted.parent) as aside:
        try:
            os.link(path, aside / path.name)
        except OSError:  # a file system without hard links
            files.write(aside / path.name, content, mode=mode)
        files.move(aside / path.name, uplifted)


@contextmanager
def _cargo_waits(module: Path) -> Iterator[None]:
    """Keep cargo from the folder of a module, by its own lock, while the block runs."""
    try:
        file = os.open(module.parent / ".cargo-lock", os.O_RDWR)
    except OSError:
        yield
        return
    try:
        with suppress(OSError):  # a file system without locks
            fcntl.flock(file, fcntl.LOCK_EX)
        yield
    finally:
        os.close(file)
