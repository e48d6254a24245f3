"""One registry, spoken to by OCI's distribution API. What it sends is verified before anybody uses it.

Source: opencontainers/distribution-spec, spec.md; Docker's older registries where they differ.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, BinaryIO, Self
from urllib.parse import urlencode

import requests

from scaffold.core.files import digest
from scaffold.core.host_names import host_of
from scaffold.errors import RegistryError
from scaffold.oci.reference import Reference
from scaffold.oci.registry import address, http
from scaffold.oci.registry import credentials as keychain
from scaffold.oci.registry.auth import Access, Auth
from scaffold.oci.registry.credentials import Credentials
from scaffold.oci.registry.http import Body, Deadline, Http, Progress, Timeouts
from scaffold.oci.spec import (
    BLOB_LIMIT,
    DOCKER_SCHEMA_1,
    INDEXES,
    MANIFEST_LIMIT,
    MANIFESTS,
    Descriptor,
    ImageError,
    Manifest,
    is_digest,
)

_ACCEPT = {"Accept": ", ".join((*MANIFESTS, *INDEXES))}  # without it, old registries answer 404
_PAGE_LIMIT = 4 * 2**20  # bytes of one page of a list
_PAGES = 1000
_TAGS_PER_PAGE = 1000
_MOUNTED = "mounted"
_MOUNTS = 4  # repositories, at most, that a blob is mounted from
_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")


class Client:
    """A connection to a registry, for the length of a `with` block.

    Without `credentials`, the ones that Docker or Podman keep are used as soon as the registry asks for any.
    It speaks TLS, unless the registry is on the loopback and doesn't, or `plain_http` is set.
    Every method raises `RegistryError`, which names the registry, when it refuses or breaks the protocol.
    """

    def __init__(
        self,
        registry: str,
        *,
        credentials: Credentials | None = None,
        plain_http: bool = False,
        timeouts: Timeouts = Timeouts(),
    ) -> None:
        self._registry, self._credentials = registry, credentials
        self._plain_http, self._timeouts = plain_http, timeouts

    def __enter__(self) -> Self:
        self._base = address.base(self._registry, plain_http=self._plain_http, seconds=self._timeouts.silence)
        self._http = Http()
        self._auth = Auth(self._http, self._registry, self._base, self._find_credentials)
        return self

    def __exit__(self, *_: object) -> None:
        self._http.close()

    def ping(self) -> bool:
        """Whether the registry asks for credentials. Raises when it rejects ours."""
        deadline = self._deadline()

        def attempt() -> None:
            response = self._open("GET", "/v2/", Access(), deadline)
            self._body(response, deadline, (200,), "log in")

        deadline.retry(attempt)
        return self._auth.challenged

    def manifest(self, reference: Reference) -> tuple[bytes, str]:
        """The bytes of a manifest or an index, unaltered, and its media type.

        They match the digest in the reference, or else the one that the registry states.
        """
        deadline = self._deadline()
        name = reference.digest or reference.tag or "latest"
        path = f"/v2/{reference.repository}/manifests/{name}"

        def attempt() -> tuple[bytes, Mapping[str, str]]:
            response = self._open("GET", path, Access(reference.repository), deadline, headers=_ACCEPT)
            raw = self._body(response, deadline, (200,), "read", _short(reference), limit=MANIFEST_LIMIT)
            return raw, response.headers

        raw, headers = deadline.retry(attempt)
        if not raw.lstrip().startswith(b"{"):
            raise RegistryError(f"{self._registry} answered without a manifest", hint="is it a registry?")
        media_type = headers.get("Content-Type", "").partition(";")[0].strip()
        if media_type in DOCKER_SCHEMA_1:  # its digest leaves out the signatures
            Manifest.read(raw, media_type)
        expected = reference.digest or headers.get("Docker-Content-Digest", "")
        if is_digest(expected) and expected != digest(raw):
            message = f"{self._registry} sent bytes for {_short(reference)} that don't match {expected}"
            raise RegistryError(message, hint="they weren't used; is there a cache in front of it?")
        return raw, media_type

    def blob(
        self, repository: str, descriptor: Descriptor, into: BinaryIO, on_progress: Progress | None = None
    ) -> None:
        """Write a blob into a file, which must not be used unless this returns.

        Never reads more bytes than the descriptor states. An interrupted download resumes where it stopped.
        `on_progress` gets the number of bytes received so far.
        """
        if descriptor.size > BLOB_LIMIT:
            raise ImageError(
                f"blob {descriptor.digest} of {repository} has {descriptor.size:,} bytes:"
                f" {BLOB_LIMIT:,} is the limit"
            )
        download = _Download(self._registry, repository, descriptor, into, on_progress)
        path = f"/v2/{repository}/blobs/{descriptor.digest}"
        deadline = self._deadline(descriptor.size)

        def attempt() -> None:
            if download.done and download.done == descriptor.size:  # only the end of the response was lost
                return
            headers = {"Range": f"bytes={download.done}-"} if download.done else {}
            response = self._open("GET", path, Access(repository), deadline, headers=headers)
            if response.status_code not in (200, 206):
                self._body(response, deadline, (), "read", download.name)
            download.receive(response, deadline)

        deadline.retry(attempt)
        download.verify()

    def upload(
        self,
        repository: str,
        descriptor: Descriptor,
        source: BinaryIO,
        *,
        mount_from: Sequence[str] = (),
        on_progress: Progress | None = None,
    ) -> str:
        """Bring a blob into a repository; returns "present", "mounted" or "uploaded".

        `mount_from` are repositories of the same registry that may have the blob, the likeliest first: only
        a few are tried. `source` is read from its start, again for each attempt.
        """
        deadline = self._deadline(descriptor.size)
        body = Body(descriptor, source, on_progress)
        access = Access(repository, "pull,push")

        def attempt() -> str:
            if self._has_blob(repository, descriptor, access, deadline):
                return "present"
            for other in (*mount_from[:_MOUNTS], ""):
                mounting = Access(repository, "pull,push", other)
                location = self._begin_upload(repository, mounting, descriptor, deadline)
                if location:  # a registry that doesn't mount has begun an upload, which we continue
                    break
            if location == _MOUNTED:
                return _MOUNTED
            url = f"{location}{'&' if '?' in location else '?'}{urlencode({'digest': descriptor.digest})}"
            headers = {"Content-Type": "application/octet-stream"}
            response = self._open("PUT", url, access, deadline, headers=headers, body=body)
            self._body(response, deadline, (200, 201, 204), "push to", repository)
            return "uploaded"

        return deadline.retry(attempt)

    def _has_blob(self, repository: str, descriptor: Descriptor, access: Access, deadline: Deadline) -> bool:
        response = self._open("HEAD", f"/v2/{repository}/blobs/{descriptor.digest}", access, deadline)
        if response.status_code == 404:
            http.read_error(response, deadline)
            return False
        self._body(response, deadline, (200,), "push to", repository)
        return True

    def _begin_upload(
        self, repository: str, access: Access, descriptor: Descriptor, deadline: Deadline
    ) -> str:
        """Where to send a blob; `_MOUNTED` when another repository has it, "" when we may not read it."""
        mount = {"mount": descriptor.digest, "from": access.mount_from} if access.mount_from else {}
        path = f"/v2/{repository}/blobs/uploads/{'?' + urlencode(mount) if mount else ''}"
        response = self._open("POST", path, access, deadline)
        if mount and response.status_code in (401, 403, 404, 405):
            http.read_error(response, deadline)
            return ""
        self._body(response, deadline, (201, 202) if mount else (202,), "push to", repository)
        if response.status_code == 201:
            return _MOUNTED
        location = response.headers.get("Location", "")
        if not location:
            raise RegistryError(f"{self._registry} accepts an upload but doesn't say where to send it")
        url = address.join(response.url, location)
        if response.url.startswith("https:") and not url.startswith("https:"):
            message = f"{self._registry} wants the upload sent to {host_of(url)} in plain text"
            raise RegistryError(message, hint="its address, or that of a proxy in front of it, is set wrong")
        return url

    def has_manifest(self, reference: Reference, wanted: str) -> bool:
        """Whether a tag already names the manifest with the digest `wanted`; False when unknown."""
        deadline = self._deadline()
        path = f"/v2/{reference.repository}/manifests/{reference.tag or wanted}"
        access = Access(reference.repository, "pull,push")

        def attempt() -> bool:
            response = self._open("HEAD", path, access, deadline, headers=_ACCEPT)
            http.read_error(response, deadline)
            return response.ok and response.headers.get("Docker-Content-Digest") == wanted

        return deadline.retry(attempt)

    def put_manifest(self, reference: Reference, manifest: Manifest) -> None:
        """Upload a manifest under a tag, or under its digest without one; its blobs must be there already."""
        deadline = self._deadline()
        name = reference.tag or manifest.digest
        path = f"/v2/{reference.repository}/manifests/{name}"
        access = Access(reference.repository, "pull,push")

        def attempt() -> Mapping[str, str]:
            headers = {"Content-Type": manifest.media_type}
            response = self._open("PUT", path, access, deadline, headers=headers, body=manifest.raw)
            self._body(response, deadline, (200, 201), "push", _short(reference))
            return response.headers

        stored = deadline.retry(attempt).get("Docker-Content-Digest", "")
        if is_digest(stored) and stored != manifest.digest:
            raise RegistryError(f"{self._registry} stored {reference} as {stored}, not as {manifest.digest}")

    def tags(self, repository: str) -> list[str]:
        """All tags of a repository, those of signatures included; sorted, as not every registry does it."""
        deadline = self._deadline()
        tags: list[str] = []
        url = f"/v2/{repository}/tags/list?n={_TAGS_PER_PAGE}"
        seen: set[str] = set()
        while url and url not in seen and len(seen) < _PAGES:
            seen.add(url)
            page, url = deadline.retry(partial(self._page, url, repository, deadline))
            tags += page
        if url:
            raise RegistryError(f"{self._registry} never stops listing the tags of {repository}")
        return sorted(set(tags))

    def _page(self, url: str, repository: str, deadline: Deadline) -> tuple[list[str], str]:
        response = self._open("GET", url, Access(repository), deadline)
        raw = self._body(response, deadline, (200,), "list", f"repository {repository}", limit=_PAGE_LIMIT)
        try:
            listed: Any = json.loads(raw)["tags"] or []
            tags = [tag for tag in listed if isinstance(tag, str) and tag.isprintable()]
        except (ValueError, RecursionError, KeyError, TypeError):
            raise RegistryError(
                f"{self._registry} answered without a list of tags", hint="is it a registry?"
            ) from None
        following = response.links.get("next", {}).get("url")
        if not following:
            return tags, ""
        following = address.join(response.url, following)
        if not self._is_own(following):
            raise RegistryError(
                f"{self._registry} continues its list of tags at {host_of(following)}, another server"
            )
        return tags, following

    def _find_credentials(self, repository: str) -> Credentials | None:
        return self._credentials or keychain.find(self._registry, repository)

    def _deadline(self, size: int = 0) -> Deadline:
        return Deadline(self._timeouts, self._base, size)

    def _is_own(self, url: str) -> bool:
        """Whether a URL leads to the registry itself, which alone gets our credentials."""
        return address.origin(url) == address.origin(self._base)

    def _open(
        self,
        method: str,
        path: str,
        access: Access,
        deadline: Deadline,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | bytes | None = None,
    ) -> requests.Response:
        """Send a request to a path or a URL, and again if the registry wants us to authenticate.

        The response's body is still to be read.
        """
        url = self._base + path if path.startswith("/") else path
        own = self._is_own(url)
        authorization = self._auth.header(access, deadline) if own else None
        send = partial(self._http.open, method, url, deadline, headers=headers, body=body)
        response = send(authorization=authorization)
        if response.status_code != 401 or not own or not self._is_own(response.url):
            return response
        challenge = response.headers.get("WWW-Authenticate", "")
        authorization = self._auth.answer(challenge, access, deadline) if challenge else None
        if authorization is None:
            return response
        http.read_error(response, deadline)
        return send(authorization=authorization)

    def _body(
        self,
        response: requests.Response,
        deadline: Deadline,
        wanted: tuple[int, ...],
        doing: str,
        thing: str = "",
        *,
        limit: int = 2**16,
    ) -> bytes:
        """The body, of at most `limit` bytes; raises what the status means if it isn't one of `wanted`."""
        if response.status_code in wanted:
            return http.read(response, deadline, limit)
        raise self._auth.refusal(response, http.read_error(response, deadline), doing, thing)


