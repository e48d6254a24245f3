"""An image that only Docker has, or that `docker save` wrote: the hint brings its module here."""

from __future__ import annotations

import io
import re
import subprocess
import tarfile
import uuid

import pytest
from support import wasm_asm

import scaffold
from scaffold.errors import ScaffoldError
from scaffold.hosts.source import open_image
from scaffold.wasm.module import NotAPlugin, WasmFile


@pytest.fixture
def image(docker):
    """An image with a plugin, from a Dockerfile such as `FROM scratch`, `COPY plugin.wasm ./`."""
    content = io.BytesIO()
    with tarfile.open(fileobj=content, mode="w") as tar:
        entry = tarfile.TarInfo("plugin.wasm")
        entry.size = len(wasm_asm.plugin())
        tar.addfile(entry, io.BytesIO(wasm_asm.plugin()))
    name = f"127.0.0.1:9/{uuid.uuid4().hex}"
    docker.api.import_image_from_data(content.getvalue(), repository=name, tag="1")
    yield f"{name}:1"
    for container in docker.containers.list(all=True, filters={"ancestor": f"{name}:1"}):
        container.remove()
    docker.images.remove(f"{name}:1")


def commands(hint):
    return re.findall(r"`(docker.*?)`", hint)


def run_here(line, folder):
    subprocess.run(line, shell=True, cwd=folder, check=True, stdout=subprocess.DEVNULL)


@pytest.mark.parametrize("ask", [open_image, scaffold.pull, scaffold.inspect, scaffold.push])
def test_an_image_of_docker_build_is_named_and_its_module_comes_here(image, tmp_path, ask):
    with pytest.raises(ScaffoldError) as caught:
        ask(image)
    hint = caught.value.hint or ""
    assert hint.startswith("Docker has an image of that name")
    (line,) = commands(hint)
    run_here(line, tmp_path)
    assert WasmFile.read(tmp_path / "plugin.wasm").require_plugin()


def test_an_image_that_docker_has_not_either_keeps_its_hint(docker):
    with pytest.raises(ScaffoldError) as caught:
        open_image("127.0.0.1:9/nobody/has:1")
    assert "Docker" not in (caught.value.hint or "")


def test_what_docker_save_wrote_is_named_and_its_module_comes_here(docker, image, tmp_path):
    with (tmp_path / "an image.tar").open("wb") as file:
        for block in docker.images.get(image).save(named=True):
            file.write(block)
    with pytest.raises(
        NotAPlugin, match="it is an image in a tar archive, as `docker save` writes it"
    ) as caught:
        scaffold.inspect(str(tmp_path / "an image.tar"))
    load, copy, _ = commands(caught.value.hint or "")
    run_here(load, tmp_path)
    run_here(copy.replace("IMAGE", image), tmp_path)
    assert WasmFile.read(tmp_path / "plugin.wasm").require_plugin()
