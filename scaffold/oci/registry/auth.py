"""Who we are, as a registry asks for it: Basic, or a token from the server that it names.

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
from scaffold.core.net import is_inner, is_loopback
from scaffold.errors import RegistryError
from scaffold.oci.registry import errors as trouble
from scaffold.oci.registry.address import place, split
from scaffold.oci.registry.credentials import Credentials
from scaffold.oci.registry.http import Http, Patience, read, read_error

_LIMIT = 2**20  # bytes of a token server's answer
_LIFETIME = 60.0  # seconds of a token that doesn't say
_TELLING = 6  # letters, from which on a secret is taken out of a registry's words
_CLIENT = "proxy-wasm-scaffold"
_WORD = r"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_PARAMETER = re.compile(rf'\s*({_WORD})\s*=\s*(?:"((?:[^"\\]|\\.)*)"|([^\s,"]+))\s*(?:,|$)')
_SCHEME = re.compile(rf"[\s,]*({_WORD})(?=[\s,]|$)")


@dataclass(frozen=True)
class Challenge:
    """What a server wants; `scheme` and the parameters' names in lower case."""

    scheme: str
    parameters: Mapping[str, str]


def challenges(header: str) -> list[Challenge]:
    """Read WWW-Authenticate. What comes after something that can't be read is left out."""
    found: list[Challenge] = []
    at = 0
    while scheme := _SCHEME.match(header, at):
        at = scheme.end()
        parameters: dict[str, str] = {}
        while parameter := _PARAMETER.match(header, at):
            name, quoted, bare = parameter.groups()
            parameters.setdefault(name.lower(), bare or re.sub(r"\\(.)", r"\1", quoted or ""))
            at = parameter.end()
        found.append(Challenge(scheme[1].lower(), parameters))
    return found


@dataclass(frozen=True)
class Access:
    """What is to be done: "pull", or "pull,push", with a repository; `also` is one to mount from."""

    repository: str = ""
    actions: str = "pull"
    also: str = ""

    @property
    def reads(self) -> bool:
        """Whether it changes nothing, and might be allowed to anybody."""
        return bool(self.repository) and self.actions == "pull"

    @property
    def scopes(self) -> tuple[str, ...]:
        """As token servers have it."""
        own = (f"repository:{self.repository}:{self.actions}",) if self.repository else ()
        return (*own, f"repository:{self.also}:pull") if self.also else own


def check_realm(realm: str, base: str) -> None:
    """Whether we may ask for a token there: raises `RegistryError` where a secret could be overheard.

    That is over TLS to any public place, or to the registry's own host; else only from the loopback
    to itself, and where the registry was asked for in plain HTTP.
    """
    there, home = split(realm), split(base)
    if is_loopback(there.hostname) and is_loopback(home.hostname):
        return
    own = there.hostname == home.hostname
    if there.scheme == "https" and (own or not is_inner(there.hostname)):
        return
    if there.scheme == "http" and own and home.scheme == "http":
        return
    way = "in plain HTTP" if there.scheme == "http" else "inside a private network"
    message = f"{place(base)} wants us to log in at {place(realm)}, {way}, which would give secrets away"
    raise RegistryError(message, hint="is it the registry that you meant?")


