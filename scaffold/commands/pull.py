"""`pull`: fetch an image from a registry."""

from __future__ import annotations

from scaffold.errors import UsageError
from scaffold.hosts.docker import image_hint
from scaffold.oci.reference import Reference
from scaffold.oci.registry import transfer
from scaffold.oci.registry.transfer import Transferred
from scaffold.oci.store import Store


def pull(image: str, *, plain_http: bool = False) -> Transferred:
    """Fetch an image from its registry into the local store, unaltered.

    Raises `UsageError` for a name without a registry; and like `transfer.download`.
    """
    reference = Reference.parse(image)
    if reference.local:
        raise UsageError(f"`{reference}` doesn't name a registry", hint="write REGISTRY/NAME:TAG")
    with image_hint.named(image):
        return Transferred.of(reference, transfer.download(reference, Store(), plain_http=plain_http))
