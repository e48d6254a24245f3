"""What we say of a module, held against what a real Envoy does with it."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Callable
from pathlib import Path

import pytest
from support import odd_modules
from support.odd_modules import BYTECODE, CORRUPTED, CRASH, ODD, WASI, build, of_abi
from support.wat_plugins import running

from scaffold.core import process
from scaffold.errors import ModuleError
from scaffold.hosts.envoy import installed as envoys
from scaffold.hosts.envoy import resources as envoy_config
from scaffold.hosts.envoy.binary_info import Binary
from scaffold.hosts.unsupported import Unsupported
from scaffold.project.envoy_clusters import Address
from scaffold.wasm import check as abi
from scaffold.wasm.module import NotAPlugin, WasmFile

DATA = tomllib.loads(Path(abi.__file__).with_suffix(".toml").read_text())
INSTALLED = {envoy.version: envoy.path for envoy in envoys.installed() if envoy.fault is None}


@pytest.fixture(scope="module", params=INSTALLED)
def envoy(request: pytest.FixtureRequest) -> Binary:
    """Each Envoy that is installed."""
    return Binary.at(INSTALLED[request.param])


@pytest.fixture
def load(envoy: Binary, tmp_path: Path) -> Callable[[bytes], process.Completed]:
    """Lets Envoy load a module, as the one filter of a listener."""
    module, bootstrap = tmp_path / "plugin.wasm", tmp_path / "bootstrap.json"
    vm = envoy_config.wasm_vm(envoy_config.local_file(str(module)))
    plugin = envoy_config.wasm_filter(vm, name="plugin")
    manager = {
        "@type": "type.googleapis.com/envoy.extensions.filters.network.http_connection_manager.v3"
        ".HttpConnectionManager",
        "stat_prefix": "ingress",
        "route_config": {},
        "http_filters": [{"name": "plugin", "typed_config": plugin}, envoy_config.router()],
    }
    listener = {
        "address": envoy_config.socket_address(Address("127.0.0.1", 0)),
        "filter_chains": [{"filters": [{"name": "manager", "typed_config": manager}]}],
    }
    bootstrap.write_text(json.dumps({"static_resources": {"listeners": [listener]}}))

    def load(content: bytes) -> process.Completed:
        module.write_bytes(content)
        return process.run([envoy.path, "--mode", "validate", "-l", "error", "-c", bootstrap], timeout=60)

    return load


@pytest.fixture
def fatal(envoy: Binary, tmp_path: Path) -> Callable[[bytes], list[str]]:
    """Says what is fatal in a module for that Envoy, in our words."""

    def judge(content: bytes) -> list[str]:
        path = tmp_path / "judged.wasm"
        path.write_bytes(content)
        problems = abi.judge(WasmFile.read(path), envoy.version)
        return [problem.message for problem in problems if problem.fatal]

    return judge


@pytest.fixture
def emulated(envoy: Binary, tmp_path: Path) -> Callable[[bytes], str]:
    """Says why the emulator of that Envoy refuses a module; "" if it runs it."""

    def why(content: bytes) -> str:
        try:
            with running(content, tmp_path, envoy=str(envoy.version)):
                return ""
        except (ModuleError, Unsupported) as error:
            return error.message

    return why


@pytest.mark.parametrize("name", ODD)
def test_the_emulator_refuses_a_small_module_in_envoys_words(name, load, emulated):
    odd = ODD[name]
    ran, said = load(odd.content), emulated(odd.content)
    if odd.envoy == CRASH:
        assert "Envoy itself would crash" in said
    elif odd.rule == "abi":  # which is no plugin, for whatever host
        assert "no proxy-wasm ABI marker" in said
    elif name == "an exception of before":
        assert "doesn't support" in said
    else:
        assert (said == "") == (ran.code == 0), (said, ran.stderr)
        assert said.partition("\n")[0] in ran.stderr


@pytest.mark.parametrize("name", ODD)
def test_a_small_module(name, load, fatal):
    odd = ODD[name]
    ran = load(odd.content)
    assert (ran.code < 0) == (odd.envoy == CRASH)
    assert (ran.code == 0) == (not odd.envoy), ran.stderr
    if odd.envoy != CRASH:
        assert odd.envoy in ran.stderr
    assert bool(fatal(odd.content)) == (ran.code != 0 or odd.rule == "start")


@pytest.mark.parametrize("name", odd_modules.BROKEN)
def test_what_we_call_broken_is(name, load, fatal):
    content, _ = odd_modules.BROKEN[name]
    ran = load(content)
    assert ran.code == 1
    assert BYTECODE in ran.stderr or CORRUPTED in ran.stderr
    with pytest.raises(NotAPlugin):
        fatal(content)


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0", "0.2.1"])
def test_envoy_has_all_that_the_data_say(version, envoy, load, fatal):
    """All at once: one that is missing, or of another type, would be refused."""
    host = abi.offered(envoy.version, version)
    imports = [(*name.split("."), kind) for name, kind in host.imports.items()]
    content = build(imports, of_abi(version.replace(".", "_"), **host.callbacks))
    assert fatal(content) == []
    ran = load(content)
    assert ran.code == 0, ran.stderr


@pytest.mark.parametrize("version", ["0.1.0", "0.2.0", "0.2.1"])
def test_envoy_has_not_what_the_data_say_it_has_not(version, envoy, load, fatal):
    """Each alone: what other ABIs have, and later Envoys."""
    every = {f"env.{name}": entry for name, entry in DATA["hostcalls"].items()}
    every |= {f"{WASI}.{name}": entry for name, entry in DATA["wasi"].items()}
    lacking = every.keys() - abi.offered(envoy.version, version).imports.keys()
    assert lacking
    for name in sorted(lacking):
        content = build([(*name.split("."), every[name]["signature"])], of_abi(version.replace(".", "_")))
        assert fatal(content) == [f"it imports `{name}`, which Envoy doesn't have"]
        assert f"missing import: {name}\n" in load(content).stderr


@pytest.mark.parametrize("name", DATA["callbacks"])
def test_envoy_looks_at_the_type_of_every_callback(name, load, fatal):
    content = build(exports=of_abi("0_2_1", **{name: "I>-"}))
    assert f"Bad function signature for: {name}, want" in load(content).stderr
    assert len(fatal(content)) == 1


def test_main_by_its_other_name_is_looked_at_since_envoy_1_39(envoy, load, fatal):
    content = build(exports=odd_modules.without(__main_void="i>i"))
    assert (load(content).code != 0) == bool(fatal(content)) == (envoy.version >= (1, 39))


FOREIGN = """
#[link(wasm_import_module = "__wbindgen_placeholder__")]
extern "C" {
    fn __wbindgen_describe(n: i32);
}

