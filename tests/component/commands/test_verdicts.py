"""One verdict: a module that one command calls broken is broken for all of them, alone or in an image."""

import json
from pathlib import Path

import pytest
from hypothesis import HealthCheck, example, given, settings
from support import odd_modules
from support import wasm_asm as asm
from support.commands import entered
from support.odd_modules import mutated

import scaffold
from scaffold.errors import ModuleError
from scaffold.oci.plugin_info import PluginInfo
from scaffold.oci.reference import Reference
from scaffold.oci.spec import ImageError
from scaffold.oci.store import Store
from scaffold.oci.variants import VARIANTS
from scaffold.wasm.module import NotAPlugin

NO_PLUGIN = ("it exports no proxy-wasm ABI marker", "it is a WebAssembly component")
BROKEN = {name: content for name, (content, _) in odd_modules.BROKEN.items()}
BROKEN["64 import sections"] = asm.HEADER + asm.imports(("env", "f", b"\2\0\1")) * 64
CARGO_TOML = '[package]\nname = "hello"\nversion = "1.0.0"\n[lib]\ncrate-type = ["cdylib"]\n'
EVERYWHERE = scaffold.ClusterOptions(whole_namespace=True)
IMAGE = "127.0.0.1:9/broken:1"  # where nothing listens
FOR_FILES = {
    "inspect": lambda path: scaffold.inspect(path),
    "package": lambda path: scaffold.package(module=path),
    "deploy": lambda path: scaffold.deploy(module=path),
    "run": lambda path: scaffold.run(module=path),
    "test": lambda path: scaffold.test(module=Path(path)),
    "bootstrap": lambda path: scaffold.bootstrap(module=path),
    "manifest": lambda path: scaffold.manifest("envoy", path, scaffold.ClusterOptions(file="/a.wasm")),
}
FOR_IMAGES = {
    "inspect": lambda name: scaffold.inspect(name),
    "package": lambda name: scaffold.package(module=name, tag="again:1"),
    "push": lambda name: scaffold.push(name),
    "deploy": lambda name: scaffold.deploy(module=name),
    "run": lambda name: scaffold.run(module=name),
    "bootstrap": lambda name: scaffold.bootstrap(module=name),
    "manifest": lambda name: scaffold.manifest("istio", name, EVERYWHERE),
}


@pytest.fixture
def here(home, monkeypatch):
    """A crate, which these commands don't build: they get a module."""
    (home / "Cargo.toml").write_text(CARGO_TOML)
    monkeypatch.chdir(home)
    return home


def verdict(command, subject, called=None):
    """Why a command refuses a module, which its message calls by its name; "" when it doesn't."""
    try:
        command(subject)
    except (NotAPlugin, ImageError) as error:
        return error.message.replace(called or subject, "it", 1)
    return ""


def stored(content, name="broken"):
    Store().add(VARIANTS["compat"](content, PluginInfo(name)), Reference.parse(IMAGE))


@pytest.mark.parametrize("name", ["plugin.wasm", IMAGE])
def test_inspect_ends_with_6_where_a_host_that_is_named_does_not_load_it(here, capsys, name):
    content = odd_modules.build(odd_modules.wasi("poll_oneoff", "iiii>i"))
    (here / "plugin.wasm").write_bytes(content)
    stored(content)
    assert entered(capsys, "inspect", name, "--for", "istio:1.25").code == 0
    ran = entered(capsys, "inspect", name, "--for", "istio:1.25", "--for", "gcp", "--for", "istio:1.24")
    assert (ran.code, ran.err) == (6, "")
    asked = ran.out.partition("\nasked for\n")[2]
    assert "Istio 1.25 (Envoy 1.33): yes" in asked and "Istio 1.24 (Envoy 1.32): no" in asked
    assert "hint: Envoy 1.33 and later have it; Istio 1.25 loads it" in asked
    ran = entered(capsys, "inspect", name, "--json", "--for", "istio:1.24")
    report = json.loads(ran.out)
    (verdict,) = report.get("module", {}).get("targets") or report["targets"]
    assert (ran.code, verdict["target"], verdict["envoy"], verdict["loads"]) == (
        6,
        "istio:1.24",
        "1.32",
        False,
    )
    assert entered(capsys, "inspect", name, "--for", "isto:1.24").code == 2


