"""The machine itself: Python, the system and its C library, loopback and the port."""

from __future__ import annotations

import os
import platform
import re
import socket
import sys
from contextlib import closing

from scaffold.commands.doctor.finding import Finding, Patient
from scaffold.core import process
from scaffold.hosts.background import record as deployments

OLDEST_PYTHON = (3, 11)
OLDEST_GLIBC = (2, 31)  # Envoy's wheel is manylinux_2_31
PORT = 8080
_HOSTS_LINE = "echo 127.0.0.1 localhost | sudo tee -a /etc/hosts"
_MACHINES = {"linux": ("x86_64", "aarch64"), "darwin": ("arm64",)}  # those that there is a wheel for


def look(_patient: Patient) -> list[Finding]:
    """Python and the system."""
    libc = _libc() if sys.platform == "linux" else ""
    return [python(sys.version_info[:3], sys.executable), system(sys.platform, platform.machine(), libc)]


def python(version: tuple[int, ...], executable: str) -> Finding:
    """Whether a Python of this version will do."""
    found = f"{'.'.join(map(str, version))}, {executable}"
    if version >= OLDEST_PYTHON:
        return Finding("python", "ok", found)
    oldest = ".".join(map(str, OLDEST_PYTHON))
    return Finding(
        "python",
        "failed",
        f"{found}: older than {oldest}",
        "scaffold is written for newer ones",
        f"python{oldest} -m venv .venv && .venv/bin/pip install proxy-wasm-scaffold",
    )


def system(kind: str, machine: str, libc: str) -> Finding:
    """Whether an Envoy was built for this kind of machine; `libc` as "glibc 2.36", or "musl"."""
    found = " ".join(filter(None, (kind, machine, libc)))
    why = "there is no Envoy for it to run filters in; building them works"
    if machine not in _MACHINES.get(kind, ()):
        known = ", ".join(f"{system} on {'/'.join(names)}" for system, names in _MACHINES.items())
        return Finding("system", "failed", f"{found}: no Envoy was built for it", why, f"use {known}")
    version = tuple(map(int, re.findall(r"\d+", libc)[:2]))
    if kind == "linux" and (not libc.startswith("glibc") or version < OLDEST_GLIBC):
        needed = "glibc " + ".".join(map(str, OLDEST_GLIBC))
        remedy = (
            f"use a system with {needed} or later, such as Debian 11 or Ubuntu 20.04, or a container of one"
        )
        return Finding("system", "failed", f"{found}: Envoy needs {needed}", why, remedy)
    return Finding("system", "ok", found)


def _libc() -> str:
    try:
        return os.confstr("CS_GNU_LIBC_VERSION") or "another libc than glibc"
    except (ValueError, OSError):  # musl knows no such name
        return "musl"


def loopback(_patient: Patient) -> list[Finding]:
    """Whether this machine can talk with itself by the name `localhost`, over IPv4."""
    why = "Envoy, its upstream and the tests' requests meet there"
    doing = "listen on 127.0.0.1"
    try:
        with closing(socket.create_server(("127.0.0.1", 0))) as server:
            doing = "resolve localhost"
            addresses = {str(found[4][0]) for found in socket.getaddrinfo("localhost", None)}
            doing = "connect to 127.0.0.1"
            with socket.create_connection(server.getsockname(), timeout=2):
                pass
    except OSError as error:
        remedy = "sudo ip link set lo up" if doing != "resolve localhost" else _HOSTS_LINE
        found = f"cannot {doing}: {error.strerror or error}"
        return [Finding("loopback", "failed", found, why, remedy)]
    if "127.0.0.1" not in addresses:
        found = f"localhost is {', '.join(sorted(addresses))}"
        return [Finding("loopback", "failed", found, why, _HOSTS_LINE)]
    return [Finding("loopback", "ok", "127.0.0.1 answers, and is localhost")]


def port(_patient: Patient, number: int = PORT) -> list[Finding]:
    """Whether the port of `run` and `deploy` is free."""
    name = f"port {number}"
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", number))
        except OSError:
            pass
        else:
            return [Finding(name, "ok", "free")]
    for deployment in deployments.every():
        if deployment.port == number and deployment.alive:
            return [Finding(name, "ok", f"{deployment.name} answers there, deployed from {deployment.root}")]
    owner = process.port_owner(number) or "another process"
    why = "`run` and `deploy` take it unless told otherwise"
    return [Finding(name, "warning", f"taken by {owner}", why, "scaffold run --port 0")]
