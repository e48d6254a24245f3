"""A real registry: Debian's docker-registry on a free port of the loopback, for a block.

With `tls`, a name and a password (`basic`), or a server of tokens before it (`token`), as they are run
in production.
"""

from __future__ import annotations

import base64
import functools
import json
import os
import re
import shutil
import ssl
import subprocess
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import trustme
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature
from cryptography.x509 import load_pem_x509_certificate

USER, PASSWORD = "alice", "open sesame"
_HTPASSWD = "alice:$2y$04$TlEzLS9AcJG08wTLTrzvn.Ud4.XH4WkTdtQIDupQjCkIxRg3C.Ezi\n"  # bcrypt of PASSWORD
_SERVICE, _ISSUER = "the registry", "the token server"
_LISTENING = re.compile(r"listening on 127\.0\.0\.1:(\d+)")

Allowed = Callable[[str, str, str], bool]


@dataclass
class Registry:
    """`name` is host and port; `authority` the file to trust; `log` what it said."""

    name: str
    folder: Path
    authority: Path | None = None
    tokens: Tokens | None = None

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text()


@contextmanager
def registry(
    *, tls: bool = False, basic: bool = False, token: bool = False, relative: bool = False
) -> Iterator[Registry]:
    """Run one while the block does. With `relative`, it names no host in its Locations."""
    with ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="scaffold-registry-")))
        authority = trustme.CA()
        authority.cert_pem.write_to_path(folder / "authority.pem")
        settings: dict[str, Any] = {
            "version": "0.1",
            "log": {"level": "info", "accesslog": {"disabled": True}},
            "storage": {
                "filesystem": {"rootdirectory": str(folder / "storage")},
                "delete": {"enabled": True},
            },
            "http": {"addr": "127.0.0.1:0", "relativeurls": relative},
        }
        if tls:
            settings["http"]["tls"] = _certificate(authority, folder)
        if basic:
            (folder / "htpasswd").write_text(_HTPASSWD)
            settings["auth"] = {"htpasswd": {"realm": "r", "path": str(folder / "htpasswd")}}
        tokens = stack.enter_context(_tokens(authority, tls=tls)) if token else None
        if tokens:
            realm = {"realm": tokens.url, "service": _SERVICE, "issuer": _ISSUER}
            settings["auth"] = {"token": realm | {"rootcertbundle": str(folder / "authority.pem")}}
        (folder / "config.yml").write_text(json.dumps(settings))  # which is YAML, too
        port = stack.enter_context(_running(folder))
        yield Registry(f"127.0.0.1:{port}", folder, folder / "authority.pem" if tls else None, tokens)


def _certificate(authority: trustme.CA, folder: Path) -> dict[str, str]:
    issued = authority.issue_cert("127.0.0.1", "localhost", "ghcr.io")
    issued.cert_chain_pems[0].write_to_path(folder / "certificate.pem")
    issued.private_key_pem.write_to_path(folder / "key.pem")
    return {"certificate": str(folder / "certificate.pem"), "key": str(folder / "key.pem")}


@contextmanager
def _running(folder: Path) -> Iterator[int]:
    """The program, until the block ends; its port, once it listens."""
    kept = {key: value for key, value in os.environ.items() if not key.startswith("REGISTRY_")}
    env = kept | {"OTEL_TRACES_EXPORTER": "none"}  # what begins with REGISTRY_ is a setting of its own
    with (folder / "log").open("w") as log:
        child = subprocess.Popen([program(), "serve", folder / "config.yml"], stdout=log, stderr=log, env=env)
    try:
        for _ in range(600):
            text = (folder / "log").read_text()
            if found := _LISTENING.search(text):
                break
            assert child.poll() is None, text
            time.sleep(0.05)
        else:
            pytest.fail(f"the registry never listened: {text}")
        yield int(found[1])
    finally:
        child.terminate()
        child.wait()


