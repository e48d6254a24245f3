"""What a file or an image is, told whole: `inspect`."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

from scaffold.core import files
from scaffold.hosts import plugin as plugins
from scaffold.oci import layout as contents
from scaffold.oci.consumers import Consumer, Packed, consumers
from scaffold.oci.metadata import PluginFacts
from scaffold.oci.reference import Reference
from scaffold.oci.registry import transfer
from scaffold.oci.spec import Descriptor, ImageError, Manifest
from scaffold.oci.store import Store
from scaffold.oci.unpack import OpenBlob, unpack
from scaffold.wasm.module import NotAPlugin
from scaffold.wasm.report import Story, inspect_module

_LONGEST = 300  # characters of what an image says that are shown; `--json` has all


@dataclass(frozen=True)
class ImageStory:
    """What is known of an image. `place` is where it was read; `size` in bytes, all blobs together."""

    reference: str
    place: str
    variant: str
    reason: str
    media_type: str
    manifest_digest: str
    size: int
    layers: tuple[Descriptor, ...]
    files: tuple[str, ...]
    annotations: dict[str, str]
    plugin: PluginFacts
    consumers: tuple[Consumer, ...]
    module: Story

    def summary(self) -> str:
        """A page for people: the image, who loads it, then its module."""
        image = {
            "from": self.place,
            "variant": f"{self.variant}: {self.reason}",
            "size": f"{self.size:,} bytes",
            "layers": ", ".join(f"{layer.media_type} ({layer.size:,} bytes)" for layer in self.layers),
            "type": self.plugin.type,
            "root ids": ", ".join(map(repr, self.plugin.root_ids)) or "none is named",
            "configuration": _cut(self.plugin.configuration or "none"),
            "manifest digest": self.manifest_digest,
            "module digest": self.module.module.digest,
        }
        lines = [self.reference, *(f"  {name:<15}  {' '.join(text.split())}" for name, text in image.items())]
        lines += [
            "",
            "annotations",
            *(f"  {key}: {' '.join(_cut(value).split())}" for key, value in self.annotations.items()),
        ]
        lines += ["", "loads in"]
        for one in self.consumers:
            answer = {True: "yes", False: "no", None: "perhaps"}[one.loads]
            lines.append(f"  {one.name:<27}{answer}{': ' + one.why if one.why else ''}")
        return "\n".join([*map(_harmless, lines), "", self.module.summary()])


def _cut(text: str) -> str:
    """What an image says, no longer than a page can show."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text):,} characters)"


def _harmless(line: str) -> str:
    """A line with foreign words in it, so that none of them controls the terminal."""
    return "".join(each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in line)


def inspect(target: str, *, remote: bool = False, plain_http: bool = False) -> Story | ImageStory:
    """Tell what a module's file is, or an image: the local one of that name, else the registry's.

    Nothing is kept of what had to be fetched. Raises `ImageError` for an image that holds no module,
    `NotAPlugin` for a file that is no wasm.
    """
    if not remote and plugins.is_file(target):
        return inspect_module(Path(target))
    reference, store = Reference.parse(target), Store()
    if not remote and (store.holds(reference) or reference.local):
        manifest = store.find(reference)
        return _story(reference, "the local images", manifest, store.blobs.open)
    with transfer.fetched(reference, store, plain_http=plain_http) as (manifest, ingest):
        return _story(reference, reference.registry, manifest, ingest.open)


def _story(reference: Reference, place: str, manifest: Manifest, open_blob: OpenBlob) -> ImageStory:
    opened = unpack(manifest, open_blob)
    layout, held = opened.layout, opened.contents
    with open_blob(manifest.config) as blob:
        system = _system(blob.read())
    with files.scratch() as folder:
        path = folder / contents.MODULE_NAME
        path.write_bytes(held.module)
        try:
            module = inspect_module(path)
        except NotAPlugin as error:
            message = error.message.replace(str(path), f"the module of {reference}")
            raise ImageError(message, hint=error.hint) from error
    module = replace(module, module=replace(module.module, path=Path("module")))
    names = tuple(entry.name for entry in held.files)
    return ImageStory(
        reference=str(reference),
        place=place,
        variant=layout.variant,
        reason=layout.reason,
        media_type=manifest.media_type,
        manifest_digest=manifest.digest,
        size=manifest.size,
        layers=manifest.layers,
        files=names,
        annotations=dict(manifest.annotations),
        plugin=opened.facts,
        consumers=consumers(Packed(manifest, layout, module.module, names, system, opened.facts.type)),
        module=module,
    )


def _system(config: bytes) -> str:
    """The operating system that an image's configuration names, or ""."""
    try:
        record = json.loads(config)
    except (ValueError, RecursionError):
        return ""
    system = record.get("os") if isinstance(record, dict) else None
    return system if isinstance(system, str) else ""
