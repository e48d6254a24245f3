"""Credentials for registries, where Docker and Podman keep them: JSON files, and helper programs.

Source: docker/cli, cli/config (configfile, credentials, types); docker/docker-credential-helpers;
containers/image, docs/containers-auth.json.5.md; google/go-containerregistry, pkg/authn/keychain.go.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
import shlex
import shutil
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scaffold.core import files, foreign_files, locks, process
from scaffold.core.events import Warned, emit
from scaffold.core.host_names import DOCKER_HUB
from scaffold.core.text import one_line
from scaffold.errors import MachineError

_DOCKER_HUB_KEY = "https://index.docker.io/v1/"
_DOCKER_HUB_HOSTS = (DOCKER_HUB, "index.docker.io", "registry-1.docker.io")
_TOKEN_USER = "<token>"  # noqa: S105 - the user name of an identity token in a helper
_HELPER_SECONDS = 120.0  # it may ask for a passphrase
_NOT_FOUND = "credentials not found"


@dataclass(frozen=True)
class Credentials:
    """A name and a password, or a token: to get tokens with (`identity_token`), or to send as it is."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    def basic(self) -> str:
        """The value of the Authorization header."""
        username = self.username or _TOKEN_USER
        return "Basic " + _encoded(f"{username}:{self.password or self.identity_token}")


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def find(registry: str, repository: str = "") -> Credentials | None:
    """The credentials for a repository of a registry; None when nobody is logged in.

    A file that can't be read gives a warning, and counts as absent.
    """
    for path in _files():
        try:
            record = _read(path)
        except MachineError as error:
            emit(Warned(f"{error.message}: its credentials aren't used"))
            continue
        credentials = _from_helpers(path, record, registry) or _from_entries(
            path, record, registry, repository
        )
        if credentials:
            return credentials
    return None


def check_place(registry: str) -> None:
    """Raise `MachineError` if `store` couldn't keep a registry's credentials: its helper isn't there."""
    path = _docker_config()
    if helper := _helper(path, _read(path), registry):
        helper.check()


def store(registry: str, credentials: Credentials) -> str:
    """Keep a name and a password where Docker does; returns the name of the helper or the file.

    Raises `MachineError` when the helper refuses, or the file can't be read, which is left alone then.
    """
    path = _docker_config()
    with locks.lock(files.state_dir() / "credentials.lock", doing="logging in or out"):
        record = _read(path)
        helper = _helper(path, record, registry)
        if helper:
            request = {
                "ServerURL": _key(registry),
                "Username": credentials.username,
                "Secret": credentials.password,
            }
            helper.command("store", json.dumps(request))
        entry = {} if helper else {"auth": _encoded(f"{credentials.username}:{credentials.password}")}
        auths = _without(record, registry) | {_key(registry): entry}
        _write(path, record | {"auths": auths})
    return helper.program if helper else str(path)


def erase(registry: str) -> bool:
    """Delete what `store` kept; returns whether there was anything."""
    path = _docker_config()
    with locks.lock(files.state_dir() / "credentials.lock", doing="logging in or out"):
        record = _read(path)
        helper = _helper(path, record, registry)
        in_helper = helper is not None and helper.get(registry) is not None
        if helper and in_helper:
            helper.command("erase", _key(registry))
        auths = _without(record, registry)
        changed = auths != record.get("auths", {})
        if changed:
            _write(path, record | {"auths": auths})
    return in_helper or changed


def _files() -> Iterator[Path]:
    """The existing files that may hold credentials, the most specific one first."""
    paths = [_docker_config()]
    if auth_file := os.environ.get("REGISTRY_AUTH_FILE"):
        paths.append(Path(auth_file))
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        paths.append(Path(runtime) / "containers/auth.json")
    config = os.environ.get("XDG_CONFIG_HOME")
    paths.append((Path(config) if config else _home() / ".config") / "containers/auth.json")
    return (path for path in paths if path.is_file())


def _docker_config() -> Path:
    folder = os.environ.get("DOCKER_CONFIG")
    return (Path(folder) if folder else _home() / ".docker") / "config.json"


def _home() -> Path:
    return Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() raises without one


def _read(path: Path) -> dict[str, Any]:
    """The JSON object in a file; an empty one without the file. Raises `MachineError` if it can't be read."""
    try:
        text = foreign_files.read_bytes(path)
        record = json.loads(text) if text.strip() else {}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise MachineError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError):  # whose text might show a secret
        raise MachineError(f"{path} isn't JSON", hint="repair it, or move it away") from None
    if not isinstance(record, dict) or not all(isinstance(_table(record, key), dict) for key in _TABLES):
        raise MachineError(f"{path} isn't in Docker's format", hint="repair it, or move it away")
    return record


_TABLES = ("auths", "credHelpers")


def _table(record: dict[str, Any], key: str) -> Any:
    return record.get(key) or {}


def _write(path: Path, record: dict[str, Any]) -> None:
    path = path.resolve()  # a symbolic link stays one
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.write(path, json.dumps(record, indent="\t") + "\n", mode=0o600)


def _key(registry: str) -> str:
    return _DOCKER_HUB_KEY if registry == DOCKER_HUB else registry


def _name(key: str) -> str:
    """The registry (and repository) that a key names: Docker's keys may be URLs, Podman's may have a path."""
    scheme, _, rest = key.rpartition("://")
    host, slash, path = rest.rstrip("/").partition("/")
    host = DOCKER_HUB if host.lower() in _DOCKER_HUB_HOSTS else host.lower()
    return host if scheme or path in ("v1", "v2") else f"{host}{slash}{path}"