class _Download:
    """A blob that is being written into a file, counted and hashed as it arrives."""

    def __init__(
        self,
        registry: str,
        repository: str,
        descriptor: Descriptor,
        into: BinaryIO,
        on_progress: Callable[[int], object] | None,
    ) -> None:
        self._registry, self._descriptor = registry, descriptor
        self._into, self._on_progress = into, on_progress
        self._hasher = hashlib.sha256()
        self.name = f"blob {descriptor.digest} of {repository}"
        self.done = 0

    def receive(self, response: requests.Response, deadline: Deadline) -> None:
        """Write the part of a response's body that hasn't been received yet."""
        with response:
            skip = self.done - self._start(response)
            for chunk in http.chunks(response, deadline):
                fresh = chunk[skip:]
                skip -= len(chunk) - len(fresh)
                if fresh:
                    self._write(fresh)
                    deadline.restart_attempts()

    def verify(self) -> None:
        """Raise `RegistryError` unless the blob is complete and has the right digest."""
        if self.done != self._descriptor.size:
            raise self._mismatch(f"{self.done:,} bytes instead of {self._descriptor.size:,}")
        actual = f"sha256:{self._hasher.hexdigest()}"
        if actual != self._descriptor.digest:
            raise self._mismatch(f"bytes with the digest {actual}")

    def _start(self, response: requests.Response) -> int:
        """The offset at which the body starts. A body of the wrong length isn't even read."""
        start = 0
        if response.status_code == 206:
            match = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if match is None or int(match[1]) > self.done:
                raise self._mismatch("the wrong part")
            start = int(match[1])
        length = http.length_of(response)
        if length is not None and start + length != self._descriptor.size:
            raise self._mismatch(f"{start + length:,} bytes instead of {self._descriptor.size:,}")
        return start

    def _write(self, chunk: bytes) -> None:
        if self.done + len(chunk) > self._descriptor.size:
            raise self._mismatch(f"more than its {self._descriptor.size:,} bytes")
        self._into.write(chunk)
        self._hasher.update(chunk)
        self.done += len(chunk)
        if self._on_progress:
            self._on_progress(self.done)

    def _mismatch(self, what: str) -> RegistryError:
        hint = "they weren't used; is there a cache in front of it?"
        return RegistryError(f"{self._registry} sent {what} for {self.name}", hint=hint)


def _short(reference: Reference) -> str:
    """A reference without its registry, which the message already names."""
    tag = f":{reference.tag}" if reference.tag else ""
    return f"{reference.repository}{tag}{'@' + reference.digest if reference.digest else ''}"
