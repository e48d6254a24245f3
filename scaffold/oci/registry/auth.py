"""Authentication as a registry asks for it: Basic, or a token from the server that it names.

Source: distribution/distribution, docs/content/spec/auth (token.md, oauth.md); RFC 9110, 11.6.1.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

import requests

from scaffold.core.events import Warned, emit
from scaffold.core.host_names import host_of, is_inner, is_loopback
from scaffold.core.text import one_line
from scaffold.errors import RegistryError
from scaffold.oci.registry import errors
from scaffold.oci.registry.address import split
from scaffold.oci.registry.credentials import Credentials
from scaffold.oci.registry.http import Deadline, Http, read, read_error

_LIMIT = 2**20  # bytes of a token server's response
_LIFETIME = 60.0  # seconds, of a token that doesn't state it
_SHORTEST = 6  # letters of a secret that is removed from messages
_CLIENT = "proxy-wasm-scaffold"
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'\s*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*(?:,|$)')
_SCHEME = re.compile(rf"[\s,]*({_WORD})(?=[\s,]|$)")


@dataclass(frozen=True)
class Challenge:
    """How a server wants us to authenticate; `scheme` and the parameters' names are in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def challenges(header: str) -> list[Challenge]:
    """Read WWW-Authenticate, up to the first part that can't be read."""
    result: list[Challenge] = []
    at = 0
    while scheme := _SCHEME.match(header, at):
        at = scheme.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(header, at):
            name, quoted, bare = parameter.groups()
            parameters.setdefault(name.lower(), bare or re.sub(r"\\(.)", r"\1", quoted or ""))
            at = parameter.end()
        result.append(Challenge(scheme[1].lower(), parameters))
    return result


@dataclass(frozen=True)
class Access:
    """The access we need: `actions` ("pull" or "pull,push") on a repository, and pull on `mount_from`."""

    repository: str = ""
    actions: str = "pull"
    mount_from: str = ""

    @property
    def reads(self) -> bool:
        """Whether it changes nothing, so that anybody might be allowed to."""
        return bool(self.repository) and self.actions == "pull"

    @property
    def scopes(self) -> tuple[str, ...]:
        """The scopes that token servers know it by."""
        own = (f"repository:{self.repository}:{self.actions}",) if self.repository else ()
        return (*own, f"repository:{self.mount_from}:pull") if self.mount_from else own


def check_realm(realm: str, base: str) -> None:
    """Raise `RegistryError` where asking for a token could give a secret away.

    It can't over TLS, to a public host or to the registry's own; nor on the loopback, if the registry is
    there too; nor in plain HTTP on the registry's own host, if the registry itself speaks plain HTTP.
    """
    server, registry = split(realm), split(base)
    if is_loopback(server.hostname) and is_loopback(registry.hostname):
        return
    own = server.hostname == registry.hostname
    if server.scheme == "https" and (own or not is_inner(server.hostname)):
        return
    if server.scheme == "http" and own and registry.scheme == "http":
        return
    how = "in plain HTTP" if server.scheme == "http" else "inside a private network"
    message = f"{host_of(base)} wants us to log in at {host_of(realm)}, {how}, which would give secrets away"
    raise RegistryError(message, hint="is it the registry that you meant?")


