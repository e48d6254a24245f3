"""What the client does with a registry, and with one that cuts, stalls, lies and refuses."""

import io
import json
import os
import socket
import time
from email.utils import formatdate

import pytest
from support.faulty_registry import Reply, digest, error, faulty, manifest_reply
from support.slow_servers import SLOW, answering

from scaffold.errors import RegistryError
from scaffold.oci.reference import Reference
from scaffold.oci.registry import client as client_module
from scaffold.oci.registry.client import Client
from scaffold.oci.registry.credentials import Credentials
from scaffold.oci.registry.http import Timeouts
from scaffold.oci.spec import (
    DOCKER_LIST,
    DOCKER_SCHEMA_1,
    INDEX,
    MANIFEST,
    Descriptor,
    ImageError,
    Manifest,
)

QUICK = Timeouts(total=10, silence=5, pause=0.001, attempts=3)
IMPATIENT = Timeouts(total=0.6, silence=0.2, pause=0.001, attempts=3)
CONTENT = bytes(range(256)) * 4096  # 1 MiB: several reads
BLOB = Descriptor.of("application/wasm", CONTENT)
SMALL = Descriptor.of("application/json", b"{}")
IMAGE = Manifest.make(SMALL, (BLOB,), {"a": "b"})
ALICE = Credentials("alice", "open sesame")


@pytest.fixture
def client(server):
    with Client(server.name, timeouts=QUICK) as client:
        yield client


@pytest.fixture
def reference(server):
    return Reference(server.name, "acme/hello", "1")


def fetched(client, descriptor=BLOB):
    into = io.BytesIO()
    client.blob("acme/hello", descriptor, into)
    return into.getvalue()


# --- all goes well


def test_an_image_comes_back_as_it_was_pushed(server, client, reference):
    steps = []
    assert client.upload("acme/hello", BLOB, io.BytesIO(CONTENT), on_progress=steps.append) == "uploaded"
    assert client.upload("acme/hello", SMALL, io.BytesIO(b"{}")) == "uploaded"
    client.put_manifest(reference, IMAGE)
    assert client.manifest(reference) == (IMAGE.raw, MANIFEST)
    assert client.manifest(reference.pinned(IMAGE.digest)) == (IMAGE.raw, MANIFEST)
    assert fetched(client) == CONTENT
    assert fetched(client, SMALL) == b"{}"
    assert steps == sorted(set(steps))
    assert steps[-1] == BLOB.size


def test_what_is_there_is_not_sent_again(server, client):
    server.blobs[BLOB.digest] = CONTENT
    assert fetched(client) == CONTENT
    assert client.upload("acme/hello", BLOB, io.BytesIO()) == "present"
    assert not server.asked("POST")


def test_an_empty_blob_is_one_too(server, client):
    empty = Descriptor.of("application/octet-stream", b"")
    assert client.upload("a", empty, io.BytesIO()) == "uploaded"
    assert fetched(client, empty) == b""
    assert not any("Transfer-Encoding" in seen.headers for seen in server.seen)


def test_all_goes_over_one_connection(server, client, reference):
    probe = server.connections
    client.upload("acme/hello", BLOB, io.BytesIO(CONTENT))
    client.put_manifest(reference, IMAGE)
    client.manifest(reference)
    fetched(client)
    with pytest.raises(RegistryError):
        client.manifest(Reference(server.name, "acme/hello", "2"))
    client.tags("acme/hello")
    assert server.connections == probe + 1


def test_a_blob_of_another_repository_is_mounted(server, client):
    server.on("POST", r"uploads/\?mount=.*&from=acme%2Fbase", Reply(201))
    assert client.upload("acme/hello", BLOB, io.BytesIO(CONTENT), mount_from=["acme/base"]) == "mounted"
    assert not server.asked("PUT")


@pytest.mark.parametrize("status", [202, 401, 403, 404, 405])
def test_a_blob_that_cant_be_mounted_is_uploaded(server, client, status):
    server.on("POST", "mount=", Reply(status, headers={"Location": "/upload/1?_state=a%2Bb%3D"}))
    assert client.upload("a", BLOB, io.BytesIO(CONTENT), mount_from=["b", "c"]) == "uploaded"
    assert server.blobs[BLOB.digest] == CONTENT


