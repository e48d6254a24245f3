"""gRPC in bytes: frames, and the message with which a plugin names a service."""

from __future__ import annotations

import struct


def frame(message: bytes) -> bytes:
    """A message as gRPC sends it."""
    return struct.pack(">BI", 0, len(message)) + message


def service(cluster: str) -> bytes:
    """A `GrpcService` with an Envoy cluster."""
    name = cluster.encode()
    inner = b"\x0a" + bytes([len(name)]) + name
    return b"\x0a" + bytes([len(inner)]) + inner