class Auth:
    """What to send to one registry as Authorization. `find` looks up who we are to a repository."""

    def __init__(
        self, http: Http, registry: str, base: str, find: Callable[[str], Credentials | None]
    ) -> None:
        self._http, self._registry, self._base, self._find = http, registry, base, find
        self._known: dict[str, Credentials | None] = {}
        self._tokens: dict[Access, tuple[str, float]] = {}
        self._challenge: Challenge | None = None
        self._secrets: set[str] = set()

    def header(self, access: Access, patience: Patience) -> str | None:
        """What to send along, as far as the registry has asked for it before."""
        return self._answer(self._challenge, access, patience) if self._challenge else None

    def answer(self, header: str, access: Access, patience: Patience) -> str | None:
        """What to send instead, after a 401 with this WWW-Authenticate; None when there is nothing.

        Raises `RegistryError` when it is nothing that we can or may do.
        """
        self._tokens.pop(access, None)
        asked = {each.scheme: each for each in reversed(challenges(header))}
        self._challenge = asked.get("bearer") or asked.get("basic")
        if self._challenge is None:
            schemes = trouble.clean(", ".join(asked)) or "nothing"
            raise RegistryError(
                f"{self._registry} wants {schemes} for authentication: only Basic and Bearer are known"
            )
        return self._answer(self._challenge, access, patience)

    @property
    def asked(self) -> bool:
        """Whether the registry has wanted to know who we are."""
        return self._challenge is not None

    def refusal(
        self,
        response: requests.Response,
        body: bytes,
        doing: str,
        thing: str = "",
        *,
        by: str = "",
    ) -> RegistryError:
        """What an answer means (`trouble.of_status`), in its own words without our secrets."""
        words = trouble.said(body)
        for secret in sorted(self._secrets, key=len, reverse=True):
            if len(secret) >= _TELLING:  # a shorter one would be told by the gaps
                words = words.replace(secret, "***")
        return trouble.of_status(
            response.status_code,
            response.headers,
            words,
            registry=self._registry,
            by=by or self._registry,
            doing=doing,
            thing=thing,
        )

    def _answer(self, challenge: Challenge, access: Access, patience: Patience) -> str | None:
        credentials = self._credentials(access.repository)
        if challenge.scheme == "basic":
            return self._secret(credentials.basic()) if credentials and credentials.username else None
        if credentials and credentials.registry_token:
            return f"Bearer {self._secret(credentials.registry_token)}"
        token, until = self._tokens.get(access, ("", 0.0))
        if time.monotonic() >= until:
            token, until = self._fetch(challenge, access, credentials, patience)
            self._tokens[access] = token, until
        return f"Bearer {self._secret(token)}"

    def _credentials(self, repository: str) -> Credentials | None:
        if repository not in self._known:
            self._known[repository] = found = self._find(repository)
            for secret in (found.password, found.identity_token) if found else ():
                self._secret(secret)
        return self._known[repository]

    def _secret(self, text: str) -> str:
        if text:
            self._secrets |= {text, text.removeprefix("Basic ")}
        return text

    def _fetch(
        self, challenge: Challenge, access: Access, credentials: Credentials | None, patience: Patience
    ) -> tuple[str, float]:
        """A token, and until when it lasts."""
        realm = challenge.parameters.get("realm", "")
        check_realm(realm, self._base)
        service = challenge.parameters.get("service", "")
        told = challenge.parameters.get("scope", "").split()
        scopes = list(dict.fromkeys([*access.scopes, *(told if access.repository else ())]))
        response = self._ask(realm, service, scopes, credentials, patience)
        if response.status_code in (401, 403) and credentials and access.reads:
            read_error(response, patience)
            emit(Warned(f"{place(realm)} refuses what is stored for {self._registry}: reading without it"))
            response = self._ask(realm, service, scopes, None, patience)
        if response.status_code != 200:
            body = read_error(response, patience)
            anybody = access.reads and not credentials
            doing = ("read", access.repository) if anybody else ("log in",)
            raise self.refusal(response, body, *doing, by=place(realm))
        return _token(read(response, patience, _LIMIT), place(realm))

    def _ask(
        self,
        realm: str,
        service: str,
        scopes: list[str],
        credentials: Credentials | None,
        patience: Patience,
    ) -> requests.Response:
        fields = [("service", service)] if service else []
        if credentials and credentials.identity_token:
            form = [*fields, ("grant_type", "refresh_token"), ("client_id", _CLIENT)]
            form += [("scope", " ".join(scopes)), ("refresh_token", credentials.identity_token)]
            kind = {"Content-Type": "application/x-www-form-urlencoded"}
            sent = urlencode(form).encode()
            response = self._http.open("POST", realm, patience, headers=kind, body=sent, follow=False)
            if response.status_code not in (404, 405):
                return response
            read_error(response, patience)
        query = urlencode([*fields, *(("scope", scope) for scope in scopes)])
        url = f"{realm}{'&' if split(realm).query else '?'}{query}" if query else realm
        basic = self._secret(credentials.basic()) if credentials else None
        return self._http.open("GET", url, patience, authorization=basic)


def _token(body: bytes, server: str) -> tuple[str, float]:
    """The token that a server gave, and until when it lasts."""
    try:
        record: Any = json.loads(body)
        token = record.get("token") or record.get("access_token")
    except (ValueError, RecursionError, AttributeError):
        record, token = {}, None
    if not isinstance(token, str) or not re.fullmatch(r"[!-~]+", token):
        raise RegistryError(f"{server} answered without a token")
    lasts = record.get("expires_in")
    seconds = float(lasts) if isinstance(lasts, int | float) and 0 < lasts < 1e6 else _LIFETIME
    return token, time.monotonic() + 0.8 * seconds  # by then it should have arrived, too
