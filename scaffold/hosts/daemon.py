"""Docker's daemon, by its SDK: found, asked for images and containers, its refusals explained."""

from __future__ import annotations

import os
import platform
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaffold import process
from scaffold.errors import HostError, MachineError, RegistryError, ScaffoldError, UsageError
from scaffold.events import step

DEPLOYMENT = "proxy-wasm-scaffold.deployment"  # the label that names a container's deployment, "" for none
OWNER = "proxy-wasm-scaffold.owner"  # the label that names the process that a container ends with
REMOVE_SECONDS = 5.0
PATIENCE = 60  # seconds that the daemon, or a program that runs to its end, may take
_CONTEXTS = "`docker context ls` lists what there is; DOCKER_HOST=unix:///path names a socket instead"
_NOBODY = "101:101"  # whom envoyproxy/envoy changes to
_ROOT = ("", "0", "root", "0:0", "root:root")


@dataclass(frozen=True)
class Image:
    """An image that the daemon has. `id` is its digest; `user` whom its containers run as, never root."""

    name: str
    id: str
    user: str
    words: tuple[str, ...]


class Daemon:
    """The daemon where $DOCKER_HOST says, or Docker's context does: $DOCKER_CONTEXT, or the current."""

    def __init__(self) -> None:
        import docker
        from docker.errors import DockerException

        self.place = os.environ.get("DOCKER_HOST", "")
        try:
            if self.place:
                self.client: Any = docker.from_env(timeout=PATIENCE)
            else:
                context = _context()
                self.place = context.Host
                self.client = docker.DockerClient(context.Host, timeout=PATIENCE, tls=context.TLSConfig)
            self.client.ping()
        except (DockerException, OSError, ValueError) as error:
            raise _unreachable(self.place, error) from error
        except (AttributeError, KeyError, TypeError) as error:  # the SDK's of a config.json that is none
            message = f"Docker's configuration can't be read: {error}"
            raise MachineError(message, hint=_CONTEXTS) from error

    def close(self) -> None:
        """Let go of the connections."""
        self.client.close()

    def image(self, name: str) -> Image:
        """The image of that name, pulled if it isn't here."""
        from docker.errors import APIError, ImageNotFound

        try:
            found = self.client.images.get(name)
        except ImageNotFound:
            self._pull(name)
            found = self.client.images.get(name)
        except APIError as error:
            raise _not_to_be_had(name, str(error.explanation)) from error
        config = found.attrs.get("Config") or {}
        user = config.get("User") or ""
        words = [*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])]
        return Image(name, found.id, _NOBODY if user in _ROOT else user, tuple(words))

    def _pull(self, name: str) -> None:
        from docker.errors import APIError
        from docker.utils import parse_repository_tag

        repository, tag = parse_repository_tag(name)
        try:
            with step(f"Pulling {name}"):
                for said in self.client.api.pull(repository, tag or "latest", stream=True, decode=True):
                    if "error" in said:
                        raise _not_to_be_had(name, said["error"])
        except APIError as error:
            raise _not_to_be_had(name, str(error.explanation)) from error

    def run(self, image: Image, words: Sequence[str], folder: Path | None = None) -> process.Completed:
        """Run a program of an image to its end, where it may read `folder`; no shell has a hand in it.

        Raises `NoProgram` when the image has no such one.
        """
        mounts = [] if folder is None else [folder]
        with self.created(image, words, mounts=mounts, init=False) as container, self.explained(image.name):
            container.start()
            code = container.wait(timeout=PATIENCE)["StatusCode"]
            out, err = (container.logs(stdout=out, stderr=not out).decode(errors="replace") for out in (1, 0))
        return process.Completed(code, out, err)

    @contextmanager
    def created(
        self,
        image: Image,
        words: Sequence[str],
        *,
        mounts: Sequence[Path],
        deployment: str = "",
        **options: Any,
    ) -> Iterator[Any]:
        """A container that is there, not started, while the block runs; `mounts` are where they are here.

        `options` are the SDK's for `containers.create`.
        """
        import docker

        name = f"scaffold-{deployment or os.getpid()}-{uuid.uuid4().hex[:6]}"
        arguments = {
            "entrypoint": [words[0]],
            "command": list(words[1:]),
            "name": name,
            "user": image.user,
            "mounts": [docker.types.Mount(str(at), str(at), type="bind", read_only=True) for at in mounts],
            # SELinux would keep a container from reading what is mounted
            "security_opt": ["label=disable"],
            "log_config": docker.types.LogConfig(type="json-file", config={"max-size": "10m"}),
        }
        arguments |= options
        arguments["labels"] = options.get("labels", {}) | {DEPLOYMENT: deployment, OWNER: _owner()}
        try:
            # one that is made while we are told to end must be known to us
            with self.explained(image.name), process.uninterrupted():
                container = self.client.containers.create(image.name, **arguments)
            yield container
        finally:
            self.remove(name)

    def start(self, container: Any) -> dict[int, int]:
        """Start a container; its ports, and where each is published. None are when it has ended already."""
        from docker.errors import NotFound

        with self.explained(container.attrs["Config"]["Image"]):
            with process.uninterrupted():
                container.start()
            with suppress(NotFound):
                container.reload()
        ports = container.attrs["NetworkSettings"]["Ports"] or {}
        return {int(each.partition("/")[0]): int(at[0]["HostPort"]) for each, at in ports.items() if at}

    def remove(self, name: str) -> None:
        """Remove a container, whatever it does, and see that it is gone."""
        from docker.errors import APIError, NotFound

        deadline = time.monotonic() + REMOVE_SECONDS
        while time.monotonic() < deadline:
            try:
                self.client.api.remove_container(name, force=True, v=True)
            except NotFound:
                return
            except APIError:  # it is being removed, or started, just now
                pass
            except OSError:  # the daemon is gone
                return
            time.sleep(0.02)

    def sweep(self, deployment: str) -> None:
        """Remove what outlived whom it should have ended with: of this deployment, or of a test."""
        with self.explained(""):
            every = self.client.api.containers(all=True, filters={"label": [OWNER]})
        for each in every:
            labels = each["Labels"]
            ours = labels.get(DEPLOYMENT) in ("", deployment)
            own = deployment != "" and labels[OWNER] == _owner()
            if ours and (own or _is_gone(labels[OWNER])):
                self.remove(each["Id"])

    @contextmanager
    def explained(self, image: str) -> Iterator[None]:
        """Make sentences of what the daemon refuses."""
        from docker.errors import APIError, DockerException

        try:
            yield
        except APIError as error:
            raise _refused(image, str(error.explanation), self.place) from error
        except (DockerException, OSError) as error:
            if _system_error(error) is None:  # what the SDK itself doesn't take
                raise _refused(image, str(error), self.place) from error
            raise _unreachable(self.place, error) from error


