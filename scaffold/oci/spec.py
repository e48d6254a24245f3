"""OCI's digests, descriptors and manifests, read strictly and written in one way.

Source: opencontainers/image-spec, descriptor.md and manifest.md.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, Self

from scaffold.core.files import digest
from scaffold.core.text import quoted
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
# of layers and configurations: any image's, wasme's (spec/ of solo-io/wasm), and the CNCF's
TAR_GZIP = "application/vnd.oci.image.layer.v1.tar+gzip"
DOCKER_TAR_GZIP = "application/vnd.docker.image.rootfs.diff.tar.gzip"
IMAGE_CONFIG = "application/vnd.oci.image.config.v1+json"
RUNTIME_CONFIG = "application/vnd.module.wasm.config.v1+json"
WASM_CONTENT = "application/vnd.module.wasm.content.layer.v1+wasm"
CNCF_CONFIG = "application/vnd.wasm.config.v0+json"
CNCF_WASM = "application/wasm"

TITLE = "org.opencontainers.image.title"

MANIFEST_LIMIT = 4 * 2**20  # bytes that every registry must accept
BLOB_LIMIT = 256 * 2**20  # bytes that Istio and Envoy Gateway accept

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


class ImageError(ModuleError):
    """The image can't be used: it isn't one, or it holds no plugin."""


def is_digest(text: object) -> bool:
    """Whether this is a digest that we can verify."""
    return isinstance(text, str) and _DIGEST.fullmatch(text) is not None


_KNOWN = ("mediaType", "digest", "size", "annotations")  # a descriptor's fields that we read


@dataclass(frozen=True)
class Descriptor:
    """A blob, described from outside. `size` is in bytes; `more` are further fields, kept as they are."""

    media_type: str
    digest: str
    size: int
    annotations: Mapping[str, str] = field(default_factory=dict)
    more: Mapping[str, Any] = field(default_factory=dict, compare=False)

    @classmethod
    def of(cls, media_type: str, content: bytes, annotations: Mapping[str, str] | None = None) -> Self:
        """Describe some bytes."""
        return cls(media_type, digest(content), len(content), annotations or {})

    @classmethod
    def read(cls, record: Any, what: str) -> Self:
        """Read one from a manifest; `what` names it. Raises `ImageError` if it isn't valid."""
        if not isinstance(record, dict):
            raise ImageError(f"{what} isn't a descriptor")
        media_type, size = record.get("mediaType"), record.get("size")
        if not isinstance(media_type, str):
            raise ImageError(f"{what} has no media type")
        if not is_digest(record.get("digest")):
            raise ImageError(f"{what} has no digest that can be verified: {quoted(record.get('digest'))}")
        if not isinstance(size, int) or isinstance(size, bool) or not 0 <= size < 2**63:
            raise ImageError(f"{what} has no valid size: {quoted(size)}")
        more = {key: value for key, value in record.items() if key not in _KNOWN}
        return cls(media_type, record["digest"], size, _annotations(record), more)

    def write(self) -> dict[str, Any]:
        """The JSON object."""
        record = {"mediaType": self.media_type, "digest": self.digest, "size": self.size, **self.more}
        return record | ({"annotations": dict(self.annotations)} if self.annotations else {})

    @property
    def title(self) -> str:
        """The blob's file name, or ""."""
        return self.annotations.get(TITLE, "")


