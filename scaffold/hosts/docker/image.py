"""The Envoy in an image: where in it, which version, and whether it runs wasm at all."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from scaffold.core import cache as memory
from scaffold.core.events import step
from scaffold.core.versions import Version
from scaffold.errors import MachineError, UsageError
from scaffold.hosts.docker.daemon import Daemon, Image
from scaffold.hosts.docker.refusals import NoProgram
from scaffold.hosts.envoy import binary as envoy_binary
from scaffold.hosts.envoy.folder import mounted

_PLACES = ("envoy", "/usr/local/bin/envoy", "/usr/bin/envoy", "/opt/envoy/bin/envoy")
_ANOTHER = "--envoy-image takes another, such as envoyproxy/envoy or istio/proxyv2"


@dataclass(frozen=True)
class EnvoyImage:
    """An image with an Envoy that runs wasm: `program` is its path there, or its name on the PATH there."""

    image: Image
    program: str
    build: str

    @property
    def version(self) -> Version:
        """The three numbers of its version."""
        return envoy_binary.version_of(self.build)


def find(daemon: Daemon, name: str | None) -> EnvoyImage:
    """The Envoy in the image `name`, which is pulled if it isn't here; an image is looked at once.

    Raises `UsageError` without a name, `RegistryError` when the image can't be had, `MachineError` when
    it has no Envoy, or one that doesn't run, or runs no wasm.
    """
    if not name:
        raise UsageError("which image's Envoy?", hint="--envoy-image envoyproxy/envoy:v1.36.4, for example")
    image = daemon.image(name)
    question = f"envoy in {image.name}"
    known = memory.recall(question, image.id)
    if known is not None:
        return EnvoyImage(image, *json.loads(known))
    with step(f"Looking for Envoy in {name}"):
        found = _look(daemon, image)
        _check_wasm(daemon, found)
    memory.remember(question, image.id, json.dumps([found.program, found.build]))
    return found


def _look(daemon: Daemon, image: Image) -> EnvoyImage:
    """Ask what may be an Envoy: on the image's PATH, what it starts by itself, in the usual places."""
    started = [word for word in image.words[:1] if word.rpartition("/")[2] == "envoy"]
    for program in dict.fromkeys(["envoy", *started, *_PLACES]):
        try:
            ran = daemon.run(image, [program, "--version"])
        except NoProgram:
            continue
        if build := envoy_binary.build_of(ran):
            return EnvoyImage(image, program, build)
        words = (ran.stderr or ran.stdout).strip().splitlines()[-5:] or [f"exit code {ran.code}"]
        message = f"`{program}` in {image.name}, for {image.platform}, is no Envoy that runs here"
        raise MachineError("\n  ".join([message, *words]), hint=_ANOTHER)
    raise MachineError(
        f"there is no Envoy in {image.name}: none on its PATH, none in {_usual()}", hint=_ANOTHER
    )


def _usual() -> str:
    return ", ".join(str(Path(place).parent) for place in _PLACES[1:])


def _check_wasm(daemon: Daemon, found: EnvoyImage) -> None:
    with tempfile.TemporaryDirectory(prefix="scaffold-envoy-") as name:
        folder = Path(name, "trial")
        folder.mkdir()
        folder.chmod(0o755)
        words = envoy_binary.trial(folder, mounted(folder))
        ran = daemon.run(found.image, [found.program, *words], folder)
    if not envoy_binary.passed(ran, mounted(Path(name)), f"the Envoy in {found.image.name}", _ANOTHER):
        raise MachineError(
            f"Envoy {found.version} in {found.image.name} was built without V8, so it runs no wasm",
            hint=_ANOTHER,
        )
