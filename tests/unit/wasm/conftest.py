import pytest

from scaffold.wasm.module import WasmFile


@pytest.fixture
def read(tmp_path):
    """Reads bytes, by way of a file."""

    def reading(content):
        path = tmp_path / "a.wasm"
        path.write_bytes(content)
        return WasmFile.read(path)

    return reading
