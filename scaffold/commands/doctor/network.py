"""The network: proxies, and whether they or the configured mirrors answer. Nothing is downloaded."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from scaffold.commands.doctor.finding import Finding, Scope, State
from scaffold.project.cargo_toml import read_config, table
from scaffold.toolchain.debian.packages import MIRROR

_SECONDS = 1.0
_PROXIES = ("https_proxy", "http_proxy", "all_proxy")
_CONNECT = "connect to a network"


def check(scope: Scope) -> list[Finding]:
    """Whether the network can be reached, and whether a proxy would get the requests to localhost."""
    proxies = list(_proxies())
    return [_outside(proxies, scope.root), *_localhost(proxies)]


def _outside(proxies: list[tuple[str, str]], root: Path) -> Finding:
    """A warning: everything may have been downloaded before. Without any crate, no plugin can be built."""
    count = _crates()
    empty = not count and not _vendored(root)
    crates = f"cargo has {count} crates in its cache" if count else "cargo's cache is empty"
    why = f"no crate can be downloaded, and {crates}" if empty else f"nothing can be downloaded; {crates}"
    state: State = "failed" if empty else "warning"
    offline = _CONNECT if empty else f"{_CONNECT}, or build from cargo's cache: export CARGO_NET_OFFLINE=true"
    places = [(f"${name}", url) for name, url in proxies] or list(_mirrors(root))
    for name, url in places:
        error = _connection_error(url)
        if error:
            remedy = f"unset {name[1:]}, or correct it" if name.startswith("$") else offline
            # toolchains come from there, crates from elsewhere
            here: State = "warning" if name == f"${MIRROR}" else state
            return Finding("network", here, f"{name}, {_shown(url)}: {error}", why, remedy)
    if places:
        return Finding("network", "ok", ", ".join(f"{name}, {_shown(url)}, answers" for name, url in places))
    if not _is_up():
        return Finding("network", state, "only the loopback is up", why, offline)
    return Finding("network", "ok", "up; no proxy or mirror is configured to check")


def _localhost(proxies: list[tuple[str, str]]) -> Iterator[Finding]:
    """With a proxy, no_proxy must contain localhost, so that `curl localhost:8080` doesn't go there."""
    if not proxies:
        return
    value = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    exceptions = re.split(r"[,\s]+", value.strip())
    if "localhost" in exceptions or "*" in exceptions:
        yield Finding("no_proxy", "ok", value)
        return
    detail = f"{value} (without localhost)" if value else "not set, though there is a proxy"
    wanted = ",".join(filter(None, [value, "localhost,127.0.0.1,::1"]))
    why = "curl sends requests for localhost to the proxy"
    yield Finding("no_proxy", "warning", detail, why, f"export no_proxy={wanted}")


def _proxies() -> Iterator[tuple[str, str]]:
    """The proxies in the environment, each once, as (variable, URL)."""
    seen = set()
    for name in _PROXIES:
        for spelled in (name, name.upper()):
            url = os.environ.get(spelled)
            if url and url not in seen:
                seen.add(url)
                yield spelled, url


def _mirrors(root: Path) -> Iterator[tuple[str, str]]:
    """The mirrors that this machine's settings name, cargo's and the toolchain's, as (name, URL)."""
    for folder in (root / ".cargo", _cargo_home()):
        for source in _sources(folder):
            url = source.get("registry")
            if isinstance(url, str):
                yield "cargo's mirror", url.removeprefix("sparse+")
    if os.environ.get(MIRROR):
        yield f"${MIRROR}", os.environ[MIRROR]


def _is_up() -> bool:
    """Whether any network other than the loopback is up."""
    import psutil

    states, loopback = psutil.net_if_stats(), ("127.", "::1", "fe80:")
    return any(
        address.family in (socket.AF_INET, socket.AF_INET6)
        and not address.address.startswith(loopback)
        and name in states
        and states[name].isup
        for name, addresses in psutil.net_if_addrs().items()
        for address in addresses
    )


def _connection_error(url: str) -> str | None:
    """Why nothing answers at a URL's port within a second, name resolution included; None when it does."""
    parts = _parts(url)
    if parts.scheme in ("file", "copy"):
        return None if Path(parts.path).is_dir() else "there is no such folder"
    errors = [f"no answer within {_SECONDS:g} s"]

    def connect() -> None:
        try:
            port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 1080)
            socket.create_connection((parts.hostname or "", port), timeout=_SECONDS).close()
            errors.clear()
        except (OSError, ValueError) as error:
            errors[0] = getattr(error, "strerror", None) or str(error)

    thread = threading.Thread(target=connect, daemon=True)
    thread.start()
    thread.join(_SECONDS)
    return errors[0] if errors else None


def _parts(url: str) -> SplitResult:
    """The parts of a URL; a proxy's may lack its scheme."""
    return urlsplit(url if "://" in url or url.startswith(("file:", "copy:")) else f"http://{url}")


def _shown(url: str) -> str:
    """A URL with its credentials hidden."""
    head, at, tail = url.rpartition("@")
    return f"{head.partition('://')[0]}://***@{tail}" if at and "://" in head else tail


def _crates() -> int:
    """How many crates cargo has in its cache."""
    return sum(1 for _ in _cargo_home().glob("registry/cache/*/*.crate"))


def _vendored(root: Path) -> bool:
    """Whether cargo takes crates from a folder, as `cargo vendor` sets it up."""
    sources = [source for folder in (root / ".cargo", _cargo_home()) for source in _sources(folder)]
    return any("directory" in source or "local-registry" in source for source in sources)


def _sources(folder: Path) -> Iterator[dict[str, Any]]:
    for source in table(read_config(folder / "config.toml"), "source").values():
        if isinstance(source, dict):
            yield source


def _cargo_home() -> Path:
    return Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
