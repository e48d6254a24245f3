"""The local images: an OCI image layout that other tools read, that kills and crowds don't hurt."""

import json
import os
import threading
import time

import pytest
from support import wasm_asm
from support.power import disk

from scaffold.commands import images as stored
from scaffold.core import locks
from scaffold.core.files import digest
from scaffold.errors import MachineError, UsageError
from scaffold.oci.plugin_info import PluginInfo
from scaffold.oci.reference import Reference
from scaffold.oci.store import Store
from scaffold.oci.variants import compat, oci

__all__ = ["disk"]


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Store()


def image(number=0, make=compat):
    return make(wasm_asm.plugin() + wasm_asm.custom("number", b"%d" % number), PluginInfo("hello"))


def ref(text):
    return Reference.parse(text)


def blobs(store):
    return {f"sha256:{path.name}" for path in (store.folder / "blobs/sha256").glob("*")}


def members(made):
    return {made.manifest.digest} | {blob.digest for blob in made.manifest.blobs}


def test_what_was_added_is_found(store):
    made = image()
    store.add(made, ref("hello:1"))
    assert store.find(ref("hello:1")) == made.manifest
    assert store.find(ref(f"whatever@{made.manifest.digest}")) == made.manifest
    assert {blob.digest: store.blobs.read(blob) for blob in made.manifest.blobs} == made.blobs
    assert blobs(store) == members(made)


def test_it_is_an_image_layout(store):
    store.add(image(), ref("localhost:5000/acme/hello:1"))
    assert json.loads((store.folder / "oci-layout").read_text()) == {"imageLayoutVersion": "1.0.0"}
    index = json.loads((store.folder / "index.json").read_text())
    assert index["schemaVersion"] == 2
    (entry,) = index["manifests"]
    assert entry["annotations"]["org.opencontainers.image.ref.name"] == "localhost:5000/acme/hello:1"
    assert sorted(path.name for path in store.folder.iterdir()) == ["blobs", "index.json", "oci-layout"]


def test_a_name_that_isnt_there_is_said(store):
    with pytest.raises(UsageError, match="there is no local image `hello:1`"):
        store.find(ref("hello:1"))
    with pytest.raises(UsageError, match="there is no local image `hello:1`"):
        store.tag(ref("hello:1"), ref("hello:2"))
    with pytest.raises(UsageError, match="there is no local image `hello:1`"):
        store.remove([ref("hello:1")])


def test_an_image_that_loses_its_name_stays_until_it_is_removed(store):
    first, second = image(1), image(2)
    store.add(first, ref("hello:1"))
    store.add(second, ref("hello:1"))
    assert store.find(ref("hello:1")) == second.manifest
    assert store.find(ref(f"hello@{first.manifest.digest}")) == first.manifest
    assert [row.name for row in stored.images()] == ["hello"]
    assert sorted(row.name for row in stored.images(every=True)) == ["", "hello"]
    assert stored.rmi(untagged=True).freed > 0
    assert blobs(store) == members(second)


def test_an_image_that_isnt_there_loses_its_entry_with_its_name(store):
    """Such as one whose digest in the index was damaged: without a name nobody would ever get rid of it."""
    store.add(image(1), ref("a:1"))
    index = store.folder / "index.json"
    record = json.loads(index.read_text())
    record["manifests"][0]["digest"] = "sha256:" + "0" * 64
    index.write_text(json.dumps(record))
    store.add(image(1), ref("a:1"))
    assert [entry.descriptor.digest for entry in store.entries()] == [image(1).manifest.digest]


def test_an_image_with_two_names_loses_one_and_stays(store):
    made = image()
    store.add(made, ref("hello:1"))
    store.tag(ref("hello:1"), ref("localhost:5000/acme/hello:1"))
    assert store.remove([ref("hello:1")]) == 0
    assert store.find(ref("localhost:5000/acme/hello:1")) == made.manifest
    assert store.remove([ref("localhost:5000/acme/hello:1")]) > 0
    assert blobs(store) == set()


def test_an_image_is_removed_by_its_digest(store):
    first, second = image(1), image(2)
    for made in (first, second):
        store.add(made, ref("hello:1"))
    store.tag(ref("hello:1"), ref("hello:2"))
    store.tag(ref("hello:1"), ref("other:1"))
    store.remove([ref(f"whatever@{first.manifest.digest}")])
    assert blobs(store) == members(second)
    with pytest.raises(UsageError, match="no local image `whatever@"):
        store.remove([ref(f"whatever@{second.manifest.digest}")])
    store.remove([ref(f"hello@{second.manifest.digest}")])
    assert [entry.name for entry in store.entries()] == ["other:1"]


def test_a_pin_that_was_pulled_is_removed_alone(store):
    made = image()
    pin = ref(f"hello@{made.manifest.digest}")
    store.add(made, pin)
    store.tag(pin, ref("hello:1"))
    store.remove([pin])
    assert [entry.name for entry in store.entries()] == ["hello:1"]