def test_an_upload_that_a_registry_begins_instead_of_mounting_is_continued(server, client):
    """Each session that nobody ends takes room in the registry until it expires."""
    server.on("POST", "/blobs/uploads/", Reply(202, headers={"Location": "/upload/1?_state=a%2Bb%3D"}))
    others = [f"team{number}" for number in range(30)]
    assert client.upload("a", BLOB, io.BytesIO(CONTENT), mount_from=others) == "uploaded"
    (begun,) = server.asked("POST")
    assert begun.path.endswith("&from=team0")
    assert [seen.path.partition("?")[0] for seen in server.asked("PUT")] == ["/upload/1"]
    assert server.blobs[BLOB.digest] == CONTENT


def test_only_a_few_repositories_are_mounted_from(server, client):
    server.on("POST", "mount=", Reply(403))
    others = [f"team{number}" for number in range(30)]
    assert client.upload("a", BLOB, io.BytesIO(CONTENT), mount_from=others) == "uploaded"
    assert [seen.path.partition("&from=")[2] for seen in server.asked("POST")] == [*others[:4], ""]


def test_the_manifests_that_are_understood_are_asked_for(server, client, reference):
    server.manifests["acme/hello:1"] = (INDEX, b'{"manifests": []}')
    assert client.manifest(reference) == (b'{"manifests": []}', INDEX)
    (seen,) = server.asked("GET", "manifests")
    assert {MANIFEST, INDEX, DOCKER_LIST} < set(seen.headers["Accept"].split(", "))


def test_compression_is_neither_asked_for_nor_undone(server, client):
    server.on("GET", "/blobs/", Reply(200, b"{}", {"Content-Encoding": "gzip"}))
    assert fetched(client, SMALL) == b"{}"
    assert server.seen[-1].headers["Accept-Encoding"] == "identity"


def test_all_pages_of_tags_are_read(server, client):
    def page(*tags, link=None):
        headers = {"Link": f'<{link}>; rel="next"'} if link else {}
        return Reply(200, json.dumps({"name": "a", "tags": list(tags)}).encode(), headers)

    server.on(
        "GET",
        "/tags/list",
        page("1", "2", link="/v2/a/tags/list?n=2&last=2"),
        page("3", link=f"http://{server.name}/v2/a/tags/list?last=3"),
        page("4"),
    )
    assert client.tags("a") == ["1", "2", "3", "4"]
    assert [seen.path for seen in server.seen][1:] == ["/v2/a/tags/list?n=2&last=2", "/v2/a/tags/list?last=3"]


def test_no_tags_are_an_empty_list(server, client):
    server.on("GET", "/tags/list", Reply(200, b'{"name": "a", "tags": null}'))
    assert client.tags("a") == []


# --- temporary troubles


