"""R2, R3, R4, R7: commands of images are killed, or run in crowds; stores and registries stay sound."""

from __future__ import annotations

import itertools
import json
import shutil
import signal
import threading
from collections import Counter

import pytest
from support.crowds import at_once
from support.image_users import User, manifest, on_sale, put, sha256
from support.kills import SIGNALS, Command, kill, seen, told
from support.places import digest, names

from scaffold.commands import images as stored
from scaffold.core import events
from scaffold.oci.plugin_info import PluginInfo
from scaffold.oci.reference import Reference
from scaffold.oci.store import Store
from scaffold.oci.variants import compat

SIZE = 300_000  # bytes of a module that makes the moment count, and costs little
LAYOUT = ["blobs", "index.json", "oci-layout"]


def sound(user: User, capsys: pytest.CaptureFixture[str]) -> None:
    """What the last command, which ended well, leaves."""
    assert names(user.store) == LAYOUT
    assert names(user.store.parent) == ["images", "images.lock"]
    for path in user.blobs():
        assert digest(path) == f"sha256:{path.name}"
    user.quickly(capsys, "images", "--all", "--verify")


@pytest.mark.faults("R2")
@SIGNALS
def test_package(user, record, chance, capsys, numbers, times):
    known: list[str] = []

    def prepare() -> None:
        if not known or user.held().get("hello:1") == known[-1]:
            user.quickly(capsys, "rmi", "--untagged")
            known.append(sha256(user.module(len(known), SIZE).read_bytes()))

    def look() -> str:
        now = user.held().get("hello:1")
        assert now in known[-2:]
        return "new" if now == known[-1] else "old"

    words = ("package", user.folder / "filter.wasm", "-t", "hello:1")
    command = Command(lambda: user.start(*words), look, user.left, prepare, said=user.said)
    outcomes, slowest = kill(command, numbers, times, chance)
    sound(user, capsys)
    record(told(numbers, times, "package", chance), seen(outcomes, slowest))


@pytest.mark.faults("R3")
@SIGNALS
def test_push(user, shop, record, chance, capsys, numbers, times):
    """The tag names the old image or the new one, whose blobs are all there."""
    repository = f"killed/push-{numbers[0]}"
    name, known = f"{shop.name}/{repository}:1", list[str]()

    def prepare() -> None:
        if not known or on_sale(shop, repository, "1") == known[-1]:
            module = user.module(len(known), SIZE)
            known.append(sha256(module.read_bytes()))
            user.quickly(capsys, "package", module, "-t", name, "--variant", "oci")
            user.quickly(capsys, "rmi", "--untagged")

    def look() -> str:
        now = on_sale(shop, repository, "1")
        assert now in known[-2:]
        return "new" if now == known[-1] else "old"

    command = Command(lambda: user.start("push", name), look, user.left, prepare, said=user.said)
    outcomes, slowest = kill(command, numbers, times, chance)
    sound(user, capsys)
    record(told(numbers, times, "push to a real registry", chance), seen(outcomes, slowest))


@pytest.mark.faults("R4")
@SIGNALS
def test_pull(user, shop, record, chance, capsys, numbers, times):
    """The tag moves from one image to the other and back; the one without it is removed each time."""
    repository = f"killed/pull-{numbers[0]}"
    name, raws, modules = f"{shop.name}/{repository}:1", list[bytes](), list[str]()
    for number, variant in enumerate(("oci", "compat")):
        module = user.module(number, SIZE)
        modules.append(sha256(module.read_bytes()))
        user.quickly(capsys, "package", module, "-t", name, "--variant", variant)
        user.quickly(capsys, "push", name)
        raws.append(manifest(shop, repository, "1") or b"")
    user.quickly(capsys, "rmi", name, "--untagged")
    turns = [0]

    def prepare() -> None:
        if user.held().get(name) == modules[turns[0] % 2]:
            user.quickly(capsys, "rmi", "--untagged")
            turns[0] += 1
            put(shop, repository, "1", raws[turns[0] % 2])

    def look() -> str:
        now = user.held().get(name)
        assert now in modules
        return "new" if now == modules[turns[0] % 2] else "old"

    command = Command(lambda: user.start("pull", name), look, user.left, prepare, said=user.said)
    put(shop, repository, "1", raws[0])
    outcomes, slowest = kill(command, numbers, times, chance)
    sound(user, capsys)
    record(told(numbers, times, "pull from a real registry", chance), seen(outcomes, slowest))


