"""Ports for what the documentation has at fixed ones: another program may have those."""

from __future__ import annotations

import random
import re
import socket

FIXED = ("8080", "5000")  # of `run` and `deploy`, and of a registry
_BELOW_EPHEMERAL = range(20_000, 32_000)  # no connection gets one of these by chance


def free_port() -> int:
    """A port of loopback that nobody has."""
    while True:
        port = random.choice(_BELOW_EPHEMERAL)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
            return port


def moved(text: str) -> tuple[str, dict[str, str]]:
    """A page with free ports for the fixed ones, and the environment in which its commands use them."""
    ports = {fixed: str(free_port()) for fixed in FIXED}
    text = re.sub(rf"\b({'|'.join(FIXED)})\b", lambda match: ports[match[1]], text)
    return text, {"SCAFFOLD_PORT": ports["8080"]}