def _without(record: dict[str, Any], registry: str) -> dict[str, Any]:
    return {key: entry for key, entry in _table(record, "auths").items() if _name(key) != _name(registry)}


@dataclass(frozen=True)
class _Helper:
    """A program that keeps credentials; the setting `key` of the file `path` names it."""

    name: str
    path: Path
    key: str

    @property
    def program(self) -> str:
        """Its name on PATH."""
        return f"docker-credential-{self.name}"

    def check(self) -> None:
        """Raise `MachineError` if it isn't there, as on a machine that got another one's file."""
        if shutil.which(self.program) is None:
            raise MachineError(
                f"{self.path} names the credential helper {self.name} ({self.key}),"
                f" but there is no program {self.program} on PATH",
                hint=f"install it, or remove {self.key} from {self.path},"
                " or have another folder for such files: export DOCKER_CONFIG=FOLDER",
            )

    def get(self, registry: str) -> Credentials | None:
        """What it has for a registry. Raises `MachineError`, like the others here."""
        completed = self._run("get", _key(registry))
        if completed.code != 0 and _NOT_FOUND in f"{completed.stdout}{completed.stderr}":
            return None
        if completed.code != 0:
            raise self._failed("get", completed)
        try:
            answer = json.loads(completed.stdout)
            username, secret = answer["Username"], answer["Secret"]
        except (ValueError, RecursionError, KeyError, TypeError):
            raise MachineError(f"{self.program} get didn't print credentials", hint=self._way_out) from None
        if not isinstance(username, str) or not isinstance(secret, str) or not secret:
            return None
        token = username == _TOKEN_USER
        return Credentials(identity_token=secret) if token else Credentials(username, secret)

    def command(self, verb: str, request: str) -> None:
        """Have it `store` or `erase` something."""
        completed = self._run(verb, request)
        if completed.code != 0:
            raise self._failed(verb, completed)

    def _run(self, verb: str, request: str) -> process.Completed:
        self.check()
        return process.run([self.program, verb], input=request, timeout=_HELPER_SECONDS, guarded=True)

    def _failed(self, verb: str, completed: process.Completed) -> MachineError:
        output = completed.stderr.strip() or completed.stdout.strip()
        line = next(iter(output.splitlines()), f"it exited with {completed.code}")
        return MachineError(f"{self.program} {verb} failed: {one_line(line)}", hint=self._way_out)

    @property
    def _way_out(self) -> str:
        return f"repair the helper, or remove {self.key} from {self.path}, which names it"


def _helper(path: Path, record: dict[str, Any], registry: str) -> _Helper | None:
    """The helper that keeps a registry's credentials; None if the file itself does."""
    return next(_helpers(path, record, registry), None)


def _helpers(path: Path, record: dict[str, Any], registry: str) -> Iterator[_Helper]:
    named = [
        (f"`{key}` in credHelpers", helper)
        for key, helper in _table(record, "credHelpers").items()
        if _name(key) == _name(registry)
    ]
    for key, helper in (*named, ("credsStore", record.get("credsStore"))):
        if isinstance(helper, str) and re.fullmatch(r"[A-Za-z0-9._-]+", helper):
            yield _Helper(helper, path, key)


def _from_helpers(path: Path, record: dict[str, Any], registry: str) -> Credentials | None:
    for helper in _helpers(path, record, registry):
        try:
            credentials = helper.get(registry)
        except MachineError as error:
            emit(Warned("; ".join(filter(None, [error.message, error.hint]))))
            continue
        if credentials:
            return credentials
    return None


def _from_entries(path: Path, record: dict[str, Any], registry: str, repository: str) -> Credentials | None:
    """The entry with the longest key that the repository's name begins with."""
    entries = {_name(key): entry for key, entry in reversed(_table(record, "auths").items())}
    parts = [_name(registry), *filter(None, repository.split("/"))]
    for length in range(len(parts), 0, -1):
        name = "/".join(parts[:length])
        try:
            credentials = _entry(entries.get(name) or {})
        except (ValueError, AttributeError):
            emit(Warned(f"the entry for {name} in {path} can't be read, and isn't used"))
            continue
        if credentials:
            if path.stat().st_mode & 0o004:
                emit(
                    Warned(
                        f"every user of this machine can read the credentials in {path}:"
                        f" `chmod 600 {shlex.quote(str(path))}`"
                    )
                )
            return credentials
    return None


def _entry(entry: dict[str, Any]) -> Credentials | None:
    """Read an entry; None if it leaves the secret to a helper. Raises `ValueError` or `AttributeError`."""
    keys = ("username", "password", "identitytoken", "registrytoken")
    username, password, *tokens = (entry.get(key) or "" for key in keys)
    if not all(isinstance(value, str) for value in (username, password, *tokens)):
        raise ValueError
    if auth := entry.get("auth"):
        username, colon, password = _decoded(auth).partition(":")
        if not colon:
            raise ValueError
    return Credentials(username, password, *tokens) if password or any(tokens) else None


def _decoded(auth: Any) -> str:
    if not isinstance(auth, str):
        raise ValueError
    try:
        return base64.b64decode(auth, validate=True).decode().rstrip("\0")
    except binascii.Error as error:
        raise ValueError from error
