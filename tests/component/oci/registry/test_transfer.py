"""Pushing as a user does: what is said, and what is sent."""

from __future__ import annotations

import pytest
from support import wasm_asm
from support.faulty_registry import Reply

from scaffold.commands.pull import pull
from scaffold.commands.push import push
from scaffold.core.files import digest
from scaffold.errors import UsageError
from scaffold.oci.plugin_info import MODULE_DIGEST, PluginInfo
from scaffold.oci.reference import Reference
from scaffold.oci.spec import INDEX, MANIFEST, Image, ImageError, Manifest, dump
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


def pushed_as_is(server, image):
    """An image at the registry, as another tool might have pushed it."""
    server.blobs |= image.blobs
    server.manifests["acme/hello:1"] = (image.manifest.media_type, image.manifest.raw)
    return f"{server.name}/acme/hello:1"


def test_a_pulled_module_is_the_one_that_the_image_states(server):
    made = compat(MODULE, PluginInfo("hello"))
    stated = made.manifest.annotations | {MODULE_DIGEST: f"sha256:{'0' * 64}"}
    other = Manifest.make(made.manifest.config, made.manifest.layers, stated)
    name = pushed_as_is(server, Image(other, made.blobs))
    with pytest.raises(ImageError, match="states the module digest"):
        pull(name)
    assert Store().entries() == []
    assert pull(pushed_as_is(server, made)).manifest_digest == made.manifest.digest


def test_what_is_no_module_is_neither_pulled_nor_pushed(server):
    made = compat(b"no module at all", PluginInfo("hello"))
    name = pushed_as_is(server, made)
    with pytest.raises(ImageError, match="isn't a wasm module"):
        pull(name)
    assert Store().entries() == []
    Store().add(made, Reference.parse(name))
    server.seen.clear()
    with pytest.raises(ImageError, match="isn't a wasm module"):
        push(name)
    assert server.seen == []


def test_a_blob_is_mounted_from_the_images_other_names_in_that_registry_alone(server):
    name = f"{server.name}/acme/hello:1"
    keep(name)
    for other in ("r.example/acme/elsewhere:1", "local:1", f"{server.name}/acme/base:1"):
        Store().tag(Reference.parse(name), Reference.parse(other))
    push(name)
    sources = {seen.path.partition("from=")[2] for seen in server.asked("POST", "mount=")}
    assert sources == {"acme%2Fbase"}


def test_an_index_stands_for_its_image_but_is_no_pin(server, said):
    made = compat(MODULE, PluginInfo("hello"))
    pushed_as_is(server, made)
    child = {"mediaType": MANIFEST, "digest": made.manifest.digest, "size": len(made.manifest.raw)}
    raw = dump({"schemaVersion": 2, "mediaType": INDEX, "manifests": [child]})
    server.manifests["acme/hello:all"] = (INDEX, raw)
    assert pull(f"{server.name}/acme/hello:all").manifest_digest == made.manifest.digest
    with pytest.raises(ImageError, match="digest of an index") as caught:
        pull(f"{server.name}/acme/hello@{digest(raw)}")
    assert made.manifest.digest in caught.value.hint
