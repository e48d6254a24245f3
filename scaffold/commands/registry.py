"""Registries: what is there, and who we are to them."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass

from scaffold.core.events import Noted, emit, prompt, step
from scaffold.errors import RegistryError, UsageError
from scaffold.oci.reference import Reference

_SIGNATURE = re.compile(r"sha256-[0-9a-f]{64}(\.(sig|att|sbom))?")
_PASSWORD_LIMIT = 2**16  # bytes


@dataclass(frozen=True)
class Login:
    """Who logged in; `kept` is the file that has the password now, or the helper."""

    registry: str
    username: str
    kept: str

    def summary(self) -> str:
        """Who, where."""
        return f"logged in to {self.registry} as {self.username}, kept in {self.kept}"


@dataclass(frozen=True)
class Logout:
    """`removed` says whether there was anything to forget."""

    registry: str
    removed: bool

    def summary(self) -> str:
        """Where."""
        return (
            f"logged out of {self.registry}" if self.removed else f"nobody was logged in to {self.registry}"
        )


def tags(repository: str, *, plain_http: bool = False) -> list[str]:
    """The tags of a remote repository, sorted; those of signatures are left out."""
    reference = Reference.parse(repository)
    if reference.local:
        raise UsageError(f"`{repository}` names no registry", hint="write it as REGISTRY/NAME")
    from scaffold.oci.registry.client import Client

    with Client(reference.registry, plain_http=plain_http) as client:
        found = [tag for tag in client.tags(reference.repository) if not _SIGNATURE.fullmatch(tag)]
    if not found:
        emit(Noted(f"{reference.name} has no tags"))
    return found


def login(
    registry: str, *, username: str | None = None, password_stdin: bool = False, plain_http: bool = False
) -> Login:
    """Log in to a registry: once it has let us in, name and password are kept as Docker keeps them.

    What isn't given is asked for; with `password_stdin` the password is read from standard input.
    """
    name = _registry(registry)
    if password_stdin and not username:
        raise UsageError("--password-stdin leaves nobody to ask for the name", hint="add --username NAME")
    username = username or prompt("Username")
    if not username or ":" in username or not username.isprintable():
        raise UsageError(f"{username!r} is no username", hint="--username NAME")
    password = _read_password() if password_stdin else prompt("Password", hidden=True)
    if not password:
        raise UsageError("there is no password", hint="pipe it into `scaffold login --password-stdin`")
    from scaffold.oci.registry import credentials
    from scaffold.oci.registry.client import Client
    from scaffold.oci.registry.errors import Refused

    found = credentials.Credentials(username, password)
    with step(f"Logging in to {name}"), Client(name, credentials=found, plain_http=plain_http) as client:
        try:
            if not client.ping():
                emit(Noted(f"{name} lets anybody in: the password was not tried"))
        except Refused as error:
            if error.status != 401:
                raise
            message = f"{name} doesn't let `{username}` in with that password"
            raise RegistryError(
                f"{message}: {error.text}" if error.text else message,
                hint="are both typed right? some registries want a token in the place of the password",
            ) from error
    kept = credentials.store(name, found)
    return Login(name, username, kept)


def logout(registry: str) -> Logout:
    """Forget the name and the password that `login` kept."""
    from scaffold.oci.registry import credentials

    name = _registry(registry)
    removed = credentials.erase(name)
    if credentials.find(name):
        emit(Noted(f"another file still has credentials for {name}: `podman logout {name}`"))
    return Logout(name, removed)


def _registry(text: str) -> str:
    """A registry's name as references have it, however it was typed. Raises `UsageError`."""
    name = (text.partition("://")[2] or text).rstrip("/").lower()
    reference = Reference.parse(f"{name}/x")
    if reference.repository.removeprefix("library/") != "x":
        raise UsageError(f"`{text}` is no registry", hint="write host or host:port")
    return reference.registry


def _read_password() -> str:
    raw = sys.stdin.buffer.read(_PASSWORD_LIMIT + 1) if sys.stdin else b""
    try:
        password = raw.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise UsageError("the password on standard input isn't UTF-8") from None
    if len(raw) > _PASSWORD_LIMIT or not password.isprintable():
        raise UsageError("what is on standard input is no password", hint="pipe it in, and nothing else")
    return password
