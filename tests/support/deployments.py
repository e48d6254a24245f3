"""Records of deployments, as `deploy` leaves them."""

from __future__ import annotations

import json
import os
import time
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import psutil

from scaffold.core import files, process
from scaffold.hosts.background import deployments
from scaffold.hosts.background.deployments import DeployedPlugin, Record
from scaffold.hosts.options import HostSettings

_USED = ExitStack()  # the folders that we use, as a supervisor does, until the tests end


def recorded(root: Path, **fields: Any) -> Record:
    """Save the record of a deployment of a project; unless `fields` names another, we are its supervisor."""
    place = deployments.folder(root)
    place.mkdir(parents=True, exist_ok=True)
    defaults = {
        "root": os.path.realpath(root),
        "target": "envoy",
        "folder": str(place),
        "plugins": [DeployedPlugin("hello", "sha256:0")],
        "port": 8080,
        "settings": HostSettings(),
        "options": {},
        "envoy_version": [1, 40, 0],
        "pid": os.getpid(),
        "started": process.start_time(os.getpid()) or 0.0,
        "since": time.time(),
    }
    made = Record(**(defaults | fields))
    if made.pid == os.getpid():
        _USED.enter_context(files.using(place))
    deployments.save(made)
    return made


def edited(record: Record, **changes: object) -> None:
    """Change values in the file of a record."""
    path = Path(record.folder) / deployments.RECORD
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def processes(root: Path) -> list[str]:
    """The command lines of what runs for a deployment of `root`."""
    folder = str(deployments.folder(root))
    found = []
    for each in psutil.process_iter(["cmdline", "cwd", "status"]):
        info = each.info
        if info["status"] != psutil.STATUS_ZOMBIE and folder in f"{info['cmdline']} {info['cwd']}":
            found.append(" ".join(info["cmdline"] or []))
    return found
