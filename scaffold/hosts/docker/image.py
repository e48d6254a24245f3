"""The Envoy in an image: its path, its version, and whether it supports wasm."""

from __future__ import annotations

import json
import tempfile
from dataclasses import dataclass
from pathlib import Path

from scaffold.core import cached_output as memory
from scaffold.core.events import step
from scaffold.core.versions import Version
from scaffold.errors import MachineError, UsageError
from scaffold.hosts.docker.daemon import Daemon, Image, NoProgram
from scaffold.hosts.envoy import binary_info as envoy_binary
from scaffold.hosts.envoy.run_folder import mounted

_PLACES = ("envoy", "/usr/local/bin/envoy", "/usr/bin/envoy", "/opt/envoy/bin/envoy")
_ANOTHER = "--envoy-image takes another, such as envoyproxy/envoy or istio/proxyv2"


@dataclass(frozen=True)
class EnvoyImage:
    """An image with an Envoy that supports wasm. `program` is Envoy's path there, or its name on PATH."""

    image: Image
    program: str
    build: str

    @property
    def version(self) -> Version:
        """Its version."""
        return envoy_binary.version_of(self.build)


def find(daemon: Daemon, name: str | None) -> EnvoyImage:
    """The Envoy in the image `name`, which is pulled if need be; what is found out is remembered.

    Raises `UsageError` without a name, `RegistryError` when the image can't be pulled, and `MachineError`
    when it has no Envoy, or one that doesn't run here or doesn't support wasm.
    """
    if not name:
        hint = "for example --envoy-image envoyproxy/envoy:v1.36.4"
        raise UsageError("--envoy-image is missing: the image whose Envoy to run", hint=hint)
    image = daemon.image(name)
    question = f"envoy in {image.name}"
    known = memory.recall(question, image.id)
    if known is not None:
        return EnvoyImage(image, *json.loads(known))
    with step(f"Looking for Envoy in {name}"):
        envoy = _look(daemon, image)
        _check_wasm(daemon, envoy)
    memory.remember(question, image.id, json.dumps([envoy.program, envoy.build]))
    return envoy


def _look(daemon: Daemon, image: Image) -> EnvoyImage:
    """Look for Envoy: on the image's PATH, in its entrypoint, in the usual places."""
    started = [word for word in image.words[:1] if word.rpartition("/")[2] == "envoy"]
    for program in dict.fromkeys(["envoy", *started, *_PLACES]):
        try:
            ran = daemon.run(image, [program, "--version"])
        except NoProgram:
            continue
        if build := envoy_binary.build_of(ran):
            return EnvoyImage(image, program, build)
        words = (ran.stderr or ran.stdout).strip().splitlines()[-5:] or [f"exit code {ran.code}"]
        message = f"`{program}` in {image.name}, for {image.platform}, isn't an Envoy that runs here"
        raise MachineError("\n  ".join([message, *words]), hint=_ANOTHER)
    raise MachineError(
        f"there is no Envoy in {image.name}, neither on its PATH nor in {_usual()}", hint=_ANOTHER
    )


def _usual() -> str:
    return ", ".join(str(Path(place).parent) for place in _PLACES[1:])


def _check_wasm(daemon: Daemon, envoy: EnvoyImage) -> None:
    with tempfile.TemporaryDirectory(prefix="scaffold-envoy-") as name:
        folder = Path(name, "trial")
        folder.mkdir()
        folder.chmod(0o755)
        words = envoy_binary.trial(folder, mounted(folder))
        for path in folder.iterdir():
            path.chmod(0o644)  # Envoy runs as another user, whatever the umask is here
        ran = daemon.run(envoy.image, [envoy.program, *words], folder)
    if not envoy_binary.passed(ran, mounted(Path(name)), f"the Envoy in {envoy.image.name}", _ANOTHER):
        raise MachineError(
            f"Envoy {envoy.version} in {envoy.image.name} was built without V8, so it doesn't support wasm",
            hint=_ANOTHER,
        )
