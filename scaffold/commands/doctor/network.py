"""The way out: proxies, and whether they or the configured mirrors answer. Nothing is downloaded."""

from __future__ import annotations

import os
import re
import socket
import threading
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import SplitResult, urlsplit

from scaffold.commands.doctor.finding import Finding, Patient
from scaffold.toolchain.debian.install import MIRROR

_SECONDS = 1.0
_PROXIES = ("https_proxy", "http_proxy", "all_proxy")
_OFFLINE = "connect to one, or to build from the cache: export CARGO_NET_OFFLINE=true"


def look(patient: Patient) -> list[Finding]:
    """Whether there is a way out, and whether what talks with ourselves stays inside."""
    proxies = list(_proxies())
    return [_way_out(proxies, patient.root), *_stays_inside(proxies)]


def _way_out(proxies: list[tuple[str, str]], root: Path) -> Finding:
    """A network is no must: all may have been downloaded before."""
    why = f"what isn't here yet can't be downloaded; {_crates()}"
    places = [(f"${name}", url) for name, url in proxies] or list(_mirrors(root))
    for what, url in places:
        refused = _refusal(url)
        if refused:
            remedy = f"unset {what[1:]}, or mend it" if what.startswith("$") else _OFFLINE
            return Finding("network", "warning", f"{what}, {_shown(url)}: {refused}", why, remedy)
    if places:
        return Finding("network", "ok", ", ".join(f"{what}, {_shown(url)}, answers" for what, url in places))
    if not _is_up():
        return Finding("network", "warning", "nothing but the loopback is up", why, _OFFLINE)
    return Finding("network", "ok", "up, without a proxy; no mirror is configured that could be asked")


def _stays_inside(proxies: list[tuple[str, str]]) -> Iterator[Finding]:
    """Where there is a proxy, `curl localhost:8080` must not go there."""
    if not proxies:
        return
    value = os.environ.get("no_proxy") or os.environ.get("NO_PROXY") or ""
    excepted = re.split(r"[,\s]+", value.strip())
    if "localhost" in excepted or "*" in excepted:
        yield Finding("no_proxy", "ok", value)
        return
    found = f"{value} (without localhost)" if value else "not set, though there is a proxy"
    wanted = ",".join(filter(None, [value, "localhost,127.0.0.1,::1"]))
    why = "curl would ask the proxy for localhost"
    yield Finding("no_proxy", "warning", found, why, f"export no_proxy={wanted}")


def _proxies() -> Iterator[tuple[str, str]]:
    """The proxies of the environment, each once: the variable, and the URL."""
    seen = set()
    for name in _PROXIES:
        for spelled in (name, name.upper()):
            url = os.environ.get(spelled)
            if url and url not in seen:
                seen.add(url)
                yield spelled, url


def _mirrors(root: Path) -> Iterator[tuple[str, str]]:
    """The mirrors that this machine's settings name: cargo's, and the toolchain's."""
    home = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
    for folder in (root / ".cargo", home):
        sources = _table(folder / "config.toml").get("source", {})
        for source in sources.values() if isinstance(sources, dict) else ():
            url = source.get("registry") if isinstance(source, dict) else None
            if isinstance(url, str):
                yield "cargo's mirror", url.removeprefix("sparse+")
    if os.environ.get(MIRROR):
        yield f"${MIRROR}", os.environ[MIRROR]


def _table(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (OSError, ValueError):  # cargo will say what is wrong with it
        return {}


def _is_up() -> bool:
    """Whether any network but the loopback is up."""
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


def _refusal(url: str) -> str | None:
    """Why nothing answers at a URL's port; None when something does. No name service is waited for."""
    parts = _parts(url)
    if parts.scheme in ("file", "copy"):
        return None if Path(parts.path).is_dir() else "there is no such folder"
    said = [f"no answer within {_SECONDS:g} s"]

    def ask() -> None:
        try:
            port = parts.port or {"https": 443, "http": 80}.get(parts.scheme, 1080)
            socket.create_connection((parts.hostname or "", port), timeout=_SECONDS).close()
            said.clear()
        except (OSError, ValueError) as error:
            said[0] = getattr(error, "strerror", None) or str(error)

    asking = threading.Thread(target=ask, daemon=True)
    asking.start()
    asking.join(_SECONDS)
    return said[0] if said else None


def _parts(url: str) -> SplitResult:
    """A URL taken apart; a proxy may be written without its scheme."""
    return urlsplit(url if "://" in url or url.startswith(("file:", "copy:")) else f"http://{url}")


def _shown(url: str) -> str:
    """A URL without the name and the password that may be in it."""
    head, at, tail = url.rpartition("@")
    return f"{head.partition('://')[0]}://***@{tail}" if at and "://" in head else tail


def _crates() -> str:
    home = Path(os.environ.get("CARGO_HOME") or Path.home() / ".cargo")
    count = sum(1 for _ in home.glob("registry/cache/*/*.crate"))
    return f"cargo has {count} crates in its cache" if count else "cargo's cache is empty"
