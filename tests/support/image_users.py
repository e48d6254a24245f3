"""What the faults of images are tested with: a user without any, a real registry, and readers of our own.

They read stores and registries by OCI's terms alone, so that our code isn't held against itself.
"""

from __future__ import annotations

import hashlib
import http.client
import json
import random
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from support import wasm_asm
from support.places import Place, Ran, copy_env, in_this_process
from support.registries import Registry, registry

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
CONFIG = ("application/vnd.oci.image.config.v1+json", b"{}")
TAR = "application/vnd.oci.image.layer.v1.tar+gzip"
MODULE_DIGEST = "proxy-wasm.module/digest"
_OTHERS = (
    "REGISTRY_AUTH_FILE XDG_RUNTIME_DIR REQUESTS_CA_BUNDLE CURL_CA_BUNDLE SSL_CERT_FILE SSL_CERT_DIR"
    " HTTP_PROXY HTTPS_PROXY ALL_PROXY NO_PROXY http_proxy https_proxy all_proxy no_proxy"
).split()


class User(Place):
    """A place whose user has an image store, and credentials, of their own; in this process, too."""

    @property
    def store(self) -> Path:
        """The folder of their images."""
        return self.folder / "d/proxy-wasm-scaffold/images"

    def module(self, number: int = 0, size: int = 0, name: str = "filter.wasm") -> Path:
        """A plugin like no other, with as many bytes as wanted that can't be compressed."""
        path = self.folder / name
        noise = random.Random(number).randbytes(size)
        path.write_bytes(wasm_asm.plugin() + wasm_asm.custom(f"number {number}", noise))
        return path

    def held(self) -> dict[str, str]:
        """What the store holds: each image's module by its name, or its digest where it has none."""
        index = self.store / "index.json"
        if not index.exists():
            return {}
        found = {}
        for entry in json.loads(index.read_bytes())["manifests"]:
            manifest = json.loads(self.blob(entry))
            for each in (manifest["config"], *manifest["layers"]):
                self.blob(each)
            name = entry.get("annotations", {}).get("org.opencontainers.image.ref.name", entry["digest"])
            found[name] = manifest["annotations"][MODULE_DIGEST]
        return found

    def blob(self, descriptor: Mapping[str, Any]) -> bytes:
        """A blob of the store, which must be there, and what it should be."""
        path = self.store.joinpath("blobs", *descriptor["digest"].split(":"))
        content = path.read_bytes()
        assert (len(content), sha256(content)) == (descriptor["size"], descriptor["digest"])
        return content

    def blobs(self) -> list[Path]:
        """All blobs of the store, referred to or not."""
        return sorted(self.store.glob("blobs/*/*"))

    def log_in(self, name: str, **entry: str) -> None:
        """Put credentials where Docker keeps them."""
        folder = self.folder / "docker"
        folder.mkdir(mode=0o700, exist_ok=True)
        (folder / "config.json").write_text(json.dumps({"auths": {name: entry}}))
        (folder / "config.json").chmod(0o600)

    def quickly(self, capsys: pytest.CaptureFixture[str], *words: object, code: int | None = 0) -> Ran:
        """Run `scaffold WORDS` in this process; it must end with that code, and be explained."""
        ran = in_this_process(capsys, *words)
        assert ran.explained, f"{words}: {ran.code} {ran.err}"
        assert code in (None, ran.code), f"{words}: {ran.code} {ran.err}"
        return ran


@pytest.fixture
def user(place: Place, monkeypatch: pytest.MonkeyPatch) -> User:
    """A user who has no images, and has logged in nowhere."""
    folders = {"XDG_DATA_HOME": "d", "DOCKER_CONFIG": "docker", "XDG_CONFIG_HOME": "config"}
    changed = {variable: str(place.folder / name) for variable, name in folders.items()}
    env = copy_env(place.env, **dict.fromkeys(_OTHERS), **changed)
    for name in (*_OTHERS, "CARGO_TARGET_DIR"):
        monkeypatch.delenv(name, raising=False)
    for name, value in env.items():
        monkeypatch.setenv(name, value)
    (place.folder / "d").mkdir()
    return User(place.folder, env)


@pytest.fixture(scope="session")
def shop() -> Iterator[Registry]:
    """A real registry."""
    with registry() as running:
        yield running


def sha256(content: bytes) -> str:
    """A digest, as OCI writes it."""
    return "sha256:" + hashlib.sha256(content).hexdigest()


def _asked(
    shop: Registry, method: str, path: str, body: bytes = b"", **headers: str
) -> tuple[int, bytes, Mapping[str, str]]:
    connection = http.client.HTTPConnection(shop.name, timeout=20)
    try:
        told = {name.replace("_", "-"): value for name, value in headers.items()}
        connection.request(method, path, body, told)
        answer = connection.getresponse()
        return answer.status, answer.read(), dict(answer.getheaders())
    finally:
        connection.close()


def manifest(shop: Registry, repository: str, tag: str) -> bytes:
    """A manifest of a registry; empty when there is none."""
    status, raw, _ = _asked(shop, "GET", f"/v2/{repository}/manifests/{tag}", Accept=MANIFEST)
    return raw if status == 200 else b""


def on_sale(shop: Registry, repository: str, tag: str) -> str | None:
    """The module in an image of a registry, all of whose blobs must be there; None when there is none."""
    raw = manifest(shop, repository, tag)
    if not raw:
        return None
    record = json.loads(raw)
    for each in (record["config"], *record["layers"]):
        status, content, _ = _asked(shop, "GET", f"/v2/{repository}/blobs/{each['digest']}")
        assert (status, sha256(content)) == (200, each["digest"])
    return str(record["annotations"][MODULE_DIGEST])


def offer(
    shop: Registry,
    repository: str,
    *layers: tuple[str, bytes],
    config: tuple[str, bytes] = CONFIG,
    sizes: Mapping[int, int] | None = None,
) -> str:
    """Put an image of any make into a registry; its reference. `sizes` are those of layers that lie."""
    described = []
    for kind, content in (config, *layers):
        _, _, headers = _asked(shop, "POST", f"/v2/{repository}/blobs/uploads/")
        location = headers["Location"].removeprefix(f"http://{shop.name}")
        status, said, _ = _asked(shop, "PUT", f"{location}&digest={sha256(content)}", content)
        assert status == 201, said
        described.append({"mediaType": kind, "digest": sha256(content), "size": len(content)})
    for at, size in (sizes or {}).items():
        described[at + 1]["size"] = size
    record = {"schemaVersion": 2, "mediaType": MANIFEST, "config": described[0], "layers": described[1:]}
    return put(shop, repository, "1", json.dumps(record).encode())


def put(shop: Registry, repository: str, tag: str, raw: bytes, media_type: str = MANIFEST) -> str:
    """Put a manifest, or an index, into a registry; its reference."""
    path = f"/v2/{repository}/manifests/{tag}"
    status, said, _ = _asked(shop, "PUT", path, raw, Content_Type=media_type)
    assert status == 201, said
    return f"{shop.name}/{repository}:{tag}"


def index(children: Sequence[Mapping[str, Any]]) -> bytes:
    """An index of these images."""
    return json.dumps({"schemaVersion": 2, "mediaType": INDEX, "manifests": children}).encode()