def test_adding_again_changes_nothing_but_the_age(store):
    for _ in range(3):
        store.add(image(), ref("hello:1"))
    assert len(store.entries()) == 1


def test_what_two_images_share_stays_with_the_one_that_remains(store):
    module = wasm_asm.plugin()
    one, other = oci(module, PluginInfo("a")), oci(module, PluginInfo("b"))
    store.add(one, ref("a"))
    store.add(other, ref("b"))
    store.remove([ref("a")])
    assert blobs(store) == members(other)


def test_either_all_names_are_removed_or_none(store):
    store.add(image(), ref("hello:1"))
    with pytest.raises(UsageError):
        store.remove([ref("hello:1"), ref("hello:2")])
    assert store.get(ref("hello:1"))


def test_nothing_is_collected_while_an_image_doesnt_say_what_is_its_own(store, recwarn):
    one, other = image(1), image(2)
    store.add(one, ref("one"))
    store.add(other, ref("other"))
    store.blobs.path(one.manifest.digest).write_bytes(b"{}")
    assert store.remove([ref("other")]) == 0
    assert members(other) <= blobs(store)


def test_a_stray_blob_goes_once_it_is_old(store):
    store.add(image(), ref("hello:1"))
    store.tag(ref("hello:1"), ref("hello:2"))
    for name, age in (("0" * 64, 0), ("1" * 64, 7200)):
        path = store.blobs.path(f"sha256:{name}")
        path.write_bytes(b"?")
        os.utime(path, (time.time() - age,) * 2)
    store.remove([ref("hello:2")])
    assert store.blobs.path("sha256:" + "0" * 64).exists(), "another tool may be about to refer to it"
    assert not store.blobs.path("sha256:" + "1" * 64).exists()


@pytest.mark.parametrize("damage", [lambda b: b[:-1], lambda b: b"", lambda b: bytes([b[0] ^ 1]) + b[1:]])
def test_a_damaged_blob_is_named_and_mended_by_adding_again(store, damage):
    made = image()
    store.add(made, ref("hello:1"))
    for descriptor in made.manifest.blobs:
        path = store.blobs.path(descriptor.digest)
        path.write_bytes(damage(path.read_bytes()))
        with pytest.raises(MachineError) as caught:
            store.blobs.read(descriptor)
        assert str(path) in caught.value.message
        with pytest.raises(MachineError, match="1 of 1 images are damaged"):
            stored.images(verify=True)
        store.add(made, ref("hello:1"))
        assert store.blobs.read(descriptor) == made.blobs[descriptor.digest]


def test_a_damaged_image_is_listed_as_such(store):
    made = image()
    store.add(made, ref("hello:1"))
    store.blobs.path(made.manifest.digest).write_bytes(b"")
    (row,) = stored.images()
    assert (row.name, row.tag, row.variant) == ("hello", "1", "damaged")
    store.remove([ref("hello:1")])
    assert store.entries() == []


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"{",
        b"\xff",
        b"{}",
        b'{"manifestS": []}',
        b'{"manifests": 1}',
        b'{"manifests": [1]}',
        b"[" * 9999,
    ],
)
def test_a_damaged_index_is_named(store, content):
    store.add(image(), ref("hello:1"))
    (store.folder / "index.json").write_bytes(content)
    with pytest.raises(MachineError, match=r"index\.json is damaged"):
        store.entries()
    with pytest.raises(MachineError, match=r"index\.json is damaged"):
        store.add(image(1), ref("hello:2"))
    assert (store.folder / "index.json").read_bytes() == content


def test_a_newer_store_is_left_alone(store):
    store.add(image(), ref("hello:1"))
    (store.folder / "oci-layout").write_text('{"imageLayoutVersion": "2.0.0"}')
    with pytest.raises(MachineError, match=r"version 2\.0\.0"):
        store.entries()


def test_what_other_tools_wrote_is_kept(store):
    """Names that aren't ours, indexes, annotations."""
    made = image()
    store.add(made, ref("hello:1"))
    index = json.loads((store.folder / "index.json").read_text())
    child = {key: index["manifests"][0][key] for key in ("mediaType", "digest", "size")}
    listing = json.dumps({"schemaVersion": 2, "manifests": [child]}).encode()
    store.blobs.path(digest(listing)).write_bytes(listing)
    foreign = {
        "mediaType": "application/vnd.oci.image.index.v1+json",
        "digest": digest(listing),
        "size": len(listing),
        "platform": {"architecture": "amd64", "os": "linux"},
        "artifactType": "application/x",
        "annotations": {"org.opencontainers.image.ref.name": "Some Name", "theirs": "x"},
    }
    index["manifests"].append(foreign)
    (store.folder / "index.json").write_text(json.dumps(index))
    store.remove([ref("hello:1")])
    assert json.loads((store.folder / "index.json").read_text())["manifests"] == [foreign]
    assert members(made) <= blobs(store)
    (row,) = stored.images(verify=True)
    assert (row.name, row.variant) == ("Some Name", "other")


