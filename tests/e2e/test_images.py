"""Images against the tools that others use: a real registry, skopeo, Docker, python-dxf, oras, real Envoy."""

from __future__ import annotations

import io
import json
import os
import shutil
import subprocess
import sys
import tarfile
from pathlib import Path

import dxf
import oras.client
import pytest
from support.registries import PASSWORD, USER, registry

from scaffold.core.files import digest
from scaffold.oci.reference import Reference
from scaffold.oci.spec import MANIFEST
from scaffold.oci.store import Store
from scaffold.wasm.module import WasmModule

VARIANTS = ("compat", "oci", "cncf")
WASME = "application/vnd.module.wasm"
BIN = Path(sys.executable).parent


@pytest.fixture(scope="module")
def plain():
    with registry() as running:
        yield running


@pytest.fixture(autouse=True)
def user(tmp_path, monkeypatch):
    """A user without images, who has logged in nowhere."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "auth.json"))
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def scaffold(run, tmp_path):
    """Call the command line, expecting it to end well; gives what it printed."""

    def call(*words, code=0, **env):
        ran = run(BIN / "scaffold", *words, cwd=tmp_path, **env)
        assert ran.returncode == code, f"{words}\n{ran.stdout}{ran.stderr}"
        return ran.stdout if code == 0 else ran.stderr

    return call


@pytest.fixture
def pushed(plain, module, scaffold):
    """Package the module in some variant and push it; its reference and its manifest's digest."""

    def push(variant):
        name = f"{plain.name}/acme/{variant}:1"
        made = json.loads(scaffold("package", module, "-t", name, "--variant", variant, "--json"))
        assert scaffold("push", name) == f"{name}@{made['manifest_digest']}\n"
        return name, made["manifest_digest"]

    return push


def needs(program):
    return pytest.mark.skipif(not shutil.which(program), reason=f"no {program} here")


@pytest.fixture
def module(hello):
    return hello.path


@pytest.mark.parametrize("variant", VARIANTS)
def test_what_was_pushed_is_pulled_byte_for_byte(pushed, scaffold, variant, module, tmp_path):
    name, pin = pushed(variant)
    there = Store().find(Reference.parse(name))
    blobs = {blob.digest: Store().blobs.read(blob) for blob in there.blobs}
    elsewhere = {"XDG_DATA_HOME": str(tmp_path / "elsewhere")}
    assert scaffold("pull", name, **elsewhere) == f"{name}@{pin}\n"
    here = Store(tmp_path / "elsewhere/proxy-wasm-scaffold/images")
    pulled = here.find(Reference.parse(name))
    assert pulled.raw == there.raw
    assert {blob.digest: here.blobs.read(blob) for blob in pulled.blobs} == blobs
    (row,) = json.loads(scaffold("images", "--json", **elsewhere))
    assert (row["variant"], row["module_digest"]) == (variant, WasmModule.read(module).digest)
    by_digest = f"{name.rpartition(':')[0]}@{pin}"
    assert scaffold("pull", by_digest, XDG_DATA_HOME=str(tmp_path / "third")) == f"{by_digest}\n"


@needs("skopeo")
@pytest.mark.parametrize("variant", VARIANTS)
def test_skopeo_copies_and_inspects_it(pushed, run, variant, tmp_path):
    name, pin = pushed(variant)
    copy = run("skopeo", "copy", "--src-tls-verify=false", f"docker://{name}", f"oci:{tmp_path}/copy:x")
    assert copy.returncode == 0, copy.stderr
    assert Store(tmp_path / "copy").entries()[0].descriptor.digest == pin
    local = run("skopeo", "inspect", "--raw", f"oci:{Store().folder}:{name}")
    assert digest(local.stdout.encode()) == pin
    back = run(
        "skopeo", "copy", "--dest-tls-verify=false", f"oci:{Store().folder}:{name}", f"docker://{name}-2"
    )
    assert back.returncode == 0, back.stderr


