"""The script that links in place of the linker, and the second link: with linkers that are small programs.

wasm-opt is a small program, too; the real ones: tests/e2e/test_trim.py.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path

import pytest
from support import wasm_asm as asm

from scaffold.core import events
from scaffold.toolchain import relink, wasm_opt
from scaffold.wasm import symbols

ON_LOG = {"proxy_on_log": (asm.signature(asm.I32), b"")}
MODULE = asm.plugin(callbacks=ON_LOG)
TRIMMED = asm.plugin()
OTHER = asm.plugin(segments=[(8, b"other")])
NAMES = asm.custom("name", b"\x01\x0b\x01\x02" + asm.name("_ZN1a1bE"))
LOG = ("--export", "proxy_on_log")
# a linker that makes a plugin with what it is to export, and with names if it strips nothing
LINKER = """
for word do
    [ "${before-}" != -o ] || out="$word"
    before="$word"
done
case " $* " in *" proxy_on_log "*) made=module ;; *) made=trimmed ;; esac
case " $* " in *" --strip-all "*) names= ;; *) names="$MODULES/names" ;; esac
cat "$MODULES/$made" $names >"$out"
"""
OPTIMISER = """
while [ "$1" != -o ]; do
    [ "$1" != --output-source-map ] || echo '{"mappings": ""}' >"$2"
    shift
done
cat "$MODULES/MADE" >"$2"
"""
LOCK = """
[[package]]
name = "a"
version = "1.0.0"
dependencies = ["proxy-wasm"]
[[package]]
name = "proxy-wasm"
version = "0.2.5"
source = "registry+https://example.com"
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

    def link(self, *words: str, overrides: str = "") -> subprocess.CompletedProcess[str]:
        """Link as rustc does, and give people the module as cargo does; the plugin's code is `overrides`."""
        made, mir = self.folder / "deps/a.wasm", self.folder / "deps/a.mir"
        mir.write_text(overrides)
        mir.with_suffix(".d").write_text(f"{mir}: src/lib.rs\n".replace(" ", "\\ ", str(mir).count(" ")))
        argv = [relink.env()["SCAFFOLD_LINKER"], *words, *LOG, "-o", str(made)]
        real = {"SCAFFOLD_REAL_LINKER": str(self.linker), "SCAFFOLD_MIR": str(mir)}
        env = os.environ | self.env | real
        ran = subprocess.run(argv, env=env, cwd=self.folder, text=True, capture_output=True, timeout=20)
        if ran.returncode == 0:
            self.module.unlink(missing_ok=True)
            os.link(made, self.module)
        return ran

    def finish(self, *, trim: bool = False) -> bool:
        """Do what follows a call of cargo."""
        (self.folder / "Cargo.lock").write_text(LOCK)
        return relink.finish(self.module, relink.Build(("a", "1.0.0"), [], self.folder / "Cargo.lock", trim))


@pytest.fixture
def place(tmp_path, monkeypatch) -> Place:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("MODULES", str(tmp_path))
    for name, content in (("module", MODULE), ("trimmed", TRIMMED), ("names", NAMES), ("other", OTHER)):
        (tmp_path / name).write_bytes(content)
    path = [
        folder for folder in os.environ["PATH"].split(os.pathsep) if not Path(folder, "wasm-opt").exists()
    ]
    tools = tmp_path / "tools"
    tools.mkdir()
    for tool in ("sh", "cat", "cp", "rm", "mkdir", "ln", "sleep"):
        (tools / tool).symlink_to(shutil.which(tool) or "")
    monkeypatch.setenv("PATH", os.pathsep.join([str(tools), *path]))
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
    place.finish()
    assert place.module.read_bytes() == symbols.marked(MODULE)
    assert place.module.samefile(place.folder / "deps/a.wasm")
    before = place.module.stat().st_mtime_ns
    place.linker.unlink()
    place.finish()
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
    place.finish()
    assert place.module.read_bytes() == MODULE


@pytest.mark.parametrize("trim", [False, True])
@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo 'no memory' >&2; exit 1", "no memory"),
        ("exit 3", "exit code 3"),
        (LINKER + 'echo garbage >"$out"', "isn't a wasm module"),
        (LINKER + 'cat "$MODULES/other" >"$out"', "another module"),
        (None, "wasm-ld"),
    ],
    ids=["fails", "fails without a word", "writes garbage", "links something else", "is gone"],
)
def test_a_second_link_that_goes_wrong_leaves_the_module(place, said, script, why, trim):
    place.link("--strip-all", overrides="on_log")
    if script is None:
        place.linker.unlink()
    else:
        program(place.linker, script)
    assert place.finish(trim=trim)
    assert place.module.read_bytes() == MODULE
    (warning,) = said
    assert "a.wasm stays as the linker made it" in warning.text
    assert why in warning.text


def test_a_module_with_names_stays_as_it_is(place, said):
    place.link()
    assert place.finish()
    assert (place.module.read_bytes(), said) == (MODULE + NAMES, [])


