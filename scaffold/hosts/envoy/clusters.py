"""Where an Envoy's clusters lead: to other programs, and to sockets of the built-in upstream."""

from __future__ import annotations

import dataclasses
import os
import socket
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from pathlib import Path

from scaffold.core import files, foreign_files
from scaffold.errors import HostError
from scaffold.hosts.envoy.run_folder import Folder
from scaffold.hosts.options import HostSettings
from scaffold.project.envoy_clusters import Address, addresses, parse_upstream

LOCALHOST = "localhost"
_LOOPBACKS = ("127.0.0.1", "::1")
LONGEST_SOCKET = 95  # bytes of the admin socket's path: the system allows 104 to 108, a container adds 9


def reachable(url: str) -> Address:
    """The address of an upstream. Raises `HostError` if nothing answers there."""
    address = parse_upstream(url)
    why = _refusal(address.host, address.port)
    if why is None:
        return address
    found = _on_loopback(address)
    if found.at and address.host == LOCALHOST:
        return found
    other = f"[{found.at}]" if ":" in found.at else found.at
    hint = f"something listens at {other}:{address.port}: pass that instead" if found.at else _remedy(why)
    raise HostError(f"nothing answers at the upstream {url}: {why.strerror or why}", hint=hint)


def _remedy(why: OSError) -> str:
    if isinstance(why, socket.gaierror):
        return "check the name: this machine finds no address for it"
    return (
        "start it first" if isinstance(why, ConnectionRefusedError) else "check its address, and the network"
    )


def _refusal(host: str, port: int) -> OSError | None:
    """Why nothing answers at a port; None if something does."""
    try:
        socket.create_connection((host, port), timeout=5).close()
    except OSError as error:
        return error
    return None


def _on_loopback(address: Address) -> Address:
    """The address of a server on this machine, at whichever loopback it listens; or as it is.

    Many programs listen on ::1 alone, while the name `localhost` often leads to 127.0.0.1 alone.
    """
    others = [each for each in _LOOPBACKS if each != address.host]
    here = address.host in (LOCALHOST, *_LOOPBACKS)
    if here and _refusal(address.host, address.port):
        at = next((each for each in others if _refusal(each, address.port) is None), "")
        return dataclasses.replace(address, at=at)
    return address


def cluster_addresses(settings: HostSettings, folder: Folder) -> dict[str, Address]:
    """The address of every cluster: another program's, or a socket of the built-in upstream.

    An Envoy in a container has another network, and reaches all of them through sockets. The user's own
    bootstrap contains its own clusters, unless the settings add ours.
    """
    folder.control.unlink(missing_ok=True)
    if settings.bootstrap and not settings.adds_clusters:
        return {}
    built_in = Address(internal=settings.internal)
    upstream = built_in if settings.upstream is None else reachable(settings.upstream)
    clusters = {
        name: _on_loopback(address) if address.host == LOCALHOST and not address.at else address
        for name, address in addresses(upstream, settings.clusters).items()
    }
    for number, (name, address) in enumerate(clusters.items()):
        if address.tls and folder.enclosed:
            files.write(folder.authorities, foreign_files.read_bytes(Path(address.tls)), mode=folder.mode)
            address = dataclasses.replace(address, tls=str(folder.authorities))
        if folder.enclosed or not address:
            pipe = folder.sockets / f"origin{number or ''}.sock"
            clusters[name] = dataclasses.replace(address, pipe=str(pipe))
    return clusters


@contextmanager
def short(folder: Folder) -> Iterator[Path]:
    """A folder for sockets, whose path is short enough: that of `folder`, or a temporary one."""
    if len(os.fsencode(folder.admin_socket)) <= LONGEST_SOCKET:
        yield folder.path
        return
    short = [None, os.environ.get("XDG_RUNTIME_DIR"), "/tmp"]  # noqa: S108 - mkdtemp is safe there
    made = next(each for each in short if len(os.fsencode(each or tempfile.gettempdir())) < 56)
    with tempfile.TemporaryDirectory(prefix="scaffold-", dir=made) as parent:
        place = Path(parent, "s")
        place.mkdir()
        place.chmod(folder.path.stat().st_mode)
        yield place


@contextmanager
def serve_sockets(clusters: Mapping[str, Address], folder: Folder) -> Iterator[None]:
    """Serve the clusters' sockets while the block runs: the built-in upstream, and relays to others."""
    sockets = {name: each for name, each in clusters.items() if each.pipe}
    built_in = {name: Path(each.pipe) for name, each in sockets.items() if not each.host}
    with ExitStack() as stack:
        if sockets:
            from scaffold.hosts.upstream import server  # asyncio is imported only to serve something
        for each in sockets.values():
            if each.host:
                stack.enter_context(server.relay(Path(each.pipe), each.at or each.host, each.port))
        if built_in:
            control = folder.sockets / "control.sock"
            stack.enter_context(server.serve(pipes=built_in, control=control))
            files.write(folder.control, str(control))
        if folder.enclosed:
            for each in sockets.values():
                Path(each.pipe).chmod(0o666)  # Envoy runs as another user; the folder above keeps others out
        yield
