"""The target `envoy`: a local Envoy in the background."""

from __future__ import annotations

from scaffold.hosts.background.target import Background
from scaffold.hosts.envoy import installs as envoys
from scaffold.hosts.envoy.folder import Folder

_background = Background("envoy", lambda settings: envoys.find(settings.envoy), Folder)
check, apply, remove = _background.check, _background.apply, _background.remove
log_lines, attach, admin_port = _background.log_lines, _background.attach, _background.admin_port
