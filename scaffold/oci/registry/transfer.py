"""Images between the local store and a registry: whole, verified, byte for byte."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

from scaffold.core.events import Noted, Progressed, emit, step
from scaffold.errors import UsageError
from scaffold.oci import layout as contents
from scaffold.oci.reference import DOCKER_HUB, Reference
from scaffold.oci.registry.client import Client
from scaffold.oci.spec import INDEXES, Descriptor, ImageError, Manifest, document, kind_of
from scaffold.oci.store import Ingest, Store

_LARGE = 4_000_000  # bytes, from which on progress is told


@dataclass(frozen=True)
class Moved:
    """An image that was pushed or pulled; `pin` names it by its manifest's digest."""

    reference: str
    pin: str
    manifest_digest: str
    size: int

    def summary(self) -> str:
        """What to refer to from now on: the tag may move, the digest can't."""
        return self.pin


def push(image: str, *, plain_http: bool = False) -> Moved:
    """Send a local image to the registry that its name names. The tag is set last.

    Raises `UsageError` when it isn't here or its name has no registry, `RegistryError` when the registry
    can't be reached, refuses, or keeps other bytes than it was sent.
    """
    reference = Reference.parse(image)
    if reference.local:
        short = f"{reference.repository.removeprefix('library/')}:{reference.tag or 'latest'}"
        raise UsageError(
            f"`{reference}` names no registry",
            hint=f"`scaffold tag {short} REGISTRY/{short}`, then push that",
        )
    store = Store()
    try:
        manifest = store.find(reference)
    except UsageError as error:
        made = next((name for name in store.similar(reference) if "/" not in name), None)
        hint = f"`scaffold tag {made} {reference}`, then push that" if made else error.hint
        raise UsageError(error.message, hint=hint) from error
    with step(f"Pushing {reference}"), Client(reference.registry, plain_http=plain_http) as client:
        others = _other_repositories(store, reference, manifest)
        progress = _progress(f"pushing {reference}", manifest)
        ways = set()
        for descriptor in manifest.blobs:
            with store.blobs.open(descriptor) as blob:  # verified before the first byte leaves
                way = client.upload(
                    *(reference.repository, descriptor, blob),
                    mount_from=others,
                    on_progress=progress(descriptor),
                )
                ways.add(way)
        if ways == {"present"} and client.has_manifest(reference, manifest.digest):
            emit(Noted(f"{reference} is there already, the same: nothing was sent"))
        else:
            client.put_manifest(reference, manifest)
    return _moved(reference, manifest)


def pull(image: str, *, plain_http: bool = False) -> Moved:
    """Fetch an image into the local store: every layout that holds a plugin, unaltered.

    Of an index the child for linux/amd64 is taken, or the only one. Raises `ImageError` for what holds
    no plugin, `RegistryError` when the registry can't be reached, refuses, or lies.
    """
    reference = Reference.parse(image)
    if reference.local:
        raise UsageError(f"`{reference}` names no registry", hint="write REGISTRY/NAME:TAG")
    if reference.registry == DOCKER_HUB and DOCKER_HUB not in image:
        emit(Noted(f"{reference} names no registry, so Docker Hub is asked"))
    store = Store()
    with step(f"Pulling {reference}"), fetched(reference, store, plain_http=plain_http) as (manifest, ingest):
        layout = contents.layout_of(manifest)
        with ingest.open(layout.module) as blob:
            contents.verify(manifest, contents.read_module(layout, blob))
        store.commit(ingest, reference, manifest)
    return _moved(reference, manifest)


@contextmanager
def fetched(reference: Reference, store: Store, *, plain_http: bool) -> Iterator[tuple[Manifest, Ingest]]:
    """A remote image, all of its blobs here as long as the block runs."""
    with Client(reference.registry, plain_http=plain_http) as client:
        manifest = _manifest(client, reference)
        contents.layout_of(manifest)  # what can't hold a plugin isn't fetched
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
    child = contents.choose_child(record)
    if reference.digest:
        raise ImageError(
            f"{reference.digest} is the digest of an index, which consumers refuse as a pin",
            hint=f"pin the image in it: {reference.name}@{child.digest}",
        )
    emit(Noted(f"{reference} is an index: taking {child.digest} from it"))
    raw, media_type = client.manifest(reference.pinned(child.digest))
    return Manifest.read(raw, media_type)


def _progress(title: str, manifest: Manifest) -> Callable[[Descriptor], Callable[[int], None]]:
    """What to call, for each blob, with its bytes that have been moved: all blobs are one way to go."""
    blobs, total = manifest.blobs, sum(blob.size for blob in manifest.blobs)

    def of(descriptor: Descriptor) -> Callable[[int], None]:
        before = sum(blob.size for blob in blobs[: blobs.index(descriptor)])

        def tell(done: int) -> None:
            if total > _LARGE:
                emit(Progressed(title, before + done, total, "B"))

        return tell

    return of


def _other_repositories(store: Store, reference: Reference, manifest: Manifest) -> list[str]:
    """Where the registry may have these blobs already: under the image's other names there."""
    named = (entry.reference for entry in store.entries() if entry.descriptor.digest == manifest.digest)
    found = {one.repository for one in named if one and one.registry == reference.registry}
    return sorted(found - {reference.repository})


def _moved(reference: Reference, manifest: Manifest) -> Moved:
    return Moved(str(reference), str(reference.pinned(manifest.digest)), manifest.digest, manifest.size)
