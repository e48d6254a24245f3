"""The machine itself: Python, the operating system and its C library, the loopback and the port."""

from __future__ import annotations

import os
import platform
import socket
import sys
from contextlib import closing

from scaffold.commands.doctor.finding import Finding, Scope
from scaffold.core import process
from scaffold.core.versions import Version
from scaffold.hosts.background import deployments
from scaffold.hosts.options import default_port

OLDEST_PYTHON = Version((3, 11))
OLDEST_GLIBC = Version((2, 31))  # Envoy's wheel is manylinux_2_31
_HOSTS_LINE = "echo 127.0.0.1 localhost | sudo tee -a /etc/hosts"
_MACHINES = {"linux": ("x86_64", "aarch64"), "darwin": ("arm64",)}  # for which Envoy's wheel exists


def check(_scope: Scope) -> list[Finding]:
    """Python and the system."""
    libc = _libc() if sys.platform == "linux" else ""
    return [python(sys.version_info[:3], sys.executable), system(sys.platform, platform.machine(), libc)]


def python(version: tuple[int, ...], executable: str) -> Finding:
    """Whether this version of Python is new enough."""
    detail = f"{Version(version)}, {executable}"
    if version >= OLDEST_PYTHON:
        return Finding("python", "ok", detail)
    return Finding(
        "python",
        "failed",
        f"{detail}: older than {OLDEST_PYTHON}",
        "scaffold needs a newer one",
        f"python{OLDEST_PYTHON} -m venv .venv && .venv/bin/pip install proxy-wasm-scaffold",
    )


def system(kind: str, machine: str, libc: str) -> Finding:
    """Whether Envoy is built for this kind of machine; `libc` as "glibc 2.36", or "musl"."""
    detail = " ".join(filter(None, (kind, machine, libc)))
    why = "plugins can be built here, but Envoy isn't available to run them"
    if machine not in _MACHINES.get(kind, ()):
        known = ", ".join(f"{system} on {'/'.join(names)}" for system, names in _MACHINES.items())
        return Finding("system", "failed", f"{detail}: Envoy isn't built for it", why, f"use {known}")
    if kind == "linux" and (not libc.startswith("glibc") or Version.find(libc) < OLDEST_GLIBC):
        needed = f"glibc {OLDEST_GLIBC}"
        remedy = (
            f"use a system with {needed} or later, such as Debian 11 or Ubuntu 20.04, or a container of one"
        )
        return Finding("system", "failed", f"{detail}: Envoy needs {needed}", why, remedy)
    return Finding("system", "ok", detail)


def _libc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or "no glibc"
    except (ValueError, OSError):  # musl knows no such name
        return "musl"


def loopback(_scope: Scope) -> list[Finding]:
    """Whether this machine can connect to itself as `localhost`, over IPv4."""
    why = "Envoy, its upstream and the tests connect there"
    doing = "listen on 127.0.0.1"
    try:
        with closing(socket.create_server(("127.0.0.1", 0))) as server:
            doing = "resolve localhost"
            addresses = {str(info[4][0]) for info in socket.getaddrinfo("localhost", None)}
            doing = "connect to 127.0.0.1"
            with socket.create_connection(server.getsockname(), timeout=2):
                pass
    except OSError as error:
        remedy = "sudo ip link set lo up" if doing != "resolve localhost" else _HOSTS_LINE
        detail = f"can't {doing}: {error.strerror or error}"
        return [Finding("loopback", "failed", detail, why, remedy)]
    if "127.0.0.1" not in addresses:
        detail = f"localhost is {', '.join(sorted(addresses))}"
        return [Finding("loopback", "failed", detail, why, _HOSTS_LINE)]
    return [Finding("loopback", "ok", "127.0.0.1 answers, and is localhost")]


def port(_scope: Scope, number: int | None = None) -> list[Finding]:
    """Whether the port of `run` and `deploy` is free."""
    number = default_port() if number is None else number
    if deployments.is_free(number):
        return [Finding("port", "ok", f"{number} is free")]
    if deployment := deployments.at(number):
        detail = f"{deployment.name} answers at {number}, deployed from {deployment.root}"
        return [Finding("port", "ok", detail)]
    owner = process.port_owner(number) or "another process"
    why = "`run` and `deploy` listen on it by default"
    return [Finding("port", "warning", f"{number} is taken by {owner}", why, "scaffold run --port 0")]