#[no_mangle]
pub extern "C" fn describe() {
    unsafe { __wbindgen_describe(1) }
}
"""


def test_a_build_and_a_run_say_why_envoy_does_not_load_the_module(copy, run):
    with (copy / "src/lib.rs").open("a") as source:
        source.write(FOREIGN)
    hint = "a dependency wants JavaScript (wasm-bindgen)"
    built = run("scaffold", "build", "--root", copy)
    assert built.returncode == 0, built.stderr
    assert "warning: Envoy doesn't load hello_world.wasm: it imports" in built.stderr
    assert hint in " ".join(built.stderr.split())
    for words in (["run", "--port", "0"], ["deploy", "--port", "0"], ["bootstrap"]):
        ran = run("scaffold", *words, "--root", copy)
        assert ran.returncode == 6, ran.stderr
        assert f"hint: {hint}" in " ".join(ran.stderr.split())


SLEEPING = """
#[no_mangle]
pub extern "C" fn doze() {
    std::thread::sleep(std::time::Duration::from_millis(1))
}
"""


def test_a_host_in_cargo_toml_that_does_not_load_the_module_fails_the_build(copy, run):
    with (copy / "src/lib.rs").open("a") as source:
        source.write(SLEEPING)
    manifest = copy / "Cargo.toml"
    text = manifest.read_text()
    table = "[package.metadata.proxy-wasm]\n"
    assert table in text
    manifest.write_text(text.replace(table, f'{table}targets = ["istio:1.24"]\n'))
    for words in (["build"], ["package"], ["deploy", "--port", "0"]):
        ran = run("scaffold", *words, "--root", copy)
        said = " ".join(ran.stderr.split())
        assert ran.returncode == 6, said
        assert "error: Istio 1.24 (Envoy 1.32) doesn't load hello_world, which Cargo.toml says" in said
        assert "Envoy 1.33 and later have it; Istio 1.25 loads it; it comes from `poll_oneoff <- " in said
        assert "<- doze`" in said
    manifest.write_text(text.replace(table, f'{table}targets = ["istio:1.25"]\nenvoy = ">=1.33"\n'))
    ran = run("scaffold", "build", "--root", copy)
    assert ran.returncode == 0, ran.stderr
