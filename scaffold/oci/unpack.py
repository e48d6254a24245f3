"""An image opened: its module, read and held against what is said of it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import BinaryIO

from scaffold.oci.layout import Contents, Layout, layout_of, read_contents, verify
from scaffold.oci.metadata import PluginFacts, plugin_facts
from scaffold.oci.spec import Descriptor, Manifest

OpenBlob = Callable[[Descriptor], AbstractContextManager[BinaryIO]]


@dataclass(frozen=True)
class Unpacked:
    """How an image holds its module, what its layer holds, and what it says of the plugin."""

    layout: Layout
    contents: Contents
    facts: PluginFacts


def unpack(manifest: Manifest, open_blob: OpenBlob) -> Unpacked:
    """Read an image whose verified blobs `open_blob` gives. Raises `ImageError` when it holds no plugin."""
    layout = layout_of(manifest)
    with open_blob(layout.module) as blob:
        contents = read_contents(layout, blob)
    verify(manifest, contents.module)
    settings = contents.runtime_config
    if layout.runtime_config:
        with open_blob(layout.runtime_config) as blob:
            settings = blob.read()
    return Unpacked(layout, contents, plugin_facts(manifest, settings))
