"""The local images: an OCI image layout that other tools read, that kills and crowds don't hurt."""

import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor

import pytest

from scaffold.commands import images as stored
from scaffold.oci.store import Store

ADD = """
import sys
from scaffold.oci.reference import Reference
from scaffold.oci.store import Store
from scaffold.oci.plugin_info import PluginInfo
from scaffold.oci.variants import compat
number = int(sys.argv[1])
module = b"\\0asm\\1\\0\\0\\0" + number.to_bytes(4, "big") * 50_000
Store().add(compat(module, PluginInfo("n")), Reference.parse(f"n:{number % 7}"))
"""


@pytest.fixture
def store(tmp_path, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    return Store()


def test_many_writers_at_once_lose_nothing(store):
    def add(number):
        return subprocess.run([sys.executable, "-c", ADD, str(number)]).returncode

    with ThreadPoolExecutor(4) as pool:
        assert set(pool.map(add, range(12))) == {0}
    assert {entry.name for entry in store.entries()} >= {f"n:{number}" for number in range(7)}
    stored.images(every=True, verify=True)
