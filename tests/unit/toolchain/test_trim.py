"""Which callbacks stay: what each crate's MIR has, and what can't be known."""

from __future__ import annotations

from pathlib import Path

import pytest

from scaffold.toolchain import trim
from scaffold.toolchain.trim import Crate, Undecided, crate_of

PLUGIN = ("a", "1.0.0")
REGISTRY = "registry+https://github.com/rust-lang/crates.io-index"
SDK = ("proxy-wasm", "0.2.5", [], REGISTRY)
LOG = ("log", "0.4.35", [], REGISTRY)


class Target:
    """cargo's folder for libraries, and its lock file."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "a target/deps"
        self.folder.mkdir(parents=True)
        self.lock_file = folder / "Cargo.lock"
        self.crates: list[Crate] = []
        self.compiled("a", "fn on_log() {}")
        self.lock(("a", "1.0.0", ["proxy-wasm", "log"], ""), SDK, LOG)

    def lock(self, *packages) -> None:
        self.lock_file.write_text(
            "version = 4\n"
            + "".join(
                f'[[package]]\nname = "{name}"\nversion = "{version}"\ndependencies = {uses}\n'
                + (f'source = "{source}"\n' if source else "")
                for name, version, uses, source in packages
            )
        )

    def compiled(self, stem: str, mir: str | None, listed: str = "") -> None:
        """As rustc leaves it: the MIR, and the list of what was written."""
        path = self.folder / f"{stem}.mir"
        written = str(listed or path).replace(" ", "\\ ")
        if mir is not None:
            path.write_text(mir)
        path.with_suffix(".d").write_text(f"{written}: src/lib.rs\n\nsrc/lib.rs:\n")

    def library(self, name: str, version: str, mir: str | None) -> None:
        self.compiled(f"{name}-0123", mir)
        self.crates.append(Crate((name, version), self.folder / f"lib{name}-0123.rlib"))

    def kept(self) -> dict[str, str]:
        decision = trim.decide(PLUGIN, self.folder / "a.mir", self.crates, self.lock_file)
        assert {*decision.kept} | {*decision.dropped} == {*trim.CALLBACKS}
        assert not {*decision.kept} & {*decision.dropped}
        return dict(decision.kept)


@pytest.fixture
def target(tmp_path) -> Target:
    return Target(tmp_path)


def test_what_the_plugin_overrides_stays(target):
    assert target.kept() == {"proxy_on_log": "`on_log` in a"}


@pytest.mark.parametrize("callback", trim.CALLBACKS)
def test_each_name_of_a_callback_keeps_it(target, callback):
    for word in trim.CALLBACKS[callback]:
        target.compiled("a", f"fn <impl at src/lib.rs:1:1: 1:9>::{word}(_1: &mut A, _2: usize) -> Action {{")
        assert callback in target.kept()


@pytest.mark.parametrize(
    ("call", "callbacks"),
    [
        ("dispatch_http_call", {"proxy_on_http_call_response"}),
        ("dispatch_grpc_call", {"proxy_on_grpc_receive", "proxy_on_grpc_close"}),
        ("open_grpc_stream", {"proxy_on_grpc_close"}),
    ],
)
def test_a_call_keeps_what_forgets_it(target, call, callbacks):
    target.compiled("a", f"_3 = <A as Context>::{call}(move _4) -> [return: bb1, unwind unreachable];")
    assert {*target.kept()} == callbacks


def test_a_longer_name_is_another(target):
    target.compiled("a", "fn on_log_line() {} fn my_on_tick() {} fn on_http_request_body2() {}")
    assert target.kept() == {}


def test_a_callback_of_the_crate_s_own_stays(target):
    target.compiled("a", "fn proxy_on_tick(_1: u32)")
    assert {*target.kept()} == {"proxy_on_tick"}


def test_another_crate_that_can_reach_the_sdk_counts(target):
    target.lock(
        ("a", "1.0.0", ["shared 0.1.0"], ""),
        ("shared", "0.1.0", ["proxy-wasm"], ""),
        ("shared", "0.2.0", ["proxy-wasm"], REGISTRY),  # which the plugin doesn't use
        SDK,
    )
    target.library("shared", "0.1.0", "on_tick")
    target.library("shared", "0.2.0", "on_done")
    target.crates[0] = Crate(("shared", "0.1.0"), target.folder / "libshared-4567.rlib")
    target.compiled("shared-4567", "on_tick")
    assert target.kept() == {"proxy_on_log": "`on_log` in a", "proxy_on_tick": "`on_tick` in shared"}


def test_a_crate_that_can_t_reach_the_sdk_needs_no_mir(target):
    target.crates.append(Crate(("log", "0.4.35"), target.folder / "liblog-1.rlib"))
    assert {*target.kept()} == {"proxy_on_log"}


def test_a_library_for_the_machine_is_another_s(target):
    target.lock(("a", "1.0.0", ["proxy-wasm", "built"], ""), ("built", "1.0.0", ["proxy-wasm"], ""), SDK)
    target.crates.append(Crate(("built", "1.0.0"), Path("/elsewhere/deps/libbuilt-1.rlib")))
    assert {*target.kept()} == {"proxy_on_log"}


@pytest.mark.parametrize("uplifted", [False, True])
def test_a_crate_that_a_plain_cargo_compiled_can_t_be_known(target, uplifted):
    target.lock(("a", "1.0.0", ["proxy-wasm", "shared"], ""), ("shared", "0.1.0", ["proxy-wasm"], ""), SDK)
    target.library("shared", "0.1.0", "old")
    target.compiled("shared-0123", "old", listed="/other.rlib")
    if uplifted:
        target.crates = [Crate(("shared", "0.1.0"), target.folder.parent / "libshared.rlib")]
    with pytest.raises(Undecided, match=r"shared"):
        target.kept()


@pytest.mark.parametrize(
    "sdk",
    [
        ("proxy-wasm", "0.1.4", [], REGISTRY),
        ("proxy-wasm", "0.3.0", [], REGISTRY),
        ("proxy-wasm", "0.2.5", [], ""),
        ("proxy-wasm", "0.2.5", [], "git+https://x"),
    ],
)
def test_another_sdk_may_do_other_things(target, sdk):
    target.lock(("a", "1.0.0", ["proxy-wasm"], ""), sdk)
    with pytest.raises(Undecided, match=f"proxy-wasm {sdk[1]} isn't the SDK"):
        target.kept()


def test_a_module_without_the_sdk_is_left_alone(target):
    target.lock(("a", "1.0.0", ["log"], ""), LOG)
    with pytest.raises(Undecided, match="doesn't depend on proxy-wasm"):
        target.kept()


@pytest.mark.parametrize("lock", ["", "not toml", "package = 3", "[[package]]\nname = 'a'\n", None])
def test_without_a_lock_file_nothing_is_known(target, lock):
    target.lock_file.unlink()
    if lock is not None:
        target.lock_file.write_text(lock)
    with pytest.raises(Undecided, match=r"Cargo\.lock can't be read"):
        target.kept()


@pytest.mark.parametrize("missing", ["a.mir", "a.d"])
def test_without_its_own_mir_nothing_is_known(target, missing):
    (target.folder / missing).unlink()
    with pytest.raises(Undecided, match="what a overrides isn't known"):
        target.kept()


@pytest.mark.parametrize(
    ("id_", "package"),
    [
        ("registry+https://github.com/rust-lang/crates.io-index#log@0.4.35", ("log", "0.4.35")),
        ("path+file:///home/a/shared#0.1.0", ("shared", "0.1.0")),
        ("path+file:///home/a/folder#shared@0.1.0+x", ("shared", "0.1.0+x")),
        ("git+https://example.com/shared?rev=1#0.1.0", ("shared", "0.1.0")),
    ],
)
def test_cargo_s_messages_name_packages(id_, package):
    crate = crate_of({"package_id": id_, "filenames": ["/t/libx-1.rmeta", "/t/libx-1.rlib"]})
    assert crate == Crate(package, Path("/t/libx-1.rlib"))


@pytest.mark.parametrize("filenames", [[], ["/t/a.wasm"]])
def test_what_is_no_library_is_none(filenames):
    assert crate_of({"package_id": "path+file:///a#1.0.0", "filenames": filenames}) is None
