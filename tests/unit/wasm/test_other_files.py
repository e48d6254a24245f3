"""Files that somebody takes for a module: what they are called, and what to type to get the module."""

from __future__ import annotations

import gzip
import io
import shlex
import tarfile
import zipfile

import pytest

from scaffold.wasm.module import NotAPlugin, WasmFile
from scaffold.wasm.other_files import recognise


def tar(mode, first="plugin.wasm"):
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as archive:
        archive.addfile(tarfile.TarInfo(first))
    return buffer.getvalue()


def zipped():
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("plugin.wasm", b"")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("content", "what", "hint"),
    [
        (tar("w"), "a tar archive", "tar -xf {path}"),
        (tar("w", "manifest.json"), "an image in a tar archive, as `docker save`", "docker load -i {path}"),
        (tar("w", f"{'0a' * 32}/VERSION"), "an image in a tar archive", "docker load -i {path}"),
        (tar("w", "blobs/sha256"), "an image in a tar archive", "docker load -i {path}"),
        (tar("w:gz"), "compressed with gzip", "tar -xzf {path}"),
        (gzip.compress(b"\0asm"), "compressed with gzip", "gzip -dc {path} > plugin.wasm"),
        (zipped(), "a zip archive", "unzip {path}"),
        (b"\xcf\xfa\xed\xfe\x07", "a program or library for this kind of machine", "scaffold build"),
        (b"!<arch>\n", "a program or library for this kind of machine", "scaffold build"),
        (b"\n  (module (func))", "WebAssembly's text format", "wat2wasm {path}"),
        (b"<!DOCTYPE html><html>", "an HTML page", "download the file itself"),
    ],
    ids=[
        "tar",
        "image",
        "an early image",
        "an image of OCI",
        "tar.gz",
        "gz",
        "zip",
        "Mach-O",
        "ar",
        "wat",
        "html",
    ],  # the bytes hold the time
)
def test_another_kind_of_file_is_named_for_what_it_is(tmp_path, content, what, hint):
    path = tmp_path / "a module.wasm"
    path.write_bytes(content)
    with pytest.raises(NotAPlugin) as caught:
        WasmFile.read(path)
    assert f"isn't a wasm module (it is {what}" in caught.value.message
    assert hint.format(path=shlex.quote(str(path))) in (caught.value.hint or "")


def test_what_is_in_an_image_has_no_path_to_type(tmp_path):
    with pytest.raises(NotAPlugin) as caught:
        WasmFile.parse(gzip.compress(b"x"), tmp_path / "the image's module")
    assert caught.value.hint is None


@pytest.mark.parametrize("head", [b"", b"\0asm", b"hello", b"<", b"(" * 512, bytes(512)])
def test_other_bytes_are_none_of_them(head):
    assert recognise(head) is None
