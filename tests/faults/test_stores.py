"""R5, R6, R8: the disk with the images is full, read-only or damaged."""

from __future__ import annotations

import json
import shutil
from collections import Counter
from pathlib import Path

import pytest
from support.disks import SMALL_DISK, damages, fill, limited, one_line, read_only, writable
from support.image_users import on_sale
from support.places import digest, inside, names, namespace, ordinary, tree

SIZE = 300_000

# --- R5: full


@pytest.fixture
def for_sale(user, shop, capsys):
    """An image in the registry, which isn't here; its name, and its module's file."""
    module, name = user.module(7, SIZE, "sold.wasm"), f"{shop.name}/disk/sold:1"
    user.quickly(capsys, "package", module, "-t", name)
    user.quickly(capsys, "push", name)
    shutil.rmtree(user.store)
    return name, module


@pytest.mark.faults("R5")
@pytest.mark.parametrize("command", ["package", "pull"])
@pytest.mark.parametrize("free", [0, 8, 100], ids=lambda kilobytes: f"{kilobytes} KiB")
def test_a_full_disk(user, for_sale, record, command, free):
    """2 MiB for the user's data; the image has 300 kB."""
    name, module = for_sale
    disk = user.folder / "d"
    with namespace("mount", first=SMALL_DISK, arguments=(disk, "2m")) as user.wrapper:
        there = inside(user.wrapper, disk)
        user.well("package", user.module(1), "-t", "small:1")
        before = tree(there)
        filler = fill(there, free * 1024)
        words = ("package", module, "-t", "large:1") if command == "package" else ("pull", name)
        ran = user.run(*words)
        assert (ran.code, ran.explained) == (4, True), ran.err
        said = one_line(ran.err)
        assert str(user.store) in said, said
        shown = user.run("images", "--json")
        assert [row["name"] for row in json.loads(shown.out)] == ["small"]
        filler.unlink()
        assert tree(there) == before
        user.well(*words)
        user.well("images", "--verify")
    record(f"{command}: {free} KiB free for the images", f"exit code 4: {said.removeprefix('error: ')}")


@pytest.mark.faults("R5")
def test_room_is_made_on_a_full_disk(user, record):
    """The index has to be written anew before anything is deleted, so some bytes must be free."""
    disk = user.folder / "d"
    with namespace("mount", first=SMALL_DISK, arguments=(disk, "1m")) as user.wrapper:
        there = inside(user.wrapper, disk)
        for number in range(2):
            user.well("package", user.module(number, SIZE), "-t", f"hello:{number}")
        before = tree(there)
        filler = fill(there)
        ran = user.run("rmi", "hello:0")
        assert (ran.code, ran.explained) == (4, True), ran.err
        said = one_line(ran.err)
        with filler.open("r+b") as file:
            file.truncate(filler.stat().st_size - 8192)
        user.well("rmi", "hello:1")
        user.well("images", "--verify")
        filler.unlink()
        assert tree(there) != before
        assert len(list(there.rglob("blobs/*/*"))) == 3
    record("rmi: no byte free", f"exit code 4: {said.removeprefix('error: ')}; with 8 KiB it makes room")


@pytest.mark.faults("R5")
@pytest.mark.parametrize("command", ["package", "pull"])
def test_a_limit_on_files(user, for_sale, record, capsys, command):
    name, module = for_sale
    user.quickly(capsys, "package", user.module(1), "-t", "small:1")
    before = tree(user.store)
    words = ("package", module, "-t", "large:1") if command == "package" else ("pull", name)
    ran = limited(user, 100_000, *words)
    assert (ran.code, ran.explained) == (4, True), ran.err
    said = one_line(ran.err)
    assert str(user.store) in said, said
    assert tree(user.store) == before
    user.quickly(capsys, *words)
    record(f"{command}: RLIMIT_FSIZE of 100 kB", f"exit code 4: {said.removeprefix('error: ')}")


# --- R6: read-only


