"""A release that has grown is warned about: once, and only against one that was built in the same way."""

from __future__ import annotations

import resource
from dataclasses import replace

import pytest

from scaffold.core import files, records
from scaffold.project.crate import Project, Settings
from scaffold.toolchain import growth, relink
from scaffold.toolchain.options import BuildOptions
from scaffold.wasm.module import WasmModule

RELEASE = BuildOptions()


@pytest.fixture
def project(home):
    return Project(home / "crate", "crate", "1.0.0", Settings())


@pytest.fixture
def built(project, said):
    """Builds a module of a size; returns the warnings."""

    def built(size, options=RELEASE, of=project, digest=None, folder="release"):
        path = of.root / "target" / folder / "crate.wasm"
        del said[:]
        growth.watch(of, WasmModule(path, size, digest or f"sha256:{size}", "0.2.1", {}), options)
        return [*said]

    return built


def test_more_than_a_tenth_is_warned_about_once(built):
    assert built(1000) == []
    assert built(1100) == []
    (warning,) = built(1211)
    assert warning.startswith("crate.wasm grew by 10 % since the last release: 1,100 bytes became 1,211; ")
    assert built(1211) == []
    assert built(1210) == []


def test_the_hint_names_the_project(built, project, monkeypatch):
    built(1000)
    assert f"`scaffold inspect --size {project.root}` shows" in built(2000)[0]
    project.root.mkdir()
    monkeypatch.chdir(project.root)
    assert "`scaffold inspect --size .` shows" in built(3000)[0]


def test_a_module_that_was_warned_about_comes_back_without_a_word(built):
    """As when somebody changes between two branches."""
    built(1000)
    assert built(2000)
    assert built(1000) == []
    assert built(2000) == []
    assert built(1000) == []
    assert built(2001)


@pytest.mark.parametrize(
    "other",
    [
        BuildOptions(profile="small"),
        BuildOptions(features=("more",)),
        BuildOptions(no_default_features=True),
        BuildOptions(no_trim=True),
    ],
)
def test_another_way_to_build_is_another_release(built, other):
    built(1000)
    assert built(2000, other) == []
    assert built(1010) == []
    assert built(3000, other)


SETTINGS = {
    "triple": "wasm32-unknown-unknown",
    "features": ("more",),
    "default_features": False,
    "trim": False,
}


@pytest.mark.parametrize("change", SETTINGS)
def test_another_setting_is_another_release(built, project, change):
    built(1000)
    settings = replace(project.settings, **{change: SETTINGS[change]})
    assert built(2000, of=replace(project, settings=settings)) == []
    assert built(2000)


def test_another_project_is_another_release(built, project):
    built(1000)
    assert built(2000, of=replace(project, root=project.root / "member")) == []


def test_a_feature_counts_once_wherever_it_is_named(built, project):
    named = replace(project, settings=replace(project.settings, features=("a", "b")))
    built(1000, BuildOptions(features=("b", "a")))
    assert built(2000, of=named)


def test_a_wasm_opt_that_is_gone_is_no_growth(built, project, home):
    folder = project.root / "target/release/deps/crate.wasm.link"
    folder.mkdir(parents=True)
    (folder / "words").write_bytes(b"wasm-ld\0/\0/a.mir\0")
    records.write(folder / "made", relink.Made("", "", "", optimised=True))
    built(1000)
    records.write(folder / "made", relink.Made("", "", "", optimised=False))
    assert built(2000) == []


def test_cargo_clean_forgets_nothing(built, project):
    built(1000)
    assert not (project.root / "target").exists()
    assert built(2000)


@pytest.mark.parametrize("damage", [b"", b"{}", b"[1]", b"\xff"])
def test_a_damaged_record_is_as_good_as_none(built, damage):
    built(1000)
    (record,) = (files.cache_dir() / "sizes").iterdir()
    record.write_bytes(damage)
    assert built(2000) == []
    assert built(3000)


def test_what_cannot_be_remembered_is_not_warned_about(built):
    """It would be each time."""
    built(1000)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (0, before[1]))
    try:
        unsaid = built(2000)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
    assert unsaid == []
    assert built(2000)


def test_old_records_go(built, project):
    for number in range(growth._KEPT + 5):
        built(1000, of=replace(project, root=project.root / str(number)))
    assert len(list((files.cache_dir() / "sizes").iterdir())) == growth._KEPT
