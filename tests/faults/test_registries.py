"""R17: a registry that fails, cuts, stalls, lies, refuses and redirects; asked by the command line."""

from __future__ import annotations

import base64
import json
import signal
from collections.abc import Callable, Sequence

import pytest
from support.faulty_registry import Answer, Faulty, Reply, Seen, error, faulty
from support.image_users import User
from support.places import digest, until

from scaffold.oci.registry.client import Client
from scaffold.oci.registry.http import Timeouts

CANARY = "canary-that-nobody-may-hear"
BASIC = base64.b64encode(f"alice:{CANARY}".encode()).decode()

MANIFEST, LAYER = ("pull", "GET", "/manifests/"), ("pull", "GET", "/blobs/")
LOOK, BEGIN = ("push", "HEAD", "/blobs/"), ("push", "POST", "/uploads/")
UPLOAD, TAG = ("push", "PUT", "/upload/"), ("push", "PUT", "/manifests/")
ALL = (MANIFEST, LAYER, LOOK, BEGIN, UPLOAD, TAG)

Make = Callable[[Faulty], Answer]


def always(reply: Answer) -> Make:
    return lambda _: reply


def parrot(seen: Seen) -> Reply:
    """Say all that one was told."""
    told = seen.headers["Authorization"]
    name, _, password = base64.b64decode(told.removeprefix("Basic ")).decode().partition(":")
    return error(403, "DENIED", f"you said {told}: {name}, {password}")


def stall(server: Faulty) -> Answer:
    """Say nothing at all, until the test ends."""

    def answer(_: Seen) -> Reply:
        server.released.wait()
        return Reply(500)

    return answer


def hang_up(_: Seen) -> Reply:
    raise OSError("the server ends the connection without an answer")


def blob(change: Callable[[bytes], Reply]) -> Make:
    """Send the layer in another way."""
    return lambda server: lambda seen: change(server.blobs[seen.path.rpartition("/")[2]])