@needs("skopeo")
def test_what_skopeo_puts_into_the_store_is_listed(pushed, run, scaffold):
    name, _ = pushed("compat")
    source = f"docker://{name}"
    assert (
        run("skopeo", "copy", "--src-tls-verify=false", source, f"oci:{Store().folder}:theirs:1").returncode
        == 0
    )
    assert "theirs" in scaffold("images")


@needs("docker")
def test_docker_pulls_the_compat_variant_and_nothing_else(pushed, run):
    if run("docker", "info").returncode:
        pytest.skip("no Docker daemon here")
    name, _ = pushed("compat")
    try:
        pulled = run("docker", "pull", name)
        assert pulled.returncode == 0, pulled.stderr
        labels = json.loads(run("docker", "inspect", name).stdout)[0]["Config"]["Labels"]
        assert labels["module.wasm.runtime/type"] == "envoy_proxy"
    finally:
        run("docker", "rmi", name)
    for variant in ("oci", "cncf"):
        assert run("docker", "pull", pushed(variant)[0]).returncode != 0


@pytest.mark.parametrize("variant", VARIANTS)
def test_python_dxf_pulls_what_has_our_digests(pushed, plain, variant):
    name, _ = pushed(variant)
    client = dxf.DXF(plain.name, f"acme/{variant}", insecure=True)
    for blob in Store().find(Reference.parse(name)).layers:
        content = b"".join(client.pull_blob(blob.digest))
        assert digest(content) == blob.digest


def test_oras_pulls_the_module_of_wasmes_variant(pushed, module, tmp_path):
    name, _ = pushed("oci")
    files = oras.client.OrasClient(insecure=True).pull(target=name, outdir=str(tmp_path / "oras"))
    found = {Path(file).name: Path(file).read_bytes() for file in files}
    assert found["filter.wasm"] == module.read_bytes()
    assert json.loads(found["runtime-config.json"])["type"] == "envoy_proxy"


