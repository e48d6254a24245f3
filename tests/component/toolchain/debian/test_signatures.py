"""A mirror with the real apt-get: only what Debian's key has signed is believed."""

from __future__ import annotations

import hashlib
import os
import shutil
import subprocess

import pytest

from scaffold.core import files
from scaffold.errors import MachineError
from scaffold.toolchain import find as toolchain
from scaffold.toolchain.debian import install as private
from scaffold.toolchain.debian import packages
from scaffold.toolchain.debian.apt import Apt

PACKAGES = """Package: rustc
Version: 1
Architecture: all
Maintainer: nobody
Filename: pool/rustc.deb
Size: 8
SHA256: {digest}

"""


@pytest.fixture(autouse=True)
def apt_get():
    for program in ("apt-get", "dpkg-deb"):
        if not shutil.which(program):
            pytest.skip(f"there is no {program}")


@pytest.fixture
def sign(tmp_path_factory):
    """Signs a mirror with a key of nobody's; returns the keyring."""
    if not shutil.which("gpg"):
        pytest.skip("there is no gpg")
    home = tmp_path_factory.mktemp("gpg")
    gpg = ("gpg", "--homedir", str(home), "--batch", "--quiet", "--passphrase", "")

    def run(*words):
        subprocess.run([*gpg, *map(str, words)], check=True, capture_output=True)

    def sign(mirror):
        run("--quick-generate-key", "nobody@example.invalid", "ed25519", "sign")
        run("--output", home / "keyring.gpg", "--export")
        release = mirror / "dists/trixie/Release"
        run("--output", release.with_name("InRelease"), "--clearsign", release)
        return home / "keyring.gpg"

    yield sign
    subprocess.run(["gpgconf", "--homedir", str(home), "--kill", "all"], capture_output=True)


@pytest.fixture
def mirror(tmp_path):
    """A mirror with one package, and without a signature."""
    folder = tmp_path / "mirror"
    packages = folder / "dists/trixie/main/binary-amd64/Packages"
    packages.parent.mkdir(parents=True)
    (folder / "pool").mkdir()
    (folder / "pool/rustc.deb").write_bytes(b"!<arch>\n")
    packages.write_text(PACKAGES.format(digest=hashlib.sha256(b"!<arch>\n").hexdigest()))
    listed = f" {hashlib.sha256(packages.read_bytes()).hexdigest()} {packages.stat().st_size}"
    (folder / "dists/trixie/Release").write_text(
        "Suite: trixie\nCodename: trixie\nDate: Mon, 03 Nov 2025 00:00:00 UTC\nArchitectures: amd64\n"
        f"Components: main\nSHA256:\n{listed} main/binary-amd64/Packages\n"
    )
    return folder


def prepared(tmp_path, mirror, keyring):
    return Apt.prepare(
        tmp_path / "apt", mirror=f"file:{mirror}", suite="trixie", arch="amd64", keyring=keyring
    )


def test_what_the_keyrings_key_has_signed_is_believed(tmp_path, mirror, sign):
    apt = prepared(tmp_path, mirror, sign(mirror))
    apt.update()
    assert apt.plan(("rustc",)).archives == (("rustc_1_all.deb", 8),)


@pytest.mark.parametrize("kind", ["unsigned", "signed by another key", "changed after it was signed"])
def test_nothing_else_is_believed_nor_unpacked(tmp_path, monkeypatch, mirror, sign, kind):
    keyring = sign(mirror)
    signed = mirror / "dists/trixie/InRelease"
    if kind == "unsigned":
        signed.unlink()
    elif kind == "signed by another key":
        found = [packages._KEYRINGS / f"debian-archive-keyring.{suffix}" for suffix in ("pgp", "gpg")]
        keyring = next((path for path in found if path.is_file()), None)
        if keyring is None:
            pytest.skip("this machine has no Debian keyring")
    else:
        signed.write_text(signed.read_text().replace("Codename: trixie", "Codename: sid"))
    apt = prepared(tmp_path, mirror, keyring)
    with pytest.raises(MachineError, match="apt-get failed"):
        apt.update()
    assert [path.name for path in (apt.folder / "lists").glob("*_Packages")] == []
    with pytest.raises(MachineError):
        apt.plan(("rustc",))
    for kept in ("HOME", "XDG_DATA_HOME", "XDG_CACHE_HOME"):
        monkeypatch.setenv(kept, str(tmp_path))
    monkeypatch.setenv(packages.MIRROR, f"file:{mirror}")
    monkeypatch.setenv("PATH", os.defpath)
    found = private.find("wasm32-wasip1", yes=True)
    assert isinstance(found, toolchain.Unusable)
    assert not private.folder().exists()
    assert list((files.cache_dir() / "toolchains/archives").glob("*.deb")) == []
