"""Which hosts load a module, what each says of one that it doesn't load, and who brought the import."""

from __future__ import annotations

import pytest
from support import wasm_asm as asm
from support.odd_modules import WASI, build, wasi

from scaffold.core.versions import Version
from scaffold.errors import ModuleError, UsageError
from scaffold.wasm import blame, check, proxy_features, symbols, targets
from scaffold.wasm.symbols import Symbols

POLL = build(wasi("poll_oneoff", "iiii>i"))


def parse(text):
    return targets.parse(text, "--for", UsageError)


@pytest.mark.parametrize(
    ("text", "title", "loads"),
    [
        ("envoy:1.32", "Envoy 1.32", False),
        ("envoy:1.33.4", "Envoy 1.33.4", True),
        ("istio:1.24", "Istio 1.24 (Envoy 1.32)", False),
        ("istio:1.25.1", "Istio 1.25.1 (Envoy 1.33)", True),
        ("envoy-gateway:1.2", "Envoy Gateway 1.2 (Envoy 1.32)", False),
        ("envoy-gateway:v1.3.0", "Envoy Gateway 1.3.0 (Envoy 1.33)", True),
        ("higress:2.1.3", "Higress 2.1.3 (Envoy 1.27)", False),
        ("higress:2.1.9", "Higress 2.1.9 (Envoy 1.27)", True),
        ("higress:2.2.4", "Higress 2.2.4 (Envoy 1.36)", True),
        ("gcp", "Google Service Extensions", True),
    ],
)
def test_a_host_loads_what_its_envoy_loads(read, text, title, loads):
    verdict = targets.judge(read(POLL), parse(text))
    assert (verdict.title, verdict.loads, bool(verdict.problems)) == (title, loads, not loads)


@pytest.mark.parametrize(
    ("text", "remedy"),
    [
        ("envoy:1.20", ""),
        ("istio:1.24", "; Istio 1.25 loads it"),
        ("envoy-gateway:1.1", "; Envoy Gateway 1.3 loads it"),
        ("higress:2.0", "; Higress 2.1.4 loads it"),
    ],
)
def test_a_hint_names_the_version_of_the_host_that_loads_it(read, text, remedy):
    (problem,) = targets.judge(read(POLL), parse(text)).problems
    assert problem.hint == f"Envoy 1.33 and later have it{remedy}"


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("isto:1.24", "--for: no host named `isto`", "did you mean `istio`?"),
        ("nginx:1", "--for: no host named `nginx`", "known: envoy, istio, envoy-gateway, higress, gcp"),
        ("envoy", "--for: `envoy` has no version", "for example `envoy:1.40`"),
        ("envoy:new", "--for: `envoy:new` has no version", "for example `envoy:1.40`"),
        ("envoy:1", "--for: which Envoy Envoy 1 runs isn't known", "known: 1.17 to 1.40"),
        ("istio:1.99", "--for: which Envoy Istio 1.99 runs isn't known", "known: 1.9 to 1.31"),
        (
            "higress:1.4",
            "--for: which Envoy Higress 1.4 runs isn't known",
            "known: 2.0, 2.1, 2.1.4, 2.2",
        ),
        ("gcp:1.2", "--for: `gcp` has no versions to choose from", "write `gcp`"),
        ("\x1b[2J", r"--for: no host named `\x1b[2J`", "known: envoy, istio, envoy-gateway, higress, gcp"),
    ],
)
def test_a_host_that_is_not_known_is_refused_by_name(text, message, hint):
    with pytest.raises(UsageError) as caught:
        parse(text)
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_every_envoy_that_a_host_runs_is_one_that_we_know():
    for host in check.facts()["hosts"]:
        for version in targets.versions(host):
            assert targets.Target(host, version).envoy in check.envoys()


def test_istio_s_envoys_are_those_that_manifests_are_written_for():
    for version in targets.versions("istio"):
        assert targets.Target("istio", version).envoy == proxy_features.envoy_in(version)


def test_at_least_a_version_means_all_that_are_known():
    found = targets.at_least(">=1.38", "envoy", UsageError)
    assert [str(each) for each in found] == ["envoy:1.38", "envoy:1.39", "envoy:1.40"]
    for wrong in ("1.33", ">= new", ">=1.99", "<1.3", ">=1.33 or so"):
        with pytest.raises(UsageError):
            targets.at_least(wrong, "envoy", UsageError)


