"""Docker's daemon, through its SDK: its images, its containers, and what its errors mean."""

from __future__ import annotations

import os
import platform
import re
import sys
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaffold.core import process
from scaffold.core.events import Progressed, emit, step
from scaffold.errors import HostError, MachineError, RegistryError, ScaffoldError, UsageError
from scaffold.hosts.envoy.run_folder import mounted

DEPLOYMENT = "proxy-wasm-scaffold.deployment"  # the label that names a container's deployment, or ""
OWNER = "proxy-wasm-scaffold.owner"  # the label that names the process a container belongs to
REMOVE_SECONDS = 5.0
TIMEOUT = 60  # seconds for an answer of the daemon
RUN_SECONDS = 60  # for a program that should end
_CONTEXTS = "`docker context ls` lists the contexts; DOCKER_HOST=unix:///path names a socket instead"
_NOBODY = "101:101"  # the user of envoyproxy/envoy
_ROOT = ("", "0", "root")
# as runc and crun put it, and what Docker or podman adds
_NO_PROGRAM = re.compile(
    "executable file .*not found|no such file or directory: unknown|command that was not found"
)
_NOT_EXECUTABLE = re.compile("permission denied: (unknown|OCI permission denied)")


class NoProgram(MachineError):
    """An image doesn't contain the program."""


@dataclass(frozen=True)
class Image:
    """An image that the daemon has.

    `id` is its digest. `user` is the user of its containers, never root. `platform` is the one of its
    programs, such as "linux/amd64". `words` are its entrypoint and command.
    """

    name: str
    id: str
    user: str
    platform: str
    words: tuple[str, ...]


