"""Requests to one registry, with what it takes to be let in."""

from __future__ import annotations

from collections.abc import Mapping

import requests

from scaffold.oci.registry import address, credentials, http
from scaffold.oci.registry.auth import Access, Auth
from scaffold.oci.registry.credentials import Credentials
from scaffold.oci.registry.http import Body, Http, Pace, Patience


class Session:
    """A registry to send requests to. `given` are the credentials to use instead of those kept."""

    def __init__(self, registry: str, given: Credentials | None, plain_http: bool, pace: Pace) -> None:
        self._registry, self._given, self._pace = registry, given, pace
        self.base = address.base(registry, plain_http=plain_http, seconds=pace.silence)
        self._http = Http()
        self._auth = Auth(self._http, registry, self.base, self._find)

    def _find(self, repository: str) -> Credentials | None:
        return self._given or credentials.find(self._registry, repository)

    def close(self) -> None:
        """Let go of the connections."""
        self._http.close()

    @property
    def asked(self) -> bool:
        """Whether the registry has wanted to know who we are."""
        return self._auth.asked

    def patience(self, size: int = 0) -> Patience:
        """For one thing that is asked for, of `size` bytes."""
        return Patience(self._pace, self.base, size)

    def open(
        self,
        method: str,
        path: str,
        access: Access,
        patience: Patience,
        *,
        headers: Mapping[str, str] | None = None,
        body: Body | bytes | None = None,
    ) -> requests.Response:
        """Send a request to a path, or a URL, and once more when it has to say who we are, or anew.

        The body of the answer is still to be read. Who we are is told to the registry's origin alone.
        """
        url = self.base + path if path.startswith("/") else path
        ours = self.is_ours(url)
        told = self._auth.header(access, patience) if ours else None
        response = self._http.open(method, url, patience, authorization=told, headers=headers, body=body)
        if response.status_code != 401 or not ours or not self.is_ours(response.url):
            return response
        asked = response.headers.get("WWW-Authenticate", "")
        answer = self._auth.answer(asked, access, patience) if asked else None
        if answer is None:
            return response
        http.read_error(response, patience)
        return self._http.open(method, url, patience, authorization=answer, headers=headers, body=body)

    def is_ours(self, url: str) -> bool:
        """Whether a URL leads to the registry itself."""
        return address.origin(url) == address.origin(self.base)

    def finish(
        self,
        response: requests.Response,
        patience: Patience,
        wanted: tuple[int, ...],
        doing: str,
        thing: str = "",
        *,
        limit: int = 2**16,
    ) -> bytes:
        """The body of an answer that is as wanted, of at most `limit` bytes; raises what any other means."""
        if response.status_code in wanted:
            return http.read(response, patience, limit)
        raise self._auth.refusal(response, http.read_error(response, patience), doing, thing)
