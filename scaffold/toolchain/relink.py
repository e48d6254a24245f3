"""Link modules a second time, with their functions' names, and keep what the stripped module has lost.

A script stands in for the linker. It does what rustc asks for, and copies what it linked, because rustc
removes its temporary objects. So the module that cargo knows is made by rustc and its linker alone, and
whatever goes wrong here leaves that.
"""

from __future__ import annotations

import fcntl
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

from scaffold.core import files, process, records
from scaffold.core.events import Warned, emit
from scaffold.core.foreign_files import read_bytes
from scaffold.errors import ScaffoldError, ToolFailed
from scaffold.toolchain.reproducible import script
from scaffold.wasm import symbols
from scaffold.wasm.module import SIZE_LIMIT
from scaffold.wasm.symbols import Symbols

_STRIP_ALL, _STRIP_DEBUG = "--strip-all", "--strip-debug"
_LINK_SECONDS = 120.0
_NAMES = "names"  # the folder beside the modules
# rustc tells linkers apart by their names. Words may contain anything but NUL.
_SCRIPT = """#!/bin/sh
# rustc's linker for wasm, which keeps what it links in the folder MODULE.link.
"$SCAFFOLD_REAL_LINKER" "$@" || exit
for word do
    [ "${before-}" != -o ] || module="$word"
    before="$word"
done
keep() {
    rm -rf "$module.link" && mkdir "$module.link" && cd -P . || return
    for word in "$(command -v "$SCAFFOLD_REAL_LINKER")" "$PWD" "$@"; do
        case "$word" in *.o | */rustc??????/*)
            count=$((${count-0} + 1))
            cp "$word" "$module.link/$count.o" || return
            word="$module.link/$count.o" ;;
        esac
        printf '%s\\0' "$word"
    done >"$module.link/words"
    ln "$module" "$module.link/linked.wasm" || cp "$module" "$module.link/linked.wasm"
}
keep "$@" 2>/dev/null || rm -rf "$module.link"
exit 0
"""


@dataclass(frozen=True)
class _Done:
    """The digest of the module that was made of a link, and of the one that the linker had made."""

    made: str
    of: str


@dataclass(frozen=True)
class Link:
    """What the script has kept of the last link of the module at `path`."""

    path: Path
    folder: Path
    linker: str
    cwd: Path
    words: tuple[str, ...]

    @classmethod
    def of(cls, module: Path) -> Link | None:
        """That of a module where cargo leaves modules for people; None if nothing was kept."""
        path = module.parent / "deps" / module.name
        folder = path.with_name(f"{path.name}.link")
        try:
            linker, cwd, *words = (folder / "words").read_bytes().decode().split("\0")[:-1]
        except (OSError, ValueError):
            return None
        return cls(path, folder, linker, Path(cwd), tuple(words))

    def again(self, *more: str) -> bytes:
        """Link again, stripping nothing. Raises `ToolFailed` with the linker's first line."""
        with files.temporary(self.folder) as folder:
            made = folder / "made.wasm"
            words = [word for word in self.words if word not in (_STRIP_ALL, _STRIP_DEBUG)]
            words[words.index("-o") + 1] = str(made)
            argv = [self.linker, *words, *more]
            ran = process.run(argv, cwd=self.cwd, timeout=_LINK_SECONDS, guarded=True)
            if ran.code:
                said = ran.stderr.strip().partition("\n")[0] or f"exit code {ran.code}"
                raise ToolFailed(f"{Path(self.linker).name}: {said}")
            return read_bytes(made, SIZE_LIMIT)


def env() -> dict[str, str]:
    """What to add to the environment of cargo, beside `reproducible.env_for`."""
    linker = script(_SCRIPT, "linker-{}/wasm-ld")
    return {"SCAFFOLD_LINKER": str(linker)} if linker else {}


def finish(module: Path) -> None:
    """Keep the names of a stripped module's functions, and let Envoy write backtraces for it.

    It does nothing if that is done, or if cargo was called without `env`. A failure is a warning.
    """
    try:
        with _cargo_waits(module):
            _finish(module)
    except (ScaffoldError, OSError) as error:
        emit(Warned(f"backtraces of {module.name} will have no names: {error}"))


def _finish(module: Path) -> None:
    link = Link.of(module)
    if link is None or _STRIP_ALL not in link.words:  # then the names are in the module
        return
    linked, current = read_bytes(link.folder / "linked.wasm", SIZE_LIMIT), read_bytes(module, SIZE_LIMIT)
    record, names = link.folder / "done", module.parent / _NAMES
    done = records.read_or_warn(record, _Done)
    if done and done.made == files.digest(current):
        symbols.restore(symbols.id_of(symbols.stripped(current)), names)
        return
    if current != linked:  # a cargo without us made it
        return
    again = link.again()
    if symbols.stripped(again) != linked:
        raise ToolFailed("the linker makes another module the second time")
    made = symbols.marked(linked)
    symbols.keep(Symbols.of(again, linked), symbols.id_of(linked), names)
    records.write(record, _Done(files.digest(made), files.digest(linked)))  # first: a kill leaves `linked`
    _replace(link.path, module, made)


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
