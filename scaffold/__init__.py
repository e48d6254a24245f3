"""Proxy-wasm filters in Rust, from an empty folder to a real Envoy.

Every operation of the command line is a function here: `scaffold.build(Path("hello_world"))`.
It takes plain values, returns a typed one, raises `scaffold.errors.ScaffoldError`, and tells what it
does through `scaffold.events`. Nothing is imported before it is used.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

if TYPE_CHECKING:
    from scaffold.adopting import adopt
    from scaffold.cargo import build, clean
    from scaffold.catalogue import templates
    from scaffold.diagnosis import doctor
    from scaffold.hosts import bootstrap, run
    from scaffold.hosts.envoys import envoys
    from scaffold.packaging import package
    from scaffold.registry import login, logout, tags
    from scaffold.registry.transfer import pull, push
    from scaffold.stored import images, rmi, tag
    from scaffold.stories import inspect
    from scaffold.targets import deploy, logs, status, undeploy
    from scaffold.targets.manifests import manifest
    from scaffold.templating import new
    from scaffold.testing import test
    from scaffold.toolchain import setup
    from scaffold.updating import update
    from scaffold.wasme import import_wasme
    from scaffold.workflows import ci

# the table of operations: a command's name, and the module of the function of that name
OPERATIONS = {
    "new": "scaffold.templating",
    "update": "scaffold.updating",
    "adopt": "scaffold.adopting",
    "templates": "scaffold.catalogue",
    "setup": "scaffold.toolchain",
    "doctor": "scaffold.diagnosis",
    "build": "scaffold.cargo",
    "clean": "scaffold.cargo",
    "run": "scaffold.hosts",
    "bootstrap": "scaffold.hosts",
    "test": "scaffold.testing",
    "deploy": "scaffold.targets",
    "manifest": "scaffold.targets.manifests",
    "undeploy": "scaffold.targets",
    "status": "scaffold.targets",
    "logs": "scaffold.targets",
    "package": "scaffold.packaging",
    "images": "scaffold.stored",
    "tag": "scaffold.stored",
    "rmi": "scaffold.stored",
    "push": "scaffold.registry.transfer",
    "pull": "scaffold.registry.transfer",
    "tags": "scaffold.registry",
    "inspect": "scaffold.stories",
    "login": "scaffold.registry",
    "logout": "scaffold.registry",
    "import_wasme": "scaffold.wasme",
    "ci": "scaffold.workflows",
    "envoys": "scaffold.hosts.envoys",
}

__all__ = [
    "__version__",
    "adopt",
    "bootstrap",
    "build",
    "ci",
    "clean",
    "deploy",
    "doctor",
    "envoys",
    "images",
    "import_wasme",
    "inspect",
    "login",
    "logout",
    "logs",
    "manifest",
    "new",
    "package",
    "pull",
    "push",
    "rmi",
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
    if name not in OPERATIONS:
        raise AttributeError(f"module 'scaffold' has no attribute {name!r}")
    return getattr(import_module(OPERATIONS[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