@functools.cache
def program() -> Path:
    """docker-registry: the system's, or else one that apt fetches, without root, into the user's cache."""
    if found := shutil.which("docker-registry"):
        return Path(found)
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "scaffold-tests"
    unpacked = home / "docker-registry/usr/bin/docker-registry"
    if not unpacked.exists():
        if not shutil.which("apt-get"):
            pytest.skip("there is no docker-registry, and no apt to fetch it with")
        home.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=home) as folder:
            for argv in (
                ["apt-get", "download", "docker-registry"],
                ["sh", "-c", "dpkg-deb -x *.deb unpacked"],
            ):
                subprocess.run(argv, cwd=folder, check=True, capture_output=True)
            shutil.copytree(Path(folder) / "unpacked", home / "docker-registry", dirs_exist_ok=True)
    return unpacked


@dataclass
class Tokens:
    """A token server. `allowed` says who may do what: user ("" is nobody), repository, action."""

    url: str
    allowed: Allowed
    asked: list[dict[str, list[str]]] = field(default_factory=list)


def _everything_for_the_user(user: str, repository: str, action: str) -> bool:
    return user == USER or (action == "pull" and repository.startswith("public/"))


@contextmanager
def _tokens(authority: trustme.CA, *, tls: bool) -> Iterator[Tokens]:
    signer = authority.issue_cert("tokens.test")

    class Handler(BaseHTTPRequestHandler):
        disable_nagle_algorithm = True

        def do_GET(self) -> None:
            query = parse_qs(urlsplit(self.path).query)
            tokens.asked.append(query)
            user = _user(self.headers.get("Authorization"))
            if user is None:
                self._answer(401, {"details": "incorrect username or password"})
                return
            access = []
            for scope in query.get("scope", []):
                kind, name, actions = scope.split(":")
                granted = [each for each in actions.split(",") if tokens.allowed(user, name, each)]
                access.append({"type": kind, "name": name, "actions": granted})
            self._answer(200, {"token": _sign(signer, user, access), "expires_in": 300})

        def _answer(self, status: int, record: Any) -> None:
            body = json.dumps(record).encode()
            self.send_response(status)
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    if tls:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        authority.issue_cert("127.0.0.1").configure_cert(context)
        server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
    scheme = "https" if tls else "http"
    tokens = Tokens(f"{scheme}://127.0.0.1:{server.server_address[1]}/token", _everything_for_the_user)
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield tokens
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def _user(header: str | None) -> str | None:
    """Who it is: "" is nobody; None when the password is wrong."""
    if header is None:
        return ""
    user, _, password = base64.b64decode(header.removeprefix("Basic ")).decode().partition(":")
    return user if (user, password) == (USER, PASSWORD) else None


def _sign(signer: trustme.LeafCert, user: str, access: list[dict[str, Any]]) -> str:
    """A token as docker-registry takes it: the certificate that vouches for the key stands in its head."""
    certificate = load_pem_x509_certificate(signer.cert_chain_pems[0].bytes())
    chain = base64.b64encode(certificate.public_bytes(serialization.Encoding.DER)).decode()
    now = int(time.time())
    head = {"typ": "JWT", "alg": "ES256", "x5c": [chain]}
    claims = {"iss": _ISSUER, "sub": user, "aud": _SERVICE, "exp": now + 300, "nbf": now - 10, "iat": now}
    signed = f"{_base64url(head)}.{_base64url(claims | {'jti': str(time.time_ns()), 'access': access})}"
    key = serialization.load_pem_private_key(signer.private_key_pem.bytes(), None)
    assert isinstance(key, ec.EllipticCurvePrivateKey)
    r, s = decode_dss_signature(key.sign(signed.encode(), ec.ECDSA(hashes.SHA256())))
    return f"{signed}.{_base64url(r.to_bytes(32, 'big') + s.to_bytes(32, 'big'))}"


def _base64url(value: Any) -> str:
    raw = value if isinstance(value, bytes) else json.dumps(value).encode()
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()
