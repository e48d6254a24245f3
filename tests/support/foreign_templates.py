"""Templates of other people: small ones, what they lie in, and a server of that."""

from __future__ import annotations

import base64
import json
import os
import ssl
import subprocess
import threading
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar
from urllib.parse import urlsplit

import trustme

INSIDE = "{{cookiecutter.name}}"
MANIFEST = """\
[package]
name = "{{ cookiecutter.name }}"
version = "0.1.0"
description = "{{ cookiecutter.description }}"
[lib]
crate-type = ["cdylib"]
"""


def template(folder: Path, **variables: Any) -> Path:
    """A template in a new folder: a manifest, and a source."""
    (folder / INSIDE / "src").mkdir(parents=True)
    (folder / INSIDE / "Cargo.toml").write_text(MANIFEST)
    (folder / INSIDE / "src" / "lib.rs").write_text("// nothing yet\n")
    (folder / "cookiecutter.json").write_text(json.dumps({"name": "a", "description": "Mine", **variables}))
    return folder


def hook(folder: Path, text: str, name: str = "post_gen_project.py") -> Path:
    """A hook in a template."""
    (folder / "hooks").mkdir(exist_ok=True)
    (folder / "hooks" / name).write_text(text)
    return folder


def git(folder: Path, *words: str, given: bytes | None = None) -> str:
    """What git prints."""
    identity = ("-c", "user.name=A", "-c", "user.email=a@example.com", "-c", "commit.gpgsign=false")
    ran = subprocess.run(["git", *identity, *words], cwd=folder, check=True, capture_output=True, input=given)
    return ran.stdout.decode().strip()


def commit(folder: Path) -> str:
    """All that is in a folder, committed; the commit."""
    if not (folder / ".git").exists():
        git(folder, "init", "-q", "-b", "main")
    git(folder, "add", "-A")
    git(folder, "commit", "-q", "--allow-empty", "-m", "a commit")
    return git(folder, "rev-parse", "HEAD")


def zipped(folder: Path, archive: Path, below: str = "") -> Path:
    """A zip file of what is in a folder, all in the folder `below`."""
    with zipfile.ZipFile(archive, "w") as file:
        for path in sorted(folder.rglob("*")):
            file.write(path, Path(below) / path.relative_to(folder))
    return archive


class _Handler(BaseHTTPRequestHandler):
    """Files below a folder, and git repositories in it by git's own CGI; to those who know the password."""

    folder: ClassVar[Path]
    password: ClassVar[str]
    moved_to: ClassVar[str]

    def do_GET(self) -> None:
        wanted = base64.b64encode(f"user:{self.password}".encode()).decode()
        if self.password and self.headers.get("Authorization") != f"Basic {wanted}":
            self.send_response(401)
            self.send_header("WWW-Authenticate", 'Basic realm="templates"')
            self.end_headers()
            return
        if self.moved_to:
            self.send_response(302)
            self.send_header("Location", f"http://{self.moved_to}{self.path}")
            self.end_headers()
            return
        path = self.folder / self.path.lstrip("/")
        if path.is_file():
            self.send_response(200)
            self.end_headers()
            self.wfile.write(path.read_bytes())
        elif ".git/" in self.path:
            self._ask_git()
        else:
            self.send_error(404)

    do_POST = do_GET  # noqa: N815 - http.server's names

    def _ask_git(self) -> None:
        parts = urlsplit(self.path)
        asked = {
            "GIT_PROJECT_ROOT": str(self.folder),
            "GIT_HTTP_EXPORT_ALL": "1",
            "REQUEST_METHOD": self.command,
            "PATH_INFO": parts.path,
            "QUERY_STRING": parts.query,
            "CONTENT_TYPE": self.headers.get("Content-Type", ""),
            "GIT_PROTOCOL": self.headers.get("Git-Protocol", ""),
            "HTTP_CONTENT_ENCODING": self.headers.get("Content-Encoding", ""),
        }
        body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
        ran = subprocess.run(["git", "http-backend"], env=os.environ | asked, input=body, capture_output=True)
        head, _, content = ran.stdout.partition(b"\r\n\r\n")
        fields = dict(line.split(": ", 1) for line in head.decode().split("\r\n"))
        self.send_response(int(fields.pop("Status", "200").split()[0]))
        for key, value in fields.items():
            self.send_header(key, value)
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        """Say nothing."""


@contextmanager
def served(
    folder: Path, password: str = "", *, authority: trustme.CA | None = None, moved_to: str = ""
) -> Iterator[str]:
    """A folder's files, and the git repositories in it, over HTTP; the place of the server.

    With an authority over HTTPS; `moved_to` is the place, over HTTP, to which all is redirected.
    """
    known = {"folder": folder, "password": password, "moved_to": moved_to}
    handler = type("Handler", (_Handler,), known)
    with ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        if authority:
            context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
            authority.issue_cert("127.0.0.1").configure_cert(context)
            server.socket = context.wrap_socket(server.socket, server_side=True)
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_port}"
        finally:
            server.shutdown()
            thread.join()
