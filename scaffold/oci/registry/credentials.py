"""Who we are to a registry, as Docker and Podman keep it: files of JSON, and helper programs.

Source: docker/cli, cli/config (configfile, credentials, types); docker/docker-credential-helpers;
containers/image, docs/containers-auth.json.5.md; google/go-containerregistry, pkg/authn/keychain.go.
"""

from __future__ import annotations

import base64
import binascii
import json
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scaffold.core import files, process
from scaffold.core.events import Warned, emit
from scaffold.errors import MachineError
from scaffold.oci.reference import DOCKER_HUB

_DOCKER_HUB_KEY = "https://index.docker.io/v1/"
_DOCKER_HUB_HOSTS = (DOCKER_HUB, "index.docker.io", "registry-1.docker.io")
_TOKEN_USER = "<token>"  # noqa: S105 - the name under which a helper keeps an identity token
_HELPER_SECONDS = 120.0  # it may have to ask for a passphrase
_NOT_FOUND = "credentials not found"


@dataclass(frozen=True)
class Credentials:
    """A name and a password, or a token: to get tokens with (`identity_token`), or to send as it is."""

    username: str = ""
    password: str = field(default="", repr=False)
    identity_token: str = field(default="", repr=False)
    registry_token: str = field(default="", repr=False)

    def basic(self) -> str:
        """As Authorization has it."""
        username = self.username or _TOKEN_USER
        return "Basic " + _encoded(f"{username}:{self.password or self.identity_token}")


def _encoded(text: str) -> str:
    return base64.b64encode(text.encode()).decode()


def find(registry: str, repository: str = "") -> Credentials | None:
    """Who we are to a registry, and there to a repository; None when nobody logged in.

    What can't be read is warned about, and counts as absent.
    """
    for path in _places():
        try:
            record = _read(path)
        except MachineError as error:
            emit(Warned(f"{error.message}: the credentials in it aren't used"))
            continue
        found = _of_helpers(path, record, registry) or _of_entries(path, record, registry, repository)
        if found:
            return found
    return None


def store(registry: str, credentials: Credentials) -> str:
    """Keep a name and a password where Docker does; returns the helper, or the file, that has them now.

    Raises `MachineError` when the helper refuses, or the file can't be read: it is never overwritten then.
    """
    path = _docker_config()
    with files.lock(files.state_dir() / "credentials.lock", doing="logging in or out"):
        record = _read(path)
        helper = _helper(record, registry)
        if helper:
            told = {
                "ServerURL": _key(registry),
                "Username": credentials.username,
                "Secret": credentials.password,
            }
            _ask(helper, "store", json.dumps(told))
        entry = {} if helper else {"auth": _encoded(f"{credentials.username}:{credentials.password}")}
        auths = _without(record, registry) | {_key(registry): entry}
        _write(path, record | {"auths": auths})
    return f"docker-credential-{helper}" if helper else str(path)


def erase(registry: str) -> bool:
    """Forget what `store` kept; whether there was anything."""
    path = _docker_config()
    with files.lock(files.state_dir() / "credentials.lock", doing="logging in or out"):
        record = _read(path)
        helper = _helper(record, registry)
        kept = helper and _get(helper, registry)
        if helper and kept:
            _ask(helper, "erase", _key(registry))
        auths = _without(record, registry)
        changed = auths != record.get("auths", {})
        if changed:
            _write(path, record | {"auths": auths})
    return bool(kept or changed)


def _places() -> Iterator[Path]:
    """Where credentials may be, the most telling first; only files that are there."""
    names = [_docker_config()]
    if named := os.environ.get("REGISTRY_AUTH_FILE"):
        names.append(Path(named))
    if runtime := os.environ.get("XDG_RUNTIME_DIR"):
        names.append(Path(runtime) / "containers/auth.json")
    config = os.environ.get("XDG_CONFIG_HOME")
    names.append((Path(config) if config else _home() / ".config") / "containers/auth.json")
    return (path for path in names if path.is_file())


def _docker_config() -> Path:
    folder = os.environ.get("DOCKER_CONFIG")
    return (Path(folder) if folder else _home() / ".docker") / "config.json"


def _home() -> Path:
    return Path(os.path.expanduser("~"))  # noqa: PTH111 - Path.home() raises where there is none


def _read(path: Path) -> dict[str, Any]:
    """A file's record; an empty one when it isn't there. Raises `MachineError` when it can't be read."""
    try:
        text = path.read_bytes()
        record = json.loads(text) if text.strip() else {}
    except FileNotFoundError:
        return {}
    except OSError as error:
        raise MachineError(f"cannot read {path}: {error.strerror}") from error
    except (ValueError, RecursionError):  # whose own words might show what is in it
        raise MachineError(f"{path} isn't JSON", hint="mend it, or move it away") from None
    if not isinstance(record, dict) or not all(isinstance(_table(record, key), dict) for key in _TABLES):
        raise MachineError(f"{path} isn't as Docker writes it", hint="mend it, or move it away")
    return record


_TABLES = ("auths", "credHelpers")


