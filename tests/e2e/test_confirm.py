"""`inspect --confirm`: real Envoys load a module, and the report has what they did beside the verdict."""

from __future__ import annotations

import json

import pytest
from support import odd_modules
from support import wasm_asm as asm
from support.odd_modules import ODD

import scaffold
from scaffold.errors import UsageError
from scaffold.hosts.envoy import confirm
from scaffold.hosts.envoy import installed as envoys
from scaffold.oci.plugin_info import PluginInfo
from scaffold.oci.reference import Reference
from scaffold.oci.store import Store
from scaffold.oci.variants import VARIANTS

INSTALLED = [envoy.version for envoy in envoys.installed() if envoy.fault is None]
ANSWER = asm.signature(asm.I32 * 2, asm.I32)
FOREVER = b"\x03\x40\x0c\x00\x0b"  # a loop that begins again


def starting(configure=asm.const(1), start=asm.const(1)):
    """A plugin with these instructions for its first callbacks."""
    callbacks = {
        "proxy_on_context_create": (asm.signature(asm.I32 * 2), b""),
        "proxy_on_vm_start": (ANSWER, start),
        "proxy_on_configure": (ANSWER, configure),
    }
    return asm.plugin(callbacks=callbacks)


# what is loaded, whether it loads, and what is said of it
CASES = {
    "a plugin": (starting(), True, ""),
    "one that refuses its configuration": (
        starting(asm.const(0)),
        True,
        "Failed to configure base Wasm plugin",
    ),
    "one that refuses to start": (starting(start=asm.const(0)), True, "Failed to start base Wasm"),
    "a trap": (
        starting(start=b"\x00"),
        False,
        "proxy_on_vm_start failed: Uncaught RuntimeError: unreachable",
    ),
    "an import that isn't there": (
        ODD["a hostcall that there is not"].content,
        False,
        "import: env.proxy_nope",
    ),
    "code that isn't valid": (odd_modules.using(b"\x6a"), False, "Failed to load Wasm bytecode"),
    "a crash": (ODD["an imported tag"].content, False, "this Envoy crashes (SIG"),
    "one that hangs": (starting(start=FOREVER + asm.const(1)), False, "it hasn't started after 2 s"),
}


@pytest.mark.parametrize("case", CASES)
@pytest.mark.parametrize("version", INSTALLED)
def test_what_an_envoy_does_is_said(tmp_path, monkeypatch, version, case):
    content, loads, words = CASES[case]
    if case == "one that hangs":
        monkeypatch.setattr(confirm, "SECONDS", 2.0)
    path = tmp_path / "plugin.wasm"
    path.write_bytes(content)
    report = scaffold.inspect(str(path), hosts=(f"envoy:{version}",), confirm=True)
    (verdict,) = report.targets
    assert (verdict.confirmed.envoy, verdict.confirmed.loads) == (version, loads)
    assert words in verdict.confirmed.said
    assert bool(words) == bool(verdict.confirmed.said)
    assert report.exit_code == (0 if loads else 6)
    disagree = "the verdict and Envoy disagree" in " ".join(report.summary().split())
    assert disagree == (verdict.loads != loads)


def test_hosts_that_run_the_same_envoy_are_confirmed_by_it(tmp_path, run):
    path = tmp_path / "plugin.wasm"
    path.write_bytes(starting())
    hosts = ["istio:1.28", "envoy-gateway:1.6", "higress:2.2"]
    words = [word for host in hosts for word in ("--for", host)]
    ran = run("scaffold", "inspect", path, *words, "--confirm", "--json")
    assert ran.returncode == 0, ran.stderr
    (envoy,) = {each["confirmed"]["envoy"] for each in json.loads(ran.stdout)["targets"]}
    assert envoy.startswith("1.36.")


@pytest.mark.parametrize("minor", ["1.33", "1.24"])
def test_an_envoy_that_cannot_be_had_is_refused_by_name(tmp_path, minor):
    path = tmp_path / "plugin.wasm"
    path.write_bytes(starting())
    with pytest.raises(
        UsageError, match=rf"whether Envoy {minor} loads it can't be confirmed here: there is no"
    ):
        scaffold.inspect(str(path), hosts=(f"envoy:{minor}",), confirm=True)


def test_an_image_starts_with_its_configuration(tmp_path, monkeypatch, state):
    """This one wants a byte of it: `proxy_on_configure` returns the configuration's size."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    module, version = starting(asm.local(1)), envoys.default().version_text
    for configuration, said in (("7", ""), ("", "Failed to configure base Wasm plugin")):
        info = PluginInfo("sized", configuration=configuration)
        Store().add(VARIANTS["compat"](module, info), Reference.parse("sized:1"))
        report = scaffold.inspect("sized:1", hosts=(f"envoy:{version}",), confirm=True)
        (verdict,) = report.module.targets
        assert (verdict.confirmed.loads, verdict.confirmed.said) == (True, said)