@pytest.mark.faults("R6")
@pytest.mark.parametrize("there", [True, False], ids=["a store", "no store yet"])
def test_a_read_only_store(user, for_sale, record, capsys, there):
    name, module = for_sale
    if there:
        user.quickly(capsys, "package", module, "-t", name)
    user.wrapper, data = ordinary(), user.folder / "d"
    read_only(data)
    before = tree(data)
    try:
        for words in (("package", module), ("pull", name), ("tag", name, "x:1"), ("rmi", name)):
            ran = user.run(*words)
            assert (ran.code, ran.explained) == (4, True), f"{words}: {ran.err}"
            assert str(data) in ran.sentence and "Permission denied" in ran.sentence, ran.err
        user.well("images", "--verify")
        if there:
            for words in (("push", name), ("inspect", name), ("bootstrap", name)):
                user.well(*words)
        assert tree(data) == before
    finally:
        writable(data)
    record(
        f"package, pull, tag, rmi: XDG_DATA_HOME is read-only, {'with images' if there else 'and empty'}",
        f"exit code 4: {ran.sentence}; images{', push, inspect, bootstrap' * there} work",
    )


@pytest.mark.faults("R6")
def test_a_store_that_may_not_be_read(user, for_sale, record, capsys):
    name, module = for_sale
    user.quickly(capsys, "package", module, "-t", name)
    user.wrapper = ordinary()
    user.store.chmod(0)
    try:
        for command in ("images", "push", "pull", "inspect", "rmi", "bootstrap"):
            ran = user.run(command, *([] if command == "images" else [name]))
            assert (ran.code, ran.explained) == (4, True), f"{command}: {ran.err}"
            assert str(user.store) in ran.sentence, ran.err
    finally:
        user.store.chmod(0o700)
    record("images, push, pull, inspect, rmi, bootstrap: an unreadable store", "exit code 4, names it")


# --- R8: damaged


def removed(path: Path) -> list[tuple[str, bytes | None]]:
    return [("removed", None)] if path.exists() else []


def become(path: Path, content: bytes | None) -> None:
    if content is None:
        path.unlink()
    else:
        path.write_bytes(content)


@pytest.mark.faults("R8")
@pytest.mark.parametrize("variant", ["compat", "oci", "cncf"])
def test_every_file_of_a_store_is_damaged(user, shop, record, chance, capsys, variant):
    """It is named, and never used; `package` and `pull` mend blobs, and the index once it is moved away."""
    module, name = user.module(3, 20_000), f"{shop.name}/damaged/{variant}:1"
    right, project = digest(module), user.project()
    package = ("package", module, "-t", name, "--variant", variant)
    user.quickly(capsys, *package)
    user.quickly(capsys, "push", name)
    bootstrap = user.folder / "bootstrap.yaml"
    commands = {
        "images": (),
        "images --verify": (),
        "inspect": (name,),
        "tag": (name, "other:1"),
        "push": (name,),
        "bootstrap": (name, "--root", project, "--out", bootstrap),
    }
    shutil.copytree(user.store, user.folder / "model")
    codes: Counter[str] = Counter()
    files = sorted(path.relative_to(user.store) for path in user.store.rglob("*") if path.is_file())
    assert len(files) == 5
    for file in files:
        path = user.store / file
        for how, content in [*damages(path, chance), *removed(path)]:
            where = f"{file} {how}"
            for command, words in commands.items():
                become(path, content)
                ran = user.quickly(capsys, *command.split(), *words, code=None)
                codes[f"{command}: {ran.code}"] += 1
                # a name in the index that isn't what it was is another name
                allowed = (0, 2, 4) if file.name == "index.json" and how == "bit turned" else (0, 4)
                assert ran.code in allowed, f"{where}: {command}: {ran.err}"
                if file.parts[0] == "blobs" and command == "images --verify":
                    assert ran.code == 4 and str(path) in ran.err, f"{where}: {ran.err}"
                if ran.code == 4 and file.parts[0] == "blobs":
                    assert str(path) in ran.err, f"{where}: {command}: {ran.err}"
                if ran.code == 0 and command == "bootstrap":
                    assert right.removeprefix("sha256:") in bootstrap.read_text(), where
                shutil.rmtree(user.store)
                shutil.copytree(user.folder / "model", user.store)
            assert on_sale(shop, f"damaged/{variant}", "1") == right, where
            for mending in (package, ("pull", name)):
                become(path, content)
                ran = user.quickly(capsys, *mending, code=None)
                if ran.code == 4:
                    assert str(path) in ran.err or "an image store of version" in ran.err, (
                        f"{where}: {ran.err}"
                    )
                    assert "move" in ran.err, f"{where}: {ran.err}"
                    path.unlink(missing_ok=True)
                    if file.name == "index.json":
                        (user.store / "oci-layout").unlink()
                    user.quickly(capsys, *mending)
                assert user.held()[name] == right, where
                shutil.rmtree(user.store)
                shutil.copytree(user.folder / "model", user.store)
    refused = ", ".join(f"{each} {often}" for each, often in sorted(codes.items()) if ": 0" not in each)
    record(
        f"the {len(files)} files of a store ({variant}): emptied, cut, a bit turned, removed",
        f"never used; {refused}; mended by package or pull",
    )


