"""`envoys`: list the installed Envoys; install or remove one."""

from __future__ import annotations

from scaffold.errors import UsageError
from scaffold.hosts.envoy import installed as installs
from scaffold.hosts.envoy.installed import Envoy


def envoys(*, install: str | None = None, remove: str | None = None) -> list[Envoy]:
    """List the installed Envoys, newest first.

    With `install`, install a version; with `remove`, remove one, or `all`. Then only these are returned.
    Raises `UsageError` if a deployment runs in an Envoy that would be removed.
    """
    if install and remove:
        raise UsageError("--install and --remove can't be combined", hint="pass one of them")
    if remove:
        return installs.remove(remove)
    if install:
        return [installs.install(install)]
    return installs.installed(closely=True)