def test_a_linker_that_writes_no_names_makes_a_small_module_nevertheless(place, said):
    program(place.linker, LINKER.replace('names="$MODULES/names"', "names="))
    place.link("--strip-all")
    assert place.finish(trim=True)
    assert place.module.read_bytes() == symbols.marked(TRIMMED)
    assert [type(each) for each in said] == [events.Noted], "it isn't worth a warning"
    assert (place.folder / f"names/{symbols.id_of(TRIMMED)}.names").is_file()


def test_a_module_that_cargo_linked_without_us_is_named_until_we_give_it_up(place, said):
    place.link("--strip-all")
    for path in (place.module, place.folder / "deps/a.wasm"):
        path.unlink()
        path.write_bytes(OTHER)
    assert not place.finish()
    relink.give_up(place.module)
    assert place.finish()
    assert (place.module.read_bytes(), said) == (OTHER, [])
    place.module.write_bytes(TRIMMED)
    assert not place.finish()


def test_a_module_that_nothing_was_kept_of_is_cargos(place):
    place.module.write_bytes(MODULE)
    assert place.finish(), "cargo has it from elsewhere"
    (place.folder / "deps/a.wasm").write_bytes(MODULE)
    assert not place.finish()


@pytest.mark.parametrize(("strip", "names"), [("--strip-all", False), ("--strip-debug", True)])
def test_a_callback_that_nobody_overrides_goes(place, said, strip, names):
    place.link(strip)
    assert place.finish(trim=True)
    assert place.module.read_bytes() == (TRIMMED + NAMES if names else symbols.marked(TRIMMED))
    (note,) = said
    assert "bytes (1 callbacks left out that it doesn't override)".replace("bytes ", "") in note.text
    before = place.module.stat().st_mtime_ns
    assert place.finish(trim=True)
    assert place.module.stat().st_mtime_ns == before


def test_a_callback_that_is_overridden_stays_and_so_it_does_without_trimming(place):
    place.link("--strip-all", overrides="fn <impl at src/lib.rs:1:1>::on_log(_1: &mut A)")
    place.finish(trim=True)
    assert place.module.read_bytes() == symbols.marked(MODULE)
    made = relink.made(place.module)
    assert made
    assert made.kept == {"proxy_on_log": "`on_log` in a"}


def test_trimming_can_be_turned_off_and_on_again_without_cargo(place):
    place.link("--strip-all")
    for trim, wanted in ((True, TRIMMED), (False, MODULE), (True, TRIMMED)):
        assert place.finish(trim=trim)
        assert place.module.read_bytes() == symbols.marked(wanted)


def test_a_cargo_that_left_us_out_leaves_the_callbacks_in(place, said):
    place.link("--strip-all")
    (place.folder / "deps/a.d").write_text("a.wasm: src/lib.rs\n")
    assert place.finish(trim=True)
    assert place.module.read_bytes() == symbols.marked(MODULE)
    assert "no callback left out, as a was compiled without scaffold" in said[0].text


@pytest.mark.parametrize(
    ("script", "why"),
    [
        ("echo 'Fatal: no' >&2; exit 1", "wasm-opt failed: Fatal: no"),
        ("kill -9 $$", "wasm-opt failed: exit code -9"),
        ("exit 0", "wasm-opt wrote nothing that can be read"),
        ("sleep 60", "didn't answer"),
        (OPTIMISER.replace("MADE", "names"), "isn't a wasm module"),
        (OPTIMISER.replace("MADE", "other"), "another module"),
        (OPTIMISER.replace("MADE", "module").replace('": ""', '": "!"'), "wrote nothing that can be read"),
    ],
    ids=["fails", "is killed", "writes nothing", "hangs", "garbage", "another module", "a garbled map"],
)
def test_a_wasm_opt_that_goes_wrong_leaves_what_the_linker_made(
    place, said, tmp_path, monkeypatch, script, why
):
    monkeypatch.setattr(wasm_opt, "SECONDS", 1.0)
    program(tmp_path / "tools/wasm-opt", script)
    place.link("--strip-all", overrides="on_log")
    assert place.finish(trim=True)
    assert place.module.read_bytes() == symbols.marked(MODULE)
    assert "a.wasm is as small as the linker makes it" in said[0].text
    assert why in said[0].text
    del said[:]
    assert place.finish(trim=True)
    assert said == [], "it is tried again once there is another one"


def test_a_wasm_opt_is_told_every_feature(place, said, tmp_path):
    script = OPTIMISER.replace("MADE", "module")
    program(tmp_path / "tools/wasm-opt", f'echo "$*" >"$MODULES/asked"\n{script}')
    place.link("--strip-all", overrides="on_log")
    assert place.finish(trim=True)
    assert "wasm-opt" in said[0].text
    asked = (tmp_path / "asked").read_text()
    assert "-Oz" in asked
    for feature in ("bulk-memory", "sign-ext", "nontrapping-float-to-int", "mutable-globals", "multivalue"):
        assert f"--enable-{feature} " in asked
