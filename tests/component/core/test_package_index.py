"""A package index that sends without an end is given up: it fills neither the memory nor the disk."""

import os
import struct
import zlib
from dataclasses import replace

import pytest
from support.slow_servers import answering, dripping, pouring

from scaffold.core import package_index
from scaffold.core.bounded_program import Limits
from scaffold.core.package_index import Package
from scaffold.errors import MachineError

A = Package("a-package", "A", "do without")
PAGE = b'<a href="/a_package-1.0-py3-none-any.whl">a_package-1.0-py3-none-any.whl</a>'
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/html\r\n"


def index(then):
    """An index with one wheel, which is sent so."""

    def answer(client, over):
        client.settimeout(5)
        request = client.recv(65536)
        if b"/simple/" in request:
            client.sendall(HEAD + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(PAGE) + PAGE)
        elif b".metadata" in request or request.startswith(b"HEAD") or b"\r\nrange:" in request.lower():
            client.sendall(b"HTTP/1.1 405 No\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        else:
            then(client, over)

    return answer


def sends_forever(client, over):
    client.settimeout(0.2)
    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    while not over.is_set():
        try:
            client.sendall(bytes(2**16))
        except TimeoutError:
            return


@pytest.fixture
def user(monkeypatch):
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_CACHE_DIR", "1")
    monkeypatch.setenv("PIP_RETRIES", "0")
    monkeypatch.setattr(package_index, "LIMITS", Limits(20_000_000, 300_000_000, 8.0))
    return monkeypatch


CASES = {
    "a page without an end": (pouring(HEAD + b"\r\n", []), "memory"),
    "a wheel without an end": (index(sends_forever), "more than 20 MB arrived"),
    "a page that drips": (dripping(HEAD + b"\r\n"), "it takes longer than 8 s"),
}


@pytest.mark.faults(
    "R17",
    injected="a package index: a page or a wheel without an end, a page that drips",
    seen="exit code 4, named",
)
@pytest.mark.parametrize(("answer", "why"), CASES.values(), ids=CASES)
def test_an_index_without_an_end_is_given_up(answer, why, tmp_path, user):
    seconds = 8.0 if "8 s" in why else 60.0  # on a busy machine, what is bounded by its size takes a while
    user.setattr(package_index, "LIMITS", replace(package_index.LIMITS, seconds=seconds))
    with answering(answer) as place:
        user.setenv("PIP_INDEX_URL", f"http://{place}/simple/")
        with pytest.raises(MachineError) as caught:
            A.fetch("1.0", tmp_path / "made")
    assert why in caught.value.message, caught.value.message


def wheel_without_an_end(client, over):
    """A wheel whose large file is unpacked while it arrives."""
    client.settimeout(0.2)
    client.sendall(b"HTTP/1.1 200 OK\r\n\r\n")
    for name, content, size in (
        (
            b"a_package-1.0.dist-info/METADATA",
            b"Metadata-Version: 2.1\nName: a-package\nVersion: 1.0\n",
            None,
        ),
        (b"a_package-1.0.dist-info/WHEEL", b"Wheel-Version: 1.0\nTag: py3-none-any\n", None),
        (b"large", b"", 2_000_000_000),
    ):
        size = len(content) if size is None else size
        numbers = (0x04034B50, 20, 0, 0, 0, 0, zlib.crc32(content), size, size, len(name), 0)
        client.sendall(struct.pack("<IHHHHHIIIHH", *numbers) + name + content)
    while not over.is_set():
        try:
            client.sendall(bytes(2**16))
        except TimeoutError:
            return


def test_what_uv_unpacks_counts_where_it_unpacks_it(tmp_path, user):
    user.setattr(package_index, "find_spec", lambda name: None)  # there is no pip
    user.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    with answering(index(wheel_without_an_end)) as place:
        user.setenv("UV_DEFAULT_INDEX", f"http://{place}/simple/")
        with pytest.raises(MachineError) as caught:
            A.fetch("1.0", tmp_path / "made")
    assert "more than 20 MB arrived" in caught.value.message, caught.value.message
    assert not (tmp_path / "cache").exists()