class Daemon:
    """The daemon at `place`, or at $DOCKER_HOST, or that of $DOCKER_CONTEXT or of the current context."""

    def __init__(self, place: str = "") -> None:
        import docker
        from docker.errors import DockerException

        self.place = place or os.environ.get("DOCKER_HOST", "")
        try:
            if self.place:
                environment = os.environ | {"DOCKER_HOST": self.place}
                self.client: Any = docker.from_env(timeout=TIMEOUT, environment=environment)
            else:
                context = _context()
                self.place = context.Host
                self.client = docker.DockerClient(context.Host, timeout=TIMEOUT, tls=context.TLSConfig)
            self.client.ping()
        except (DockerException, OSError, ValueError) as error:
            raise _unreachable(self.place, error) from error
        except (
            AttributeError,
            KeyError,
            TypeError,
        ) as error:  # for an invalid config.json
            message = f"cannot read Docker's configuration: {error}"
            raise MachineError(message, hint=_CONTEXTS) from error

    def close(self) -> None:
        """Close the connections."""
        self.client.close()

    def image(self, name: str) -> Image:
        """The image of that name, pulled if the daemon doesn't have it."""
        from docker.errors import APIError, ImageNotFound

        with self.explained(name):
            try:
                image = self.client.images.get(name)
            except ImageNotFound:
                self._pull(name)
                image = self.client.images.get(name)
            except APIError as error:
                raise _not_pulled(name, str(error.explanation)) from error
        config = image.attrs.get("Config") or {}
        user = config.get("User") or ""
        words = [*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])]
        made_for = f"{image.attrs.get('Os')}/{image.attrs.get('Architecture')}"
        user = _NOBODY if user.partition(":")[0] in _ROOT else user
        return Image(name, image.id, user, made_for, tuple(words))

    def _pull(self, name: str) -> None:
        from docker.errors import APIError
        from docker.utils import parse_repository_tag

        repository, tag = parse_repository_tag(name)
        layers: dict[str, tuple[int, int]] = {}  # id -> bytes done, bytes in all
        try:
            with step(title := f"Pulling {name}"):
                for event in self.client.api.pull(repository, tag or "latest", stream=True, decode=True):
                    if "error" in event:
                        raise _not_pulled(name, event["error"])
                    detail = event.get("progressDetail") or {}
                    if event.get("status") == "Downloading" and detail.get("total"):
                        layers[event["id"]] = detail["current"], detail["total"]
                        done, total = map(sum, zip(*layers.values(), strict=True))
                        emit(Progressed(title, done, total, "B"))
        except APIError as error:
            raise _not_pulled(name, str(error.explanation)) from error

    def run(self, image: Image, words: Sequence[str], folder: Path | None = None) -> process.Completed:
        """Run a program of an image to its end, without a shell; it may read `folder`.

        Raises `NoProgram` when the image doesn't contain it, `MachineError` when it doesn't end.
        """
        mounts = [] if folder is None else [folder]
        with self.created(image, words, mounts=mounts, init=False) as container, self.explained(image.name):
            container.start()
            try:
                code = container.wait(timeout=RUN_SECONDS)["StatusCode"]
            except OSError as error:
                if "timed out" not in str(error):
                    raise
                message = f"`{' '.join(words)}` in {image.name} didn't end within {RUN_SECONDS} s"
                raise MachineError(message) from error
            out, err = (container.logs(stdout=out, stderr=not out).decode(errors="replace") for out in (1, 0))
        return process.Completed(code, out, err)

    @contextmanager
    def created(
        self,
        image: Image,
        words: Sequence[str],
        *,
        mounts: Sequence[Path],
        writable: Path | None = None,
        deployment: str = "",
        **options: Any,
    ) -> Iterator[Any]:
        """A container that exists, but isn't started, while the block runs.

        `mounted` says where it finds `mounts`, and the only folder that is `writable`.
        `options` are those of the SDK's `containers.create`.
        """
        import docker

        name = f"scaffold-{deployment or os.getpid()}-{uuid.uuid4().hex[:6]}"
        arguments = {
            "entrypoint": [words[0]],
            "command": list(words[1:]),
            "name": name,
            "user": image.user,
            "mounts": [
                docker.types.Mount(mounted(at), str(at), type="bind", read_only=at != writable)
                for at in [*mounts, *([writable] if writable else [])]
            ],
            # otherwise SELinux would keep the container from reading its mounts
            "security_opt": ["label=disable", "no-new-privileges"],
            "log_config": docker.types.LogConfig(type="json-file", config={"max-size": "10m"}),
        }
        arguments |= options
        arguments["labels"] = options.get("labels", {}) | {DEPLOYMENT: deployment, OWNER: _owner()}
        try:
            # if a signal ends us meanwhile, we must know the container to remove it
            with self.explained(image.name), process.uninterrupted():
                container = self.client.containers.create(image.name, **arguments)
            yield container
        finally:
            self.remove(name)

    def start(self, container: Any) -> dict[int, int]:
        """Start a container. Returns its ports -> where each is published; empty if it has ended already."""
        from docker.errors import NotFound

        with self.explained(container.attrs["Config"]["Image"]):
            with process.uninterrupted():
                container.start()
            with suppress(NotFound):
                container.reload()
        ports = container.attrs["NetworkSettings"]["Ports"] or {}
        return {int(each.partition("/")[0]): int(at[0]["HostPort"]) for each, at in ports.items() if at}

    def remove(self, name: str) -> bool:
        """Remove a container, running or not. Returns whether it is gone."""
        from docker.errors import APIError, NotFound

        deadline = time.monotonic() + REMOVE_SECONDS
        while time.monotonic() < deadline:
            try:
                self.client.api.remove_container(name, force=True, v=True)
            except NotFound:
                return True
            except APIError:  # it is just being removed, or started
                pass
            except OSError:  # the daemon is gone
                return False
            time.sleep(0.02)
        return False

    def sweep(self, deployment: str) -> None:
        """Remove containers that outlived the process they belong to, of this deployment or of tests.

        Raises `HostError` when Docker doesn't remove one.
        """
        with self.explained(""):
            every = self.client.api.containers(all=True, filters={"label": [OWNER]})
        for each in every:
            labels = each["Labels"]
            ours = labels.get(DEPLOYMENT) in ("", deployment)
            own = deployment != "" and labels[OWNER] == _owner()
            if ours and (own or _is_gone(labels[OWNER])) and not self.remove(each["Id"]):
                name = each["Names"][0].removeprefix("/")
                raise HostError(f"Docker doesn't remove the container {name}", hint=f"`docker rm -f {name}`")

    @contextmanager
    def explained(self, image: str) -> Iterator[None]:
        """Turn the SDK's exceptions into errors that say what to do."""
        from docker.errors import APIError, DockerException, StreamParseError
        from urllib3.exceptions import HTTPError

        try:
            yield
        except APIError as error:
            raise refused(image, str(error.explanation), self.place) from error
        except DockerException as error:
            if _system_error(error) is None:  # raised by the SDK itself
                raise refused(image, str(error), self.place) from error
            raise _unreachable(self.place, error) from error
        except (OSError, HTTPError, StreamParseError) as error:
            raise _unreachable(self.place, error) from error


