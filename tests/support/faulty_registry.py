"""A small registry in memory that can be told to misbehave, and remembers what it was sent."""

from __future__ import annotations

import hashlib
import json
import re
import ssl
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from urllib.parse import parse_qs, urlsplit

import pytest
import trustme


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    headers: Mapping[str, str]
    body: bytes


@dataclass(frozen=True)
class Reply:
    """What to answer. `length` is the one it claims to have.

    After the body it `stalls` until the test ends, or `drips` a byte now and then.
    """

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    length: int | None = None
    stalls: bool = False
    drips: bool = False


Answer = Reply | Callable[[Seen], Reply | None]


@dataclass
class Faulty:
    """The registry. What `on` puts up answers instead of it, in its turn."""

    blobs: dict[str, bytes] = field(default_factory=dict)
    manifests: dict[str, tuple[str, bytes]] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    connections: int = 0
    port: int = 0
    released: threading.Event = field(default_factory=threading.Event)
    _rules: list[tuple[str, re.Pattern[str], list[Answer]]] = field(default_factory=list)

    @property
    def name(self) -> str:
        return f"127.0.0.1:{self.port}"

    def on(self, method: str, path: str, *answers: Answer) -> None:
        """Answer requests whose path is matched: one answer each, and the last for ever."""
        self._rules.insert(0, (method, re.compile(path), list(answers)))

    def once(self, method: str, path: str, *answers: Answer) -> None:
        """Answer that way as often as there are answers, and then as it should."""
        self.on(method, path, *answers, lambda seen: None)

    def asked(self, method: str = "", path: str = "") -> list[Seen]:
        """The requests that arrived."""
        return [seen for seen in self.seen if seen.method.startswith(method) and re.search(path, seen.path)]

    def answer(self, seen: Seen) -> Reply:
        for method, path, answers in self._rules:
            if seen.method == method and path.search(seen.path):
                answer = answers.pop(0) if len(answers) > 1 else answers[0]
                reply = answer if isinstance(answer, Reply) else answer(seen)
                if reply is not None:
                    return reply
        return self._proper(seen)

    def _proper(self, seen: Seen) -> Reply:
        url = urlsplit(seen.path)
        if url.path == "/v2/":
            return Reply(200, b"{}")
        if found := re.fullmatch(r"/v2/(.+)/manifests/([^/]+)", url.path):
            return self._manifest(seen, *found.groups())
        if found := re.fullmatch(r"/v2/(.+)/blobs/(sha256:\w+)", url.path):
            return self._blob(seen, found[2])
        if re.fullmatch(r"/v2/.+/blobs/uploads/", url.path) and seen.method == "POST":
            return Reply(202, headers={"Location": "/upload/1?_state=a%2Bb%3D"})
        if url.path == "/upload/1" and seen.method == "PUT":
            query = parse_qs(url.query)
            if query.get("_state") != ["a+b="]:
                return error(400, "BLOB_UPLOAD_INVALID", "the state got lost")
            if query["digest"] != [digest(seen.body)]:
                return error(400, "DIGEST_INVALID", "other bytes came")
            self.blobs[query["digest"][0]] = seen.body
            return Reply(201)
        if re.fullmatch(r"/v2/.+/tags/list", url.path):
            return Reply(
                200, json.dumps({"tags": [name.partition(":")[2] for name in self.manifests]}).encode()
            )
        return error(404, "UNSUPPORTED", "there is no such thing")

    def _manifest(self, seen: Seen, repository: str, name: str) -> Reply:
        if seen.method == "PUT":
            self.manifests[f"{repository}:{name}"] = (seen.headers["Content-Type"], seen.body)
            return Reply(201, headers={"Docker-Content-Digest": digest(seen.body)})
        for media_type, raw in self.manifests.values():
            if name == digest(raw):
                return manifest_reply(media_type, raw)
        if f"{repository}:{name}" in self.manifests:
            return manifest_reply(*self.manifests[f"{repository}:{name}"])
        return error(404, "MANIFEST_UNKNOWN", "manifest unknown")

    def _blob(self, seen: Seen, name: str) -> Reply:
        if name not in self.blobs:
            return error(404, "BLOB_UNKNOWN", "blob unknown to registry")
        blob = self.blobs[name]
        wanted = re.fullmatch(r"bytes=(\d+)-", seen.headers.get("Range", ""))
        if not wanted:
            return Reply(200, blob)
        start = int(wanted[1])
        told = {"Content-Range": f"bytes {start}-{len(blob) - 1}/{len(blob)}"}
        return Reply(206, blob[start:], told)


def digest(content: bytes) -> str:
    return "sha256:" + hashlib.sha256(content).hexdigest()


def manifest_reply(media_type: str, raw: bytes) -> Reply:
    return Reply(200, raw, {"Content-Type": media_type, "Docker-Content-Digest": digest(raw)})


def error(status: int, code: str, message: str, **headers: str) -> Reply:
    """An error as OCI has it."""
    body = json.dumps({"errors": [{"code": code, "message": message}]}).encode()
    return Reply(status, body, {name.replace("_", "-"): value for name, value in headers.items()})


@contextmanager
def faulty(authority: trustme.CA | None = None) -> Iterator[Faulty]:
    """A registry on the loopback while the block runs, with TLS when there is an authority."""
    registry = Faulty()

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def setup(self) -> None:
            registry.connections += 1
            super().setup()

        def handle_one_request(self) -> None:
            try:
                super().handle_one_request()
            except OSError:  # the client has gone
                self.close_connection = True

        def respond(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            seen = Seen(self.command, self.path, dict(self.headers.items()), body)
            registry.seen.append(seen)
            reply = registry.answer(seen)
            self.send_response(reply.status)
            for name, value in reply.headers.items():
                self.send_header(name, value)
            length = len(reply.body) if reply.length is None else reply.length
            if "Transfer-Encoding" not in reply.headers:
                self.send_header("Content-Length", str(length))
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(reply.body)
            if reply.stalls:
                registry.released.wait()
            while reply.drips and not registry.released.wait(0.02):
                self.wfile.write(b"x")
            if length > len(reply.body) or reply.stalls or "Transfer-Encoding" in reply.headers:
                self.close_connection = True

        do_GET = do_HEAD = do_POST = do_PUT = do_DELETE = respond  # noqa: N815

        def log_message(self, *args: object) -> None:
            pass

    class Server(ThreadingHTTPServer):
        daemon_threads = True

        def handle_error(self, request: object, client_address: object) -> None:
            pass

    server = Server(("127.0.0.1", 0), Handler)
    if authority:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1", "localhost").configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    registry.port = server.server_address[1]
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield registry
    finally:
        registry.released.set()
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def server():
    with faulty() as registry:
        yield registry


@pytest.fixture
def other():
    """Another server, on another port: another origin."""
    with faulty() as registry:
        yield registry


@pytest.fixture(scope="session")
def authority():
    return trustme.CA()


@pytest.fixture
def trusted(authority, tmp_path, monkeypatch):
    """Trust the tests' authority."""
    path = tmp_path / "authority.pem"
    authority.cert_pem.write_to_path(path)
    monkeypatch.setenv("SSL_CERT_FILE", str(path))


@pytest.fixture
def tls_server(authority):
    with faulty(authority) as registry:
        yield registry
