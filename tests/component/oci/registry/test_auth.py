import base64
import io
import json
from urllib.parse import parse_qs, urlsplit

import pytest
from support.faulty_registry import Reply, error

from scaffold.errors import RegistryError
from scaffold.oci.reference import Reference
from scaffold.oci.registry.client import Client
from scaffold.oci.registry.credentials import Credentials
from scaffold.oci.registry.http import Timeouts
from scaffold.oci.spec import Descriptor

QUICK = Timeouts(total=10, silence=5, pause=0.001, attempts=3)
ALICE = Credentials("alice", "open sesame")
ALICE_BASIC = "Basic " + base64.b64encode(b"alice:open sesame").decode()
BLOB = Descriptor.of("application/octet-stream", b"content")


def read(client, repository="a"):
    """The blob, by a single request where all goes well."""
    into = io.BytesIO()
    client.blob(repository, BLOB, into)
    return into.getvalue()


# --- Basic


def wants(scheme):
    return lambda seen: (
        None
        if "Authorization" in seen.headers
        else error(401, "UNAUTHORIZED", "who?", WWW_Authenticate=scheme)
    )


def test_basic_is_sent_once_it_is_asked_for(server):
    server.on("GET", "/blobs/", wants('Basic realm="r"'))
    server.blobs[BLOB.digest] = b"content"
    with Client(server.name, credentials=ALICE, timeouts=QUICK) as client:
        assert read(client) == b"content"
        assert read(client) == b"content"
    sent = [seen.headers.get("Authorization") for seen in server.asked("GET")]
    assert sent == [None, ALICE_BASIC, ALICE_BASIC]


def test_wrong_credentials_are_said_to_be_wrong(server):
    server.on("GET", "/blobs/", Reply(401, headers={"WWW-Authenticate": 'Basic realm="r"'}))
    with (
        Client(server.name, credentials=ALICE, timeouts=QUICK) as client,
        pytest.raises(RegistryError) as caught,
    ):
        read(client)
    assert (
        caught.value.message
        == f"{server.name} doesn't let you read blob {BLOB.digest} of a without the right credentials"
    )
    assert caught.value.hint.endswith(f": `scaffold login {server.name}`")
    assert len(server.seen) == 2


def test_without_credentials_none_are_made_up(server):
    server.on(
        "GET", "/manifests/", error(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate="Basic")
    )
    with (
        Client(server.name, timeouts=QUICK) as client,
        pytest.raises(RegistryError, match="authentication required"),
    ):
        client.manifest(Reference(server.name, "a", "1"))
    assert not any("Authorization" in seen.headers for seen in server.seen)


def test_a_scheme_that_nobody_knows_is_named(server):
    server.on("GET", "/v2/$", error(401, "UNAUTHORIZED", "who?", WWW_Authenticate="Negotiate"))
    with (
        Client(server.name, credentials=ALICE, timeouts=QUICK) as client,
        pytest.raises(RegistryError) as caught,
    ):
        client.ping()
    assert "negotiate" in caught.value.message


def test_a_registry_token_is_sent_as_it_is(server):
    server.on("GET", "/v2/$", wants('Bearer realm="http://127.0.0.1:1/token"'))
    with Client(server.name, credentials=Credentials(registry_token="ready"), timeouts=QUICK) as client:
        assert client.ping()
    assert server.seen[-1].headers["Authorization"] == "Bearer ready"


# --- tokens


class Tokens:
    """A server whose tokens last for `uses` requests, before a registry that wants one."""

    def __init__(self, registry, server, *, uses=1000, challenge="", **answer):
        self.registry, self.server, self.uses, self.answer = registry, server, uses, answer
        self.challenge = challenge or f'Bearer realm="http://{server.name}/token?x=1",service="s"'
        self.given = 0
        server.on("GET", "/token", self.give)
        server.on("POST", "/token", self.give)
        for method in ("GET", "HEAD", "POST", "PUT"):
            registry.on(method, "/v2/|/upload/", self.check)

    def give(self, seen):
        self.given += 1
        self.left = self.uses
        return Reply(200, json.dumps({"token": f"token-{self.given}"} | self.answer).encode())

    def check(self, seen):
        if seen.headers.get("Authorization") == f"Bearer token-{self.given}" and self.left:
            self.left -= 1
            return None
        return error(401, "UNAUTHORIZED", "who?", WWW_Authenticate=self.challenge)


