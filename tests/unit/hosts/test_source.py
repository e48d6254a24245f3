"""Modules of images in the user's cache: there when they are used, gone when nobody does."""

from __future__ import annotations

import os
import time

import pytest
from support import wasm_asm

from scaffold.core import files
from scaffold.errors import UsageError
from scaffold.hosts import source as plugins
from scaffold.oci.plugin_info import PluginInfo
from scaffold.oci.reference import Reference
from scaffold.oci.store import Store
from scaffold.oci.variants import TITLE, compat
from scaffold.toolchain.options import BuildOptions

DAY = 86400
MIB = 2**20


@pytest.fixture
def cache(tmp_path, monkeypatch):
    for kind in ("DATA", "CACHE", "STATE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind))
    return files.cache_dir() / "modules"


def keep(name, number=0, title="hello"):
    made = compat(wasm_asm.plugin() + wasm_asm.custom("number", b"%d" % number), PluginInfo(title))
    Store().add(made, Reference.parse(name))


def cached(cache, name, age, size=1):
    """A module of some age, sparse on the disk."""
    path = cache / name
    with path.open("wb") as file:
        file.truncate(size)
    os.utime(path, (time.time() - age,) * 2)
    return path


def test_a_module_that_nobody_has_used_for_long_goes_when_another_comes(cache):
    keep("a:1")
    first = plugins.open_image("a:1").module.path
    assert first.parent == cache
    old, young = cached(cache, "old.wasm", 31 * DAY), cached(cache, "young.wasm", 29 * DAY)
    left = cached(cache, ".old.wasm.x", 31 * DAY)  # by a kill
    os.utime(first, (time.time() - 31 * DAY,) * 2)
    assert plugins.open_image("a:1").module.path == first
    assert old.exists(), "nothing was written"
    keep("a:2", 2)
    second = plugins.open_image("a:2").module.path
    assert set(cache.iterdir()) == {first, second, young}
    assert not left.exists()


def test_the_longest_unused_of_too_many_go_but_none_that_may_be_in_use(cache):
    cache.mkdir(parents=True)
    in_use = cached(cache, "in_use.wasm", 600, 400 * MIB)
    newer = cached(cache, "newer.wasm", 2 * DAY, 100 * MIB)
    older = cached(cache, "older.wasm", 3 * DAY, 100 * MIB)
    keep("a:1")
    opened = plugins.open_image("a:1").module.path
    assert set(cache.iterdir()) == {opened, in_use, newer}
    assert not older.exists()
    cached(cache, in_use.name, 600, 600 * MIB)
    keep("a:2", 2)
    second = plugins.open_image("a:2").module.path
    assert set(cache.iterdir()) == {opened, second, in_use}


@pytest.mark.parametrize("title", ["two\nlines", "\x1b[31mred"])
def test_a_title_that_is_no_line_to_show_names_no_plugin(cache, title):
    keep("acme/hello:1", title=title)
    opened = plugins.open_image("acme/hello:1")
    assert opened.manifest.annotations[TITLE] == title
    assert opened.info.name == "hello"


@pytest.mark.parametrize(
    ("flag", "build"),
    [
        ("--features", BuildOptions(features=("a",))),
        ("--profile", BuildOptions(profile="dev")),
        ("--rustc", BuildOptions(rustc="rustc")),
    ],
)
def test_what_is_built_already_takes_no_options_of_a_build(cache, tmp_path, flag, build):
    keep("a:1")
    file = tmp_path / "own.wasm"
    file.write_bytes(wasm_asm.plugin())
    for argument, name in ((file, "own.wasm"), ("a:1", "a:1")):
        choice = plugins.choose(argument, tmp_path)
        with pytest.raises(UsageError) as caught:
            choice.load(build)
        assert caught.value.message == f"{flag} is for a build, and `{name}` is built already"
        (source,) = choice.load(BuildOptions(yes=True))
        assert source.module.abi_version == "0.2.1"
