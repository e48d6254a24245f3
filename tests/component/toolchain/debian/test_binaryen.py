"""The private wasm-opt, installed from stand-ins for apt-get and dpkg-deb; the real one: tests/e2e."""

from __future__ import annotations

import pytest

from scaffold.commands.setup import setup
from scaffold.core import events, files
from scaffold.errors import MachineError, UsageError
from scaffold.toolchain import wasm_opt
from scaffold.toolchain.debian import binaryen
from scaffold.toolchain.debian import install as private
from scaffold.toolchain.options import BuildOptions

YES = BuildOptions(yes=True)
OFFER = "`scaffold setup --wasm-opt` installs wasm-opt, which makes modules a tenth smaller"


def folders() -> list[str]:
    return sorted(path.name for path in (files.data_dir() / "toolchains").iterdir())


def test_it_is_installed_beside_the_toolchain_and_found_again(machine, debian):
    log = debian()
    setup(options=YES, wasm_opt=True)
    program = wasm_opt.find()
    assert program
    assert folders() == [".lock", private.folder().name, f"{private.folder().name}-binaryen"]
    assert machine.notes()[-1] == f"wasm-opt version 120, {program}"
    assert not (files.cache_dir() / "toolchains").exists()
    setup(options=YES, wasm_opt=True)
    assert log.read_text() == "downloaded\n" * 2, "once for Rust, once for binaryen"


def test_it_is_offered_and_not_installed_unasked(machine, debian):
    debian()
    setup(options=YES)
    assert machine.notes()[-1] == OFFER
    assert wasm_opt.find() is None
    (machine.bin / "dpkg-deb").unlink()  # what can't be had isn't offered
    setup(options=YES)
    assert machine.notes().count(OFFER) == 1


def test_the_one_on_path_comes_first_and_nothing_is_offered(machine, debian):
    debian()
    setup(options=YES, wasm_opt=True)
    own = machine.program("wasm-opt", "echo wasm-opt version 42")
    setup(options=YES, wasm_opt=True)
    assert machine.notes()[-1] == f"wasm-opt version 42, {own}"
    assert wasm_opt.find() == own
    said = len(machine.notes())
    setup(options=YES)
    assert OFFER not in machine.notes()[said:]


def test_it_says_its_size_and_asks(machine, debian):
    debian()
    private.find("wasm32-wasip1", yes=True)
    asked: list[str] = []

    def no(event):
        if isinstance(event, events.Question):
            asked.append(event.text)
            return False
        return None

    with events.listening(no), pytest.raises(MachineError, match="declined") as caught:
        setup(wasm_opt=True)
    assert caught.value.hint == "`scaffold setup --wasm-opt`"
    assert "Install a private binaryen from Debian trixie" in asked[0]
    assert "download 3 MB, 7 MB on disk" in asked[0]
    assert folders() == [".lock", private.folder().name]


@pytest.mark.parametrize(
    ("broken", "says"),
    [
        ({"update": "echo 'E: no such suite' >&2; exit 100"}, "apt-get failed: no such suite"),
        ({"download": "echo 'E: Hash Sum mismatch' >&2; exit 100"}, "apt-get failed: Hash Sum mismatch"),
        ({"unpack": "echo 'not a Debian archive' >&2; exit 2"}, "can't unpack"),
    ],
)
def test_what_fails_is_said_and_nothing_is_left(machine, debian, broken, says):
    debian(**broken)
    with pytest.raises(MachineError, match=says):
        binaryen.install(yes=True)
    assert folders() == [".lock"]
    debian()
    assert binaryen.install(yes=True) == wasm_opt.find()


def test_one_that_does_not_work_is_not_kept(machine, debian):
    debian()
    machine.program("wasm-opt", "echo no libbinaryen >&2; exit 1", machine.folder / "payload/usr/bin")
    with pytest.raises(MachineError, match="the unpacked wasm-opt doesn't work: no libbinaryen"):
        binaryen.install(yes=True)
    assert folders() == [".lock"]


def test_one_that_broke_says_how_to_get_another(machine, debian):
    debian()
    program = binaryen.install(yes=True)
    (program.parents[1] / "usr/bin/wasm-opt").unlink()
    with pytest.raises(MachineError, match="doesn't run") as caught:
        setup(options=YES, wasm_opt=True)
    assert caught.value.hint == "`scaffold setup --remove`, then `scaffold setup --wasm-opt`"


def test_it_is_removed_with_the_toolchain(machine, debian):
    debian()
    setup(options=YES, wasm_opt=True)
    with pytest.raises(UsageError, match="--wasm-opt and --remove exclude each other"):
        setup(wasm_opt=True, remove=True)
    assert len(folders()) == 3
    setup(remove=True)
    assert folders() == [".lock"]
    assert wasm_opt.find() is None
