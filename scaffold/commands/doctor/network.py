"""The network: proxies, and whether they or the configured mirrors answer. Nothing is downloaded."""

from __future__ import annotations

import os
import re
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import SplitResult, urlsplit

from scaffold.commands.doctor.finding import Finding, Scope
from scaffold.project.cargo_toml import read_config, table
from scaffold.toolchain.debian.install import MIRROR

_SECONDS = 1.0
_PROXIES = ("https_proxy", "http_proxy", "all_proxy")
_OFFLINE = "connect to a network, or build from cargo's cache: export CARGO_NET_OFFLINE=true"


def check(scope: Scope) -> list[Finding]:
    """Whether the network can be reached, and whether a proxy would get the requests to localhost."""
    proxies = list(_proxies())
    return [_outside(proxies, scope.root), *_localhost(proxies)]


def _outside(proxies: list[tuple[str, str]], root: Path) -> Finding:
    """At most a warning: everything may have been downloaded before."""
    why = f"nothing can be downloaded; {_crates()}"
    places = [(f"${name}", url) for name, url in proxies] or list(_mirrors(root))
    for name, url in places:
        error = _connection_error(url)
        if error:
            remedy = f"unset {name[1:]}, or correct it" if name.startswith("$") else _OFFLINE
            return Finding("network", "warning", f"{name}, {_shown(url)}: {error}", why, remedy)
    if places:
        return Finding("network", "ok", ", ".join(f"{name}, {_shown(url)}, answers" for name, url in places))
    if not _is_up():
        return Finding("network", "warning", "only the loopback is up", why, _OFFLINE)
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
    home = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
    for folder in (root / ".cargo", home):
        for source in table(read_config(folder / "config.toml"), "source").values():
            url = source.get("registry") if isinstance(source, dict) else None
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


def _crates() -> str:
    home = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
    count = sum(1 for _ in home.glob("registry/cache/*/*.crate"))
    return f"cargo has {count} crates in its cache" if count else "cargo's cache is empty"