def test_what_other_tools_say_of_an_image_goes_with_its_names(store):
    made = image()
    store.add(made, ref("hello:1"))
    path = store.folder / "index.json"
    index = json.loads(path.read_text())
    index["manifests"][0] |= {"platform": {"architecture": "wasm", "os": "wasip1"}}
    path.write_text(json.dumps(index))
    store.tag(ref("hello:1"), ref("hello:2"))
    store.add(made, ref("hello:1"))  # again
    entries = json.loads(path.read_text())["manifests"]
    assert [one["platform"]["os"] for one in entries] == ["wasip1", "wasip1"]
    assert store.find(ref("hello:2")) == made.manifest


def test_the_name_that_may_have_been_meant_is_said(store):
    store.add(image(), ref("hello_world:0.1.0"))
    for text in ("hello_world", "hello_world:0.1", "helo_world:0.1.0"):
        with pytest.raises(UsageError) as caught:
            store.find(ref(text))
        assert caught.value.hint == "did you mean `hello_world:0.1.0`?"


# --- when the power fails, or a blob isn't there


def test_blobs_and_their_names_are_on_the_disk_before_the_index_names_them(store, disk):
    disk.targets.add(store.folder / "index.json")
    made = image()
    store.add(made, ref("hello:1"))
    paths = [store.blobs.path(each) for each in members(made)]
    assert paths
    assert [path for path in paths if not disk.keeps(path)] == []
    assert [path for path in paths if not disk.knows(path)] == []
    assert disk.keeps(store.folder / "index.json")


def test_a_blob_that_arrives_bit_by_bit_is_on_the_disk_too(store, disk):
    made = image()
    with store.receiving() as ingest:
        for blob in made.manifest.blobs:
            with ingest.file(blob) as file:
                file.write(made.blobs[blob.digest])
        store.commit(ingest, ref("hello:1"), made.manifest)
    assert [each for each in members(made) if not disk.keeps(store.blobs.path(each))] == []


def test_an_image_with_a_blob_missing_is_not_committed(store):
    made = image()
    config, layer = made.manifest.blobs
    with store.receiving() as ingest:
        ingest.put(config.digest, made.blobs[config.digest])
        with pytest.raises(
            MachineError, match=f"{layer.digest.removeprefix('sha256:')} is damaged: it is missing"
        ):
            store.commit(ingest, ref("hello:1"), made.manifest)
    assert store.entries() == []


def test_a_blob_that_could_not_be_written_is_not_kept(store):
    blob = image().manifest.blobs[0]
    with store.receiving() as ingest:
        with pytest.raises(ConnectionError), ingest.file(blob) as file:
            file.write(b"half of it")
            raise ConnectionError
        with pytest.raises(MachineError), ingest.open(blob):
            pass


def test_an_image_cannot_be_tagged_onto_a_digest(store):
    store.add(image(), ref("hello:1"))
    pin = f"hello@sha256:{'0' * 64}"
    with pytest.raises(UsageError, match="can't be an image's new name") as caught:
        store.tag(ref("hello:1"), ref(pin))
    assert caught.value.hint == "use a tag"
    assert [entry.name for entry in store.entries()] == ["hello:1"]


def test_a_damaged_image_gets_no_other_name(store):
    made = image()
    store.add(made, ref("hello:1"))
    store.blobs.path(made.manifest.digest).write_bytes(b"damaged")
    with pytest.raises(MachineError, match="is damaged"):
        store.tag(ref("hello:1"), ref("hello:2"))
    assert [entry.name for entry in store.entries()] == ["hello:1"]


def test_an_image_is_whole_as_long_as_the_index_names_it(store, monkeypatch):
    """However a removal ends: here, when the index can't be written."""
    made = image()
    store.add(made, ref("hello:1"))

    def full(*_, **__):
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr("scaffold.oci.store.files.write", full)
        with pytest.raises(OSError, match="No space left"):
            store.remove([ref("hello:1")])
    assert store.find(ref("hello:1")) == made.manifest
    assert blobs(store) == members(made)
    store.remove([ref("hello:1")])
    assert blobs(store) == set()


@pytest.mark.parametrize("change", ["add", "tag", "remove"])
def test_who_changes_the_images_waits_for_who_is_at_it(store, change):
    store.add(image(), ref("hello:1"))
    does = {
        "add": lambda: store.add(image(2), ref("hello:2")),
        "tag": lambda: store.tag(ref("hello:1"), ref("hello:2")),
        "remove": lambda: store.remove([ref("hello:1")]),
    }[change]
    before = (store.folder / "index.json").read_bytes()
    thread = threading.Thread(target=does)
    with locks.lock(store.folder.with_suffix(".lock"), doing="testing"):
        thread.start()
        thread.join(0.3)
        assert thread.is_alive()
        assert (store.folder / "index.json").read_bytes() == before
    thread.join(20)
    assert (store.folder / "index.json").read_bytes() != before