def test_a_token_is_fetched_once_for_what_it_is_good_for(server, other):
    tokens = Tokens(server, other)
    server.blobs[BLOB.digest] = b"content"
    with Client(server.name, credentials=ALICE, timeouts=QUICK) as client:
        assert read(client) == b"content"
        assert read(client) == b"content"
        assert tokens.given == 1
        assert read(client, "b") == b"content"
    asked = [parse_qs(urlsplit(seen.path).query) for seen in other.seen]
    assert asked == [
        {"x": ["1"], "service": ["s"], "scope": ["repository:a:pull"]},
        {"x": ["1"], "service": ["s"], "scope": ["repository:b:pull"]},
    ]
    assert {seen.headers["Authorization"] for seen in other.seen} == {ALICE_BASIC}
    assert not any(seen.headers.get("Authorization") == ALICE_BASIC for seen in server.seen)


def test_the_scope_that_is_asked_for_is_asked_for_too(server, other):
    challenge = f'Bearer realm="http://{other.name}/token",scope="repository:really/a:pull"'
    Tokens(server, other, challenge=challenge)
    server.blobs[BLOB.digest] = b"content"
    with Client(server.name, timeouts=QUICK) as client:
        read(client)
    asked = parse_qs(urlsplit(other.seen[0].path).query)
    assert asked["scope"] == ["repository:a:pull", "repository:really/a:pull"]


def test_a_token_that_expires_in_the_middle_of_a_push_is_renewed(server, other, tmp_path):
    tokens = Tokens(server, other, uses=2)  # HEAD and POST; then the PUT, with the blob
    source = tmp_path / "blob"
    source.write_bytes(b"content")
    with source.open("rb") as file, Client(server.name, credentials=ALICE, timeouts=QUICK) as client:
        assert client.upload("a", BLOB, file) == "uploaded"
    assert server.blobs[BLOB.digest] == b"content"
    assert tokens.given == 2


def test_a_token_that_has_run_out_is_not_sent(server, other):
    tokens = Tokens(server, other, expires_in=1e-9)
    server.blobs[BLOB.digest] = b"content"
    with Client(server.name, timeouts=QUICK) as client:
        read(client)
        read(client)
    assert tokens.given == 2
    assert len(server.seen) == 3


def test_an_identity_token_is_posted_and_never_in_a_url(server, other):
    Tokens(server, other)
    server.blobs[BLOB.digest] = b"content"
    with Client(server.name, credentials=Credentials(identity_token="me"), timeouts=QUICK) as client:
        read(client)
    (asked,) = other.seen
    assert (asked.method, asked.path) == ("POST", "/token?x=1")
    form = {key: value for key, (value,) in parse_qs(asked.body.decode()).items()}
    assert form == {
        "grant_type": "refresh_token",
        "service": "s",
        "client_id": "proxy-wasm-scaffold",
        "scope": "repository:a:pull",
        "refresh_token": "me",
    }


@pytest.mark.parametrize("status", [404, 405])
def test_a_server_that_takes_no_post_is_asked_by_get(server, other, status):
    Tokens(server, other)
    other.on("POST", "/token", Reply(status))
    server.blobs[BLOB.digest] = b"content"
    with Client(server.name, credentials=Credentials(identity_token="me"), timeouts=QUICK) as client:
        read(client)
    basic = base64.b64encode(b"<token>:me").decode()
    assert [(seen.method, seen.headers.get("Authorization")) for seen in other.seen] == [
        ("POST", None),
        ("GET", f"Basic {basic}"),
    ]


def test_an_access_token_is_one_too(server, other):
    Tokens(server, other)
    other.on("GET", "/token", lambda seen: Reply(200, b'{"access_token": "token-0"}'))
    server.on(
        "GET",
        "/v2/",
        lambda seen: (
            None
            if seen.headers.get("Authorization") == "Bearer token-0"
            else Reply(401, headers={"WWW-Authenticate": f'Bearer realm="http://{other.name}/token"'})
        ),
    )
    server.on("GET", "token-0", Reply(200))
    with Client(server.name, timeouts=QUICK) as client, pytest.raises(RegistryError):
        read(client)  # refused by Tokens, which gave another
    assert server.seen[-1].headers["Authorization"] == "Bearer token-0"


@pytest.mark.parametrize(
    "body",
    [b"", b"[]", b"{}", b'{"token": ""}', b'{"token": 7}', b'{"token": "a\\r\\nX: y"}', b"[" * 100_000],
)
def test_an_answer_without_a_token_is_no_traceback(server, other, body):
    Tokens(server, other)
    other.on("GET", "/token", Reply(200, body))
    with Client(server.name, timeouts=QUICK) as client, pytest.raises(RegistryError, match="without a token"):
        read(client)


def test_a_token_server_that_fails_for_a_moment_is_asked_again(server, other):
    Tokens(server, other)
    server.blobs[BLOB.digest] = b"content"
    other.once("GET", "/token", Reply(503), Reply(429, headers={"Retry-After": "0"}))
    with Client(server.name, timeouts=QUICK) as client:
        assert read(client) == b"content"
    assert len(other.seen) == 3


