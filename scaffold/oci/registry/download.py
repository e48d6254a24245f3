"""A blob on its way here: counted and hashed as it comes, and gone on with after a cut."""

from __future__ import annotations

import hashlib
import re
from typing import BinaryIO

import requests

from scaffold.errors import RegistryError
from scaffold.oci.registry import http
from scaffold.oci.registry.auth import Access
from scaffold.oci.registry.http import Patience, Progress
from scaffold.oci.registry.session import Session
from scaffold.oci.spec import BLOB_LIMIT, Descriptor, ImageError

_RANGE = re.compile(r"bytes (\d+)-\d+/(?:\d+|\*)")


class Download:
    """One blob of a repository, to be written into a file."""

    def __init__(
        self,
        session: Session,
        registry: str,
        repository: str,
        descriptor: Descriptor,
        into: BinaryIO,
        on_progress: Progress | None,
    ) -> None:
        self._session, self._registry, self._repository = session, registry, repository
        self._descriptor, self._into, self._on_progress = descriptor, into, on_progress
        self._thing = f"blob {descriptor.digest} of {repository}"
        self._hasher, self._done = hashlib.sha256(), 0

    def run(self) -> None:
        """Fetch it. Raises `RegistryError` when what came isn't what was described."""
        size = self._descriptor.size
        if size > BLOB_LIMIT:
            raise ImageError(
                f"{self._thing} has {size:,} bytes, and {BLOB_LIMIT:,} is the most that is taken"
            )
        patience = self._session.patience(size)
        patience.persist(lambda: self._attempt(patience))
        if self._done != size:
            raise self._lied(f"{self._done:,} bytes instead of {size:,}")
        found = f"sha256:{self._hasher.hexdigest()}"
        if found != self._descriptor.digest:
            raise self._lied(f"bytes of the digest {found}")

    def _attempt(self, patience: Patience) -> None:
        if self._done and self._done == self._descriptor.size:  # only the end of the answer was cut off
            return
        path = f"/v2/{self._repository}/blobs/{self._descriptor.digest}"
        headers = {"Range": f"bytes={self._done}-"} if self._done else {}
        response = self._session.open("GET", path, Access(self._repository), patience, headers=headers)
        if response.status_code not in (200, 206):
            self._session.finish(response, patience, (), "read", self._thing)
        with response:
            skip = self._done - self._begins(response)
            for chunk in http.chunks(response, patience):
                fresh = chunk[skip:]
                skip -= len(chunk) - len(fresh)
                if fresh:
                    self._take(fresh)
                    patience.renew()

    def _begins(self, response: requests.Response) -> int:
        """The offset at which an answer begins; one of the wrong length isn't even read."""
        start = 0
        if response.status_code == 206:
            found = _RANGE.fullmatch(response.headers.get("Content-Range", ""))
            if found is None or int(found[1]) > self._done:
                raise self._lied("another part than it was asked for")
            start = int(found[1])
        length = http.length_of(response)
        if length is not None and start + length != self._descriptor.size:
            raise self._lied(f"{start + length:,} bytes instead of {self._descriptor.size:,}")
        return start

    def _take(self, chunk: bytes) -> None:
        if self._done + len(chunk) > self._descriptor.size:
            raise self._lied(f"more than its {self._descriptor.size:,} bytes")
        self._into.write(chunk)
        self._hasher.update(chunk)
        self._done += len(chunk)
        if self._on_progress:
            self._on_progress(self._done)

    def _lied(self, what: str) -> RegistryError:
        hint = "they weren't used; is there a cache before it?"
        return RegistryError(f"{self._registry} sent for {self._thing} {what}", hint=hint)