def test_what_oras_pushed_in_wasmes_layout_is_pulled(plain, module, scaffold, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    config = tmp_path / "runtime-config.json"
    config.write_text('{"type":"envoy_proxy","abiVersions":["v0.2.1"],"config":{"rootIds":["theirs"]}}')
    shutil.copy(module, tmp_path / "filter.wasm")
    name = f"{plain.name}/acme/by-oras:1"
    types = {
        "runtime-config.json": f"{WASME}.config.v1+json",
        "filter.wasm": f"{WASME}.content.layer.v1+wasm",
    }
    oras.client.OrasClient(insecure=True).push(
        target=name,
        files=[f"{file}:{kind}" for file, kind in types.items()],
        manifest_config=f"runtime-config.json:{types['runtime-config.json']}",
    )
    scaffold("pull", name)
    story = json.loads(scaffold("inspect", name, "--json"))
    assert (story["variant"], story["plugin"]["root_ids"]) == ("oci", ["theirs"])
    assert story["module"]["module"]["digest"] == WasmModule.read(module).digest


def put(plain, repository, config, layers, tag="1", media_type=MANIFEST, raw=None):
    """Push an image of any make; its reference."""
    client = dxf.DXF(plain.name, repository, insecure=True)
    described = []
    for kind, content in (config, *layers):
        client.push_blob(data=iter([content]), digest=digest(content))
        described.append({"mediaType": kind, "digest": digest(content), "size": len(content)})
    record = {"schemaVersion": 2, "mediaType": media_type, "config": described[0], "layers": described[1:]}
    client._request(
        "put", f"manifests/{tag}", data=raw or json.dumps(record), headers={"Content-Type": media_type}
    )
    return f"{plain.name}/{repository}:{tag}"


def tar(files):
    made = io.BytesIO()
    with tarfile.open(fileobj=made, mode="w:gz") as archive:
        for name, content in files.items():
            entry = tarfile.TarInfo(name)
            entry.size = len(content)
            archive.addfile(entry, io.BytesIO(content))
    return made.getvalue()


TAR = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = ("application/vnd.oci.image.config.v1+json", b"{}")


def test_foreign_layouts_are_pulled(plain, module, scaffold):
    """Docker's own types, Higress's several layers, wasm-to-oci."""
    wasm = module.read_bytes()
    docker = "application/vnd.docker.image.rootfs.diff.tar.gzip"
    images = {
        "compat": put(plain, "x/docker", CONFIG, [(docker, tar({"./plugin.wasm": wasm}))], media_type=DOCKER),
        "multi-layer compat": put(
            plain,
            "x/higress",
            CONFIG,
            [(f"{WASME}.spec.v1+yaml", b"a: 1"), (TAR, tar({"plugin.wasm": wasm}))],
        ),
        "wasm-to-oci": put(
            plain,
            "x/wasm-to-oci",
            ("application/vnd.wasm.config.v1+json", b"{}"),
            [("application/vnd.wasm.content.layer.v1+wasm", wasm)],
        ),
    }
    for variant, name in images.items():
        scaffold("pull", name)
        assert json.loads(scaffold("inspect", name, "--json"))["variant"] == variant


def test_what_holds_no_plugin_is_refused_and_not_kept(plain, module, scaffold):
    component = b"\0asm\x0d\0\1\0"
    refused = {
        "no plugin.wasm": put(plain, "y/container", CONFIG, [(TAR, tar({"bin/sh": b"x"}))]),
        "component": put(plain, "y/component", CONFIG, [(TAR, tar({"plugin.wasm": component}))]),
        "empty": put(plain, "y/empty", CONFIG, [(TAR, tar({"plugin.wasm": b""}))]),
        "leads out": put(plain, "y/climb", CONFIG, [(TAR, tar({"../plugin.wasm": module.read_bytes()}))]),
        "no wasm module": put(
            plain, "y/chart", CONFIG, [("application/vnd.cncf.helm.chart.content.v1.tar+gzip", b"x")]
        ),
    }
    for words, name in refused.items():
        assert words in scaffold("pull", name, code=6)
    assert Store().entries() == []
    assert not list(Store().folder.glob("blobs/*/*"))


def test_an_index_is_followed_but_is_no_pin(plain, pushed, scaffold):
    name, pin = pushed("compat")
    manifest = Store().find(Reference.parse(name))
    child = {
        "mediaType": MANIFEST,
        "digest": pin,
        "size": len(manifest.raw),
        "platform": {"os": "linux", "architecture": "amd64"},
    }
    kind = "application/vnd.oci.image.index.v1+json"
    raw = json.dumps({"schemaVersion": 2, "mediaType": kind, "manifests": [child]})
    put(plain, "acme/compat", CONFIG, [], tag="index", media_type=kind, raw=raw)
    repository = name.rpartition(":")[0]
    assert scaffold("pull", f"{repository}:index") == f"{repository}:index@{pin}\n"
    said = scaffold("pull", f"{repository}@{digest(raw.encode())}", code=6)
    assert "the digest of an index" in said
    assert f"{repository}@{pin}" in said


def test_what_an_image_says_of_its_plugin_counts_and_options_over_it(module, scaffold, tmp_path):
    crate = tmp_path / "crate"
    crate.mkdir()
    (crate / "Cargo.toml").write_text(
        '[package]\nname = "hello"\nversion = "1.0.0"\n[lib]\ncrate-type = ["cdylib"]\n'
        '[package.metadata.proxy-wasm]\nroot-id = "greeter"\nconfiguration = "config"\n'
    )
    (crate / "config").write_text("as packaged")
    scaffold("package", module, "--root", crate, "-t", "x:1")
    said = scaffold("bootstrap", "x:1")
    assert all(line in said for line in ("name: hello\n", "root_id: greeter\n", "value: as packaged\n"))
    (tmp_path / "other").write_text("as typed")
    over = scaffold("bootstrap", "x:1", "--id", "mine", "--root-id", "other", "--config", "other")
    assert all(line in over for line in ("name: mine\n", "root_id: other\n", "value: as typed\n"))


def test_an_image_is_pulled_to_be_deployed(pushed, scaffold, tmp_path):
    name, pin = pushed("compat")
    env = {"XDG_DATA_HOME": str(tmp_path / "elsewhere")}
    try:
        deployed = json.loads(scaffold("deploy", "envoy", name, "--port", "0", "--json", **env))
        assert (
            deployed["plugins"][0]["module_digest"]
            == json.loads(scaffold("inspect", name, "--json"))["module"]["module"]["digest"]
        )
        (shown,) = json.loads(scaffold("status", "--all", "--json", **env))
        assert deployed["plugins"] == shown["plugins"]
        assert shown["plugins"][0]["image"] == f"{name}@{pin}"
        assert f"  image     {name}@{pin}\n" in scaffold("status", "--all", **env)
        answer = subprocess.run(
            ["curl", "-s", f"{deployed['url']}/headers"], capture_output=True, text=True
        ).stdout
        assert "X-Hello" in answer
        assert [row["name"] for row in json.loads(scaffold("images", "--json", **env))] == [
            name.rpartition(":")[0]
        ]
    finally:
        scaffold("undeploy", "--all", **env)


def test_a_name_and_a_password_are_needed_and_kept(module, scaffold, run, tmp_path):
    with registry(tls=True, basic=True) as running:
        trust = {"SSL_CERT_FILE": str(running.authority)}
        name = f"{running.name}/acme/hello:1"
        scaffold("package", module, "-t", name)
        assert "scaffold login" in scaffold("push", name, code=7, **trust)
        assert "certificate" in scaffold("push", name, code=7)
        words = [BIN / "scaffold", "login", running.name, "-u", USER, "--password-stdin"]
        wrong = subprocess.run(words, input="wrong", text=True, capture_output=True, env=os.environ | trust)
        assert wrong.returncode == 7, wrong.stderr
        right = subprocess.run(words, input=PASSWORD, text=True, capture_output=True, env=os.environ | trust)
        assert right.returncode == 0, right.stderr
        kept = tmp_path / "docker/config.json"
        assert kept.stat().st_mode & 0o777 == 0o600
        scaffold("push", name, **trust)
        assert scaffold("tags", name.rpartition(":")[0], **trust) == "1\n"
        scaffold("pull", name, **trust)
        scaffold("logout", running.name)
        scaffold("push", name, code=7, **trust)


def test_behind_a_server_of_tokens(module, scaffold):
    with registry(token=True) as running:
        name = f"{running.name}/acme/hello:1"
        scaffold("package", module, "-t", name)
        words = [BIN / "scaffold", "login", running.name, "-u", USER, "--password-stdin"]
        assert subprocess.run(words, input=PASSWORD, text=True, env=os.environ).returncode == 0
        scaffold("push", name)
        scaffold("tag", name, f"{running.name}/acme/other:1")
        scaffold("push", f"{running.name}/acme/other:1")
        scaffold("pull", f"{running.name}/acme/other:1")


def test_a_plugin_of_another_users_is_the_same_to_the_byte(module, scaffold, tmp_path):
    """Packaged in another folder, by another process, a day later by the clock of its file."""
    first = json.loads(scaffold("package", module, "-t", "a:1", "--json"))
    (tmp_path / "deep/er").mkdir(parents=True)
    copy = tmp_path / "deep/er" / module.name
    shutil.copy(module, copy)
    os.utime(copy, (0, 0))
    second = json.loads(scaffold("package", copy, "-t", "b:1", "--json"))
    assert second["manifest_digest"] == first["manifest_digest"]