@pytest.mark.faults("R8")
def test_a_damaged_image_is_never_deployed(user, record, capsys):
    """Neither from the store, nor from the modules in the cache, which are written anew."""
    module, root = user.module(3, 20_000), user.project()
    user.quickly(capsys, "package", module, "-t", "hello:1")
    deploy = ("deploy", "envoy", "hello:1", "--root", root, "--port", 0, "--json")
    *_, (_, manifest), (_, layer) = sorted((path.stat().st_size, path) for path in user.blobs())
    for path in (manifest, layer):
        whole = path.read_bytes()
        path.write_bytes(whole[:60] + bytes([whole[60] ^ 1]) + whole[61:])
        ran = user.run(*deploy)
        assert (ran.code, ran.explained, str(path) in ran.sentence) == (4, True, True), ran.err
        path.write_bytes(whole)
    assert not user.deployments
    user.nothing_left()
    assert json.loads(user.well(*deploy).out)["plugins"][0]["module_digest"] == digest(module)
    (cached,) = (user.cache / "modules").iterdir()
    for content in (b"", module.read_bytes()[:-1], user.module(4, name="other.wasm").read_bytes()):
        cached.write_bytes(content)
        assert json.loads(user.well(*deploy).out)["plugins"][0]["module_digest"] == digest(module)
        assert digest(cached) == digest(module) == f"sha256:{cached.stem}"
    record(
        "deploy envoy: manifest, layer, and the module in the cache, changed", "exit code 4; written again"
    )


@pytest.mark.faults("R8")
def test_what_is_of_another_kind(user, record, capsys):
    """Folders, links to nowhere and to themselves in the place of files; files in that of folders."""
    module = user.module(3)
    user.quickly(capsys, "package", module, "-t", "hello:1")
    shutil.copytree(user.store, user.folder / "model")
    replaced = [path.relative_to(user.store) for path in (user.store, *user.store.rglob("*"))]
    codes: Counter[int] = Counter()
    for file in replaced:
        path = user.store / file
        kinds = [path.touch] if path.is_dir() else [path.mkdir]
        for make in (*kinds, lambda: path.symlink_to("nowhere"), lambda: path.symlink_to(path.name)):  # noqa: B023
            shutil.rmtree(path) if path.is_dir() else path.unlink()
            make()
            verify, tag = ("images", "--verify"), ("tag", "hello:1", "x:1")
            for words in (("images",), verify, tag, ("inspect", "hello:1"), ("package", module)):
                ran = user.quickly(capsys, *words, code=None)
                assert ran.code in (0, 2, 4), f"{file}: {words}: {ran.err}"
                codes[ran.code] += 1
            shutil.rmtree(user.store) if user.store.is_dir() else user.store.unlink()
            shutil.copytree(user.folder / "model", user.store)
    assert codes[4]
    record(
        f"the {len(replaced)} files and folders of a store: of another kind, links to nowhere, to themselves",
        f"explained: exit code 4 {codes[4]} times, 2 {codes[2]} times",
    )


@pytest.mark.faults("R8")
def test_a_store_of_a_newer_version(user, shop, record, capsys):
    user.quickly(capsys, "package", user.module(3), "-t", "hello:1")
    (user.store / "oci-layout").write_text('{"imageLayoutVersion": "2.0.0"}')
    before = tree(user.store)
    module, remote = user.module(4), f"{shop.name}/x:1"
    for words in (
        ("images",),
        ("package", module),
        ("tag", "hello:1", "x:1"),
        ("rmi", "hello:1"),
        ("push", remote),
        ("inspect", "hello:1"),
        ("bootstrap", "hello:1"),
        ("deploy", "envoy", "hello:1", "--root", user.project(), "--port=0"),
    ):
        ran = user.quickly(capsys, *words, code=4)
        assert "is an image store of version 2.0.0, but this scaffold supports 1.0.0" in ran.sentence, ran.err
    assert tree(user.store) == before
    assert names(user.store) == ["blobs", "index.json", "oci-layout"]
    record("every command of images: a store of version 2.0.0", f"exit code 4: {ran.sentence}; left alone")
