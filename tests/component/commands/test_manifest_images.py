"""From a name to the very image: the registry's digest, else the local one's, and it is said which."""

from __future__ import annotations

from dataclasses import replace

import pytest
from support import wasm_asm
from support.faulty_registry import Reply, faulty

from scaffold.commands.manifest import resolve
from scaffold.commands.push import push
from scaffold.core.files import digest
from scaffold.errors import RegistryError, UsageError
from scaffold.oci.plugin_info import PluginInfo
from scaffold.oci.reference import Reference
from scaffold.oci.spec import DOCKER_TAR_GZIP, Descriptor, Image, ImageError, Manifest
from scaffold.oci.store import Store
from scaffold.oci.variants import VARIANTS

pytestmark = pytest.mark.usefixtures("home")

MODULE = wasm_asm.plugin()
OTHER = MODULE + wasm_asm.custom("more", b"x")
METADATA = PluginInfo(name="hello_world", root_ids=("hello_root",), type="network", configuration='{"a": 1}')


@pytest.fixture
def registry():
    with faulty() as running:
        yield running


def keep(name, module=MODULE, variant="compat"):
    """Make an image of the local store; its manifest's digest."""
    image = VARIANTS[variant](module, METADATA)
    Store().add(image, Reference.parse(name))
    return image.manifest.digest


@pytest.mark.parametrize("variant", ["compat", "oci"])
def test_a_pushed_image_is_the_registrys_and_all_is_known_of_it(registry, said, variant):
    name = f"{registry.name}/acme/hello:1"
    wanted = keep(name, variant=variant)
    push(name)
    Store().remove([Reference.parse(name)])
    found = resolve(name, pushed=True)
    assert found.image.manifest_digest == wanted
    assert (found.module_digest, found.image.variant) == (digest(MODULE), variant)
    assert (found.info.name, found.info.type, found.info.root_id) == ("hello_world", "network", "hello_root")
    assert found.configuration == b'{"a": 1}'
    assert f"{name} is {wanted} in the registry" in said
    assert not Store().get(Reference.parse(name)), "to pin isn't to pull"


def test_an_image_that_was_not_pushed_is_pinned_as_it_is_here_and_said_to_be(registry, said):
    name = f"{registry.name}/acme/hello:1"
    wanted = keep(name)
    assert resolve(name, pushed=False).image.manifest_digest == wanted
    assert f"{name} is {wanted} in the local store" in said
    assert any("push it before you apply this" in text for text in said)


def test_what_is_to_be_applied_must_have_been_pushed(registry):
    name = f"{registry.name}/acme/hello:1"
    keep(name)
    with pytest.raises(RegistryError) as caught:
        resolve(name, pushed=True)
    assert caught.value.hint == f"`scaffold push {name}`"


def test_a_registry_that_does_not_answer_leaves_the_local_image(said):
    name = "127.0.0.1:1/acme/hello:1"
    wanted = keep(name)
    assert resolve(name, pushed=False).image.manifest_digest == wanted
    with pytest.raises(RegistryError):
        resolve("127.0.0.1:1/acme/other:1", pushed=False)


def test_a_local_name_is_the_local_image():
    wanted = keep("hello:1")
    found = resolve("hello:1", pushed=True)
    assert (found.image.manifest_digest, found.image.reference.local) == (wanted, True)
    with pytest.raises(UsageError, match="there is no local image `other:1`"):
        resolve("other:1", pushed=False)


def test_a_tag_that_moved_since_it_was_pinned_is_an_error_with_both_ways_on(registry):
    name = f"{registry.name}/acme/hello:1"
    first = keep(name)
    Store().tag(Reference.parse(name), Reference.parse(f"{name}.0"))
    push(f"{name}.0")  # or this small registry would forget it
    pinned = push(name).pin
    assert pinned == f"{name}@{first}"
    assert resolve(pinned, pushed=True).image.manifest_digest == first
    second = keep(name, OTHER)
    push(name)
    with pytest.raises(UsageError, match=f"has moved since it was pinned: it is {second} now") as caught:
        resolve(pinned, pushed=True)
    by_digest, by_tag = (word.strip("`") for word in caught.value.hint.split() if word.startswith("`"))
    assert resolve(by_digest, pushed=True).image.manifest_digest == first
    assert resolve(by_tag, pushed=True).image.manifest_digest == second


def test_another_image_of_the_name_here_is_said_and_the_registrys_counts(registry, said):
    name = f"{registry.name}/acme/hello:1"
    pushed = keep(name)
    push(name)
    here = keep(name, OTHER)
    assert resolve(name, pushed=True).image.manifest_digest == pushed
    assert any(f"is another image ({here}) than the registry's" in text for text in said)


def test_layouts_that_only_some_load_are_told(registry):
    """What keeps Istio from loading them is in their variant's name, which no target knows."""
    compat, oci = (VARIANTS[variant](MODULE, METADATA) for variant in ("compat", "oci"))
    layer = replace(compat.manifest.layers[0], media_type=DOCKER_TAR_GZIP)
    mixed = Manifest.make(compat.manifest.config, (layer,), {})
    more = Descriptor.of("text/plain", b"x")
    three = Manifest.make(oci.manifest.config, (*oci.manifest.layers, more), {})
    bare = Manifest.make(oci.manifest.config, oci.manifest.layers[1:], {})
    for manifest, blobs, variant in (
        (mixed, compat.blobs, "compat, mixing Docker's and OCI's media types"),
        (three, {**oci.blobs, more.digest: b"x"}, "oci, with 3 layers"),
        (bare, oci.blobs, "oci, with 1 layers"),
        (VARIANTS["cncf"](MODULE, METADATA).manifest, VARIANTS["cncf"](MODULE, METADATA).blobs, "cncf"),
    ):
        Store().add(Image(manifest, blobs), Reference.parse("odd:1"))
        assert resolve("odd:1", pushed=False).image.variant == variant


def test_a_title_that_is_no_line_to_show_names_no_resource():
    """As everywhere else."""
    image = VARIANTS["compat"](MODULE, replace(METADATA, name="two\nlines"))
    Store().add(image, Reference.parse("odd:1"))
    assert resolve("odd:1", pushed=False).info.name == "odd"


def test_an_image_that_holds_no_plugin(registry):
    name = f"{registry.name}/acme/hello:1"
    image = VARIANTS["oci"](b"no wasm", METADATA)
    Store().add(image, Reference.parse(name))
    with pytest.raises(ImageError, match="isn't a wasm module"):
        resolve(name, pushed=False)


def test_a_registry_that_is_broken_is_not_taken_for_one_without_the_image(registry):
    name = f"{registry.name}/acme/hello:1"
    keep(name)
    registry.on("GET", "/manifests/", Reply(403))
    with pytest.raises(RegistryError) as caught:
        resolve(name, pushed=True)
    assert "scaffold push" not in caught.value.hint
