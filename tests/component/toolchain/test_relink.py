"""The script that links in place of the linker, and the second link: with linkers that are small programs."""

from __future__ import annotations

import os
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import wasm_asm as asm

from scaffold.core import events
from scaffold.toolchain import relink
from scaffold.wasm import symbols

MODULE = asm.plugin()
NAMED = MODULE + asm.custom("name", b"\x01\x0b\x01\x02" + asm.name("_ZN1a1bE"))
# a linker that makes what is in linked.wasm, with names if it strips nothing
LINKER = """
for word do
    [ "${before-}" != -o ] || out="$word"
    before="$word"
done
case " $* " in *" --strip-all "*) cat "$MODULES/stripped" ;; *) cat "$MODULES/named" ;; esac >"$out"
"""


def program(path: Path, text: str) -> Path:
    path.unlink(missing_ok=True)  # it may be running
    path.write_text(f"#!/bin/sh\n{text}")
    path.chmod(0o755)
    return path


@dataclass
class Place:
    """A folder of cargo's, in which a module is linked by our script and a linker of the test's."""

    folder: Path
    linker: Path
    env: dict[str, str]

    @property
    def module(self) -> Path:
        return self.folder / "a.wasm"

    def link(self, *words: str) -> subprocess.CompletedProcess[str]:
        """Link as rustc does, and give people the module as cargo does."""
        made = self.folder / "deps/a.wasm"
        argv = [relink.env()["SCAFFOLD_LINKER"], *words, "-o", str(made)]
        env = os.environ | self.env | {"SCAFFOLD_REAL_LINKER": str(self.linker)}
        ran = subprocess.run(argv, env=env, cwd=self.folder, text=True, capture_output=True, timeout=20)
        if ran.returncode == 0:
            self.module.unlink(missing_ok=True)
            os.link(made, self.module)
        return ran


@pytest.fixture
def place(tmp_path, monkeypatch) -> Place:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("MODULES", str(tmp_path))
    (tmp_path / "stripped").write_bytes(MODULE)
    (tmp_path / "named").write_bytes(NAMED)
    folder = tmp_path / "a 'folder"
    (folder / "deps").mkdir(parents=True)
    return Place(folder, program(tmp_path / "wasm-ld", LINKER), {})


@pytest.fixture
def said():
    heard: list[events.Event] = []
    with events.listening(heard.append):
        yield heard


def test_a_stripped_module_gets_its_marks_once_and_its_names_are_kept(place, said):
    assert place.link("--strip-all").returncode == 0
    relink.finish(place.module)
    assert place.module.read_bytes() == symbols.marked(MODULE)
    assert place.module.samefile(place.folder / "deps/a.wasm")
    before = place.module.stat().st_mtime_ns
    place.linker.unlink()
    relink.finish(place.module)
    assert (place.module.stat().st_mtime_ns, said) == (before, [])
    assert (place.folder / f"names/{symbols.id_of(MODULE)}.names").is_file()


def test_temporary_objects_are_copied_and_words_may_be_anything(place, tmp_path):
    temporary = tmp_path / "rustcAbCdEf"
    temporary.mkdir()
    (temporary / "a b.o").write_bytes(b"1")
    (temporary / "list").write_bytes(b"2")
    words = [str(temporary / "a b.o"), str(temporary / "list"), "new\nline", "", "--strip-all"]
    assert place.link(*words).returncode == 0
    kept = relink.Link.of(place.module)
    assert kept
    assert (kept.linker, kept.cwd) == (str(place.linker), place.folder)
    assert [Path(word).read_bytes() for word in kept.words[:2]] == [b"1", b"2"]
    assert kept.words[2:5] == ("new\nline", "", "--strip-all")


def test_a_linker_that_fails_fails_as_without_us_and_keeps_nothing(place):
    program(place.linker, "echo 'undefined symbol' >&2; exit 7")
    ran = place.link("--strip-all")
    assert (ran.returncode, ran.stderr) == (7, "undefined symbol\n")
    assert relink.Link.of(place.module) is None


def test_a_linker_that_isn_t_there_fails(place):
    place.linker.unlink()
    assert place.link("--strip-all").returncode == 127


def test_what_can_t_be_copied_is_not_kept_and_the_module_stays(place):
    ran = place.link("--strip-all", "/nowhere/a.o")
    assert (ran.returncode, ran.stderr) == (0, "")
    assert relink.Link.of(place.module) is None
    relink.finish(place.module)
    assert place.module.read_bytes() == MODULE


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo 'no memory' >&2; exit 1", "no memory"),
        ("exit 3", "exit code 3"),
        (LINKER + 'echo garbage >"$out"', "isn't a wasm module"),
        ('cp "$MODULES/other" "$MODULES/named"' + LINKER, "another module"),
        (None, "wasm-ld"),
    ],
    ids=["fails", "fails without a word", "writes garbage", "links something else", "is gone"],
)
def test_a_second_link_that_goes_wrong_leaves_the_module(place, said, tmp_path, script, why):
    place.link("--strip-all")
    (tmp_path / "other").write_bytes(asm.plugin(segments=[(8, b"other")]))
    if script is None:
        place.linker.unlink()
    else:
        program(place.linker, script)
    relink.finish(place.module)
    assert place.module.read_bytes() == MODULE
    (warning,) = said
    assert "backtraces of a.wasm will have no names" in warning.text
    assert why in warning.text


def test_a_module_with_names_stays_as_it_is(place, said):
    place.link()
    relink.finish(place.module)
    assert (place.module.read_bytes(), said) == (NAMED, [])


def test_a_module_that_cargo_linked_without_us_stays_as_it_is(place, said):
    place.link("--strip-all")
    other = asm.plugin(segments=[(8, b"other")])
    for path in (place.module, place.folder / "deps/a.wasm"):
        path.unlink()
        path.write_bytes(other)
    relink.finish(place.module)
    assert (place.module.read_bytes(), said) == (other, [])
