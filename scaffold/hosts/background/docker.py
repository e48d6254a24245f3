"""The target `docker`: an Envoy of an image in the background, in a container."""

from __future__ import annotations

from scaffold.hosts.background.target import Background
from scaffold.hosts.docker import host as container

_background = Background("docker", container.check, container.files_in)
check, apply, remove = _background.check, _background.apply, _background.remove
log_lines, attach, admin_port = _background.log_lines, _background.attach, _background.admin_port
