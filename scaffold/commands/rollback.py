"""`rollback`: deploy again what was deployed before."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path

from scaffold.commands.history import root_with_history
from scaffold.errors import ScaffoldError, TargetError, UsageError
from scaffold.hosts.background import history
from scaffold.hosts.background.deployments import Record, Status
from scaffold.hosts.background.history import Deployed
from scaffold.project.crate import Project


def rollback(number: int | None = None, root: Path = Path(), *, port: int | None = None) -> Status:
    """Deploy again what was deployed before: the modules, their configurations and the options.

    `number` is one that `history` lists; without it, the last one before what runs that had no problem. It
    answers at `port`, or else at the port of what runs, or at the one that it had.
    Raises `UsageError` for a number that isn't there, and like `deploy`.
    """
    from scaffold.hosts.background.deploy import rolling_back

    where = root_with_history(root)
    entries = history.read(where) if where else []
    if where is None or not entries:
        raise TargetError(
            f"nothing was deployed from {root.resolve()}", hint="run `scaffold deploy`, or pass --root"
        )
    probe = None
    with suppress(ScaffoldError):  # the project may be broken now, which is why somebody rolls back
        probe = Project.load(where).settings.probe

    def choose(record: Record | None) -> Deployed:
        return _chosen(history.read(where), number, record)

    with rolling_back(where, choose, port) as (deployment, entry):
        deployment.check()
        fits = not all(plugin.is_service for plugin in entry.chain)
        return deployment.apply(entry.chain, probe if fits else None, again=entry.number)


def _chosen(entries: Sequence[Deployed], number: int | None, record: Record | None) -> Deployed:
    """The deploy with that number, or the last one before what runs that had no problem."""
    hint = "`scaffold history` lists what there is"
    if number is None:
        live = record.number if record and record.alive else 0
        before = [each for each in entries if (not live or each.number < live) and not each.said]
        if not before:
            raise UsageError("nothing that worked was deployed before the version that runs", hint=hint)
        return before[-1]
    found = next((each for each in entries if each.number == number), None)
    if found is None:
        known = f"{entries[0].number} to {entries[-1].number}" if entries else "none"
        raise UsageError(f"deploy {number} isn't in the history, which has {known}", hint=hint)
    return found
