"""`tags`: list the tags of a repository in a registry."""

from __future__ import annotations

import re

from scaffold.core.events import Noted, emit
from scaffold.errors import UsageError
from scaffold.oci.reference import Reference

_SIGNATURE = re.compile(r"sha256-[0-9a-f]{64}(\.(sig|att|sbom))?")


def tags(repository: str, *, plain_http: bool = False) -> list[str]:
    """List the tags of a remote repository, sorted, without those of signatures."""
    reference = Reference.parse(repository)
    if reference.local:
        raise UsageError(f"`{repository}` doesn't name a registry", hint="write REGISTRY/NAME")
    from scaffold.oci.registry.client import Client

    with Client(reference.registry, plain_http=plain_http) as client:
        names = [tag for tag in client.tags(reference.repository) if not _SIGNATURE.fullmatch(tag)]
    if not names:
        emit(Noted(f"{reference.name} has no tags"))
    return names
