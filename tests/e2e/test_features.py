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
