"""Builds under `dev`: by rustc's own command where cargo would do the same, else by cargo."""

from __future__ import annotations

import fcntl
import os
import re
import stat
from pathlib import Path

import pytest

from scaffold.core.events import Noted, Quoted, listening
from scaffold.errors import ToolFailed
from scaffold.project.projects import projects_at
from scaffold.toolchain import cargo
from scaffold.toolchain.options import BuildOptions
from scaffold.toolchain.rebuild import Rebuild
from scaffold.wasm.module import WasmModule

DEV = BuildOptions(profile="dev", yes=True)

pytestmark = pytest.mark.usefixtures("own_target")


class Session:
    """A crate that is saved and built again."""

    def __init__(self, root: Path, folder: Path, capfd: pytest.CaptureFixture[str]) -> None:
        self.root, self.folder, self._capfd = root, folder, capfd
        self.rebuild = Rebuild(folder)
        self.source = root / "src/lib.rs"
        self.said: list[str] = []

    def build(self, *saved: Path) -> tuple[WasmModule, bool]:
        """The module, and whether cargo made it."""
        self.rebuild.saved |= set(saved)
        self._capfd.readouterr()
        try:
            (module,) = cargo.build(projects_at(self.root), DEV, rebuild=self.rebuild)
        finally:
            self.by_cargo = bool(re.search("Compiling|Finished|error: could", self._capfd.readouterr().err))
        return module, self.by_cargo

    def save(self, text: str, path: Path | None = None) -> tuple[WasmModule, bool]:
        path = path or self.source
        path.write_text(text)
        return self.build(path)

    def by_cargo_alone(self) -> bytes:
        """The module as cargo makes it of what is there now."""
        self.source.touch()
        return cargo.build(projects_at(self.root), DEV)[0].content


@pytest.fixture
def session(copy, tmp_path, capfd) -> Session:
    (tmp_path / "commands").mkdir()
    session = Session(copy, tmp_path / "commands", capfd)
    session.source.write_text(f"{session.source.read_text()}\n// a copy\n")
    assert session.build() == (session.build()[0], True), "the second time, too: nothing was saved"
    session.source.touch()
    assert session.build(session.source)[1], "cargo knows what rustc is told"
    return session


def greeting(session: Session, name: str) -> str:
    return re.sub("Hello [a-z]+", f"Hello {name}", session.source.read_text())


def test_it_is_what_cargo_makes_of_the_same_sources(session):
    for number, name in enumerate(["one", "two"]):
        module, by_cargo = session.save(greeting(session, name))
        assert not by_cargo
        assert f"Hello {name}".encode() in module.content
        if number:
            assert module.content == session.by_cargo_alone()


def test_another_file_of_the_crate_is_a_source_too(session):
    text = greeting(session, "there") + '\nmod more;\nconst _: &str = include_str!("../words.txt");\n'
    (session.root / "words.txt").write_text("one")
    (session.root / "src/more.rs").write_text("")
    assert not session.save(text)[1]
    assert not session.save("// another\n", session.root / "src/more.rs")[1]
    assert not session.save("two", session.root / "words.txt")[1]
    assert session.save("words", session.root / "unread.txt")[1], "nothing that rustc reads"


def test_whatever_else_is_saved_is_for_cargo(session):
    manifest = session.root / "Cargo.toml"
    text = manifest.read_text()
    assert session.save(text.replace('version = "0.1.0"', 'version = "0.1.1"', 1), manifest)[1]
    assert not session.save(greeting(session, "again"))[1]

    helper = session.root / "helper"
    (helper / "src").mkdir(parents=True)
    (helper / "Cargo.toml").write_text('[package]\nname = "helper"\nversion = "0.1.0"\nedition = "2021"\n')
    (helper / "src/lib.rs").write_text('pub fn word() -> &\'static str { env!("CARGO_PKG_NAME") }\n')
    needs = '[dependencies]\nhelper = { path = "helper" }\n'
    manifest.write_text(manifest.read_text().replace("[dependencies]\n", needs))
    uses = greeting(session, "helper") + "\n#[no_mangle] pub fn words() -> usize { helper::word().len() }\n"
    session.source.write_text(uses)
    assert session.build(session.source)[1], "the manifest wasn't said to be saved, but it was"
    assert not session.save(greeting(session, "helpers"))[1]
    assert session.save('pub fn word() -> &\'static str { "more" }\n', helper / "src/lib.rs")[1]
    assert not session.save(greeting(session, "friends"))[1]
    session.source.write_text(greeting(session, "both"))
    (helper / "src/lib.rs").write_text('pub fn word() -> &\'static str { "both" }\n')
    assert session.build(session.source, helper / "src/lib.rs")[1]

    config = session.root / ".cargo/config.toml"
    config.parent.mkdir()
    config.write_text("[env]\nNEW = '1'\n")
    assert session.save(greeting(session, "config"))[1]


def test_a_crate_with_a_build_script_is_always_for_cargo(session):
    (session.root / "build.rs").write_text("fn main() {}\n")
    assert session.build(session.root / "build.rs")[1]
    assert session.save(greeting(session, "built"))[1]


def test_while_another_cargo_builds_cargo_waits_for_it(session):
    module, _ = session.build()
    session.save(greeting(session, "known"))
    with (module.path.parent / ".cargo-lock").open("r+b") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        session.source.write_text(greeting(session, "waiting"))
        due = session.rebuild
        due.saved = {session.source}
        assert due.build(projects_at(session.root)) is None
    assert session.save(greeting(session, "free"))[1] is False


@pytest.mark.parametrize("known", [False, True], ids=["cargo", "rustc"])
def test_the_first_error_is_shown_and_how_many_more(session, known):
    if known:
        assert not session.save(greeting(session, "known"))[1]
    else:
        session.rebuild.forget(projects_at(session.root))
    good = session.source.read_text()
    events = []
    with listening(events.append), pytest.raises(ToolFailed):
        session.save(good + "\nfn one() -> u8 { missing() }\nfn two() -> u8 { absent() }\n")
    assert session.by_cargo is not known
    (shown,) = [each.text for each in events if isinstance(each, Quoted)]
    assert "missing" in shown
    assert "absent" not in shown
    assert "and 1 more error" in [each.text for each in events if isinstance(each, Noted)]
    del events[:]
    with listening(events.append):
        session.save(good + "\nfn one() {}\n")
    (shown,) = [each.text for each in events if isinstance(each, Quoted)]
    assert "function `one` is never used" in shown


def test_what_may_hold_secrets_is_kept_in_memory_alone(session, monkeypatch, tmp_path):
    monkeypatch.setenv("A_SECRET", "not for a file")
    modes = []
    spy = tmp_path / "spy"
    spy.write_text(f'#!/bin/sh\nstat -c %a {session.folder}/*.env >>{tmp_path}/modes\nexec "$@"\n')
    spy.chmod(stat.S_IRWXU)
    monkeypatch.setenv("RUSTC_WRAPPER", str(spy))
    session.save(greeting(session, "spied") + "// cargo, since the wrapper is another\n")
    session.rebuild.forget(projects_at(session.root))
    session.save(greeting(session, "upon"))
    modes = (tmp_path / "modes").read_text().split()
    assert set(modes) == {"600"}
    assert list(session.folder.iterdir()) == []
    assert os.environ["A_SECRET"]
