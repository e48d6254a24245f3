"""Docker's daemon, by its SDK: found, asked for images and containers, its refusals explained."""

from __future__ import annotations

import os
import platform
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaffold.core import process
from scaffold.core.events import Progressed, emit, step
from scaffold.errors import HostError, MachineError
from scaffold.hosts.docker.refusals import not_to_be_had, refused, system_error, unreachable
from scaffold.hosts.envoy.folder import mounted

DEPLOYMENT = "proxy-wasm-scaffold.deployment"  # the label that names a container's deployment, "" for none
OWNER = "proxy-wasm-scaffold.owner"  # the label that names the process that a container ends with
REMOVE_SECONDS = 5.0
PATIENCE = 60  # seconds that the daemon may take for an answer
RUN_SECONDS = 60  # that a program which should end may take
_CONTEXTS = "`docker context ls` lists what there is; DOCKER_HOST=unix:///path names a socket instead"
_NOBODY = "101:101"  # whom envoyproxy/envoy changes to
_ROOT = ("", "0", "root")


@dataclass(frozen=True)
class Image:
    """An image that the daemon has. `id` is its digest; `user` whom its containers run as, never root.

    `platform` is what its programs are for, as in "linux/amd64".
    """

    name: str
    id: str
    user: str
    platform: str
    words: tuple[str, ...]


class Daemon:
    """The daemon at `place`; without one where $DOCKER_HOST says, or Docker's context does.

    That is $DOCKER_CONTEXT, or the current one.
    """

    def __init__(self, place: str = "") -> None:
        import docker
        from docker.errors import DockerException

        self.place = place or os.environ.get("DOCKER_HOST", "")
        try:
            if self.place:
                environment = os.environ | {"DOCKER_HOST": self.place}
                self.client: Any = docker.from_env(timeout=PATIENCE, environment=environment)
            else:
                context = _context()
                self.place = context.Host
                self.client = docker.DockerClient(context.Host, timeout=PATIENCE, tls=context.TLSConfig)
            self.client.ping()
        except (DockerException, OSError, ValueError) as error:
            raise unreachable(self.place, error) from error
        except (AttributeError, KeyError, TypeError) as error:  # the SDK's of a config.json that is none
            message = f"Docker's configuration can't be read: {error}"
            raise MachineError(message, hint=_CONTEXTS) from error

    def close(self) -> None:
        """Let go of the connections."""
        self.client.close()

    def image(self, name: str) -> Image:
        """The image of that name, pulled if it isn't here."""
        from docker.errors import APIError, ImageNotFound

        with self.explained(name):
            try:
                found = self.client.images.get(name)
            except ImageNotFound:
                self._pull(name)
                found = self.client.images.get(name)
            except APIError as error:
                raise not_to_be_had(name, str(error.explanation)) from error
        config = found.attrs.get("Config") or {}
        user = config.get("User") or ""
        words = [*(config.get("Entrypoint") or []), *(config.get("Cmd") or [])]
        made_for = f"{found.attrs.get('Os')}/{found.attrs.get('Architecture')}"
        user = _NOBODY if user.partition(":")[0] in _ROOT else user
        return Image(name, found.id, user, made_for, tuple(words))

    def _pull(self, name: str) -> None:
        from docker.errors import APIError
        from docker.utils import parse_repository_tag

        repository, tag = parse_repository_tag(name)
        layers: dict[str, tuple[int, int]] = {}  # id -> bytes that are here, of how many
        try:
            with step(title := f"Pulling {name}"):
                for said in self.client.api.pull(repository, tag or "latest", stream=True, decode=True):
                    if "error" in said:
                        raise not_to_be_had(name, said["error"])
                    detail = said.get("progressDetail") or {}
                    if said.get("status") == "Downloading" and detail.get("total"):
                        layers[said["id"]] = detail["current"], detail["total"]
                        done, total = map(sum, zip(*layers.values(), strict=True))
                        emit(Progressed(title, done, total, "B"))
        except APIError as error:
            raise not_to_be_had(name, str(error.explanation)) from error

    def run(self, image: Image, words: Sequence[str], folder: Path | None = None) -> process.Completed:
        """Run a program of an image to its end, where it may read `folder`; no shell has a hand in it.

        Raises `NoProgram` when the image has no such one, `MachineError` when it doesn't end.
        """
        mounts = [] if folder is None else [folder]
        with self.created(image, words, mounts=mounts, init=False) as container, self.explained(image.name):
            container.start()
            try:
                code = container.wait(timeout=RUN_SECONDS)["StatusCode"]
            except OSError as error:
                if "timed out" not in str(error):
                    raise
                message = f"`{' '.join(words)}` in {image.name} doesn't end within {RUN_SECONDS} s"
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
        deployment: str = "",
        **options: Any,
    ) -> Iterator[Any]:
        """A container that is there, not started, while the block runs; where `mounts` are, `mounted` says.

        `options` are the SDK's for `containers.create`.
        """
        import docker

        name = f"scaffold-{deployment or os.getpid()}-{uuid.uuid4().hex[:6]}"
        arguments = {
            "entrypoint": [words[0]],
            "command": list(words[1:]),
            "name": name,
            "user": image.user,
            "mounts": [
                docker.types.Mount(mounted(at), str(at), type="bind", read_only=True) for at in mounts
            ],
            # SELinux would keep a container from reading what is mounted
            "security_opt": ["label=disable", "no-new-privileges"],
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

    def remove(self, name: str) -> bool:
        """Remove a container, whatever it does; whether it was seen to be gone."""
        from docker.errors import APIError, NotFound

        deadline = time.monotonic() + REMOVE_SECONDS
        while time.monotonic() < deadline:
            try:
                self.client.api.remove_container(name, force=True, v=True)
            except NotFound:
                return True
            except APIError:  # it is being removed, or started, just now
                pass
            except OSError:  # the daemon is gone
                return False
            time.sleep(0.02)
        return False

    def sweep(self, deployment: str) -> None:
        """Remove what outlived whom it should have ended with: of this deployment, or of a test.

        Raises `HostError` when Docker doesn't remove it.
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
        """Make sentences of what the daemon refuses."""
        from docker.errors import APIError, DockerException, StreamParseError
        from urllib3.exceptions import HTTPError

        try:
            yield
        except APIError as error:
            raise refused(image, str(error.explanation), self.place) from error
        except DockerException as error:
            if system_error(error) is None:  # what the SDK itself doesn't take
                raise refused(image, str(error), self.place) from error
            raise unreachable(self.place, error) from error
        except (OSError, HTTPError, StreamParseError) as error:
            raise unreachable(self.place, error) from error


def _context() -> Any:
    """Docker's current context, as its own command line chooses it."""
    from docker.context import ContextAPI

    context = ContextAPI.get_context(os.environ.get("DOCKER_CONTEXT"))
    if context is None:
        raise MachineError("Docker's current context isn't there", hint=_CONTEXTS)
    return context


def _user() -> str:
    return f"{platform.node()}/{os.getuid()}"


def _owner() -> str:
    pid = os.getpid()
    return f"{_user()}/{pid}/{process.start_time(pid):.2f}"


def _is_gone(owner: str) -> bool:
    """Whether the process of that label has ended; another machine's, or user's, may be hidden from us."""
    user, pid, started = owner.rsplit("/", 2)
    return user == _user() and f"{process.start_time(int(pid)) or 0:.2f}" != started
