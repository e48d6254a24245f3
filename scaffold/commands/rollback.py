"""`rollback`: deploy again what was deployed before."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from scaffold.commands.history import root_with_history
from scaffold.errors import TargetError, UsageError
from scaffold.hosts.background import deployments, history
from scaffold.hosts.background.deployments import Status
from scaffold.hosts.background.history import Deployed


def rollback(number: int | None = None, root: Path = Path(), *, port: int | None = None) -> Status:
    """Deploy again what was deployed before: the module and its configuration, without losing a request.

    `number` is one that `history` lists; without it, the deploy before the one that runs, or the last one if
    none does. It answers at `port`, or else at the port of what runs, or at the one that it had.
    Raises `UsageError` for a number that isn't there, and like `deploy`.
    """
    from scaffold.hosts.background.deploy import rolling_back

    where = root_with_history(root)
    entries = history.read(where) if where else []
    if where is None or not entries:
        raise TargetError(
            f"nothing was deployed from {root.resolve()}", hint="run `scaffold deploy`, or pass --root"
        )
    record = deployments.load(where)
    entry = _chosen(entries, number, alive=record is not None and record.alive)
    entry.check()
    with rolling_back(where, entry, port) as deployment:
        deployment.check()
        return deployment.apply(entry.chain, None, again=entry.number)


def _chosen(entries: Sequence[Deployed], number: int | None, *, alive: bool) -> Deployed:
    hint = "`scaffold history` lists what there is"
    if number is None:
        if len(entries) == 1 and alive:
            raise UsageError("nothing was deployed before the version that runs", hint=hint)
        return entries[-2 if alive else -1]
    found = next((each for each in entries if each.number == number), None)
    if found is None:
        raise UsageError(
            f"deploy {number} isn't in the history, which has {entries[0].number} to {entries[-1].number}",
            hint=hint,
        )
    return found
