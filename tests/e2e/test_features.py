"""Cargo features, as every command that builds takes them."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

import scaffold
from scaffold.errors import ToolFailed

SCAFFOLD = (sys.executable, "-m", "scaffold")


@pytest.fixture
def loud(copy) -> Path:
    """A crate with a feature that changes the module, and a native test that is there with it alone."""
    with (copy / "Cargo.toml").open("a") as manifest:
        manifest.write("\n[features]\nloud = []\nlouder = []\n")
    with (copy / "src/lib.rs").open("a") as source:
        source.write('\n#[cfg(feature = "loud")]\n#[no_mangle]\npub static LOUD: [u8; 4] = *b"LOUD";\n')
        source.write('\n#[cfg(all(test, feature = "louder"))]\n#[test]\nfn louder() { panic!("louder") }\n')
    return copy


def test_a_module_is_built_with_the_features_that_are_named(loud, run):
    plain = scaffold.build(loud)
    assert b"LOUD" not in plain.content
    both = scaffold.build(loud, scaffold.BuildOptions(features=("loud,louder",)))
    assert b"LOUD" in both.content
    ran = run(*SCAFFOLD, "package", "--root", loud, "--features=loud", "--features=louder", "--json")
    assert json.loads(ran.stdout)["module_digest"] == both.digest


def test_native_tests_are_compiled_with_them(loud, run):
    ran = run(*SCAFFOLD, "test", "--root", loud, "--features", "louder")
    assert (ran.returncode, "panicked" in ran.stdout + ran.stderr) == (1, True)


def test_a_feature_that_the_crate_has_not_is_cargos_to_explain(loud, capfd):
    with pytest.raises(ToolFailed, match="cargo build failed"):
        scaffold.build(loud, scaffold.BuildOptions(features=("quiet",)))
    assert "quiet" in capfd.readouterr().err


SETTINGS = "[package.metadata.proxy-wasm]\n"


def set_in(root: Path, lines: str) -> None:
    manifest = root / "Cargo.toml"
    manifest.write_text(manifest.read_text().replace(SETTINGS, SETTINGS + lines))


def test_the_settings_choose_features_for_every_build(loud, run):
    set_in(loud, 'features = ["loud"]\n')
    assert b"LOUD" in scaffold.build(loud).content
    set_in(loud, "default-features = false\n")
    manifest = loud / "Cargo.toml"
    manifest.write_text(manifest.read_text().replace("[features]\n", '[features]\ndefault = ["louder"]\n'))
    assert b"LOUD" in scaffold.build(loud).content
    ran = run(*SCAFFOLD, "test", "--root", loud)
    assert ran.returncode == 0, f"its native test panics with the default features: {ran.stderr}"


def test_default_features_can_be_left_out(loud):
    manifest = loud / "Cargo.toml"
    manifest.write_text(manifest.read_text().replace("[features]\n", '[features]\ndefault = ["loud"]\n'))
    assert b"LOUD" in scaffold.build(loud).content
    assert b"LOUD" not in scaffold.build(loud, scaffold.BuildOptions(no_default_features=True)).content


def test_in_a_workspace_each_plugin_has_its_own(tmp_path, state):
    (tmp_path / "Cargo.toml").write_text('[workspace]\nmembers = []\nresolver = "2"\n')
    for name, lines in {"a": 'features = ["loud"]\n', "b": "default-features = false\n", "c": ""}.items():
        root = scaffold.new(name, output_dir=tmp_path, no_input=True).root
        set_in(root, lines)
        with (root / "Cargo.toml").open("a") as manifest:
            manifest.write('\n[features]\ndefault = ["plain"]\nplain = []\nloud = []\n')
        with (root / "src/lib.rs").open("a") as source:
            for feature in ("plain", "loud"):
                static = f'pub static {feature.upper()}: [u8; 5] = *b"{feature.upper():5}"'
                source.write(f'\n#[cfg(feature = "{feature}")]\n#[no_mangle]\n{static};\n')
    modules = scaffold.build(tmp_path)
    found = [[word for word in (b"PLAIN", b"LOUD ") if word in module.content] for module in modules]
    assert found == [[b"PLAIN", b"LOUD "], [], [b"PLAIN"]]