def test_a_token_servers_refusal_is_passed_on(server, other):
    Tokens(server, other)
    other.on("GET", "/token", Reply(401, b'{"details": "incorrect username or password"}'))
    with (
        Client(server.name, credentials=ALICE, timeouts=QUICK) as client,
        pytest.raises(RegistryError) as caught,
    ):
        client.ping()
    assert "incorrect username or password" in caught.value.message
    assert caught.value.hint == f"`scaffold login {server.name}`"


@pytest.mark.parametrize("status", [401, 403])
def test_a_token_server_that_has_none_for_anybody_may_hide_that_there_is_nothing(server, other, status):
    """As ghcr.io and Docker Hub do, whether the repository is private or not there."""
    Tokens(server, other)
    other.on("GET", "/token", Reply(status, b'{"details": "requested access is denied"}'))
    with Client(server.name, timeouts=QUICK) as client, pytest.raises(RegistryError) as caught:
        client.tags("acme/none")
    assert "read acme/none" in caught.value.message
    hint = f"is the name right? if so, it is private: `scaffold login {server.name}`"
    assert caught.value.hint == hint


def test_what_anybody_may_read_is_read_in_spite_of_stale_credentials(server, other, said):
    Tokens(server, other)
    other.on("GET", "/token", lambda seen: Reply(403) if "Authorization" in seen.headers else None)
    other.on("GET", "/token", Reply(403), Reply(200, b'{"token": "token-0"}'))
    server.on("GET", "/v2/", wants(f'Bearer realm="http://{other.name}/token"'), Reply(200, b"content"))
    with Client(server.name, credentials=ALICE, timeouts=QUICK) as client:
        assert read(client) == b"content"
    assert [seen.headers.get("Authorization") for seen in other.seen] == [ALICE_BASIC, None]
    assert any("refuses the credentials for" in text for text in said)


def test_nothing_is_asked_at_a_realm_that_is_elsewhere_in_plain_text(server):
    server.on("GET", "/v2/", wants('Bearer realm="http://192.0.2.1/token"'))
    with (
        Client(server.name, credentials=ALICE, timeouts=QUICK) as client,
        pytest.raises(RegistryError) as caught,
    ):
        read(client)
    assert "192.0.2.1" in caught.value.message
    assert "plain HTTP" in caught.value.message


def test_a_token_server_that_redirects_gets_no_secret_carried_on(server, other):
    Tokens(server, server)
    server.on("GET", "/token", Reply(302, headers={"Location": f"http://{other.name}/token"}))
    server.on("POST", "/token", Reply(307, headers={"Location": f"http://{other.name}/token"}))
    other.on("GET", "/token", Reply(200, b'{"token": "x"}'))
    for credentials in (ALICE, Credentials(identity_token="me")):
        with (
            Client(server.name, credentials=credentials, timeouts=QUICK) as client,
            pytest.raises(RegistryError),
        ):
            read(client)
    assert [(seen.method, seen.headers.get("Authorization"), seen.body) for seen in other.seen] == [
        ("GET", None, b"")
    ]


def test_a_secret_that_comes_back_in_an_error_is_not_shown(server):
    def echo(seen):
        return error(
            401, "UNAUTHORIZED", f"{seen.headers.get('Authorization')} open sesame", WWW_Authenticate="Basic"
        )

    server.on("GET", "/v2/$", echo)
    with (
        Client(server.name, credentials=ALICE, timeouts=QUICK) as client,
        pytest.raises(RegistryError) as caught,
    ):
        client.ping()
    told = f"{caught.value.message}{caught.value.hint}{caught.value!r}"
    assert "***" in told
    assert "sesame" not in told
    assert ALICE_BASIC.removeprefix("Basic ") not in told


@pytest.mark.parametrize(("password", "shown"), [("sesame", "alice ***"), ("short", "alice short")])
def test_a_secret_so_short_that_its_gaps_would_give_it_away_stays(server, password, shown):
    refusal = error(401, "UNAUTHORIZED", f"alice {password}", WWW_Authenticate="Basic")
    server.on("GET", "/v2/$", refusal)
    client = Client(server.name, credentials=Credentials("alice", password), timeouts=QUICK)
    with client, pytest.raises(RegistryError) as caught:
        client.ping()
    assert caught.value.message.endswith(f": {shown}")


def test_where_both_are_offered_a_token_is_asked_for(server, other):
    """So that the password goes to the token server alone, once."""
    bearer = f'Bearer realm="http://{other.name}/token",service="s"'
    Tokens(server, other, challenge=f'Basic realm="r", {bearer}')
    server.blobs[BLOB.digest] = b"content"
    with Client(server.name, credentials=ALICE, timeouts=QUICK) as client:
        assert read(client) == b"content"
    assert not any(seen.headers.get("Authorization") == ALICE_BASIC for seen in server.seen)