@pytest.mark.parametrize("status", [408, 429, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again(server, client, reference, status, said):
    server.manifests["acme/hello:1"] = (MANIFEST, IMAGE.raw)
    server.once("GET", "/manifests/", Reply(status), Reply(status))
    assert client.manifest(reference)[0] == IMAGE.raw
    assert len(server.seen) == 3
    assert any("trying again" in text for text in said)


@pytest.mark.parametrize("status", [429, 503])
def test_what_doesnt_pass_ends_after_some_tries(server, client, reference, status):
    server.on("GET", "/manifests/", error(status, "X", "busy\x1b[31m\nbusy"))
    with pytest.raises(RegistryError) as caught:
        client.manifest(reference)
    assert caught.value.message.startswith(server.name)
    assert caught.value.message.endswith("busy [31m busy (tried 3 times)")
    assert caught.value.exit_code == 7
    assert len(server.seen) == 3


@pytest.mark.parametrize("after", ["3600", lambda: formatdate(time.time() + 3600, usegmt=True)])
def test_a_registry_that_wants_to_be_left_alone_for_long_is(server, client, reference, after):
    after = after if isinstance(after, str) else after()
    server.on("GET", "/manifests/", Reply(429, headers={"Retry-After": after}))
    with pytest.raises(RegistryError, match=r"asks us to wait 3\d\d\d s"):
        client.manifest(reference)
    assert len(server.seen) == 1


@pytest.mark.parametrize("after", ["0", "Thu, 01 Jan 1970 00:00:00 GMT", "soon", "-1", "9" * 400])
def test_a_retry_after_of_any_kind_is_survived(server, client, reference, after):
    server.manifests["acme/hello:1"] = (MANIFEST, IMAGE.raw)
    server.once("GET", "/manifests/", Reply(503, headers={"Retry-After": after}))
    assert client.manifest(reference)[0] == IMAGE.raw


def hangs_up(seen):
    raise ConnectionResetError


def test_a_connection_that_is_lost_is_made_again(server, client, reference):
    server.manifests["acme/hello:1"] = (MANIFEST, IMAGE.raw)
    server.once("GET", "/manifests/", hangs_up, hangs_up)
    assert client.manifest(reference)[0] == IMAGE.raw
    server.once("PUT", "/upload/", hangs_up)
    assert client.upload("a", BLOB, io.BytesIO(CONTENT)) == "uploaded"
    server.on("GET", "/manifests/", hangs_up)
    with pytest.raises(RegistryError, match=r"the connection to .* was lost"):
        client.manifest(reference)


def test_an_upload_that_fails_is_begun_anew_with_all_its_bytes(server, client):
    server.once("PUT", "/upload/", Reply(500), Reply(503))
    assert client.upload("a", BLOB, io.BytesIO(CONTENT)) == "uploaded"
    assert [len(seen.body) for seen in server.asked("PUT")] == [BLOB.size] * 3
    assert len(server.asked("POST")) == 3
    assert server.blobs[BLOB.digest] == CONTENT


def test_an_upload_whose_answer_got_lost_is_found_to_be_there(server, client):
    def keeps_and_fails(seen):
        server.blobs[BLOB.digest] = seen.body
        return Reply(502)

    server.on("PUT", "/upload/", keeps_and_fails)
    assert client.upload("a", BLOB, io.BytesIO(CONTENT)) == "present"


def test_a_blob_that_is_cut_off_goes_on_where_it_was(server, client):
    server.blobs[BLOB.digest] = CONTENT
    server.once("GET", "/blobs/", Reply(200, CONTENT[:300_000], length=BLOB.size))
    assert fetched(client) == CONTENT
    assert [seen.headers.get("Range") for seen in server.seen] == [None, "bytes=300000-"]


def test_a_registry_without_ranges_sends_it_whole_again(server, client):
    server.on("GET", "/blobs/", Reply(200, CONTENT[:300_000], length=BLOB.size), Reply(200, CONTENT))
    assert fetched(client) == CONTENT


def test_a_registry_that_never_gets_further_is_given_up_on(server, client):
    server.on("GET", "/blobs/", Reply(200, CONTENT[:300_000], length=BLOB.size))
    with pytest.raises(RegistryError, match=r"\(tried 3 times\)"):
        fetched(client)
    assert len(server.seen) == 3


def test_many_cuts_are_survived_as_long_as_bytes_come(server, client):
    server.blobs[BLOB.digest] = CONTENT
    parts = []
    for start in range(0, 900_000, 100_000):
        told = {"Content-Range": f"bytes {start}-{BLOB.size - 1}/{BLOB.size}"}
        cut = CONTENT[start : start + 100_000]
        parts.append(Reply(206 if start else 200, cut, told if start else {}, length=BLOB.size - start))
    server.once("GET", "/blobs/", *parts)
    assert fetched(client) == CONTENT
    assert len(server.seen) == 10


def test_a_manifest_that_is_cut_off_is_fetched_again(server, client, reference):
    reply = manifest_reply(MANIFEST, IMAGE.raw)
    server.on("GET", "/manifests/", Reply(200, IMAGE.raw[:50], reply.headers, length=len(IMAGE.raw)), reply)
    assert client.manifest(reference)[0] == IMAGE.raw


def test_a_chunked_answer_that_is_cut_off_is_not_taken_for_whole(server, client, reference):
    chunk = b"%x\r\n%b\r\n" % (len(IMAGE.raw), IMAGE.raw)
    chunked = {"Transfer-Encoding": "chunked", "Content-Type": MANIFEST}
    server.on("GET", "/manifests/", Reply(200, chunk, chunked), Reply(200, chunk + b"0\r\n\r\n", chunked))
    assert client.manifest(reference)[0] == IMAGE.raw
    assert len(server.seen) == 2


def test_a_registry_that_falls_silent_is_not_waited_for_without_end(server, reference):
    server.on("GET", "/manifests/", Reply(200, b"{", length=100, stalls=True))
    with (
        Client(server.name, timeouts=IMPATIENT) as client,
        pytest.raises(RegistryError, match=r"stopped answering|didn't finish"),
    ):
        client.manifest(reference)


def test_one_that_is_never_silent_and_never_done_is_given_up_on(server):
    slow = Descriptor.of("x", b"x" * 2000)
    server.on("GET", "/blobs/", Reply(200, b"x", length=2000, drips=True))
    with (
        Client(server.name, timeouts=IMPATIENT) as client,
        pytest.raises(RegistryError, match="didn't finish"),
    ):
        client.blob("a", slow, io.BytesIO())
    assert len(server.seen) == 1


def test_one_that_sends_a_byte_now_and_then_is_given_up_on(server):
    slow = Descriptor.of("x", b"x" * 100)

    def drip(seen):
        start = int(seen.headers.get("Range", "bytes=0-")[len("bytes=") : -1])
        told = {"Content-Range": f"bytes {start}-99/100"} if start else {}
        return Reply(206 if start else 200, b"x", told, length=100 - start, stalls=True)

    server.on("GET", "/blobs/", drip)
    with (
        Client(server.name, timeouts=IMPATIENT) as client,
        pytest.raises(RegistryError, match="didn't finish"),
    ):
        client.blob("a", slow, io.BytesIO())
    assert len(server.seen) > 1


@pytest.mark.faults(
    "R17", injected="a registry's status line, headers or body: a byte now and then", seen="given up in time"
)
@pytest.mark.parametrize("kind", [kind for kind in SLOW if kind not in ("a redirect's body", "a handshake")])
def test_whatever_of_an_answer_drips_the_deadline_holds(kind):
    begun = time.monotonic()
    with (
        answering(SLOW[kind]) as place,
        Client(place, timeouts=IMPATIENT) as client,
        pytest.raises(RegistryError, match="didn't finish within 1 s"),
    ):
        client.manifest(Reference(place, "acme/hello", "1"))
    assert time.monotonic() - begun < 5


@pytest.mark.parametrize(("status", "code"), [(400, "MANIFEST_BLOB_UNKNOWN"), (404, "BLOB_UNKNOWN")])
def test_blobs_that_are_not_seen_at_once_are_waited_for(server, client, reference, status, code):
    """docker-registry 2.8 answers so while others push the same blobs: it writes its links bit by bit."""
    unknown = [("DIGEST_INVALID", "provided digest did not match"), (code, "blob unknown to registry")]
    body = json.dumps({"errors": [dict(zip(("code", "message"), each, strict=True)) for each in unknown]})
    server.once("PUT", "/manifests/", *[Reply(status, body.encode())] * 2)
    client.put_manifest(reference, IMAGE)
    assert len(server.asked("PUT", "/manifests/")) == 3


def test_blobs_that_stay_unknown_are_not_waited_for_without_end(server, client, reference):
    server.on("PUT", "/manifests/", error(400, "MANIFEST_BLOB_UNKNOWN", "blob unknown to registry"))
    with pytest.raises(RegistryError, match=r"doesn't see the blobs of .*: blob unknown.* \(tried 3 times\)"):
        client.put_manifest(reference, IMAGE)


# --- lies


def test_a_blob_of_other_bytes_is_not_taken(server, client):
    server.on("GET", "/blobs/", Reply(200, CONTENT[:-1] + b"x"))
    with pytest.raises(RegistryError) as caught:
        fetched(client)
    message = f"{server.name} sent bytes with the digest sha256:"
    assert caught.value.message.startswith(message)
    assert caught.value.message.endswith(f" for blob {BLOB.digest} of acme/hello")


@pytest.mark.parametrize("length", [0, 1, BLOB.size - 1, BLOB.size + 1, 10**12])
def test_a_blob_of_another_length_is_not_even_read(server, client, length):
    server.on("GET", "/blobs/", Reply(200, CONTENT, length=length))
    into = io.BytesIO()
    with pytest.raises(RegistryError, match=f"{length:,} bytes instead of 1,048,576"):
        client.blob("acme/hello", BLOB, into)
    assert into.getvalue() == b""


def test_no_byte_is_written_beyond_the_size(server, client):
    chunked = {"Transfer-Encoding": "chunked"}
    server.on(
        "GET", "/blobs/", Reply(200, b"%x\r\n%b\r\n" % (3_000_000, bytes(3_000_000)), chunked, stalls=True)
    )
    into = io.BytesIO()
    with pytest.raises(RegistryError, match="more than its 1,048,576 bytes"):
        client.blob("acme/hello", BLOB, into)
    assert len(into.getvalue()) <= BLOB.size


def test_a_blob_that_ends_early_without_a_length_is_not_taken(server, client):
    server.on("GET", "/blobs/", Reply(200, b"4\r\nabcd\r\n0\r\n\r\n", {"Transfer-Encoding": "chunked"}))
    with pytest.raises(RegistryError, match="4 bytes instead of 1,048,576"):
        fetched(client)


@pytest.mark.parametrize("told", ["bytes 7-9/10", "bytes 0-1", "nonsense", ""])
def test_another_part_than_was_asked_for_is_not_taken(server, client, told):
    server.on("GET", "/blobs/", Reply(206, CONTENT, {"Content-Range": told}))
    with pytest.raises(RegistryError, match="the wrong part"):
        fetched(client)


def test_a_blob_too_big_for_any_host_is_not_asked_for(server, client):
    huge = Descriptor("application/wasm", BLOB.digest, 2**28 + 1)
    with pytest.raises(ImageError, match="268,435,457 bytes"):
        fetched(client, huge)
    assert not server.seen


@pytest.mark.parametrize("pinned", [False, True])
def test_a_manifest_of_another_digest_is_not_taken(server, client, reference, pinned):
    headers = {} if pinned else {"Docker-Content-Digest": digest(b"another")}
    server.on("GET", "/manifests/", Reply(200, IMAGE.raw, headers))
    asked = reference.pinned(digest(b"another")) if pinned else reference
    with pytest.raises(RegistryError, match=r"sent bytes for .* that don't match"):
        client.manifest(asked)


def test_a_registry_that_says_what_digest_it_sent_does_not_override_our_pin(server, client, reference):
    server.on("GET", "/manifests/", manifest_reply(MANIFEST, IMAGE.raw))  # whole and consistent, but another
    with pytest.raises(RegistryError, match=r"sent bytes for .* that don't match"):
        client.manifest(reference.pinned(digest(b"another")))


def test_a_manifest_without_an_end_is_not_read_to_it(server, client, reference):
    server.on("GET", "/manifests/", Reply(200, b"{" * (5 * 2**20), length=10**9, stalls=True))
    with pytest.raises(RegistryError, match="sent more than 4,194,304 bytes"):
        client.manifest(reference)


def test_a_manifest_of_schema_1_is_named_though_its_digest_is_of_less(server, client, reference):
    raw = b'{"schemaVersion": 1}'
    told = {"Content-Type": DOCKER_SCHEMA_1[1], "Docker-Content-Digest": digest(b"without signatures")}
    server.on("GET", "/manifests/", Reply(200, raw, told))
    with pytest.raises(ImageError, match="schema 1"):
        client.manifest(reference)


def test_a_manifest_that_was_kept_as_another_is_noticed(server, client, reference):
    server.on("PUT", "/manifests/", Reply(201, headers={"Docker-Content-Digest": digest(b"another")}))
    with pytest.raises(RegistryError, match=r"stored .*acme/hello:1 as sha256:"):
        client.put_manifest(reference, IMAGE)


@pytest.mark.parametrize("body", [b"", b"{}", b"[]", b'{"tags": 7}', b"\xff", b"<html>", b"[" * 100_000])
def test_an_answer_without_tags_is_no_traceback(server, client, body):
    server.on("GET", "/tags/list", Reply(200, body))
    with pytest.raises(RegistryError, match="without a list of tags"):
        client.tags("a")


def test_tags_that_go_on_elsewhere_are_not_followed(server, client, other):
    link = {"Link": f'<http://{other.name}/v2/a/tags/list>; rel="next"'}
    server.on("GET", "/tags/list", Reply(200, b'{"tags": ["1"]}', link))
    with pytest.raises(RegistryError, match="another server"):
        client.tags("a")
    assert not other.seen


def test_tags_without_an_end_end(server, client, monkeypatch):
    monkeypatch.setattr(client_module, "_PAGES", 20)

    def page(seen):
        last = int(seen.path.rpartition("=")[2])
        return Reply(200, b'{"tags": ["x"]}', {"Link": f'</v2/a/tags/list?last={last + 1}>; rel="next"'})

    server.on("GET", "/tags/list", page)
    with pytest.raises(RegistryError, match="never stops listing"):
        client.tags("a")
    assert len(server.seen) == 20


def test_a_page_that_leads_back_to_itself_ends(server, client):
    link = {"Link": '</v2/a/tags/list?n=1000>; rel="next"'}
    server.on("GET", "/tags/list", Reply(200, b'{"tags": ["x"]}', link))
    with pytest.raises(RegistryError, match="never stops listing"):
        client.tags("a")


# --- refusals

PRIVATE = "is the name right? if so, it is private: `scaffold login {0}`"


@pytest.mark.parametrize(
    ("status", "message", "hint"),
    [
        (401, "{0} doesn't let you read acme/hello:1 without the right credentials: no", PRIVATE),
        (403, "{0} doesn't let you read acme/hello:1: no", PRIVATE),
        (
            404,
            "{0} has no acme/hello:1: no",
            "is the name right? `scaffold tags {0}/acme/hello` lists its tags",
        ),
        (405, "{0} has no way to read acme/hello:1: no", "is it a registry, and is it writable?"),
        (400, "{0} refused to read acme/hello:1, 400 Bad Request: no", None),
        (418, "{0} refused to read acme/hello:1, 418 I'm a Teapot: no", None),
        (304, "{0} refused to read acme/hello:1, 304 Not Modified", None),
        (299, "{0} refused to read acme/hello:1, 299: no", None),
    ],
)
def test_each_refusal_is_told_apart(server, client, reference, status, message, hint):
    server.on("GET", "/manifests/", error(status, "NO", "no") if status != 304 else Reply(304))
    with pytest.raises(RegistryError) as caught:
        client.manifest(reference)
    assert caught.value.message == message.format(server.name)
    assert caught.value.hint == (hint.format(server.name) if hint else None)
    assert len(server.seen) == 1


def test_a_limit_of_size_is_named(server, client):
    server.on("PUT", "/upload/", Reply(413, b"<html>nginx</html>"))
    with pytest.raises(RegistryError) as caught:
        client.upload("a", BLOB, io.BytesIO(CONTENT))
    assert caught.value.message == f"{server.name} refused to push to a, as it is too large"


def test_an_upload_that_leads_nowhere_is_refused(server, client):
    server.on("POST", "/uploads/", Reply(202))
    with pytest.raises(RegistryError, match="doesn't say where"):
        client.upload("a", BLOB, io.BytesIO(CONTENT))


def test_a_blob_that_got_shorter_on_our_side_is_no_registrys_fault(server, client):
    with pytest.raises(Exception, match="bytes too early") as caught:
        client.upload("a", BLOB, io.BytesIO(CONTENT[:1000]))
    assert caught.value.exit_code == 4


# --- redirects


def test_a_redirect_to_another_origin_carries_no_credentials(server, other):
    server.on(
        "GET",
        "/blobs/",
        lambda seen: (
            Reply(307, headers={"Location": f"http://{other.name}/store/1?sig=a%2Fb"})
            if "Authorization" in seen.headers
            else Reply(401, headers={"WWW-Authenticate": "Basic"})
        ),
    )
    other.on("GET", "/store/1", Reply(200, CONTENT))
    with Client(server.name, credentials=ALICE, timeouts=QUICK) as client:
        assert fetched(client) == CONTENT
    (seen,) = other.seen
    assert seen.path == "/store/1?sig=a%2Fb"
    assert "Authorization" not in seen.headers


def test_a_refusal_from_another_origin_is_not_answered_with_credentials(server, other):
    server.on("GET", "/blobs/", Reply(307, headers={"Location": f"http://{other.name}/store/1"}))
    other.on("GET", "/store/1", Reply(401, headers={"WWW-Authenticate": "Basic"}))
    with Client(server.name, credentials=ALICE, timeouts=QUICK) as client, pytest.raises(RegistryError):
        fetched(client)
    assert not any("Authorization" in seen.headers for seen in (*server.seen, *other.seen))


def test_an_upload_elsewhere_carries_no_credentials(server, other):
    location = Reply(202, headers={"Location": f"http://{other.name}/put?sig=x"})
    server.on(
        "POST",
        "/uploads/",
        lambda seen: (
            location if "Authorization" in seen.headers else Reply(401, headers={"WWW-Authenticate": "Basic"})
        ),
    )
    other.on("PUT", "/put", Reply(201))
    with Client(server.name, credentials=ALICE, timeouts=QUICK) as client:
        assert client.upload("a", BLOB, io.BytesIO(CONTENT)) == "uploaded"
    (seen,) = other.seen
    assert seen.body == CONTENT
    assert "Authorization" not in seen.headers


def test_a_redirect_within_the_registry_keeps_the_credentials(server):
    server.on("GET", "/old$", Reply(200, CONTENT))
    server.on("GET", "/blobs/", Reply(307, headers={"Location": "/old"}))
    server.on(
        "GET",
        "/",
        lambda seen: (
            None if "Authorization" in seen.headers else Reply(401, headers={"WWW-Authenticate": "Basic"})
        ),
    )
    with Client(server.name, credentials=ALICE, timeouts=QUICK) as client:
        assert fetched(client) == CONTENT


def test_what_comes_with_a_redirect_is_not_read_to_its_end(server, other, client):
    endless = Reply(307, bytes(2**20), {"Location": f"http://{other.name}/x"}, length=10**12, stalls=True)
    server.on("GET", "/blobs/", endless)
    other.on("GET", "/x", Reply(200, CONTENT))
    assert fetched(client) == CONTENT


def test_redirects_without_an_end_end(server, client, reference):
    server.on("GET", "/", Reply(302, headers={"Location": "/round"}))
    with pytest.raises(RegistryError, match="redirects in circles"):
        client.manifest(reference)
    assert len(server.seen) == 6


@pytest.mark.parametrize("location", ["", "http://[::1", "http://a@b/", "ftp://x/", "http://\x7f/"])
def test_a_redirect_to_no_address_is_no_traceback(server, client, reference, location):
    headers = {"Location": location} if location else {"Location": "ftp:"}
    server.on("GET", "/manifests/", Reply(302, headers=headers))
    with pytest.raises(RegistryError, match="isn't a valid registry address"):
        client.manifest(reference)


def test_a_redirect_out_of_tls_is_not_followed(tls_server, server, trusted, reference):
    tls_server.on("GET", "/manifests/", Reply(307, headers={"Location": f"http://{server.name}/x"}))
    tls_server.on("POST", "/uploads/", Reply(202, headers={"Location": f"http://{server.name}/x"}))
    with Client(tls_server.name, timeouts=QUICK) as client:
        with pytest.raises(RegistryError, match="plain text"):
            client.manifest(reference)
        with pytest.raises(RegistryError, match="plain text"):
            client.upload("a", BLOB, io.BytesIO(CONTENT))
    assert not server.seen


# --- no way there


def test_tls_on_the_loopback_is_verified(tls_server, reference):
    with Client(tls_server.name, timeouts=QUICK) as client, pytest.raises(RegistryError) as caught:
        client.manifest(reference)
    assert caught.value.message.startswith(f"the certificate of {tls_server.name} can't be trusted: ")
    assert caught.value.hint == "if its authority is your own: export SSL_CERT_FILE=FILE"


@pytest.mark.parametrize("variable", ["SSL_CERT_FILE", "REQUESTS_CA_BUNDLE", "CURL_CA_BUNDLE"])
def test_an_authority_may_be_named(tls_server, reference, trusted, monkeypatch, variable):
    path = os.environ["SSL_CERT_FILE"]
    monkeypatch.delenv("SSL_CERT_FILE")
    monkeypatch.setenv(variable, path)
    tls_server.manifests["acme/hello:1"] = (MANIFEST, IMAGE.raw)
    with Client(tls_server.name, timeouts=QUICK) as client:
        assert client.manifest(reference)[0] == IMAGE.raw


def test_a_certificate_for_another_name_is_not_taken(authority, trusted, reference):
    with faulty(authority) as server, Client(f"a.localhost:{server.port}", timeouts=QUICK) as client:
        with pytest.raises(RegistryError, match=r"a\.localhost"):
            client.manifest(reference)
        assert not server.seen


def test_an_authority_that_isnt_there_is_named(tls_server, reference, monkeypatch):
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", "/nowhere.pem")
    with (
        Client(tls_server.name, timeouts=QUICK) as client,
        pytest.raises(Exception, match=r"\$REQUESTS_CA_BUNDLE is /nowhere.pem"),
    ):
        client.manifest(reference)


def test_nothing_listens(reference, said):
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        name = f"127.0.0.1:{unused.getsockname()[1]}"
        with Client(name, timeouts=QUICK) as client, pytest.raises(RegistryError) as caught:
            client.manifest(reference)
    assert caught.value.message == f"nothing listens at {name}"
    assert not said  # nor was it tried again


def test_there_is_no_such_host(reference):
    with Client("registry.invalid", timeouts=QUICK) as client, pytest.raises(RegistryError) as caught:
        client.manifest(reference)
    assert caught.value.message == "there is no host named registry.invalid"


def test_a_proxy_is_asked_for_what_is_outside_and_never_for_the_loopback(
    server, other, client, reference, monkeypatch
):
    monkeypatch.setenv("http_proxy", f"http://user:open-sesame@{other.name}")
    monkeypatch.setenv("https_proxy", f"http://user:open-sesame@{other.name}")
    server.manifests["acme/hello:1"] = (MANIFEST, IMAGE.raw)
    assert client.manifest(reference)[0] == IMAGE.raw
    assert not other.seen
    other.on("GET", "http://registry.invalid/v2/", Reply(200, IMAGE.raw, {"Content-Type": MANIFEST}))
    with Client("registry.invalid", plain_http=True, timeouts=QUICK) as outside:
        assert outside.manifest(reference)[0] == IMAGE.raw
    with Client("registry.invalid", timeouts=QUICK) as outside, pytest.raises(RegistryError) as caught:
        outside.manifest(reference)  # the proxy knows no CONNECT
    assert caught.value.message == "cannot reach registry.invalid through the proxy"
    assert "sesame" not in f"{caught.value!r}{caught.value.hint}"


@pytest.mark.parametrize(
    "host", ["169.254.169.254", "127.0.0.1", "[::ffff:127.0.0.1]", "0.0.0.0", "localhost"]
)
def test_a_registry_elsewhere_cannot_send_us_to_this_machine(server, other, monkeypatch, host):
    """Nor to the address at which clouds serve their secrets; a proxy stands for all that is outside."""
    monkeypatch.setenv("http_proxy", f"http://{other.name}")
    target = f"http://{host}:{server.port}/latest/meta-data"
    other.on("GET", "http://registry.invalid/v2/", Reply(302, headers={"Location": target}))
    outside = Client("registry.invalid", plain_http=True, timeouts=QUICK)
    with outside, pytest.raises(RegistryError) as caught:
        outside.manifest(Reference("registry.invalid", "acme/hello", "1"))
    assert (
        caught.value.message == f"registry.invalid redirects to {host}:{server.port}, which is this machine"
    )
    assert (len(other.seen), server.seen) == (1, [])


@pytest.mark.parametrize("status", [301, 302, 303])
def test_an_upload_does_not_follow_what_would_make_it_a_get(server, client, status):
    server.on("POST", "/uploads/", Reply(status, headers={"Location": "/elsewhere"}))
    with pytest.raises(RegistryError, match=f"refused to push to a, {status} "):
        client.upload("a", BLOB, io.BytesIO(CONTENT))
    assert server.asked("", "/elsewhere") == []


def test_a_redirect_may_lead_through_five_places_and_no_more(server, client, reference):
    for step in range(5):
        server.on("GET", f"/step{step}$", Reply(308, headers={"Location": f"/step{step + 1}"}))
    server.on("GET", "/step5$", manifest_reply(MANIFEST, IMAGE.raw))
    server.on("GET", "/manifests/", Reply(301, headers={"Location": "/step1"}))
    assert client.manifest(reference)[0] == IMAGE.raw
    server.on("GET", "/manifests/", Reply(301, headers={"Location": "/step0"}))
    with pytest.raises(RegistryError, match="redirects in circles"):
        client.manifest(reference)


def test_an_answer_of_exactly_the_limit_is_read(server, client, reference):
    raw = IMAGE.raw + b" " * (4 * 2**20 - len(IMAGE.raw))
    server.on("GET", "/manifests/", Reply(200, raw, {"Content-Type": MANIFEST}))
    assert client.manifest(reference)[0] == raw
    server.on("GET", "/manifests/", Reply(200, raw + b" ", {"Content-Type": MANIFEST}))
    with pytest.raises(RegistryError, match="sent more than 4,194,304 bytes"):
        client.manifest(reference)


def test_a_blob_of_exactly_the_limit_is_asked_for(server, client):
    largest = Descriptor("application/wasm", digest(b"x"), 2**28)
    with pytest.raises(RegistryError, match=r"has no blob sha256:\w+ of acme/hello") as caught:
        fetched(client, largest)
    assert caught.value.hint == "is the name right?", "a blob has no tags to list"
    assert server.asked("GET", "/blobs/")


def test_where_tls_should_be_spoken_and_isnt_that_is_said(server, other, client, reference):
    server.on("GET", "/manifests/", Reply(307, headers={"Location": f"https://{other.name}/x"}))
    with pytest.raises(RegistryError) as caught:
        client.manifest(reference)
    assert caught.value.message.startswith(f"{other.name} doesn't speak TLS properly: ")
    assert caught.value.hint == "if it is plain HTTP on purpose: --plain-http"


def test_netrc_is_not_read(server, home, client, reference):
    (home / ".netrc").write_text("machine 127.0.0.1 login a password b\n")
    server.on("GET", "/manifests/", Reply(401, headers={"WWW-Authenticate": "Basic"}))
    with pytest.raises(RegistryError):
        client.manifest(reference)
    assert not any("Authorization" in seen.headers for seen in server.seen)


def test_no_cookie_is_kept(server, client):
    server.on("GET", "/tags/", Reply(200, b'{"tags": ["1"]}', headers={"Set-Cookie": "a=b; Path=/"}))
    assert client.tags("a") == client.tags("a") == ["1"]
    assert not any("Cookie" in seen.headers for seen in server.seen)


def test_what_answers_is_no_registry(server, client):
    server.on("GET", "/v2/$", Reply(404, b"<html>"))
    with pytest.raises(RegistryError, match="has no registry API"):
        client.ping()
