"""What the real kubectl says, in every situation that we tell apart."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from contextlib import contextmanager, suppress

import pytest
import trustme
from support.clusters import KINDS, kubeconfig

from scaffold.errors import TargetError, UsageError
from scaffold.kubernetes.kubectl import Forbidden, Kubectl, Resource, Unreachable

PLUGIN = Resource("extensions.istio.io/v1alpha1", "WasmPlugin", "shop", "a")
DOCUMENT = {
    "apiVersion": PLUGIN.api,
    "kind": PLUGIN.kind,
    "metadata": {"name": PLUGIN.name, "namespace": PLUGIN.namespace},
    "spec": {},
}


def apply(kubectl):
    return kubectl.run("apply", "--server-side", "-f", "-", stdin=json.dumps(DOCUMENT))


def look(kubectl):
    return kubectl.get(PLUGIN)


def refused(do, kind, message):
    with pytest.raises(kind) as caught:
        do(Kubectl.find())
    assert type(caught.value) is kind
    assert message in caught.value.message
    return caught.value


WEBHOOK = (
    'Internal error occurred: failed calling webhook "rev.validation.istio.io": failed to call webhook: '
    'Post "https://istiod.istio-system.svc:443/validate?timeout=10s": dial tcp 10.96.1.1:443: connect: '
    "connection refused"
)
CONFLICT = 'conflict: conflict with "argocd": .spec.url'
FROM_THE_SERVER = [
    (
        403,
        "Forbidden",
        'wasmplugins "a" is forbidden: User "me" cannot do that',
        Forbidden,
        "doesn't permit that",
    ),
    (401, "Unauthorized", "Unauthorized", TargetError, "doesn't know you"),
    (401, "", "", TargetError, "doesn't know you"),
    (404, "NotFound", 'namespaces "shop" not found', UsageError, "has no namespace `shop`"),
    (404, "NotFound", "the server could not find the requested resource", TargetError, "kubectl failed"),
    (409, "Conflict", f"Apply failed with 1 {CONFLICT}", TargetError, "another tool manages fields"),
    (500, "InternalError", WEBHOOK, TargetError, "can't reach its webhook rev.validation.istio.io"),
    (504, "Timeout", "request did not complete within the allotted timeout", Unreachable, "can't be reached"),
    (503, "ServiceUnavailable", "the server is currently unable to", Unreachable, "can't be reached"),
]
# what a webhook, or a schema, may say: any words
DENIALS = [
    'admission webhook "a" denied the request: the priority is forbidden',
    'admission webhook "a" denied the request: the url is refused: timeout must be set',
    'admission webhook "a" denied the request: namespaces "shop" not found in the list of tenants',
    'admission webhook "a" denied the request: Unauthorized image, no such host in the allowlist',
    "strict decoding error: no matches for kind of EOF: deadline, conflict with nobody",
]


@pytest.mark.parametrize(("code", "reason", "words", "kind", "message"), FROM_THE_SERVER)
def test_the_servers_reason_counts(here, code, reason, words, kind, message):
    here.refuse = lambda seen: (code, reason, words) if seen.method == "PATCH" else None
    refused(apply, kind, message)


@pytest.mark.parametrize("words", DENIALS)
@pytest.mark.parametrize(("code", "reason"), [(400, "BadRequest"), (422, "Invalid")])
def test_the_words_of_a_denial_are_not_taken_for_another_reason(here, code, reason, words):
    here.refuse = lambda seen: (code, reason, words) if seen.method == "PATCH" else None
    refused(apply, TargetError, "kubectl failed: ")


def test_a_forbidden_namespace_is_not_a_missing_one(here):
    words = 'wasmplugins "a" is forbidden: namespaces "shop" not found'
    here.refuse = lambda seen: (403, "Forbidden", words) if seen.method == "PATCH" else None
    refused(apply, Forbidden, "doesn't permit that")


@pytest.mark.parametrize("do", [apply, look])
@pytest.mark.parametrize(
    ("refusal", "kind", "message"),
    [
        ((401, "Unauthorized", "Unauthorized"), TargetError, "doesn't know you"),
        ((503, "ServiceUnavailable", "not now"), Unreachable, "can't be reached"),
    ],
)
def test_a_server_that_refuses_whatever_it_is_asked(here, do, refusal, kind, message):
    here.refuse = lambda seen: refusal
    assert "--validate=false" not in refused(do, kind, message).message


@pytest.mark.parametrize("do", [apply, look])
def test_a_kind_that_the_cluster_does_not_know(here, do):
    here.kinds = {name: kinds for name, kinds in KINDS.items() if "istio" not in name}
    assert "installed" in refused(do, TargetError, "doesn't know such a resource").hint


# --- no answer


def config(home, url, **user):
    """A kubeconfig whose user has a token, or what is said; without either kubectl asks for a password."""
    path = kubeconfig(home / "config", {"here": url}, "here")
    record = json.loads(path.read_text())
    record["users"][0]["user"] = user or {"token": "t"}
    path.write_text(json.dumps(record))


@contextmanager
def server(answer):
    """One that treats every connection alike; its port."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve():
            with suppress(OSError):
                while True:
                    with listening.accept()[0] as connection, suppress(OSError):
                        answer(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.fixture
def strange():
    """An API server whose certificate nobody has signed that kubectl knows."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    trustme.CA().issue_cert("127.0.0.1").configure_cert(context)

    def answer(connection):
        with context.wrap_socket(connection, server_side=True) as tls:
            tls.recv(1)

    with server(answer) as port:
        yield f"https://127.0.0.1:{port}"


@pytest.mark.parametrize("do", [apply, look])
@pytest.mark.parametrize(
    ("url", "words"),
    [
        ("https://127.0.0.1:1", "refused"),
        ("https://nowhere.invalid:6443", "no such host"),
        ("odd://x", "unsupported protocol scheme"),
    ],
)
def test_a_place_where_no_server_is(home, do, url, words):
    config(home, url)
    error = refused(do, Unreachable, f"can't be reached at {url}: ")
    assert words in error.message
    assert "memcache" not in error.message and "--validate=false" not in error.message


@pytest.mark.parametrize("do", [apply, look])
def test_a_server_that_speaks_something_else(home, do):
    with server(lambda connection: connection.send(b"SSH-2.0\r\n")) as port:
        config(home, f"http://127.0.0.1:{port}")
        refused(do, Unreachable, "can't be reached")


@pytest.mark.parametrize("do", [apply, look])
def test_a_server_that_cannot_be_trusted(home, strange, do):
    config(home, strange)
    assert "certificate" in refused(do, Unreachable, "can't be reached").message


@pytest.mark.parametrize("command", ["false", "no-such-program"])
def test_a_program_that_gets_no_credentials(home, strange, command):
    run = {"apiVersion": "client.authentication.k8s.io/v1", "command": command, "interactiveMode": "Never"}
    config(home, strange, exec=run)
    error = refused(look, TargetError, "kubectl has no credentials for the cluster of the context `here`")
    assert error.message.count(command) == 1


@pytest.mark.parametrize("do", [apply, look])
def test_a_user_without_credentials(home, strange, do):
    kubeconfig(home / "config", {"here": strange}, "here")
    refused(do, TargetError, "kubectl has no credentials for the cluster of the context `here`")