@dataclass(frozen=True)
class Manifest:
    """An image's manifest. `raw` are its original bytes, which its digest is computed from."""

    raw: bytes = field(repr=False)
    media_type: str
    config: Descriptor
    layers: tuple[Descriptor, ...]
    annotations: Mapping[str, str] = field(default_factory=dict)

    @classmethod
    def make(cls, config: Descriptor, layers: tuple[Descriptor, ...], annotations: Mapping[str, str]) -> Self:
        """Write a manifest; equal parts give equal bytes."""
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
        """Read a manifest; `media_type` is the one that it was sent with, if any.

        Raises `ImageError` if it isn't the manifest of a single image.
        """
        record = document(raw)
        kind = kind_of(record, media_type)
        if kind in DOCKER_SCHEMA_1:
            raise ImageError(
                "it is a Docker image of the old schema 1, which can't hold a plugin", hint="push it again"
            )
        if kind not in MANIFESTS:
            raise ImageError(f"it isn't an image: its manifest has the type {quoted(kind or 'unknown')}")
        layers = record.get("layers")
        if not isinstance(layers, list):
            raise ImageError("its manifest has no layers")
        config = Descriptor.read(record.get("config"), "the manifest's config")
        descriptors = tuple(Descriptor.read(layer, f"layer {at}") for at, layer in enumerate(layers))
        sizes = {(blob.digest, blob.size) for blob in (config, *descriptors)}
        if len(sizes) != len({digest for digest, _ in sizes}):
            raise ImageError("its manifest states two sizes for one blob")
        return cls(raw, kind, config, descriptors, _annotations(record))

    @cached_property
    def digest(self) -> str:
        """The manifest's digest, by which the image can be pinned."""
        return digest(self.raw)

    @property
    def blobs(self) -> tuple[Descriptor, ...]:
        """The config and the layers, each blob once."""
        return tuple({blob.digest: blob for blob in (self.config, *self.layers)}.values())

    @property
    def size(self) -> int:
        """The size in bytes of all blobs and the manifest."""
        return len(self.raw) + sum(blob.size for blob in self.blobs)


@dataclass(frozen=True)
class Image:
    """A manifest, and its blobs: digest -> content."""

    manifest: Manifest
    blobs: Mapping[str, bytes] = field(repr=False)


def document(raw: bytes, what: str = "manifest") -> dict[str, Any]:
    """A manifest or an index as JSON. Raises `ImageError` when it isn't, or is ambiguous."""
    if len(raw) > MANIFEST_LIMIT:
        raise ImageError(f"its {what} has {len(raw):,} bytes, more than registries accept")
    try:
        record = json.loads(raw.decode(), object_pairs_hook=_unique)
        dump(record)  # half a surrogate pair is valid JSON, but not valid text
    except (ValueError, RecursionError) as error:
        raise ImageError(f"its {what} isn't JSON: {error}") from error
    if not isinstance(record, dict):
        raise ImageError(f"its {what} isn't a JSON object")
    if "manifests" in record and ("layers" in record or "config" in record):
        raise ImageError("its manifest claims to be both an image and an index")
    return record


def kind_of(record: Mapping[str, Any], media_type: str = "") -> str:
    """A manifest's own media type, or the one that it was sent with. Raises `ImageError` if they differ."""
    own, sent = record.get("mediaType") or "", media_type.partition(";")[0].strip()
    if not isinstance(own, str):
        raise ImageError(f"its manifest's media type isn't a string: {quoted(own)}")
    known = (*MANIFESTS, *INDEXES, *DOCKER_SCHEMA_1)
    if record.get("schemaVersion") == 1 or own in DOCKER_SCHEMA_1:
        return DOCKER_SCHEMA_1[0]
    if own and sent in known and own != sent:
        raise ImageError(f"its manifest has the media type {quoted(own)}, but was sent as {quoted(sent)}")
    if own or sent in known:
        return own or sent
    return INDEX if "manifests" in record else MANIFEST if "layers" in record else ""


def dump(record: Mapping[str, Any]) -> bytes:
    """Compact JSON, so that equal records give equal bytes."""
    return json.dumps(record, separators=(",", ":"), ensure_ascii=False).encode()


def _annotations(record: Mapping[str, Any]) -> dict[str, str]:
    annotations = record.get("annotations") or {}
    if not isinstance(annotations, dict) or not all(isinstance(text, str) for text in annotations.values()):
        raise ImageError("its annotations aren't strings")
    return annotations


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    if len({key.casefold() for key, _ in pairs}) != len(pairs):  # Go reads "Layers" as "layers"
        raise ValueError("a key appears twice")
    return dict(pairs)