@pytest.mark.parametrize(
    ("words", "why"),
    [
        ((), "--confirm needs a host to confirm"),
        (("--for", "gcp"), "Google Service Extensions loads it can't be confirmed here: which Envoy it runs"),
        (
            ("--for", "higress:2.2"),
            "it has the WASI functions of Envoy 1.39, which no Envoy 1.36 of ours has",
        ),
    ],
)
def test_what_cannot_be_confirmed_is_refused_by_name(here, capsys, words, why):
    content = odd_modules.build(odd_modules.wasi("fd_sync", "i>i"))  # since Envoy 1.39
    (here / "plugin.wasm").write_bytes(content)
    ran = entered(capsys, "inspect", "plugin.wasm", "--confirm", *words)
    assert ran.code == 2
    assert why in " ".join(ran.err.split())


POLL = odd_modules.build(odd_modules.wasi("poll_oneoff", "iiii>i"))
HELD = {"package", "push", "deploy", "run", "manifest", "bootstrap"}


@pytest.mark.parametrize(
    ("setting", "host"),
    [
        ('targets = ["envoy:1.40", "istio:1.24"]', "Istio 1.24 (Envoy 1.32)"),
        ('envoy = ">=1.32"', "Envoy 1.32"),
    ],
)
def test_the_hosts_in_cargo_toml_have_to_load_what_is_shipped_and_run(here, setting, host):
    (here / "Cargo.toml").write_text(f"{CARGO_TOML}[package.metadata.proxy-wasm]\n{setting}\n")
    path = here / "plugin.wasm"
    path.write_bytes(POLL)
    stored(POLL, "hello")
    on_files = [(FOR_FILES[name], str(path)) for name in FOR_FILES.keys() & HELD]
    for command, subject in on_files + [(FOR_IMAGES[name], IMAGE) for name in FOR_IMAGES.keys() & HELD]:
        with pytest.raises(ModuleError, match=r"Cargo\.toml says it has to") as caught:
            command(subject)
        assert caught.value.message.startswith(f"{host} doesn't load hello, ")
        assert caught.value.exit_code == 6


def test_the_hosts_in_cargo_toml_have_no_say_about_others(here):
    (here / "Cargo.toml").write_text(f'{CARGO_TOML}[package.metadata.proxy-wasm]\ntargets = ["istio:1.24"]\n')
    stored(POLL, "another")
    assert scaffold.package(module=IMAGE, tag="again:1").reference
    (here / "plugin.wasm").write_bytes(odd_modules.build())
    assert scaffold.package(module=str(here / "plugin.wasm")).reference
    outside = here.parent / "outside.wasm"
    outside.write_bytes(POLL)
    assert scaffold.package(module=str(outside)).reference


@pytest.mark.parametrize("kind", BROKEN)
def test_every_command_refuses_what_is_broken(here, kind):
    path = here / "plugin.wasm"
    path.write_bytes(BROKEN[kind])
    stored(BROKEN[kind])
    alone = {name: verdict(command, str(path)) for name, command in FOR_FILES.items()}
    packed = {name: verdict(command, IMAGE, "the image's module") for name, command in FOR_IMAGES.items()}
    said = alone["inspect"]
    assert said.startswith("it is a broken wasm module: ")
    assert alone == dict.fromkeys(FOR_FILES, said)
    assert packed == dict.fromkeys(FOR_IMAGES, said)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(mutated())
@example(odd_modules.ODD["no marker"].content)
def test_what_inspect_calls_broken_is_not_packaged_and_the_other_way_round(here, content):
    path = here / "plugin.wasm"
    path.write_bytes(content)
    stored(content)
    seen = verdict(FOR_FILES["inspect"], str(path))
    refused = verdict(FOR_FILES["package"], str(path))
    if not refused.startswith(NO_PLUGIN):
        assert refused == seen
    else:
        assert seen == ""
    assert verdict(FOR_IMAGES["package"], IMAGE, "the image's module").startswith(seen)
    assert verdict(FOR_IMAGES["inspect"], IMAGE, "the image's module") in (seen, refused)
