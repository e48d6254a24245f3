"""A package index that sends without an end is given up: it fills neither the memory nor the disk."""

import os
import time

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
        if b"/simple/" in client.recv(65536):
            client.sendall(HEAD + b"Content-Length: %d\r\nConnection: close\r\n\r\n" % len(PAGE) + PAGE)
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
    begun = time.monotonic()
    with answering(answer) as place:
        user.setenv("PIP_INDEX_URL", f"http://{place}/simple/")
        with pytest.raises(MachineError) as caught:
            A.fetch("1.0", tmp_path / "made")
    assert why in caught.value.message, caught.value.message
    assert time.monotonic() - begun < 40
