"""The registry client against Debian's docker-registry: plain, with TLS and a password, behind tokens."""

from __future__ import annotations

import base64
import io
import json
import os

import pytest
from support.registries import PASSWORD, USER, registry

from scaffold.commands.login import login, logout
from scaffold.commands.tags import tags
from scaffold.core import events
from scaffold.errors import RegistryError
from scaffold.oci.reference import Reference
from scaffold.oci.registry.client import Client
from scaffold.oci.registry.credentials import Credentials
from scaffold.oci.spec import MANIFEST, Descriptor, Manifest

CONTENT = os.urandom(3_000_000)
BLOB = Descriptor.of("application/wasm", CONTENT)
CONFIG = Descriptor.of("application/vnd.oci.image.config.v1+json", b"{}")
IMAGE = Manifest.make(CONFIG, (BLOB,), {})
ALICE = Credentials(USER, PASSWORD)
KINDS = {
    "plain": {},
    "relative": {"relative": True},
    "tls": {"tls": True},
    "basic": {"basic": True},
    "tls-basic": {"tls": True, "basic": True},
    "token": {"token": True},
    "tls-token": {"tls": True, "token": True},
}
GUARDED = [name for name in KINDS if "basic" in name or "token" in name]


@pytest.fixture(scope="module", params=KINDS)
def any_registry(request):
    with registry(**KINDS[request.param]) as running:
        yield running


@pytest.fixture(scope="module", params=GUARDED)
def guarded(request):
    with registry(**KINDS[request.param]) as running:
        yield running


@pytest.fixture(scope="module")
def tokens():
    with registry(token=True) as running:
        yield running


