"""Images between the local store and a registry: whole, verified, byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from scaffold.core.events import Noted, Progressed, emit, step
from scaffold.core.host_names import DOCKER_HUB
from scaffold.oci import module_layer as layout
from scaffold.oci.reference import Reference
from scaffold.oci.registry.client import Client
from scaffold.oci.registry.http import Progress
from scaffold.oci.spec import INDEXES, Descriptor, ImageError, Manifest, document, kind_of
from scaffold.oci.store import Ingest, Store

_LARGE = 4_000_000  # bytes: larger images show their progress


@dataclass(frozen=True)
class Transferred:
    """An image that was pushed or pulled; `pin` is its name with its manifest's digest."""

    reference: str
    pin: str
    manifest_digest: str
    size: int

    @classmethod
    def of(cls, reference: Reference, manifest: Manifest) -> Transferred:
        """The result of a transfer."""
        return cls(str(reference), str(reference.pinned(manifest.digest)), manifest.digest, manifest.size)

    def summary(self) -> str:
        """The name to use from now on: a tag may move, a digest can't."""
        return self.pin


def upload(reference: Reference, manifest: Manifest, store: Store, *, plain_http: bool) -> None:
    """Send a local image to its registry. The tag is set last.

    Raises `RegistryError` if the registry can't be reached, refuses, or stores other bytes than we sent.
    """
    with step(f"Pushing {reference}"), Client(reference.registry, plain_http=plain_http) as client:
        mount_from = _other_repositories(store, reference, manifest)
        progress = _progress(f"pushing {reference}", manifest)
        results = set()
        for descriptor in manifest.blobs:
            with store.blobs.open(descriptor) as blob:  # verified before the first byte leaves
                results.add(
                    client.upload(
                        reference.repository,
                        descriptor,
                        blob,
                        mount_from=mount_from,
                        on_progress=progress(descriptor),
                    )
                )
        if results == {"present"} and client.has_manifest(reference, manifest.digest):
            emit(Noted(f"{reference} is already there, unchanged: nothing was sent"))
        else:
            client.put_manifest(reference, manifest)


def download(reference: Reference, store: Store, *, plain_http: bool) -> Manifest:
    """Fetch an image into the local store, in any layout that holds a plugin, unaltered.

    An index stands for its image for linux/amd64, or for its only one. Raises `ImageError` for an image
    without a plugin, `RegistryError` if the registry can't be reached, refuses, or sends wrong bytes.
    """
    source = " from Docker Hub" if reference.registry == DOCKER_HUB else ""
    with (
        step(f"Pulling {reference}{source}"),
        fetched(reference, store, plain_http=plain_http) as (manifest, ingest),
    ):
        layout.read_verified(manifest, ingest.open)
        store.commit(ingest, reference, manifest)
    return manifest


@contextmanager
def fetched(reference: Reference, store: Store, *, plain_http: bool) -> Iterator[tuple[Manifest, Ingest]]:
    """A remote image, with all its blobs here for the length of the block."""
    with Client(reference.registry, plain_http=plain_http) as client:
        manifest = _manifest(client, reference)
        layout.layout_of(manifest)  # an image that can't hold a plugin isn't fetched
        progress = _progress(f"pulling {reference}", manifest)
        with store.receiving() as ingest:
            for descriptor in manifest.blobs:
                if ingest.keep(descriptor):
                    continue
                with ingest.file(descriptor) as file:
                    client.blob(reference.repository, descriptor, file, progress(descriptor))
            yield manifest, ingest


def _manifest(client: Client, reference: Reference) -> Manifest:
    raw, media_type = client.manifest(reference)
    record = document(raw)
    if kind_of(record, media_type) not in INDEXES:
        return Manifest.read(raw, media_type)
    child = layout.choose_child(record)
    if reference.digest:
        raise ImageError(
            f"{reference.digest} is the digest of an index, which consumers don't accept as a pin",
            hint=f"pin the image in it: {reference.name}@{child.digest}",
        )
    emit(Noted(f"{reference} is an index: taking {child.digest} from it"))
    raw, media_type = client.manifest(reference.pinned(child.digest))
    return Manifest.read(raw, media_type)


def _progress(title: str, manifest: Manifest) -> Callable[[Descriptor], Progress]:
    """For each blob, a callback that reports its progress as a part of the whole image's."""
    blobs, total = manifest.blobs, sum(blob.size for blob in manifest.blobs)

    def of(descriptor: Descriptor) -> Progress:
        before = sum(blob.size for blob in blobs[: blobs.index(descriptor)])

        def report(done: int) -> None:
            if total > _LARGE:
                emit(Progressed(title, before + done, total, "B"))

        return report

    return of


def _other_repositories(store: Store, reference: Reference, manifest: Manifest) -> list[str]:
    """Where the registry may already have these blobs: under the image's other names there, oldest first."""
    names = (entry.reference for entry in store.entries() if entry.descriptor.digest == manifest.digest)
    repositories = [name.repository for name in names if name and name.registry == reference.registry]
    return [other for other in dict.fromkeys(repositories) if other != reference.repository]
