"""`login` and `logout`: keep and delete a registry's credentials, where Docker keeps them."""

from __future__ import annotations

import shlex
import sys
from dataclasses import dataclass

from scaffold.core.events import Noted, emit, prompt, step
from scaffold.errors import RegistryError, UsageError
from scaffold.oci.reference import Reference

_PASSWORD_LIMIT = 2**16  # bytes


@dataclass(frozen=True)
class Login:
    """A login; `kept` is the file or the helper that has the password now."""

    registry: str
    username: str
    kept: str

    def summary(self) -> str:
        """The user, the registry, and where the password is."""
        return f"logged in to {self.registry} as {self.username}, password kept in {self.kept}"


@dataclass(frozen=True)
class Logout:
    """A logout; `removed` tells whether there were any credentials."""

    registry: str
    removed: bool

    def summary(self) -> str:
        """The registry."""
        return f"logged out of {self.registry}" if self.removed else f"not logged in to {self.registry}"


def login(
    registry: str, *, username: str | None = None, password_stdin: bool = False, plain_http: bool = False
) -> Login:
    """Log in to a registry. If it accepts the credentials, keep them where Docker does.

    Prompts for a missing user name or password; with `password_stdin`, the password comes from standard
    input.
    """
    name = _registry(registry)
    if password_stdin and not username:
        raise UsageError("--password-stdin needs --username", hint="add --username NAME")
    from scaffold.oci.registry import credentials

    credentials.check_place(name)  # before anything is asked
    username = username or prompt("Username")
    if not username or ":" in username or not username.isprintable():
        raise UsageError(f"{username!r} isn't a valid user name", hint="--username NAME")
    password = _read_password() if password_stdin else prompt("Password", hidden=True)
    if not password:
        command = f"scaffold login {name} --username {shlex.quote(username)} --password-stdin"
        raise UsageError("the password is empty", hint=f"pipe it into `{command}`")
    from scaffold.oci.registry.client import Client
    from scaffold.oci.registry.errors import Refused

    own = credentials.Credentials(username, password)
    with step(f"Logging in to {name}"), Client(name, credentials=own, plain_http=plain_http) as client:
        try:
            if not client.ping():
                emit(Noted(f"{name} needs no login: the password was not checked"))
        except Refused as error:
            if error.status != 401:
                raise
            message = f"{name} rejects this password for `{username}`"
            raise RegistryError(
                f"{message}: {error.text}" if error.text else message,
                hint="check both; some registries require a token instead of the password",
            ) from error
    return Login(name, username, credentials.store(name, own))


def logout(registry: str) -> Logout:
    """Delete the credentials that `login` kept."""
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
        raise UsageError(f"`{text}` isn't a valid registry", hint="write host or host:port")
    return reference.registry


def _read_password() -> str:
    raw = sys.stdin.buffer.read(_PASSWORD_LIMIT + 1) if sys.stdin else b""
    try:
        password = raw.decode().removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError:
        raise UsageError("the password on standard input isn't UTF-8") from None
    if len(raw) > _PASSWORD_LIMIT or not password.isprintable():
        raise UsageError(
            "standard input has more than a password", hint="pipe in the password, and nothing else"
        )
    return password
