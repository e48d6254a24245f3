"""What Docker's daemon refuses, and why it can't be asked, made errors that say what to do."""

from __future__ import annotations

import os
import re
import sys

from scaffold.errors import HostError, MachineError, RegistryError, ScaffoldError, UsageError

# the words of runc and crun, and what Docker or podman puts after them
_NO_PROGRAM = re.compile(
    "executable file .*not found|no such file or directory: unknown|command that was not found"
)
_NOT_EXECUTABLE = re.compile("permission denied: (unknown|OCI permission denied)")


class NoProgram(MachineError):
    """An image doesn't hold the program that was to run."""


def unreachable(place: str, error: BaseException) -> MachineError:
    """Why no daemon answers, by the system's own error, wherever in the SDK's it is."""
    why = system_error(error)
    if place.startswith("ssh:"):
        hint = "take a daemon on this machine: it must read the same files"
        return MachineError(f"Docker's daemon at {place} is on another machine", hint=hint)
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
    said = (why and why.strerror) or " ".join(str(error).split()) or type(error).__name__
    return MachineError(
        f"Docker's daemon can't be asked at {place}: {said}", hint="`docker version` may say more"
    )


def system_error(error: object) -> OSError | None:
    """The innermost error of the system in one of urllib3's, requests' or the SDK's."""
    if isinstance(error, BaseException):
        for inner in (*error.args, error.__cause__, error.__context__):
            if found := system_error(inner):
                return found
        return error if isinstance(error, OSError) and error.errno else None
    return None


def not_to_be_had(name: str, said: str) -> ScaffoldError:
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


def refused(image: str, said: str, place: str) -> ScaffoldError:
    """What the daemon says of a container that it doesn't create or start."""
    if _NO_PROGRAM.search(said):
        return NoProgram(f"{image} doesn't hold the program: {said}")
    if _NOT_EXECUTABLE.search(said):
        return NoProgram(f"the program in {image} may not be executed: {said}")
    if "port is already allocated" in said or "address already in use" in said:
        return HostError(f"a port is taken: {said}", hint="--port 0 takes any free one")
    if "bind source path does not exist" in said:
        hint = (
            "take a daemon on this machine; one in a snap or a virtual machine sees some folders only: "
            "put TMPDIR and XDG_STATE_HOME below one of these"
        )
        return HostError(f"the Docker daemon at {place} doesn't see this machine's files: {said}", hint=hint)
    return HostError(f"Docker refuses a container of {image}: {said}")