# what is answered, where, and what is said of it
FAULTS: dict[str, tuple[Make, Sequence[tuple[str, str, str]], str]] = {
    "500": (always(error(500, "UNKNOWN", "boom")), ALL, "500 Internal Server Error"),
    "502, in HTML": (always(Reply(502, b"<html>nginx</html>")), ALL, "502 Bad Gateway"),
    "503": (always(error(503, "UNAVAILABLE", "later")), ALL, "503 Service Unavailable"),
    "429": (always(error(429, "TOOMANYREQUESTS", "slow")), ALL, "got too many requests"),
    "429, Retry-After an hour": (
        always(error(429, "TOOMANYREQUESTS", "slow", Retry_After="3600")),
        ALL,
        "it asks us to wait 3600 s",
    ),
    "401, whoever asks": (
        always(error(401, "UNAUTHORIZED", "no", WWW_Authenticate='Basic realm="r"')),
        ALL,
        "without the right credentials",
    ),
    "401, without a word": (always(Reply(401)), ALL, "without the right credentials"),
    "403": (always(error(403, "DENIED", "not yours")), ALL, "doesn't let you"),
    "403, with our own secrets": (always(parrot), ALL, "doesn't let you"),
    "404": (always(error(404, "NAME_UNKNOWN", "nothing")), (MANIFEST, LAYER, BEGIN, UPLOAD, TAG), "has no"),
    "413": (always(error(413, "SIZE_INVALID", "too big")), (UPLOAD, TAG), "as it is too large"),
    "a status that there isn't": (always(Reply(999)), ALL, "999"),
    "silence": (stall, ALL, "stopped answering"),
    "silence in the middle": (
        always(Reply(200, b"{", length=1000, stalls=True)),
        (MANIFEST,),
        "stopped answering",
    ),
    "the connection ended": (always(hang_up), ALL, "was lost"),
    "the connection ended in the middle": (
        always(Reply(200, b"{", length=1000)),
        (MANIFEST,),
        "was lost",
    ),
    "a redirect in circles": (
        always(lambda seen: Reply(307, headers={"Location": seen.path})),
        ALL,
        "redirects in circles",
    ),
    "a redirect to no address": (
        always(Reply(307, headers={"Location": "ftp://x/"})),
        ALL,
        "isn't a valid registry address",
    ),
    "HTML": (always(Reply(200, b"<html>")), (MANIFEST, LAYER, BEGIN), ""),
    "nothing": (always(Reply(200)), (MANIFEST, LAYER, BEGIN), ""),
    "5 MB of manifest": (always(Reply(200, bytes(5_000_000))), (MANIFEST,), "sent more than"),
    "other bytes": (blob(lambda it: Reply(200, bytes(len(it)))), (LAYER,), "bytes with the digest sha256:"),
    "a byte less": (blob(lambda it: Reply(200, it[1:])), (LAYER,), "bytes instead of"),
    "a byte more": (blob(lambda it: Reply(200, it + b"x")), (LAYER,), "bytes instead of"),
    "a terabyte": (blob(lambda it: Reply(200, it, length=10**12)), (LAYER,), "bytes instead of"),
    "the same half again and again": (
        blob(lambda it: Reply(200, it[: len(it) // 2], length=len(it))),
        (LAYER,),
        "was lost",
    ),
    "half, and then silence": (
        blob(lambda it: Reply(200, it[: len(it) // 2], length=len(it), stalls=True)),
        (LAYER,),
        "stopped answering",
    ),
}


@pytest.fixture
def impatient(monkeypatch):
    """What would take minutes takes a second: other timeouts than the client's own, in this process."""
    timeouts = Timeouts(total=5, silence=0.2, pause=0.01, attempts=3)
    monkeypatch.setitem(Client.__init__.__kwdefaults__, "timeouts", timeouts)


@pytest.fixture
def server():
    with faulty() as running:
        yield running


@pytest.fixture
def other():
    """Another server, on another port: another origin."""
    with faulty() as running:
        yield running


def ask_for_a_password(server: Faulty) -> None:
    """Before anything else that it answers."""
    challenge = error(401, "UNAUTHORIZED", "who are you?", WWW_Authenticate='Basic realm="r"')
    for method in ("GET", "HEAD", "POST", "PUT"):
        server.on(method, "", lambda seen: None if "Authorization" in seen.headers else challenge)


def stocked(user: User, capsys, server: Faulty, command: str) -> str:
    """The name of an image that is there to be pulled, or here to be pushed."""
    name = f"{server.name}/acme/hello:1"
    user.log_in(server.name, auth=BASIC)
    user.quickly(capsys, "package", user.module(1, 20_000), "-t", name)
    if command == "pull":
        user.quickly(capsys, "push", name)
        user.quickly(capsys, "rmi", name)
    return name


def in_vain(user: User, capsys, server: Faulty, command: str, name: str) -> str:
    """Push or pull, with and without --json: a sentence, nothing kept, and no secret told; the sentence."""
    for words in ((command, name), (command, name, "--json")):
        ran = user.quickly(capsys, *words, code=None)
        assert ran.code in (6, 7), f"{words}: {ran.code} {ran.err}"
        assert server.name in ran.err, ran.err
        unheard(ran.out + ran.err)
        assert ran.out == ""
    if command == "pull":
        assert (user.held(), user.blobs(), list(user.store.glob(".scaffold*"))) == ({}, [], [])
    else:
        assert not server.manifests
    return f"exit code {ran.code}: {ran.sentence.replace(server.name, 'REGISTRY')}"


def unheard(said: str) -> None:
    assert CANARY not in said and BASIC not in said, said


@pytest.mark.faults("R17")
@pytest.mark.parametrize("fault", FAULTS)
def test_a_registry_that_goes_on_failing(user, record, capsys, impatient, fault):
    make, places, words = FAULTS[fault]
    told = []
    for command, method, path in places:
        with faulty() as server:
            name = stocked(user, capsys, server, command)
            server.on(method, path, make(server))
            ask_for_a_password(server)
            told.append(in_vain(user, capsys, server, command, name))
            assert words in told[-1], (command, method, path)
        if command == "push":
            user.quickly(capsys, "rmi", name)
    where = ", ".join(f"{command}'s {method} {path}" for command, method, path in places)
    record(f"{fault}: {where}", told[-1])


ONCE: dict[str, Make] = {
    "503": always(error(503, "UNAVAILABLE", "later")),
    "429, Retry-After 0": always(error(429, "TOOMANYREQUESTS", "slow", Retry_After="0")),
    "silence": stall,
    "the connection ended": always(hang_up),
}


@pytest.mark.faults("R17")
@pytest.mark.parametrize("fault", ONCE)
def test_a_registry_that_fails_once(user, record, capsys, impatient, fault):
    for command, method, path in ALL:
        with faulty() as server:
            name = stocked(user, capsys, server, command)
            right = digest(user.folder / "filter.wasm")
            server.once(method, path, ONCE[fault](server))
            ask_for_a_password(server)
            ran = user.quickly(capsys, command, name)
            assert "trying again" in ran.err
            unheard(ran.out + ran.err)
            assert user.held() == {name: right}
            assert "acme/hello:1" in server.manifests
            user.quickly(capsys, "rmi", name)
    record(f"{fault}, once, wherever push and pull ask", "tried again, and it works")


@pytest.mark.faults("R17")
def test_a_layer_that_is_cut_again_and_again(user, server, record, capsys, impatient):
    """Each time after some bytes: it goes on where it was."""
    name = stocked(user, capsys, server, "pull")
    blobs = server.blobs

    def a_thousand(seen: Seen) -> Reply:
        content = blobs[seen.path.rpartition("/")[2]]
        start = int(seen.headers.get("Range", "bytes=0-")[6:-1])
        told = {"Content-Range": f"bytes {start}-{len(content) - 1}/{len(content)}"}
        return Reply(206 if start else 200, content[start:][:1000], told, length=len(content) - start)

    server.on("GET", "/blobs/", a_thousand)
    user.quickly(capsys, "pull", name)
    assert user.held() == {name: digest(user.folder / "filter.wasm")}
    assert len(server.asked("GET", "/blobs/")) > 20
    record("pull: the connection ends every 1,000 bytes", "it resumes, and works")


@pytest.mark.faults("R17")
@pytest.mark.parametrize("lies", [False, True], ids=["as promised", "other bytes"])
def test_a_redirect_elsewhere(user, server, other, record, capsys, impatient, lies):
    """As to a cloud's store: our secrets don't go along, and its bytes count no more than the registry's."""
    name = stocked(user, capsys, server, "pull")
    server.on(
        "GET", "/blobs/", lambda seen: Reply(307, headers={"Location": f"http://{other.name}{seen.path}"})
    )
    ask_for_a_password(server)
    other.blobs = {name: bytes(len(it)) if lies else it for name, it in server.blobs.items()}
    if lies:
        told = in_vain(user, capsys, server, "pull", name)
        assert "bytes with the digest" in told
    else:
        user.quickly(capsys, "pull", name)
        assert user.held() == {name: digest(user.folder / "filter.wasm")}
        told = "it works"
    assert other.seen
    assert not [seen for seen in other.seen if "Authorization" in seen.headers]
    record(f"pull: layers by a redirect to another server, {'other bytes' if lies else 'as promised'}", told)


@pytest.mark.faults("R17")
def test_a_redirect_to_one_that_asks_for_a_password(user, server, other, record, capsys, impatient):
    name = stocked(user, capsys, server, "pull")
    server.on(
        "GET", "/blobs/", lambda seen: Reply(307, headers={"Location": f"http://{other.name}{seen.path}"})
    )
    ask_for_a_password(server)
    ask_for_a_password(other)
    told = in_vain(user, capsys, server, "pull", name)
    assert other.seen
    assert not [seen for seen in other.seen if "Authorization" in seen.headers]
    record("pull: a redirect to a server that asks for a password", told)


def hand_out_tokens(server: Faulty, lasts: int) -> list[str]:
    """Each is good for so many requests; those that were given."""
    given, uses = list[str](), [0]

    def give(_: Seen) -> Reply:
        given.append(f"token-{len(given)}")
        uses[0] = lasts
        return Reply(200, json.dumps({"token": given[-1]}).encode())

    def check(seen: Seen) -> Reply | None:
        uses[0] -= 1
        if given and seen.headers.get("Authorization") == f"Bearer {given[-1]}" and uses[0] >= 0:
            return None
        realm = f'Bearer realm="http://{server.name}/token",service="s",error="invalid_token"'
        return error(401, "UNAUTHORIZED", "the token has expired", WWW_Authenticate=realm)

    for method in ("GET", "HEAD", "POST", "PUT"):
        server.on(method, "/v2/|/upload/", check)
    server.on("GET", "/token", give)
    return given


@pytest.mark.faults("R17")
@pytest.mark.parametrize("lasts", [1, 2])
def test_tokens_that_expire_on_the_way(user, server, record, capsys, impatient, lasts):
    name = stocked(user, capsys, server, "push")
    given = hand_out_tokens(server, lasts)
    unheard(user.quickly(capsys, "push", name).err)
    assert len(given) > 3
    assert server.manifests
    record(
        f"push: tokens that are good for {lasts} requests", f"renewed {len(given) - 1} times, and it works"
    )


@pytest.mark.faults("R17")
def test_tokens_that_have_expired_when_they_are_given(user, server, record, capsys, impatient):
    name = stocked(user, capsys, server, "pull")
    given = hand_out_tokens(server, 0)
    told = in_vain(user, capsys, server, "pull", name)
    assert "without the right credentials: the token has expired" in told
    assert len(given) == 2, "one for each run: that isn't tried again and again"
    record("pull: tokens that have expired when they are given", told)


@pytest.mark.faults("R17")
@pytest.mark.parametrize("kind", ["identitytoken", "registrytoken"])
def test_a_kept_token_that_has_expired(user, server, record, capsys, impatient, kind):
    """The server repeats it in its refusal, and doesn't let you in without one."""
    name = stocked(user, capsys, server, "pull")
    user.log_in(server.name, **{kind: CANARY})
    hand_out_tokens(server, 0)
    for method in ("GET", "POST"):
        said = json.dumps({"error": "invalid_grant", "error_description": f"{CANARY} has expired"})
        server.on(method, "/token", Reply(401, said.encode()))
    told = in_vain(user, capsys, server, "pull", name)
    assert "has expired" in told
    record(f"pull: an expired {kind} in config.json", told)


@pytest.mark.faults("R17")
@pytest.mark.parametrize("command", ["push", "pull"])
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM], ids=lambda number: number.name)
def test_a_registry_that_is_silent_can_be_left(user, server, record, capsys, command, number):
    """With the client's own patience, which is longer than ours."""
    name = stocked(user, capsys, server, command)
    _, method, path = LAYER if command == "pull" else UPLOAD
    server.on(method, path, stall(server))
    ask_for_a_password(server)
    child = user.start(command, name)
    until(lambda: server.asked(method, path) or child.poll() is not None)
    assert CANARY not in " ".join(user.left()) and len(user.left()) == 1
    child.send_signal(number)
    ran = user.end(child)
    assert ran.code == 128 + number, ran.err
    assert ran.sentence == ("interrupted" if number == signal.SIGINT else "terminated")
    unheard(ran.err)
    user.nothing_left()
    if command == "pull":
        assert (user.held(), user.blobs(), list(user.store.glob(".scaffold*"))) == ({}, [], [])
    else:
        assert not server.manifests
    record(f"{number.name} in {command} while the registry is silent", f"exit code {ran.code}, nothing kept")


@pytest.mark.faults("R17")
@pytest.mark.parametrize("command", ["push", "pull"])
def test_a_registry_that_is_down_for_long(user, server, record, capsys, command):
    """With the client's own patience: five tries, a few seconds."""
    name = stocked(user, capsys, server, command)
    _, method, path = LAYER if command == "pull" else UPLOAD
    server.on(method, path, error(503, "UNAVAILABLE", "later"))
    ran = user.run(command, name)
    assert (ran.code, ran.explained) == (7, True), ran.err
    assert "(tried 5 times)" in ran.sentence
    assert len(server.asked(method, path)) == 5
    record(f"{command}: 503 for ever", f"exit code 7: {ran.sentence.replace(server.name, 'REGISTRY')}")
