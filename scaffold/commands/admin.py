"""`admin`: ask the admin interface of the deployed Envoy."""

from __future__ import annotations

from pathlib import Path

from scaffold.commands.deploy_targets import nothing_deployed, roots_of
from scaffold.errors import TargetError, UsageError
from scaffold.hosts.background import target as here


def admin(path: str = "/help", root: Path = Path(), *, post: bool = False) -> str:
    """Ask Envoy's admin interface of the deployment for `path`, such as "/stats"; returns its answer.

    With `post`, the request may change something: Envoy's log levels, for example.
    Raises `TargetError` when nothing is deployed, or Envoy refuses.
    """
    if not path.isascii() or not path.isprintable() or " " in path:
        raise UsageError(f"`{path}` isn't the path of a URL", hint="`scaffold admin` lists Envoy's paths")
    roots = roots_of(root)
    record = here.chosen(roots)
    if record is None:
        raise nothing_deployed(roots)
    status, text = here.admin_of(record).ask("/" + path.lstrip("/"), post=post)
    if status >= 400:
        reason = text.strip().partition("\n")[0].removesuffix(" admin commands are:")
        hint = "pass --post" if status == 405 else "`scaffold admin` lists Envoy's paths"
        raise TargetError(f"Envoy answered {status}: {reason}", hint=hint)
    return text.removesuffix("\n")
