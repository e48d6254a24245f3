"""Pushing as a user does: what is said, and what is sent."""

from __future__ import annotations

import pytest
from support import wasm_asm
from support.faulty_registry import Reply

from scaffold.commands.push import push
from scaffold.errors import UsageError
from scaffold.oci.plugin_info import PluginInfo
from scaffold.oci.reference import Reference
from scaffold.oci.store import Store
from scaffold.oci.variants import compat

MODULE = wasm_asm.plugin()


@pytest.fixture(autouse=True)
def store(home, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(home / "data"))
    return Store()


def keep(name, module=MODULE):
    made = compat(module, PluginInfo("hello"))
    Store().add(made, Reference.parse(name))
    return made.manifest


def sent(server):
    return [(seen.method, seen.path.partition("?")[0]) for seen in server.asked("P")]


def test_a_second_push_sends_nothing_and_says_so(server, said):
    name = f"{server.name}/acme/hello:1"
    manifest = keep(name)
    assert push(name).manifest_digest == manifest.digest
    assert ("PUT", "/v2/acme/hello/manifests/1") in sent(server)
    sentence = f"{name} is already there, unchanged: nothing was sent"
    assert sentence not in said
    server.seen.clear()
    assert push(name).manifest_digest == manifest.digest
    assert sent(server) == []
    assert sentence in said


def test_blobs_are_mounted_from_the_names_that_the_image_had_first(server):
    """It was pulled from there, or pushed there; a later name may only be a tag so far."""
    for repository in ("team/one", "acme/two", "new"):
        manifest = keep(f"{server.name}/{repository}:1")
    server.on("POST", "&from=team%2Fone", Reply(201))
    push(f"{server.name}/new:1")
    assert [seen.path.partition("&from=")[2] for seen in server.asked("POST")] == ["team%2Fone"] * len(
        manifest.blobs
    )


def test_a_tag_that_is_another_images_is_set_though_all_blobs_are_there(server, said):
    name = f"{server.name}/acme/hello:1"
    first = keep(name)
    push(name)
    keep(name, MODULE + wasm_asm.custom("more", b"x"))
    push(name)
    keep(name)
    server.seen.clear()
    assert push(name).manifest_digest == first.digest
    assert sent(server) == [("PUT", "/v2/acme/hello/manifests/1")]
    assert not [text for text in said if "nothing was sent" in text]


def test_a_registry_that_does_not_say_what_a_tag_is_gets_it(server):
    name = f"{server.name}/acme/hello:1"
    keep(name)
    push(name)
    for reply in (Reply(200), Reply(404), Reply(405)):
        server.on("HEAD", "/manifests/", reply)
        server.seen.clear()
        push(name)
        assert sent(server) == [("PUT", "/v2/acme/hello/manifests/1")]


def test_an_image_that_is_here_by_a_local_name_is_to_be_tagged_first(server):
    keep("hello:1")
    name = f"{server.name}/acme/hello:1"
    with pytest.raises(UsageError) as caught:
        push(name)
    assert caught.value.message == f"there is no local image `{name}`"
    assert caught.value.hint == f"run `scaffold tag hello:1 {name}`, then push again"
    assert server.seen == []