def _context() -> Any:
    """Docker's current context, as its command line chooses it."""
    from docker.context import ContextAPI

    context = ContextAPI.get_context(os.environ.get("DOCKER_CONTEXT"))
    if context is None:
        raise MachineError("Docker's current context doesn't exist", hint=_CONTEXTS)
    return context


def _user() -> str:
    """Whose processes these are, and where their pids mean what they mean here."""
    namespace = Path("/proc/self/ns/pid")
    pids = namespace.readlink() if namespace.is_symlink() else ""
    return f"{platform.node()}/{pids}/{os.getuid()}"


def _owner() -> str:
    pid = os.getpid()
    return f"{_user()}/{pid}/{process.start_time(pid):.2f}"


def _is_gone(owner: str) -> bool:
    """Whether the process in that label has ended; we can't tell for another user, or machine."""
    user, pid, started = owner.rsplit("/", 2)
    return user == _user() and f"{process.start_time(int(pid)) or 0:.2f}" != started


# --- errors that say what to do


def _unreachable(place: str, error: BaseException) -> MachineError:
    """Why no daemon answers, by the system's error inside the SDK's."""
    why = _system_error(error)
    if place.startswith("ssh:"):
        hint = "use a daemon on this machine, which can read the same files"
        return MachineError(f"Docker's daemon at {place} is on another machine", hint=hint)
    if isinstance(why, PermissionError):
        hint = '`sudo usermod -aG docker "$USER"`, then log in again'
        return MachineError(f"you aren't allowed to use Docker's daemon at {place}", hint=hint)
    if isinstance(why, FileNotFoundError):
        hint = "install Docker and start it, or name its socket: DOCKER_HOST=unix:///path"
        return MachineError(f"Docker isn't running, or isn't installed: nothing is at {place}", hint=hint)
    if isinstance(why, ConnectionRefusedError):
        start = "sudo systemctl start docker" if sys.platform == "linux" else "open -a Docker"
        hint = "unset DOCKER_HOST, or start what it names" if "DOCKER_HOST" in os.environ else f"`{start}`"
        return MachineError(f"Docker's daemon isn't running at {place}", hint=hint)
    reason = (why and why.strerror) or " ".join(str(error).split()) or type(error).__name__
    return MachineError(
        f"cannot reach Docker's daemon at {place}: {reason}", hint="`docker version` may say more"
    )


def _system_error(error: object) -> OSError | None:
    """The innermost system error inside one of urllib3, requests or the SDK."""
    if isinstance(error, BaseException):
        for inner in (*error.args, error.__cause__, error.__context__):
            if found := _system_error(inner):
                return found
        return error if isinstance(error, OSError) and error.errno else None
    return None


def _not_pulled(name: str, reason: str) -> ScaffoldError:
    """The error for an image that can't be pulled, by the daemon's reason."""
    if "invalid reference format" in reason or "invalid tag format" in reason:
        return UsageError(f"`{name}` isn't a valid image name", hint="write it as envoyproxy/envoy:v1.36.4")
    if any(sign in reason for sign in ("denied", "unauthorized", "authentication required")):
        message = f"cannot pull the image {name}: its registry refuses it: {reason}"
        return RegistryError(message, hint="check the name, or log in with `docker login`")
    if any(sign in reason for sign in ("not found", "manifest unknown", "no such image")):
        return RegistryError(f"there is no image {name}, neither here nor in its registry: {reason}")
    hint = "`docker load` loads an image from a file; `docker images` lists the local ones"
    return RegistryError(f"cannot pull the image {name}: its registry can't be reached: {reason}", hint=hint)


def refused(image: str, reason: str, place: str) -> ScaffoldError:
    """The error for a container that the daemon doesn't create or start, by its reason."""
    if _NO_PROGRAM.search(reason):
        return NoProgram(f"{image} doesn't contain the program: {reason}")
    if _NOT_EXECUTABLE.search(reason):
        return NoProgram(f"the program in {image} isn't executable: {reason}")
    if "port is already allocated" in reason or "address already in use" in reason:
        return HostError(f"a port is taken: {reason}", hint="--port 0 takes any free one")
    if "bind source path does not exist" in reason:
        hint = (
            "use a daemon on this machine; one in a snap or a virtual machine sees only some folders: "
            "put TMPDIR and XDG_STATE_HOME below one of them"
        )
        message = f"the Docker daemon at {place} doesn't see this machine's files: {reason}"
        return HostError(message, hint=hint)
    return HostError(f"Docker refuses a container of {image}: {reason}")