class NoProgram(MachineError):
    """An image doesn't hold the program that was to run."""


def _context() -> Any:
    """Docker's current context, as its own command line chooses it."""
    from docker.context import ContextAPI

    context = ContextAPI.get_context(os.environ.get("DOCKER_CONTEXT"))
    if context is None:
        raise MachineError("Docker's current context isn't there", hint=_CONTEXTS)
    return context


def _owner() -> str:
    pid = os.getpid()
    return f"{platform.node()}/{pid}/{process.start_time(pid):.2f}"


def _is_gone(owner: str) -> bool:
    """Whether the process of that label has ended; not for us to say of another machine's."""
    node, pid, started = owner.rsplit("/", 2)
    return node == platform.node() and f"{process.start_time(int(pid)) or 0:.2f}" != started


def _unreachable(place: str, error: BaseException) -> MachineError:
    """Why no daemon answers, by the system's own error, wherever in the SDK's it is."""
    why = _system_error(error)
    if isinstance(why, PermissionError):
        hint = '`sudo usermod -aG docker "$USER"`, then log in again'
        return MachineError(f"you may not talk with Docker's daemon at {place}", hint=hint)
    if isinstance(why, FileNotFoundError):
        hint = "install Docker and start it, or name its socket: DOCKER_HOST=unix:///path"
        return MachineError(f"there is no Docker here: nothing is at {place}", hint=hint)
    if isinstance(why, ConnectionRefusedError):
        start = "sudo systemctl start docker" if sys.platform == "linux" else "open -a Docker"
        hint = "unset DOCKER_HOST, or start what it names" if "DOCKER_HOST" in os.environ else f"`{start}`"
        return MachineError(f"Docker's daemon doesn't run at {place}", hint=hint)
    said = (why and why.strerror) or str(error).strip().splitlines()[-1]
    return MachineError(
        f"Docker's daemon can't be asked at {place}: {said}", hint="`docker version` may say more"
    )


def _system_error(error: object) -> OSError | None:
    """The innermost error of the system in one of urllib3's, requests' or the SDK's."""
    if isinstance(error, BaseException):
        for inner in (*error.args, error.__cause__, error.__context__):
            if found := _system_error(inner):
                return found
        return error if isinstance(error, OSError) and error.errno else None
    return None


def _not_to_be_had(name: str, said: str) -> ScaffoldError:
    """Why an image can't be pulled, in the daemon's words."""
    if "invalid reference format" in said or "invalid tag format" in said:
        return UsageError(f"`{name}` is no name of an image", hint="write it as envoyproxy/envoy:v1.36.4")
    if any(sign in said for sign in ("denied", "unauthorized", "authentication required")):
        hint = "`docker login`, if it is there and you may have it"
        return RegistryError(
            f"the image {name} isn't here, and its registry doesn't give it: {said}", hint=hint
        )
    if any(sign in said for sign in ("not found", "manifest unknown", "no such image")):
        return RegistryError(f"there is no image {name}, neither here nor in its registry: {said}")
    hint = "`docker load` takes one from a file, `docker images` lists those that are here"
    return RegistryError(f"the image {name} isn't here, and its registry can't be reached: {said}", hint=hint)


def _refused(image: str, said: str, place: str) -> ScaffoldError:
    """What the daemon says of a container that it doesn't create or start."""
    if "executable file not found" in said or "no such file or directory: unknown" in said:
        return NoProgram(f"{image} doesn't hold the program: {said}")
    if "permission denied: unknown" in said:
        return NoProgram(f"the program in {image} may not be executed: {said}")
    if "port is already allocated" in said or "address already in use" in said:
        return HostError(f"a port is taken: {said}", hint="--port 0 takes any free one")
    if "bind source path does not exist" in said:
        hint = "take a daemon on this machine: it must read the same files"
        return HostError(f"the Docker daemon at {place} doesn't see this machine's files: {said}", hint=hint)
    return HostError(f"Docker refuses a container of {image}: {said}")