def test_what_cargo_toml_promises_is_held(read):
    targets.hold(read(POLL), "hello", [parse("istio:1.25")])
    with pytest.raises(ModuleError) as caught:
        targets.hold(read(POLL), "hello", [parse("istio:1.25"), parse("istio:1.24")])
    assert caught.value.message == (
        "Istio 1.24 (Envoy 1.32) doesn't load hello, which Cargo.toml says it has to:"
        f" it imports `{WASI}.poll_oneoff`, which Envoy doesn't have"
    )
    assert caught.value.hint == "Envoy 1.33 and later have it; Istio 1.25 loads it"


# --- blame

CALLS = {
    "tick": asm.call(5),
    "sleep": asm.call(6),
    "poll": asm.const(0) * 4 + asm.call(0) + asm.DROP,
    "idle": b"",
}
NAMES = {0: "poll_oneoff", 4: "my_crate::on_tick", 5: "std::thread::sleep", 6: "__wasi_poll_oneoff"}


def blamed(names):
    """A module whose `tick` calls `sleep`, that `poll`, and that the import; without names and with them."""
    callbacks = {name: (asm.signature(), calls) for name, calls in CALLS.items()}
    content = asm.plugin(
        hostcalls=[("poll_oneoff", asm.signature(asm.I32 * 4, asm.I32))], callbacks=callbacks
    )
    listed = asm.vector(asm.number(at) + asm.name(name) for at, name in names.items())
    return content, content + asm.custom("name", b"\x01" + asm.number(len(listed)) + listed)


@pytest.fixture(autouse=True)
def _cache(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    symbols._kept.cache_clear()
    blame.locked_packages.cache_clear()


def hint(module):
    return next(each.hint for each in targets.judge(module, parse("envoy:1.40")).problems)


CHAIN = "`poll_oneoff <- __wasi_poll_oneoff <- std::thread::sleep <- my_crate::on_tick`"


def test_the_hint_says_which_crate_brings_an_import(read):
    assert hint(read(blamed(NAMES)[1])) == f"it comes from {CHAIN}"


def test_the_crate_has_the_version_that_cargo_lock_says(read, tmp_path):
    (tmp_path / "Cargo.lock").write_text('[[package]]\nname = "my-crate"\nversion = "1.2.3"\n')
    assert hint(read(blamed(NAMES)[1])).endswith("on_tick` (my_crate 1.2.3)")


@pytest.mark.parametrize("lock", ["no TOML =", "package = 3", "[[package]]\nversion = 1\n"])
def test_a_broken_cargo_lock_says_nothing(read, tmp_path, lock):
    (tmp_path / "Cargo.lock").write_text(lock)
    assert hint(read(blamed(NAMES)[1])) == f"it comes from {CHAIN}"


def test_the_names_of_a_stripped_module_are_those_that_its_build_has_kept(read, tmp_path):
    content, named = blamed(NAMES)
    stripped = symbols.marked(content)
    assert hint(read(stripped)) is None
    symbols.keep(Symbols.of(content, named=named, linked=named), symbols.id_of(content), tmp_path / "names")
    symbols._kept.cache_clear()
    assert hint(read(stripped)) == f"it comes from {CHAIN}"


def test_without_a_crate_the_way_ends_at_the_last_name(read):
    names = NAMES | {4: "main"}
    assert hint(read(blamed(names)[1])).endswith("<- std::thread::sleep <- main`")


@pytest.mark.parametrize("names", [{}, {7: "my_crate::idle"}])
def test_without_names_nobody_is_blamed(read, names):
    assert hint(read(blamed(names)[1])) is None


def test_functions_that_call_each_other_are_passed_once(read):
    callbacks = {"a": (asm.signature(), asm.call(5)), "b": (asm.signature(), asm.call(4) + asm.call(0))}
    content = asm.plugin(hostcalls=[("nope", asm.signature())], callbacks=callbacks)
    listed = asm.vector(asm.number(at) + asm.name(name) for at, name in {4: "a", 5: "b"}.items())
    assert hint(read(content + asm.custom("name", b"\x01" + asm.number(len(listed)) + listed))) == (
        "it comes from `nope <- b <- a`"
    )


def test_a_problem_without_an_import_blames_nobody(read):
    assert check.blamed(read(build()), check.Problem("memory", "too much")).hint is None


def test_a_version_of_no_envoy_is_none():
    assert parse("gcp").envoy == Version((1, 40))
