"""An Envoy as a program: its version, and whether it supports wasm."""

from __future__ import annotations

import errno
import json
import os
import platform
import re
import shlex
import tempfile
from dataclasses import dataclass
from pathlib import Path

from scaffold.core import cached_output as memory
from scaffold.core import process
from scaffold.core.versions import Version
from scaffold.errors import MachineError
from scaffold.hosts.envoy import resources as envoy_config
from scaffold.project.envoy_clusters import Address

ANSWER_SECONDS = 20.0
_BUILD = re.compile(r"version: ([0-9a-f]+/(\d+\.\d+\.\d+)\S*)")
_QUESTION = "envoy's build, and whether it has V8: {}"
_WITH_V8 = " with V8"
# the smallest plugin: a memory, the ABI's marker, `_initialize` and a `malloc` that returns 0
_PLUGIN = (
    b"\0asm\x01\0\0\0\x01\x09\x02`\0\0`\x01\x7f\x01\x7f\x03\x03\x02\0\x01\x05\x03\x01\0\x01\x07;\x04\x06memory\x02\0"
    b"\x17proxy_abi_version_0_2_1\0\0\x0b_initialize\0\0\x06malloc\0\x01\n\x09\x02\x02\0\x0b\x04\0A\0\x0b"
)


@dataclass(frozen=True)
class Binary:
    """An Envoy that runs on this machine.

    `build` is what it prints: commit, version, state of the tree, kind and TLS library, such as
    "bad8280/1.36.4/Clean/RELEASE/BoringSSL". Without `v8` it doesn't support wasm.
    """

    path: Path
    build: str
    v8: bool

    @property
    def version(self) -> Version:
        """Its version."""
        return version_of(self.build)

    @property
    def version_text(self) -> str:
        """Its version, such as "1.36.4"."""
        return str(self.version)

    @classmethod
    def at(cls, path: Path) -> Binary:
        """The Envoy in that file. What it says is remembered until the file changes.

        Raises `MachineError` when it isn't an Envoy, or doesn't run here.
        """
        question = _QUESTION.format(path)
        known = memory.recall(question, path)
        if known is not None:
            return cls(path, known.removesuffix(_WITH_V8), known.endswith(_WITH_V8))
        asked = cls.asked(path)
        memory.remember(question, path, asked.build + (_WITH_V8 if asked.v8 else ""))
        return asked

    @classmethod
    def asked(cls, path: Path) -> Binary:
        """Like `at`, but without what is remembered, which takes 0.1 s."""
        _check_runnable(path)
        ran = _run(path, "--version")
        build = build_of(ran)
        if build is None:
            words = ran.stderr.strip().splitlines()[-1:]  # a missing library, an old libc
            raise MachineError("\n  ".join([f"{path} isn't an Envoy that runs here", *words]), hint=_ANOTHER)
        return cls(path, build, _has_v8(path))


def build_of(ran: process.Completed) -> str | None:
    """The build that an Envoy printed for `--version`; None if it isn't an Envoy."""
    build = _BUILD.search(ran.stdout)
    return build[1] if build and ran.code == 0 else None


_ANOTHER = "omit --envoy to use the one that comes with scaffold"


def _check_runnable(path: Path) -> None:
    if not path.exists():
        raise MachineError(f"{path} doesn't exist", hint=_ANOTHER)
    if path.is_dir():
        raise MachineError(f"{path} is a folder", hint="name the program in it")
    if not os.access(path, os.X_OK):
        raise MachineError(f"{path} isn't executable", hint=f"`chmod +x {shlex.quote(str(path))}`")


def _run(path: Path, *words: str | Path) -> process.Completed:
    try:
        return process.run([path, *words], timeout=ANSWER_SECONDS, guarded=True)
    except MachineError as error:
        why = getattr(error.__cause__, "errno", None)
        if why == errno.ENOEXEC:
            machine = f"{platform.system()} on {platform.machine()}"
            raise MachineError(
                f"{path} isn't a program for this machine, {machine}", hint=_ANOTHER
            ) from error
        if why == errno.ENOENT:  # its loader is missing: the file itself exists
            message = f"{path} needs a loader that is missing here; was it built for another C library?"
            raise MachineError(message, hint=_ANOTHER) from error
        raise


def _has_v8(path: Path) -> bool:
    """Have Envoy load the smallest plugin: without V8 it knows the runtime's name, but loads nothing."""
    with tempfile.TemporaryDirectory(prefix="scaffold-envoy-") as name:
        ran = _run(path, *trial(Path(name), name))
    return passed(ran, name, str(path), _ANOTHER)


def version_of(build: str) -> Version:
    """The version in a build."""
    match = _BUILD.match(f"version: {build}")
    return Version.parse(match[2]) if match else Version((0, 0, 0))


def trial(folder: Path, within: str) -> list[str]:
    """Write the smallest plugin and its configuration. Returns the arguments with which Envoy loads it.

    `within` is the folder's path for Envoy.
    """
    module = f"{within}/plugin.wasm"
    (folder / "plugin.wasm").write_bytes(_PLUGIN)
    plugin = envoy_config.wasm_filter(envoy_config.wasm_vm(envoy_config.local_file(module)), name="plugin")
    filters = [{"name": envoy_config.FILTER, "typed_config": plugin}, envoy_config.router()]
    (folder / "bootstrap.json").write_text(json.dumps(smallest_bootstrap(filters)))
    return ["--mode", "validate", "-l", "error", "-c", f"{within}/bootstrap.json"]


def passed(ran: process.Completed, folder: str, envoy: str, hint: str) -> bool:
    """Whether Envoy loaded the plugin of `trial`. Raises `MachineError` when it failed for another reason."""
    output = (ran.stdout + ran.stderr).replace(folder, "")
    if ran.code and not re.search("wasm", output, re.IGNORECASE):
        words = output.strip().splitlines()[-5:]
        raise MachineError("\n  ".join([f"{envoy} refuses the smallest configuration", *words]), hint=hint)
    return ran.code == 0


def smallest_bootstrap(filters: list[envoy_config.Config]) -> envoy_config.Config:
    """The smallest configuration around the filters, so that Envoy can only refuse them."""
    network = envoy_config.http_manager(
        {"stat_prefix": "ingress", "route_config": {}, "http_filters": filters}
    )
    address = envoy_config.socket_address(Address("127.0.0.1", 0))
    listener = {"name": "ingress", "address": address, "filter_chains": [{"filters": [network]}]}
    return {"static_resources": {"listeners": [listener]}}
