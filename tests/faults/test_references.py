"""R17, R20: names that are none, what isn't there, and who isn't let in."""

from __future__ import annotations

import base64

import pytest
from support.image_users import offer, sha256
from support.places import tree
from support.registries import PASSWORD, USER, Registry, registry

NO_DIGEST = f"sha256:{'0' * 63}"
REFERENCES = {
    "upper case": ("Acme/Hello:1", "a repository's name must be in lower case"),
    "256 characters": ("a" * 256, "a name has at most 255 characters"),
    "5,000 characters": ("registry.example/" + "a/" * 2500 + "a", "a name has at most 255 characters"),
    "a digest cut short": (f"hello@{NO_DIGEST}", f"`{NO_DIGEST}` isn't a digest"),
    "a digest of another kind": (f"hello@sha512:{'0' * 128}", "isn't a digest"),
    "@ and nothing": ("hello@", "`` isn't a digest"),
    "a tag with +": ("hello:1.0+build", "a tag can't hold a `+`"),
    "a tag of 129 characters": ("hello:" + "1" * 129, "a tag has at most 128 characters"),
    "a tag of nothing": ("hello:", "`` isn't a valid tag"),
    "a URL": ("https://registry.example/hello", "`https:` isn't a valid registry"),
    "a port that there isn't": (
        "registry.example:65536/hello",
        "`registry.example:65536` isn't a valid registry",
    ),
    "an option": ("hello:-rf", "`-rf` isn't a valid tag"),
    "an escape": ("hello:\x1b[2J", "isn't a valid tag"),
    "a path": ("registry.example/../../etc/passwd", "`..` can't be part of a repository's name"),
}


@pytest.mark.faults("R20")
@pytest.mark.parametrize("kind", REFERENCES)
def test_a_reference_that_is_none(user, record, capsys, kind):
    """Refused as such by every command that takes one, before anything is done."""
    text, words = REFERENCES[kind]
    user.quickly(capsys, "package", user.module(), "-t", "hello:1")
    before, root = tree(user.store), user.project()
    for line in (
        ("package", user.folder / "filter.wasm", "-t", text),
        ("tag", "hello:1", text),
        ("tag", text, "hello:2"),
        ("rmi", "hello:1", text),
        ("push", text),
        ("pull", text),
        ("tags", text),
        ("inspect", text),
        ("inspect", text, "--remote"),
        ("bootstrap", text),
        ("run", text, "--port", 0),
        ("deploy", "envoy", text, "--root", root, "--port=0"),
    ):
        ran = user.quickly(capsys, *line, code=2)
        assert words in ran.sentence, f"{line}: {ran.err}"
    assert tree(user.store) == before
    record(f"every command that takes an image: a reference with {kind}", "exit code 2, before all else")


@pytest.mark.faults("R17")
def test_what_there_is_not(user, shop, record, capsys):
    """A tag, a repository, a registry; said by all that would fetch it."""
    there = offer(shop, "there/hello")
    missing = {
        f"{there.rpartition(':')[0]}:2": "has no there/hello:2: manifest unknown",
        f"{there.rpartition(':')[0]}@{sha256(b'')}": "has no there/hello@sha256:",
        f"{shop.name}/nowhere/hello:1": "has no nowhere/hello:1: manifest unknown",
        "127.0.0.1:1/hello:1": "nothing listens at 127.0.0.1:1",
        "registry.invalid/hello:1": "there is no host named registry.invalid",
    }
    for name, words in missing.items():
        for line in (
            ("pull", name),
            ("inspect", name),
            ("deploy", "envoy", name, "--root", user.project(), "--port=0"),
        ):
            ran = user.quickly(capsys, *line, code=7)
            assert words in ran.sentence, f"{line}: {ran.err}"
    for line in (("push", name), ("tag", name, "x:1"), ("rmi", name)):
        assert "no local image `" in user.quickly(capsys, *line, code=2).sentence
    assert (user.held(), user.blobs()) == ({}, [])
    record(
        "pull, inspect, deploy: no such tag, digest, repository, registry, host", "exit code 7, each named"
    )


@pytest.fixture(scope="module")
def guarded():
    """A real registry with TLS, that wants a name and a password."""
    with registry(tls=True, basic=True) as running:
        yield running


@pytest.mark.faults("R17")
def test_wrong_credentials_and_an_unknown_certificate(user, guarded: Registry, record, capsys, monkeypatch):
    name, wrong = f"{guarded.name}/acme/hello:1", "not-the-password-at-all"
    user.quickly(capsys, "package", user.module(), "-t", name)
    told = []
    for command in ("push", "pull"):
        ran = user.quickly(capsys, command, name, code=7)
        assert f"the certificate of {guarded.name} can't be trusted" in ran.sentence
    told.append(f"exit code 7: {ran.sentence.replace(guarded.name, 'REGISTRY')}")
    monkeypatch.setenv("SSL_CERT_FILE", str(guarded.authority))
    for entry in ({}, {"auth": base64.b64encode(f"{USER}:{wrong}".encode()).decode()}):
        user.log_in(guarded.name, **entry)
        for command in ("push", "pull", "push --json"):
            ran = user.quickly(capsys, *command.split(), name, code=7)
            assert "without the right credentials" in ran.sentence, ran.err
            assert f"scaffold login {guarded.name}" in ran.err
            assert wrong not in ran.err and entry.get("auth", wrong) not in ran.err
    told.append(f"exit code 7: {ran.sentence.replace(guarded.name, 'REGISTRY')}")
    user.log_in(guarded.name, auth=base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode())
    user.quickly(capsys, "push", name)
    record("push, pull: an unknown authority", told[0])
    record("push, pull: no password, a wrong one", told[1])