@pytest.mark.faults("R4")
@SIGNALS
def test_rmi(user, record, chance, capsys, numbers, times):
    """Of an image that shares the module with one that stays, and of two others."""
    module, others = user.module(0, SIZE), [f"other:{number}" for number in range(1, 3)]
    user.quickly(capsys, "package", module, "-t", "stays:1", "--variant", "oci")
    kept = user.held()

    def prepare() -> None:
        if "goes:1" not in user.held():
            for number, name in enumerate(others):
                path = user.module(number, name=f"{number}.wasm")
                user.quickly(capsys, "package", path, "-t", name)
            user.quickly(capsys, "package", module, "-t", "goes:1", "--variant", "cncf")

    def look() -> str:
        now = user.held()
        assert now in (kept, kept | {name: now.get(name) for name in ("goes:1", *others)})
        return "new" if now == kept else "old"

    words = ("rmi", "goes:1", *others)
    command = Command(lambda: user.start(*words), look, user.left, prepare, said=user.said)
    outcomes, slowest = kill(command, numbers, times, chance)
    sound(user, capsys)
    record(told(numbers, times, "rmi of 3 images", chance), seen(outcomes, slowest))


@pytest.mark.faults("R4")
@SIGNALS
def test_images(user, record, chance, capsys, numbers, times):
    for number in range(5):
        user.quickly(capsys, "package", user.module(number, SIZE), "-t", f"hello:{number}")
    kept = user.held()

    def look() -> str:
        assert user.held() == kept
        return "new"

    words = ("images", "--verify")
    command = Command(lambda: user.start(*words), look, user.left, said=user.said)
    _, slowest = kill(command, numbers, times, chance)
    sound(user, capsys)
    record(
        told(numbers, times, "images --verify", chance), f"it changes nothing; gone within {slowest:.1f} s"
    )


# kills a process before it changes what lies below a folder for so-many-th time
KILLER = """
import os, signal, sys

left, folder = int(os.environ["KILL_AT"]), os.environ["KILL_IN"]
changes = ("os.rename", "os.remove", "os.mkdir", "os.rmdir", "os.chmod", "shutil.rmtree")


def hook(event, args):
    global left
    changing = event in changes or (event == "open" and args[2] & (os.O_WRONLY | os.O_RDWR))
    if changing and folder in str(args[0]):
        left -= 1
        if left < 0:
            os.kill(os.getpid(), signal.SIGKILL)


sys.addaudithook(hook)
"""


@pytest.mark.faults("R4")
@pytest.mark.parametrize("command", ["package", "pull", "tag", "rmi"])
def test_killed_before_each_change_of_the_store(user, shop, record, capsys, command):
    """Before the first, before the second, and so on; each time with the same store."""
    old, new, other = (user.module(number, name=f"{number}.wasm") for number in range(3))
    remote = f"{shop.name}/killed/{command}:1"
    user.quickly(capsys, "package", new, "-t", remote)
    user.quickly(capsys, "push", remote)
    user.quickly(capsys, "rmi", remote)
    for module, name in ((old, "old:1"), (old, remote), (other, "other:1")):
        user.quickly(capsys, "package", module, "-t", name)
    lines = {
        "package": (new, "-t", remote),
        "pull": (remote,),
        "tag": ("old:1", "more:1"),
        "rmi": ("other:1",),
    }
    words, before, found = (command, *lines[command]), user.held(), []
    (user.folder / "sitecustomize.py").write_text(KILLER)
    env = {"PYTHONPATH": str(user.folder), "KILL_IN": str(user.store)}
    shutil.copytree(user.store, user.folder / "model")
    for moment in itertools.count():
        shutil.rmtree(user.store)
        shutil.copytree(user.folder / "model", user.store)
        ran = user.run(*words, KILL_AT=str(moment), **env)
        found.append(user.held())
        if ran.code == 0:
            break
        assert ran.code == -signal.SIGKILL, ran.err
        if command != "rmi" or found[-1] == before:
            user.quickly(capsys, *words)
        user.quickly(capsys, "tag", "old:1", "last:1")
        sound(user, capsys)
    after = found[-1]
    assert after != before and found[0] == before
    assert all(each in (before, after) for each in found)
    record(
        f"{command}: SIGKILL before each of the {moment} changes that it makes in the store",
        f"old {found.count(before)}, new {found.count(after) - 1}; the same again succeeded, and swept",
    )


# --- R7: several at once