class Auth:
    """The Authorization headers for one registry. `find` looks up our credentials for a repository."""

    def __init__(
        self, http: Http, registry: str, base: str, find: Callable[[str], Credentials | None]
    ) -> None:
        self._http, self._registry, self._base, self._find = http, registry, base, find
        self._credentials: dict[str, Credentials | None] = {}  # by repository
        self._tokens: dict[Access, tuple[str, float]] = {}
        self._challenge: Challenge | None = None
        self._secrets: set[str] = set()

    def header(self, access: Access, deadline: Deadline) -> str | None:
        """The header for a first try, once the registry has sent a challenge."""
        return self._respond(self._challenge, access, deadline) if self._challenge else None

    def answer(self, header: str, access: Access, deadline: Deadline) -> str | None:
        """The header for a second try, after a 401 with this WWW-Authenticate; None if we have none.

        Raises `RegistryError` when it asks for something that we don't know or mustn't do.
        """
        self._tokens.pop(access, None)
        by_scheme = {each.scheme: each for each in reversed(challenges(header))}
        self._challenge = by_scheme.get("bearer") or by_scheme.get("basic")
        if self._challenge is None:
            schemes = one_line(", ".join(by_scheme)) or "an unknown scheme"
            raise RegistryError(
                f"{self._registry} asks for {schemes} authentication: only Basic and Bearer are supported"
            )
        return self._respond(self._challenge, access, deadline)

    @property
    def challenged(self) -> bool:
        """Whether the registry has asked for credentials."""
        return self._challenge is not None

    def refusal(
        self, response: requests.Response, body: bytes, doing: str, thing: str = "", *, by: str = ""
    ) -> RegistryError:
        """What a response means (`errors.of_status`), in the registry's own words without our secrets."""
        text = errors.text_of(body)
        for secret in sorted(self._secrets, key=len, reverse=True):
            if len(secret) >= _SHORTEST:  # the gaps would give away a shorter one
                text = text.replace(secret, "***")
        return errors.of_status(
            response.status_code,
            response.headers,
            text,
            registry=self._registry,
            by=by or self._registry,
            doing=doing,
            thing=thing,
            codes=errors.codes_of(body),
        )

    def _respond(self, challenge: Challenge, access: Access, deadline: Deadline) -> str | None:
        credentials = self._credentials_for(access.repository)
        if challenge.scheme == "basic":
            return self._secret(credentials.basic()) if credentials and credentials.username else None
        if credentials and credentials.registry_token:
            return f"Bearer {self._secret(credentials.registry_token)}"
        token, expiry = self._tokens.get(access, ("", 0.0))
        if time.monotonic() >= expiry:
            token, expiry = self._fetch(challenge, access, credentials, deadline)
            self._tokens[access] = token, expiry
        return f"Bearer {self._secret(token)}"

    def _credentials_for(self, repository: str) -> Credentials | None:
        if repository not in self._credentials:
            self._credentials[repository] = credentials = self._find(repository)
            for secret in (credentials.password, credentials.identity_token) if credentials else ():
                self._secret(secret)
        return self._credentials[repository]

    def _secret(self, text: str) -> str:
        """Remember a secret, so that no message shows it."""
        if text:
            self._secrets |= {text, text.removeprefix("Basic ")}
        return text

    def _fetch(
        self, challenge: Challenge, access: Access, credentials: Credentials | None, deadline: Deadline
    ) -> tuple[str, float]:
        """A token, and when it expires."""
        realm = challenge.parameters.get("realm", "")
        check_realm(realm, self._base)
        service = challenge.parameters.get("service", "")
        wanted = challenge.parameters.get("scope", "").split()
        scopes = list(dict.fromkeys([*access.scopes, *(wanted if access.repository else ())]))
        response = self._request_token(realm, service, scopes, credentials, deadline)
        if response.status_code in (401, 403) and credentials and access.reads:
            read_error(response, deadline)
            emit(
                Warned(f"{host_of(realm)} refuses the credentials for {self._registry}: reading without them")
            )
            response = self._request_token(realm, service, scopes, None, deadline)
        if response.status_code != 200:
            body = read_error(response, deadline)
            anonymous = access.reads and not credentials
            doing = ("read", access.repository) if anonymous else ("log in",)
            raise self.refusal(response, body, *doing, by=host_of(realm))
        return _token(read(response, deadline, _LIMIT), host_of(realm))

    def _request_token(
        self,
        realm: str,
        service: str,
        scopes: list[str],
        credentials: Credentials | None,
        deadline: Deadline,
    ) -> requests.Response:
        fields = [("service", service)] if service else []
        if credentials and credentials.identity_token:
            form = [*fields, ("grant_type", "refresh_token"), ("client_id", _CLIENT)]
            form += [("scope", " ".join(scopes)), ("refresh_token", credentials.identity_token)]
            headers = {"Content-Type": "application/x-www-form-urlencoded"}
            body = urlencode(form).encode()
            response = self._http.open("POST", realm, deadline, headers=headers, body=body, follow=False)
            if response.status_code not in (404, 405):
                return response
            read_error(response, deadline)
        query = urlencode([*fields, *(("scope", scope) for scope in scopes)])
        url = f"{realm}{'&' if split(realm).query else '?'}{query}" if query else realm
        basic = self._secret(credentials.basic()) if credentials else None
        return self._http.open("GET", url, deadline, authorization=basic)


def _token(body: bytes, server: str) -> tuple[str, float]:
    """The token in a server's response, and when it expires."""
    try:
        record: Any = json.loads(body)
        token = record.get("token") or record.get("access_token")
    except (ValueError, RecursionError, AttributeError):
        record, token = {}, None
    if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
        raise RegistryError(f"{server} answered without a token")
    lifetime = record.get("expires_in")
    seconds = float(lifetime) if isinstance(lifetime, int | float) and 0 < lifetime < 1e6 else _LIFETIME
    return token, time.monotonic() + 0.8 * seconds  # a request takes time, too
