"""Proxy-wasm plugins in Rust, from an empty folder to a real Envoy.

Every operation of the command line is a function here: `scaffold.build(Path("hello_world"))`.
It takes plain values and options objects (`scaffold.BuildOptions`, `RunOptions`, `ClusterOptions`,
`MeasureOptions`), returns a typed value, and raises `scaffold.errors.ScaffoldError`. Nothing is imported
before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from scaffold.commands.admin import admin
    from scaffold.commands.adopt.command import adopt
    from scaffold.commands.bench.command import bench
    from scaffold.commands.bootstrap import bootstrap
    from scaffold.commands.build import build
    from scaffold.commands.check import check
    from scaffold.commands.ci import ci
    from scaffold.commands.clean import clean
    from scaffold.commands.deploy import deploy
    from scaffold.commands.dev.command import dev
    from scaffold.commands.diff import diff
    from scaffold.commands.doctor.command import doctor
    from scaffold.commands.envoys import envoys
    from scaffold.commands.explain.command import explain
    from scaffold.commands.history import history
    from scaffold.commands.images import images, rmi, tag
    from scaffold.commands.import_wasme import import_wasme
    from scaffold.commands.inspect import inspect
    from scaffold.commands.login import login, logout
    from scaffold.commands.logs import logs
    from scaffold.commands.manifest import manifest
    from scaffold.commands.metrics import metrics
    from scaffold.commands.new import new
    from scaffold.commands.package import package
    from scaffold.commands.pull import pull
    from scaffold.commands.push import push
    from scaffold.commands.record.command import record
    from scaffold.commands.requests import requests
    from scaffold.commands.rollback import rollback
    from scaffold.commands.run import run
    from scaffold.commands.setup import setup
    from scaffold.commands.status import status
    from scaffold.commands.tags import tags
    from scaffold.commands.templates import templates
    from scaffold.commands.test import test
    from scaffold.commands.undeploy import undeploy
    from scaffold.commands.update import update
    from scaffold.hosts.measure_options import MeasureOptions
    from scaffold.hosts.options import RunOptions
    from scaffold.kubernetes.options import ClusterOptions
    from scaffold.toolchain.options import BuildOptions

# operation -> its module
OPERATIONS = {
    "new": "scaffold.commands.new",
    "templates": "scaffold.commands.templates",
    "adopt": "scaffold.commands.adopt.command",
    "setup": "scaffold.commands.setup",
    "doctor": "scaffold.commands.doctor.command",
    "build": "scaffold.commands.build",
    "test": "scaffold.commands.test",
    "diff": "scaffold.commands.diff",
    "check": "scaffold.commands.check",
    "bench": "scaffold.commands.bench.command",
    "clean": "scaffold.commands.clean",
    "dev": "scaffold.commands.dev.command",
    "run": "scaffold.commands.run",
    "deploy": "scaffold.commands.deploy",
    "status": "scaffold.commands.status",
    "logs": "scaffold.commands.logs",
    "requests": "scaffold.commands.requests",
    "explain": "scaffold.commands.explain.command",
    "record": "scaffold.commands.record.command",
    "history": "scaffold.commands.history",
    "rollback": "scaffold.commands.rollback",
    "metrics": "scaffold.commands.metrics",
    "admin": "scaffold.commands.admin",
    "undeploy": "scaffold.commands.undeploy",
    "envoys": "scaffold.commands.envoys",
    "package": "scaffold.commands.package",
    "push": "scaffold.commands.push",
    "pull": "scaffold.commands.pull",
    "manifest": "scaffold.commands.manifest",
    "ci": "scaffold.commands.ci",
    "login": "scaffold.commands.login",
    "logout": "scaffold.commands.login",
    "inspect": "scaffold.commands.inspect",
    "bootstrap": "scaffold.commands.bootstrap",
    "images": "scaffold.commands.images",
    "tags": "scaffold.commands.tags",
    "update": "scaffold.commands.update",
    "tag": "scaffold.commands.images",
    "rmi": "scaffold.commands.images",
    "import_wasme": "scaffold.commands.import_wasme",
}
# options class -> its module
OPTIONS = {
    "BuildOptions": "scaffold.toolchain.options",
    "ClusterOptions": "scaffold.kubernetes.options",
    "MeasureOptions": "scaffold.hosts.measure_options",
    "RunOptions": "scaffold.hosts.options",
}

__all__ = [
    "BuildOptions",
    "ClusterOptions",
    "MeasureOptions",
    "RunOptions",
    "__version__",
    "admin",
    "adopt",
    "bench",
    "bootstrap",
    "build",
    "check",
    "ci",
    "clean",
    "deploy",
    "dev",
    "diff",
    "doctor",
    "envoys",
    "explain",
    "history",
    "images",
    "import_wasme",
    "inspect",
    "login",
    "logout",
    "logs",
    "manifest",
    "metrics",
    "new",
    "package",
    "pull",
    "push",
    "record",
    "requests",
    "rmi",
    "rollback",
    "run",
    "setup",
    "status",
    "tag",
    "tags",
    "templates",
    "test",
    "undeploy",
    "update",
]


def __getattr__(name: str) -> Any:
    module = OPERATIONS.get(name) or OPTIONS.get(name)
    if module is None:
        raise AttributeError(f"module 'scaffold' has no attribute {name!r}")
    return getattr(import_module(module), name)


def __dir__() -> list[str]:
    return sorted(__all__)
