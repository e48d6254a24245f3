"""Images that only Docker's daemon has, such as those that `docker build` makes."""

from __future__ import annotations

import os
import shlex
from collections.abc import Iterator
from contextlib import closing, contextmanager, suppress

from scaffold.errors import MachineError, RegistryError, UsageError


@contextmanager
def named(name: str) -> Iterator[None]:
    """Have the error for an image that isn't found say that the daemon has it, and how its module comes here.

    The daemon is asked only then. Docker's store and scaffold's have nothing in common.
    """
    try:
        yield
    except (RegistryError, UsageError) as error:
        image = name.removeprefix("docker://")
        if _in_daemon(image):
            refused = error.hint if getattr(error, "status", 0) in (401, 403) else None
            copied = (
                "Docker has an image of that name, which scaffold doesn't look for; copy its module:"
                f' `docker cp "$(docker create {shlex.quote(image)} x)":/plugin.wasm .`,'
                " and pass plugin.wasm instead of the image"
            )
            error.hint = f"{refused}; or: {copied}" if refused else copied
        raise


def _in_daemon(name: str) -> bool:
    """Whether this machine's daemon has it; one elsewhere may take long to answer, and isn't asked."""
    if not os.environ.get("DOCKER_HOST", "unix://").startswith("unix://"):
        return False
    from docker.errors import DockerException

    from scaffold.hosts.docker.daemon import Daemon

    with suppress(MachineError, DockerException, OSError), closing(Daemon()) as daemon:
        daemon.client.images.get(name)
        return True
    return False
