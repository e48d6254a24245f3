"""What tells a deployment from the one before it: what a running Envoy can't take."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping, Sequence

from scaffold.hosts.background.record import Deployment
from scaffold.project.model import HostSettings
from scaffold.project.plugins import Named

_NAMES = {"types": "type"}


def of_places(before: Sequence[Named], after: Sequence[Named]) -> bool:
    """Whether filters of a chain come, go or move: replaced one by one, some would be missing meanwhile."""
    return max(len(before), len(after)) > 1 and _names(before) != _names(after)


def told(now: Deployment, target: str, plugins: Sequence[Named], settings: HostSettings) -> str:
    """In a line, what changes from the deployment that there is to one of `plugins` with `settings`."""
    port, types = settings.port or now.port, settings.types
    before = dataclasses.replace(now.settings, port=now.port)
    lines = []
    if now.target != target:
        lines.append(f"target: {now.target} -> {target}")
    if of_places(now.plugins, plugins):
        lines.append(f"filters: {_names(now.plugins)} -> {_names(plugins)}")
        before = dataclasses.replace(before, types=types)
    return ", ".join([*lines, *_of_settings(before, dataclasses.replace(settings, port=port))])


def _names(plugins: Sequence[Named]) -> str:
    return ", ".join(plugin.name for plugin in plugins)


def _of_settings(before: HostSettings, after: HostSettings) -> list[str]:
    return [
        f"{_NAMES.get(field.name) or field.name.replace('_', ' ')}: {_said(old)} -> {_said(new)}"
        for field in dataclasses.fields(after)
        if (old := getattr(before, field.name)) != (new := getattr(after, field.name))
    ]


def _said(value: object) -> object:
    if isinstance(value, Mapping):
        value = ", ".join(f"{name} = {leads}" for name, leads in value.items())
    elif isinstance(value, tuple):
        value = " ".join(value)
    return value or "the default"