@pytest.fixture(autouse=True)
def user(tmp_path, monkeypatch):
    """A user who has logged in nowhere; `trust` lets them trust a registry's authority."""
    for name in ("DOCKER_CONFIG", "REGISTRY_AUTH_FILE", "XDG_RUNTIME_DIR", "XDG_CONFIG_HOME"):
        monkeypatch.delenv(name, raising=False)
    for name in ("REQUESTS_CA_BUNDLE", "SSL_CERT_FILE", "CURL_CA_BUNDLE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))

    def trust(running):
        if running.authority:
            monkeypatch.setenv("SSL_CERT_FILE", str(running.authority))

    return trust


def put(client, repository, *names):
    """Bring the image into a repository; how its blobs came."""
    how = [
        client.upload(repository, CONFIG, io.BytesIO(b"{}")),
        client.upload(repository, BLOB, io.BytesIO(CONTENT)),
    ]
    for name in names:
        client.put_manifest(Reference("-", repository, name), IMAGE)
    return how


def test_what_was_pushed_comes_back_byte_for_byte(any_registry, user):
    user(any_registry)
    with Client(any_registry.name, credentials=ALICE) as client:
        assert put(client, "acme/hello", "1.0", "latest") == ["uploaded", "uploaded"]
        assert put(client, "acme/hello") == ["present", "present"]
        assert client.upload("acme/other", BLOB, io.BytesIO(), mount_from=["acme/hello"]) == "mounted"
        named = Reference(any_registry.name, "acme/hello", "1.0")
        assert client.manifest(named) == (IMAGE.raw, MANIFEST)
        assert client.manifest(named.pinned(IMAGE.digest)) == (IMAGE.raw, MANIFEST)
        into = io.BytesIO()
        client.blob("acme/other", BLOB, into)
        assert into.getvalue() == CONTENT
        assert client.tags("acme/hello") == ["1.0", "latest"]


def test_what_isnt_there_is_named(any_registry, user):
    user(any_registry)
    missing = Descriptor.of("application/wasm", b"missing")
    with Client(any_registry.name, credentials=ALICE) as client:
        with pytest.raises(RegistryError, match="has no acme/nothing:1: manifest unknown"):
            client.manifest(Reference(any_registry.name, "acme/nothing", "1"))
        with pytest.raises(RegistryError, match="has no blob sha256:"):
            client.blob("acme/nothing", missing, io.BytesIO())
        with pytest.raises(RegistryError, match=r"has no repository acme/nothing: repository name not known"):
            client.tags("acme/nothing")
        with pytest.raises(RegistryError, match="blob unknown"):
            client.put_manifest(Reference("-", "acme/nothing", "1"), IMAGE)


def test_other_bytes_are_refused_by_the_registry(any_registry, user):
    user(any_registry)
    descriptor = Descriptor.of("application/wasm", b"promised")
    with Client(any_registry.name, credentials=ALICE) as client, pytest.raises(RegistryError, match="digest"):
        client.upload("acme/liar", descriptor, io.BytesIO(b"supplied"))


def test_an_unknown_authority_is_not_trusted():
    refused = pytest.raises(RegistryError, match="can't be trusted")
    with registry(tls=True) as running, Client(running.name) as client, refused:
        client.ping()


def test_nobody_gets_in_without_a_password(guarded, user):
    user(guarded)
    for credentials in (None, Credentials(USER, "wrong")):
        refused = pytest.raises(RegistryError, match="without the right credentials")
        with Client(guarded.name, credentials=credentials) as client, refused as caught:
            put(client, "acme/hello", "1")
        assert caught.value.hint == f"`scaffold login {guarded.name}`"


def test_who_has_logged_in_gets_in_until_they_log_out(guarded, user, tmp_path):
    user(guarded)

    def answer(event):
        return (
            {"Username": USER, "Password": PASSWORD}[event.text] if isinstance(event, events.Prompt) else None
        )

    with events.listening(answer):
        login(guarded.name)
    kept = json.loads((tmp_path / ".docker/config.json").read_text())
    assert kept == {
        "auths": {guarded.name: {"auth": base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}}
    }
    with Client(guarded.name) as client:
        put(client, "acme/kept", "1")
    assert tags(f"{guarded.name}/acme/kept") == ["1"]
    logout(guarded.name)
    with pytest.raises(RegistryError, match="without the right credentials"):
        tags(f"{guarded.name}/acme/kept")


def test_a_wrong_password_is_not_kept(guarded, user, tmp_path):
    user(guarded)
    answering = events.listening(lambda event: "wrong" if isinstance(event, events.Prompt) else None)
    with answering, pytest.raises(RegistryError, match=r"rejects this password for `.*`") as caught:
        login(guarded.name, username=USER)
    assert caught.value.exit_code == 7
    assert not (tmp_path / ".docker").exists()


def test_anybody_may_read_what_is_public_and_nobody_may_write_it(tokens):
    with Client(tokens.name, credentials=ALICE) as client:
        put(client, "public/hello", "1")
    with Client(tokens.name) as client:
        assert client.manifest(Reference(tokens.name, "public/hello", "1"))[0] == IMAGE.raw
        with pytest.raises(RegistryError, match="without the right credentials"):
            put(client, "public/hello", "2")


def test_stale_credentials_dont_keep_anybody_from_what_is_public(tokens):
    with Client(tokens.name, credentials=ALICE) as client:
        put(client, "public/hello", "1")
    said = []
    with (
        events.listening(said.append),
        Client(tokens.name, credentials=Credentials(USER, "expired")) as client,
    ):
        assert client.manifest(Reference(tokens.name, "public/hello", "1"))[0] == IMAGE.raw
    assert any(isinstance(event, events.Warned) for event in said)


def test_one_token_is_good_for_a_whole_push(tokens):
    tokens.tokens.asked.clear()
    with Client(tokens.name, credentials=ALICE) as client:
        put(client, "acme/once", "1", "2")
    scopes = ["repository:acme/once:pull,push", "repository:acme/once:pull"]  # ours, and what was asked for
    assert [query["scope"] for query in tokens.tokens.asked] == [scopes]


def test_a_repository_that_we_may_not_read_is_not_mounted_from(tokens, monkeypatch):
    with Client(tokens.name, credentials=ALICE) as client:
        put(client, "secret/hello")
    monkeypatch.setattr(
        tokens.tokens, "allowed", lambda user, repository, action: not repository.startswith("secret/")
    )
    with Client(tokens.name, credentials=ALICE) as client:
        how = client.upload("acme/new", BLOB, io.BytesIO(CONTENT), mount_from=["secret/hello"])
    assert how == "uploaded"
