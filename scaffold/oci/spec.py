"""The terms of OCI: digests, descriptors and manifests, read strictly and written one way.

Source: opencontainers/image-spec, descriptor.md and manifest.md.
"""

from __future__ import annotations

import json
import re
import reprlib
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Self

from scaffold.core.files import digest
from scaffold.errors import ModuleError

MANIFEST = "application/vnd.oci.image.manifest.v1+json"
INDEX = "application/vnd.oci.image.index.v1+json"
DOCKER_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
DOCKER_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
DOCKER_SCHEMA_1 = (
    "application/vnd.docker.distribution.manifest.v1+json",
    "application/vnd.docker.distribution.manifest.v1+prettyjws",
)
MANIFESTS = (MANIFEST, DOCKER_MANIFEST)
INDEXES = (INDEX, DOCKER_LIST)

TITLE = "org.opencontainers.image.title"

MANIFEST_LIMIT = 4 * 2**20  # bytes: what every registry must take
BLOB_LIMIT = 256 * 2**20  # bytes: what Istio and Envoy Gateway take

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 100  # characters


class ImageError(ModuleError):
    """The image can't be used: no image at all, or none that holds a plugin."""


def is_digest(text: object) -> bool:
    """Whether it is a digest that we can verify."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


def shown(value: object) -> str:
    """Foreign data as a message can hold it: quoted, without control characters, cut after a line."""
    return _SHORT.repr(value)


_OURS = ("mediaType", "digest", "size", "annotations")  # of a descriptor's fields, those that we read


@dataclass(frozen=True)
class Descriptor:
    """A blob from outside: `size` is in bytes, `digest` the blob's own; `more` what else is said of it."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, media_type: str, content: bytes, annotations: Mapping[str, str] | None = None) -> Self:
        """The descriptor of some bytes."""
        return cls(media_type, digest(content), len(content), annotations or {})

    @classmethod
    def read(cls, record: Any, what: str) -> Self:
        """Read one out of a manifest. Raises `ImageError` for what can't be a descriptor."""
        if not isinstance(record, dict):
            raise ImageError(f"{what} is no descriptor")
        media_type, size = record.get("mediaType"), record.get("size")
        if not isinstance(media_type, str):
            raise ImageError(f"{what} has no media type")
        if not is_digest(record.get("digest")):
            raise ImageError(f"{what} has no digest that can be verified: {shown(record.get('digest'))}")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**63:
            raise ImageError(f"{what} has no size: {shown(size)}")
        more = {key: value for key, value in record.items() if key not in _OURS}
        return cls(media_type, record["digest"], size, _annotations(record), more)

    def write(self) -> dict[str, Any]:
        """As JSON has it."""
        record = {"mediaType": self.media_type, "digest": self.digest, "size": self.size, **self.more}
        return record | ({"annotations": dict(self.annotations)} if self.annotations else {})

    @property
    def title(self) -> str:
        """The file name that it was given, or ""."""
        return self.annotations.get(TITLE, "")


@dataclass(frozen=True)
class Manifest:
    """An image's manifest: `raw` are its bytes as they were written, which its digest is of."""

    raw: bytes = field(repr=False)
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, config: Descriptor, layers: tuple[Descriptor, ...], annotations: Mapping[str, str]) -> Self:
        """Write a manifest; the same parts give the same bytes."""
        record = {
            "schemaVersion": 2,
            "mediaType": MANIFEST,
            "config": config.write(),
            "layers": [layer.write() for layer in layers],
            "annotations": dict(sorted(annotations.items())),
        }
        return cls(dump(record), MANIFEST, config, layers, annotations)

    @classmethod
    def read(cls, raw: bytes, media_type: str = "") -> Self:
        """Read a manifest; `media_type` is what it came as, where that was said.

        Raises `ImageError` for what isn't the manifest of one image, an index too.
        """
        record = document(raw)
        kind = kind_of(record, media_type)
        if kind in DOCKER_SCHEMA_1:
            raise ImageError(
                "it is a Docker image of the old schema 1, which can't hold a plugin", hint="push it anew"
            )
        if kind not in MANIFESTS:
            raise ImageError(f"it is no image: its manifest is of type {shown(kind or 'unknown')}")
        layers = record.get("layers")
        if not isinstance(layers, list):
            raise ImageError("its manifest has no layers")
        config = Descriptor.read(record.get("config"), "the manifest's config")
        found = tuple(Descriptor.read(layer, f"layer {at}") for at, layer in enumerate(layers))
        if len({blob.digest for blob in (config, *found)}) != len(
            {(b.digest, b.size) for b in (config, *found)}
        ):
            raise ImageError("its manifest gives one blob two sizes")
        return cls(raw, kind, config, found, _annotations(record))

    @property
    def digest(self) -> str:
        """The image's pin."""
        return digest(self.raw)

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """What it is made of, each blob once."""
        return tuple({blob.digest: blob for blob in (self.config, *self.layers)}.values())

    @property
    def size(self) -> int:
        """Bytes, all blobs and the manifest together."""
        return len(self.raw) + sum(blob.size for blob in self.blobs)


@dataclass(frozen=True)
class Image:
    """A manifest, and its blobs' bytes by digest."""

    manifest: Manifest
    blobs: Mapping[str, bytes] = field(repr=False)


def document(raw: bytes, what: str = "manifest") -> dict[str, Any]:
    """A manifest or an index as JSON. Raises `ImageError` when it is neither, or could be read two ways."""
    if len(raw) > MANIFEST_LIMIT:
        raise ImageError(f"its {what} is {len(raw):,} bytes large, more than any registry takes")
    try:
        record = json.loads(raw.decode(), object_pairs_hook=_once)
        dump(record)  # half a surrogate pair is JSON, and no text
    except (ValueError, RecursionError) as error:
        raise ImageError(f"its {what} is no JSON: {error}") from error
    if not isinstance(record, dict):
        raise ImageError(f"its {what} is no JSON object")
    if "manifests" in record and ("layers" in record or "config" in record):
        raise ImageError("its manifest claims to be both an image and an index")
    return record


def kind_of(record: Mapping[str, Any], media_type: str = "") -> str:
    """The media type of a manifest. Raises `ImageError` when it says another than it came as."""
    said, came = record.get("mediaType") or "", media_type.partition(";")[0].strip()
    if not isinstance(said, str):
        raise ImageError(f"its manifest's media type is no text: {shown(said)}")
    known = (*MANIFESTS, *INDEXES, *DOCKER_SCHEMA_1)
    if record.get("schemaVersion") == 1 or said in DOCKER_SCHEMA_1:
        return DOCKER_SCHEMA_1[0]
    if said and came in known and said != came:
        raise ImageError(f"its manifest says that it is {shown(said)}, but came as {came!r}")
    if said or came in known:
        return said or came
    return INDEX if "manifests" in record else MANIFEST if "layers" in record else ""


def dump(record: Mapping[str, Any]) -> bytes:
    """JSON as all of ours is written: no spaces, so that equal records give equal bytes."""
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()


def _annotations(record: Mapping[str, Any]) -> dict[str, str]:
    given = record.get("annotations") or {}
    if not isinstance(given, dict) or not all(isinstance(value, str) for value in given.values()):
        raise ImageError("its annotations are no texts")
    return given


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key.casefold() for key, _ in pairs}) != len(pairs):  # Go doesn't tell "Layers" from "layers"
        raise ValueError("a key stands twice")
    return dict(pairs)
