"""One registry, by OCI's distribution API. What it sends is verified before anybody uses it.

Source: opencontainers/distribution-spec, spec.md; Docker's older registries where they differ.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any, BinaryIO, Self
from urllib.parse import urlencode

from scaffold.core.files import digest
from scaffold.errors import RegistryError
from scaffold.oci.reference import Reference
from scaffold.oci.registry import address, http
from scaffold.oci.registry.auth import Access
from scaffold.oci.registry.credentials import Credentials
from scaffold.oci.registry.download import Download
from scaffold.oci.registry.http import Body, Pace, Patience, Progress
from scaffold.oci.registry.session import Session
from scaffold.oci.spec import (
    DOCKER_SCHEMA_1,
    INDEXES,
    MANIFEST_LIMIT,
    MANIFESTS,
    Descriptor,
    Manifest,
    is_digest,
)

_ACCEPT = {"Accept": ", ".join((*MANIFESTS, *INDEXES))}  # without it, old registries say 404
_PAGE_LIMIT = 4 * 2**20  # bytes of one answer that lists
_PAGES = 1000
_TAGS_A_PAGE = 1000
_MOUNTED = "mounted"


class Client:
    """A registry to talk with, while a block runs.

    Without `credentials` they are looked up as Docker and Podman keep them, once it asks for any.
    TLS is spoken, unless the registry is on the loopback and doesn't, or `plain_http` is asked for.
    All methods raise `RegistryError`, naming the registry, for what it refuses or does wrong.
    """

    def __init__(
        self,
        registry: str,
        *,
        credentials: Credentials | None = None,
        plain_http: bool = False,
        pace: Pace = Pace(),
    ) -> None:
        self._registry = registry
        self._settings = credentials, plain_http, pace

    def __enter__(self) -> Self:
        self._session = Session(self._registry, *self._settings)
        return self

    def __exit__(self, *_: object) -> None:
        self._session.close()

    def ping(self) -> bool:
        """Whether it asks who we are. Raises when it isn't content with the answer."""
        patience = self._session.patience()

        def attempt() -> None:
            response = self._session.open("GET", "/v2/", Access(), patience)
            self._session.finish(response, patience, (200,), "log in")

        patience.persist(attempt)
        return self._session.asked

    def manifest(self, reference: Reference) -> tuple[bytes, str]:
        """A manifest's or an index's bytes as they are, and its media type.

        They are those of the digest asked for, or else of the one that the registry says they have.
        """
        patience = self._session.patience()
        name = reference.digest or reference.tag or "latest"
        path = f"/v2/{reference.repository}/manifests/{name}"

        def attempt() -> tuple[bytes, Mapping[str, str]]:
            response = self._session.open(
                "GET", path, Access(reference.repository), patience, headers=_ACCEPT
            )
            raw = self._session.finish(
                response, patience, (200,), "read", _short(reference), limit=MANIFEST_LIMIT
            )
            return raw, response.headers

        raw, headers = patience.persist(attempt)
        if not raw.lstrip().startswith(b"{"):
            raise RegistryError(f"{self._registry} answered without a manifest", hint="is it a registry?")
        media_type = headers.get("Content-Type", "").partition(";")[0].strip()
        if media_type in DOCKER_SCHEMA_1:  # whose digest leaves its signatures out
            Manifest.read(raw, media_type)
        wanted = reference.digest or headers.get("Docker-Content-Digest", "")
        if is_digest(wanted) and wanted != digest(raw):
            message = f"{self._registry} sent other bytes for {_short(reference)} than those of {wanted}"
            raise RegistryError(message, hint="they weren't used; is there a cache before it?")
        return raw, media_type

    def blob(
        self, repository: str, descriptor: Descriptor, into: BinaryIO, on_progress: Progress | None = None
    ) -> None:
        """Write a blob into a file, which isn't to be used unless this returns.

        No byte more than the descriptor has is read; after a cut, it goes on where it was. `on_progress`
        is called with the bytes that have come so far.
        """
        Download(self._session, self._registry, repository, descriptor, into, on_progress).run()

    def has_blob(self, repository: str, descriptor: Descriptor) -> bool:
        """Whether a repository has a blob already."""
        patience = self._session.patience()
        return patience.persist(lambda: self._has(repository, descriptor, Access(repository), patience))

    def _has(self, repository: str, descriptor: Descriptor, access: Access, patience: Patience) -> bool:
        response = self._session.open("HEAD", f"/v2/{repository}/blobs/{descriptor.digest}", access, patience)
        if response.status_code == 404:
            http.read_error(response, patience)
            return False
        doing = "look into" if access.reads else "push to"
        self._session.finish(response, patience, (200,), doing, repository)
        return True

    def upload(
        self,
        repository: str,
        descriptor: Descriptor,
        source: BinaryIO,
        *,
        mount_from: Sequence[str] = (),
        on_progress: Progress | None = None,
    ) -> str:
        """Bring a blob into a repository, and say how: it was "there", "mounted" or "uploaded".

        `mount_from` are repositories of the same registry that may have it. `source` is read from its
        beginning, again for each try.
        """
        patience = self._session.patience(descriptor.size)
        body = Body(descriptor, source, on_progress)

        def attempt() -> str:
            access = Access(repository, "pull,push")
            if self._has(repository, descriptor, access, patience):
                return "there"
            location = ""
            for other in mount_from:
                location = self._begin(
                    repository, Access(repository, "pull,push", other), descriptor, patience
                )
                if location == _MOUNTED:
                    return _MOUNTED
            location = location or self._begin(repository, access, descriptor, patience)
            url = f"{location}{'&' if '?' in location else '?'}{urlencode({'digest': descriptor.digest})}"
            headers = {"Content-Type": "application/octet-stream"}
            response = self._session.open("PUT", url, access, patience, headers=headers, body=body)
            self._session.finish(response, patience, (200, 201, 204), "push to", repository)
            return "uploaded"

        return patience.persist(attempt)

    def _begin(self, repository: str, access: Access, descriptor: Descriptor, patience: Patience) -> str:
        """Where to send a blob; `_MOUNTED` when another repository had it, "" when we may not read that."""
        mount = {"mount": descriptor.digest, "from": access.also} if access.also else {}
        path = f"/v2/{repository}/blobs/uploads/{'?' + urlencode(mount) if mount else ''}"
        response = self._session.open("POST", path, access, patience)
        if mount and response.status_code in (401, 403, 404, 405):
            http.read_error(response, patience)
            return ""
        self._session.finish(response, patience, (201, 202) if mount else (202,), "push to", repository)
        if response.status_code == 201:
            return _MOUNTED
        location = response.headers.get("Location", "")
        if not location:
            raise RegistryError(f"{self._registry} begins an upload without saying where it goes")
        url = address.join(response.url, location)
        if response.url.startswith("https:") and not url.startswith("https:"):
            message = f"{self._registry} wants the upload at {address.place(url)} in plain text"
            raise RegistryError(message, hint="its address is set wrong, or that of a proxy before it")
        return url

    def has_manifest(self, reference: Reference, wanted: str) -> bool:
        """Whether a tag is that of the manifest with the digest `wanted` already, as far as anybody says."""
        patience = self._session.patience()
        path = f"/v2/{reference.repository}/manifests/{reference.tag or wanted}"
        access = Access(reference.repository, "pull,push")

        def attempt() -> bool:
            response = self._session.open("HEAD", path, access, patience, headers=_ACCEPT)
            http.read_error(response, patience)
            return response.ok and response.headers.get("Docker-Content-Digest") == wanted

        return patience.persist(attempt)

    def put_manifest(self, reference: Reference, manifest: Manifest) -> None:
        """Put a manifest under a tag, or its digest where the reference has no tag; its blobs come first."""
        patience = self._session.patience()
        name = reference.tag or manifest.digest
        path = f"/v2/{reference.repository}/manifests/{name}"
        access = Access(reference.repository, "pull,push")

        def attempt() -> Mapping[str, str]:
            headers = {"Content-Type": manifest.media_type}
            response = self._session.open("PUT", path, access, patience, headers=headers, body=manifest.raw)
            self._session.finish(response, patience, (200, 201), "push", _short(reference))
            return response.headers

        kept = patience.persist(attempt).get("Docker-Content-Digest", "")
        if is_digest(kept) and kept != manifest.digest:
            raise RegistryError(f"{self._registry} kept {reference} as {kept}, not as {manifest.digest}")

    def tags(self, repository: str) -> list[str]:
        """All tags of a repository, sorted, for not every registry does; those of signatures, too."""
        patience = self._session.patience()
        found: list[str] = []
        url = f"/v2/{repository}/tags/list?n={_TAGS_A_PAGE}"
        seen: set[str] = set()
        while url and url not in seen and len(seen) < _PAGES:
            seen.add(url)
            page, following = patience.persist(partial(self._page, url, repository, patience))
            found += page
            url = following
        if url:
            raise RegistryError(f"{self._registry} lists the tags of {repository} without an end")
        return sorted(set(found))

    def _page(self, url: str, repository: str, patience: Patience) -> tuple[list[str], str]:
        response = self._session.open("GET", url, Access(repository), patience)
        raw = self._session.finish(
            response, patience, (200,), "list", f"repository {repository}", limit=_PAGE_LIMIT
        )
        try:
            tags: Any = json.loads(raw)["tags"] or []
            told = [tag for tag in tags if isinstance(tag, str) and tag.isprintable()]
        except (ValueError, RecursionError, KeyError, TypeError):
            raise RegistryError(
                f"{self._registry} answered without a list of tags", hint="is it a registry?"
            ) from None
        following = response.links.get("next", {}).get("url")
        if not following:
            return told, ""
        following = address.join(response.url, following)
        if not self._session.is_ours(following):
            raise RegistryError(
                f"{self._registry} goes on with its tags at {address.place(following)}, another place"
            )
        return told, following


def _short(reference: Reference) -> str:
    """A reference without its registry, which is named already."""
    tag = f":{reference.tag}" if reference.tag else ""
    return f"{reference.repository}{tag}{'@' + reference.digest if reference.digest else ''}"