@pytest.mark.faults("R7")
def test_eight_package_under_one_name(user, record, capsys):
    modules = [user.module(number, SIZE, f"{number}.wasm") for number in range(1, 3)]
    ended = at_once(user, *[("package", module, "-t", "hello:1") for module in modules * 2])
    assert {code for code, _, _ in ended} == {0}, ended
    held = user.held()
    assert set(held.values()) == {digest(module) for module in modules}, "nobody's is lost"
    assert "hello:1" in held
    sound(user, capsys)
    record("8 `package` of 4 modules under one name", "the last has the name, the others are untagged")


@pytest.mark.faults("R7")
def test_eight_pull_one_image(user, shop, record, capsys):
    module, name = user.module(1, 5_000_000), f"{shop.name}/crowd/pull:1"
    user.quickly(capsys, "package", module, "-t", name)
    user.quickly(capsys, "push", name)
    user.quickly(capsys, "rmi", name)
    ended = at_once(user, *[("pull", name)] * 8)
    assert {code for code, _, _ in ended} == {0}, ended
    assert user.held() == {name: digest(module)}
    assert len(user.blobs()) == 3
    sound(user, capsys)
    record("8 `pull` of one image", "all end well with it")


@pytest.mark.faults("R7")
def test_six_push_to_one_tag(user, shop, record, capsys):
    name, modules, pins = f"{shop.name}/crowd/push:1", [], []
    for number in range(3):
        modules.append(sha256(user.module(number, SIZE).read_bytes()))
        ran = user.quickly(capsys, "package", user.folder / "filter.wasm", "-t", name, "--json")
        pins.append(json.loads(ran.out)["manifest_digest"])
    ended = at_once(user, *[("push", f"{name}@{pin}") for pin in pins * 2])
    assert {code for code, _, _ in ended} == {0}, ended
    assert on_sale(shop, "crowd/push", "1") in modules
    record("6 `push` of 3 images to one tag", "all end well; the tag names one of them, whole")


@pytest.mark.faults("R7")
def test_everything_at_once(user, shop, record, capsys):
    """Whoever comes too late is told so; what is there at the end is whole."""
    remote = f"{shop.name}/crowd/all"
    modules = [user.module(number, SIZE, f"{number}.wasm") for number in range(3)]
    for number, module in enumerate(modules[:2]):
        user.quickly(capsys, "package", module, "-t", f"{remote}:{number}")
        user.quickly(capsys, "push", f"{remote}:{number}")
    codes: list[int] = []
    for _ in range(4):
        lines = [
            ("package", modules[2], "-t", "mine:1"),
            ("package", modules[0], "-t", "mine:1"),
            ("pull", f"{remote}:0"),
            ("pull", f"{remote}:1"),
            ("tag", f"{remote}:0", "mine:2"),
            ("rmi", f"{remote}:0", f"{remote}:1"),
            ("rmi", "--untagged"),
            ("push", f"{remote}:1"),
            ("images", "--all", "--verify"),
        ]
        ended = at_once(user, *lines)
        for line, (code, _, err) in zip(lines, ended, strict=True):
            late = code == 2 and "no local image `" in err
            assert code == 0 or (late and line[0] in ("tag", "rmi", "push")), f"{line}: {code} {err}"
            codes.append(code)
        held = user.held()
        assert held.get("mine:1") in (digest(modules[0]), digest(modules[2]))
        assert set(held.values()) <= {digest(module) for module in modules}
    for number in range(2):
        assert on_sale(shop, "crowd/all", str(number)) == digest(modules[number])
    sound(user, capsys)
    late = sum(code == 2 for code in codes)
    record(
        "package, pull, tag, rmi, push, images, 9 at once, 4 times",
        f"{len(codes) - late} end well, {late} come too late: exit code 2; the store is sound",
    )


@pytest.mark.faults("R7")
def test_images_while_others_come_and_go(user, record, capsys):
    """It reads without the lock: what is removed under its eyes isn't damaged."""
    user.quickly(capsys, "package", user.module(0, SIZE), "-t", "stays:1")
    other = compat(user.module(1, SIZE).read_bytes(), PluginInfo("other"))
    done = threading.Event()

    def come_and_go() -> None:
        for number in itertools.takewhile(lambda _: not done.is_set(), itertools.count()):
            goes = Reference.parse(f"goes:{number}")
            Store().add(other, goes)
            Store().remove([goes])

    thread = threading.Thread(target=come_and_go)
    thread.start()
    warned: list[object] = []
    try:
        with events.listening(lambda event: warned.append(event)):
            counts = Counter(len(stored.images(verify=True)) for _ in range(300))
    finally:
        done.set()
        thread.join()
    assert not warned
    assert set(counts) <= {1, 2}
    record("images --verify, 300 times, while another image comes and goes", "never called damaged")