def _table(record: dict[str, Any], key: str) -> Any:
    return record.get(key) or {}


def _write(path: Path, record: dict[str, Any]) -> None:
    path = path.resolve()  # a link stays one
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    files.write(path, json.dumps(record, indent="\t") + "\n", mode=0o600)


def _key(registry: str) -> str:
    return _DOCKER_HUB_KEY if registry == DOCKER_HUB else registry


def _name(key: str) -> str:
    """A key as a name: Docker's may be URLs, of which the host counts; Podman's may hold a repository."""
    scheme, _, rest = key.rpartition("://")
    host, slash, path = rest.rstrip("/").partition("/")
    host = DOCKER_HUB if host.lower() in _DOCKER_HUB_HOSTS else host.lower()
    return host if scheme or path in ("v1", "v2") else f"{host}{slash}{path}"


def _without(record: dict[str, Any], registry: str) -> dict[str, Any]:
    return {key: entry for key, entry in _table(record, "auths").items() if _name(key) != _name(registry)}


def _helper(record: dict[str, Any], registry: str) -> str:
    """The name of the helper that keeps a registry's credentials; "" when the file itself does."""
    return next(_helpers(record, registry), "")


def _helpers(record: dict[str, Any], registry: str) -> Iterator[str]:
    named = [one for key, one in _table(record, "credHelpers").items() if _name(key) == _name(registry)]
    for helper in (*named, record.get("credsStore")):
        if isinstance(helper, str) and re.fullmatch(r"[A-Za-z0-9._-]+", helper):
            yield helper


def _of_helpers(path: Path, record: dict[str, Any], registry: str) -> Credentials | None:
    for helper in _helpers(record, registry):
        try:
            found = _get(helper, registry)
        except MachineError as error:
            emit(Warned(f"{path} names a helper that doesn't help: {error.message}"))
            continue
        if found:
            return found
    return None


def _get(helper: str, registry: str) -> Credentials | None:
    ran = _run(helper, "get", _key(registry))
    if ran.code != 0 and _NOT_FOUND in f"{ran.stdout}{ran.stderr}":
        return None
    if ran.code != 0:
        raise _failed(helper, "get", ran)
    try:
        answer = json.loads(ran.stdout)
        username, secret = answer["Username"], answer["Secret"]
    except (ValueError, RecursionError, KeyError, TypeError):
        raise MachineError(f"docker-credential-{helper} get didn't print credentials") from None
    if not isinstance(username, str) or not isinstance(secret, str) or not secret:
        return None
    return Credentials(identity_token=secret) if username == _TOKEN_USER else Credentials(username, secret)


def _ask(helper: str, verb: str, told: str) -> None:
    ran = _run(helper, verb, told)
    if ran.code != 0:
        raise _failed(helper, verb, ran)


def _run(helper: str, verb: str, told: str) -> process.Completed:
    return process.run(
        [f"docker-credential-{helper}", verb], input=told, timeout=_HELPER_SECONDS, guarded=True
    )


def _failed(helper: str, verb: str, ran: process.Completed) -> MachineError:
    line = next(iter((ran.stderr.strip() or ran.stdout.strip()).splitlines()), f"it exited with {ran.code}")
    words = "".join(each for each in line if each.isprintable())[:200]
    return MachineError(f"docker-credential-{helper} {verb} failed: {words}")


def _of_entries(path: Path, record: dict[str, Any], registry: str, repository: str) -> Credentials | None:
    """The entry of the longest name that the repository begins with; of several, the first that tells."""
    entries = {_name(key): entry for key, entry in reversed(_table(record, "auths").items())}
    parts = [_name(registry), *filter(None, repository.split("/"))]
    for length in range(len(parts), 0, -1):
        name = "/".join(parts[:length])
        try:
            found = _entry(entries.get(name) or {})
        except (ValueError, AttributeError):
            emit(Warned(f"the entry of {name} in {path} can't be read, and isn't used"))
            continue
        if found:
            if path.stat().st_mode & 0o004:
                emit(
                    Warned(f"anybody on this machine can read the credentials in {path}: `chmod 600 {path}`")
                )
            return found
    return None


def _entry(entry: dict[str, Any]) -> Credentials | None:
    """Read an entry; None for one that leads to a helper. Raises `ValueError` or `AttributeError`."""
    told = {key: entry.get(key) or "" for key in ("username", "password", "identitytoken", "registrytoken")}
    if not all(isinstance(value, str) for value in told.values()):
        raise ValueError
    if auth := entry.get("auth"):
        told["username"], colon, told["password"] = _decoded(auth).partition(":")
        if not colon:
            raise ValueError
    found = Credentials(told["username"], told["password"], told["identitytoken"], told["registrytoken"])
    usable = found.password or found.identity_token or found.registry_token
    return found if usable else None


def _decoded(auth: Any) -> str:
    if not isinstance(auth, str):
        raise ValueError
    try:
        return base64.b64decode(auth, validate=True).decode().rstrip("\0")
    except binascii.Error as error:
        raise ValueError from error
