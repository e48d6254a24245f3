"""The workflows that projects get, every line of them, for a pushed tag, up to the image in a registry."""

from __future__ import annotations

import io
import os
import re
import shutil
import socket
import ssl
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import certifi
import pytest
from support import registries
from support.documents import ROOT
from support.pipelines import Pipeline, github, gitlab, machines_own

import scaffold
from scaffold.commands import ci as workflows
from scaffold.oci import module_layer as contents
from scaffold.oci.plugin_info import MODULE_DIGEST
from scaffold.oci.reference import Reference
from scaffold.oci.registry.client import Client
from scaffold.oci.registry.credentials import Credentials
from scaffold.oci.spec import Manifest

TAG = "v0.1.0"


@pytest.fixture
def repository(request: pytest.FixtureRequest, tmp_path: Path) -> Path:
    """A new project with a workflow, its Cargo.lock made, all of it committed."""
    for argv in (["rustup", "show", "active-toolchain"], ["cargo", "clippy", "--version"]):
        if not shutil.which(argv[0]) or subprocess.run(argv, capture_output=True).returncode:
            pytest.skip("no rustup with a toolchain and clippy, which both providers' images have")
    root = scaffold.new("hello_world", ci=request.param, output_dir=tmp_path, no_input=True).root
    who = ["-c", "user.name=A", "-c", "user.email=a@localhost"]
    for argv in (
        ["cargo", "generate-lockfile", "--quiet"],
        ["git", "init", "--quiet"],
        ["git", "add", "."],
        ["git", *who, "commit", "--quiet", "--message", "A filter"],
        ["git", "tag", TAG],
    ):
        subprocess.run(argv, cwd=root, check=True)
    return root


@pytest.fixture
def pipeline(repository: Path, wheel: Path, tmp_path: Path) -> Pipeline:
    links = f"{wheel.parent} {os.environ.get('PIP_FIND_LINKS', '')}".strip()
    return Pipeline(repository, tmp_path / "jobs", {"PIP_FIND_LINKS": links})


def test_the_wheel_holds_the_workflows(wheel):
    with zipfile.ZipFile(wheel) as archive:
        for provider in workflows.providers():
            for path in (ROOT / "ci" / provider).rglob("*"):
                if path.is_file():
                    name = f"scaffold/{path.relative_to(ROOT)}"
                    assert archive.read(name) == path.read_bytes(), name


@pytest.mark.parametrize("repository", ["github"], indirect=True)
def test_githubs_lines_publish_what_they_tested(pipeline, monkeypatch):
    with registries.registry(tls=True, basic=True) as registry, named("ghcr.io", registry) as env:
        pipeline.env |= env | {
            "GITHUB_REPOSITORY": "Acme/Hello_World",
            "GITHUB_REF_NAME": TAG,
            "GITHUB_ACTOR": registries.USER,
        }
        github(pipeline, token=registries.PASSWORD)
        (pin,) = re.findall("deploy it by its digest: (.*)", pipeline.summary)
        monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(registry.authority))
        published = image(registry, pin)
    assert pin.startswith("ghcr.io/acme/hello_world:0.1.0@sha256:")
    check(pipeline, published, pipeline.reached["needs.build.outputs.module-digest"])


@pytest.mark.parametrize("repository", ["gitlab"], indirect=True)
def test_gitlabs_lines_publish_what_they_tested(pipeline, tmp_path):
    with registries.registry(basic=True) as registry:
        pipeline.env |= {
            "PATH": f"{like_the_image(tmp_path / 'bin')}{os.pathsep}{machines_own(tmp_path)['PATH']}",
            "CI_COMMIT_TAG": TAG,
            "CI_REGISTRY": registry.name,
            "CI_REGISTRY_IMAGE": f"{registry.name}/acme/hello_world",
            "CI_REGISTRY_USER": registries.USER,
            "CI_REGISTRY_PASSWORD": registries.PASSWORD,
        }
        gitlab(pipeline)
        pin = pipeline.reached["IMAGE"]
        published = image(registry, pin)
    assert pin.startswith(f"{registry.name}/acme/hello_world:0.1.0@sha256:")
    assert (tmp_path / "installed").read_text().split()[-1] == "python3-venv"
    check(pipeline, published, pipeline.reached["MODULE_DIGEST"])


def check(pipeline: Pipeline, published: Manifest, module_digest: str) -> None:
    """What is in the registry is what was built, and what every Envoy has seen; of this very commit."""
    assert published.annotations[MODULE_DIGEST] == module_digest
    head = subprocess.check_output(["git", "rev-parse", "HEAD"], cwd=pipeline.repository, text=True)
    assert published.annotations["org.opencontainers.image.revision"] == head.strip()
    played = [said for said in pipeline.ran if "scaffold test" in said]
    assert len(played) == 3
    for said, version in zip(played, ("1.36.4", "1.39.3", "1.40.0"), strict=True):
        assert said.startswith(f"test-{version}:")
        assert re.search(r"\b5 passed\b", said)
    assert not [said for said in pipeline.ran if registries.PASSWORD in said]


def image(registry: registries.Registry, pin: str) -> Manifest:
    """The image that the registry has, whole, under the digest that was told."""
    reference = Reference.parse(f"{registry.name}/{pin.partition('/')[2]}")
    given = Credentials(registries.USER, registries.PASSWORD)
    with Client(registry.name, credentials=given) as client:
        manifest = Manifest.read(*client.manifest(reference))
        for blob in manifest.blobs:
            client.blob(reference.repository, blob, io.BytesIO())
    contents.layout_of(manifest)
    return manifest


def like_the_image(folder: Path) -> Path:
    """The program of Debian's image that would change the machine, and only says here what it was to do."""
    folder.mkdir()
    (folder / "apt-get").write_text(f'#!/bin/sh\necho "$@" > {folder.parent}/installed\n')
    (folder / "apt-get").chmod(0o755)
    return folder


@contextmanager
def named(host: str, registry: registries.Registry) -> Iterator[dict[str, str]]:
    """Lend a registry a name: the environment with a proxy by which `host` is it, and any other itself."""
    system = Path(ssl.get_default_verify_paths().cafile or certifi.where())
    bundle = registry.folder / "bundle.pem"
    bundle.write_bytes(system.read_bytes() + registry.authority.read_bytes())
    with socket.create_server(("127.0.0.1", 0)) as server:
        threading.Thread(target=_accept, args=(server, host, registry.name), daemon=True).start()
        port = server.getsockname()[1]
        yield {"HTTPS_PROXY": f"http://127.0.0.1:{port}", "SSL_CERT_FILE": str(bundle)}


def _accept(server: socket.socket, host: str, there: str) -> None:
    with suppress(OSError):  # the test has ended, and closed it
        while True:
            client, _ = server.accept()
            threading.Thread(target=_connect, args=(client, host, there), daemon=True).start()


def _connect(client: socket.socket, host: str, there: str) -> None:
    with client, suppress(OSError):
        head = b""
        while not head.endswith(b"\r\n\r\n"):
            head += client.recv(1)
        wanted = head.split()[1].decode()  # CONNECT name:port
        name, _, port = (there if wanted == f"{host}:443" else wanted).rpartition(":")
        with socket.create_connection((name, int(port))) as origin:
            client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
            back = threading.Thread(target=_pass_on, args=(origin, client), daemon=True)
            back.start()
            _pass_on(client, origin)
            back.join()


def _pass_on(source: socket.socket, sink: socket.socket) -> None:
    with suppress(OSError):
        while data := source.recv(65536):
            sink.sendall(data)
    with suppress(OSError):
        sink.shutdown(socket.SHUT_WR)
