"""Images against the tools that move them: a real registry, skopeo, oras, gzip; and a long list."""

from __future__ import annotations

import contextlib
import io
import os
import socket
import subprocess
import sys
import tempfile
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from bench.measure import BIN, Row, interleaved, run, timed
from scaffold.oci.plugin_info import PluginInfo
from scaffold.oci.reference import Reference
from scaffold.oci.store import Store
from scaffold.oci.variants import compat

SIZES = {"1 MB": 1_000_000, "50 MB": 50_000_000}
ROUNDS = 5
_REGISTRY = """
version: 0.1
log: {{level: error, accesslog: {{disabled: true}}}}
storage: {{filesystem: {{rootdirectory: {root}}}, cache: {{blobdescriptor: inmemory}}}}
http: {{addr: "127.0.0.1:{port}"}}
"""
_ORAS_PUSH = """
import sys, oras.client
client = oras.client.OrasClient(insecure=True)
client.push(target=sys.argv[1], files=[sys.argv[2] + ":application/vnd.module.wasm.content.layer.v1+wasm"],
            disable_path_validation=True)
"""
_ORAS_PULL = """
import sys, oras.client
oras.client.OrasClient(insecure=True).pull(target=sys.argv[1], outdir=sys.argv[2])
"""


def push_pull() -> list[Row]:
    """Fresh bytes each round, incompressible; every tool a process of its own, on the same registry."""
    with tempfile.TemporaryDirectory() as name, _registry(Path(name)) as registry:
        return [row for label, size in SIZES.items() for row in _moves(Path(name), registry, label, size)]


def _moves(place: Path, registry: str, label: str, size: int) -> list[Row]:
    home = place / "home"

    def prepare(number: int) -> tuple[str, Path]:
        """An image in our store, and its module as a file: bytes that the registry has never seen."""
        module = _module(size)
        image = f"{registry}/acme/{label.split()[0]}mb:{number}"
        Store(home / "proxy-wasm-scaffold/images").add(
            compat(module, PluginInfo("bench")), Reference.parse(image)
        )
        (place / "filter.wasm").write_bytes(module)
        return image, place / "filter.wasm"

    def push_ours(number: int) -> float:
        image, _ = prepare(3 * number)
        return timed(lambda: run(BIN / "scaffold", "push", image, XDG_DATA_HOME=str(home)))

    def push_skopeo(number: int) -> float:
        image, _ = prepare(3 * number + 1)
        source = f"oci:{home}/proxy-wasm-scaffold/images:{image}"
        return timed(lambda: run("skopeo", "copy", "--dest-tls-verify=false", source, f"docker://{image}"))

    def push_oras(number: int) -> float:
        image, file = prepare(3 * number + 2)
        return timed(lambda: run(sys.executable, "-c", _ORAS_PUSH, f"{image}-oras", file))

    def pull_ours(number: int) -> float:
        image = f"{registry}/acme/{label.split()[0]}mb:{3 * number}"
        with tempfile.TemporaryDirectory(dir=place) as empty:
            return timed(lambda: run(BIN / "scaffold", "pull", image, XDG_DATA_HOME=empty))

    def pull_skopeo(number: int) -> float:
        image = f"{registry}/acme/{label.split()[0]}mb:{3 * number + 1}"
        with tempfile.TemporaryDirectory(dir=place) as empty:
            words = ("skopeo", "copy", "--src-tls-verify=false", f"docker://{image}", f"oci:{empty}:x")
            return timed(lambda: run(*words))

    def pull_oras(number: int) -> float:
        image = f"{registry}/acme/{label.split()[0]}mb:{3 * number + 2}-oras"
        with tempfile.TemporaryDirectory(dir=place) as empty:
            return timed(lambda: run(sys.executable, "-c", _ORAS_PULL, image, empty))

    push = interleaved({"ours": push_ours, "skopeo": push_skopeo, "oras": push_oras}, ROUNDS)
    pull = interleaved({"ours": pull_ours, "skopeo": pull_skopeo, "oras": pull_oras}, ROUNDS)
    return [
        Row(f"{verb} {label}, against {other}", medians["ours"], medians[other], 1.0)
        for verb, medians in (("push", push), ("pull", pull))
        for other in ("skopeo", "oras")
    ]


def in_process() -> list[Row]:
    """The same without anybody's start: our functions, and oras's, called in one process."""
    import oras.client

    import scaffold

    rows = []
    with tempfile.TemporaryDirectory() as name, _registry(Path(name)) as registry:
        os.environ["XDG_DATA_HOME"] = str(Path(name) / "home")
        client = oras.client.OrasClient(insecure=True)
        file = Path(name) / "filter.wasm"
        for label, size in SIZES.items():

            def image(number: int, size: int = size, label: str = label) -> str:
                module = _module(size)
                file.write_bytes(module)
                reference = f"{registry}/acme/{label.split()[0]}mb:{number}"
                Store().add(compat(module, PluginInfo("bench")), Reference.parse(reference))
                return reference

            def ours(number: int) -> float:
                reference = image(number)
                return timed(lambda: scaffold.push(reference))

            def theirs(number: int) -> float:
                reference = image(100 + number)
                layer = f"{file}:application/vnd.module.wasm.content.layer.v1+wasm"
                return timed(
                    lambda: client.push(target=reference, files=[layer], disable_path_validation=True)
                )

            with contextlib.redirect_stdout(io.StringIO()):
                medians = interleaved({"ours": ours, "oras": theirs}, ROUNDS)
            rows.append(Row(f"push {label} in process, against oras", medians["ours"], medians["oras"], 1.0))
        del os.environ["XDG_DATA_HOME"]
    return rows


def package() -> list[Row]:
    """A module's file to an image in the store, against gzip of the same file."""
    rows = []
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        file = place / "filter.wasm"
        for label, size in SIZES.items():
            file.write_bytes(_module(size))
            medians = interleaved(
                {
                    "ours": lambda n: timed(
                        lambda: run(
                            BIN / "scaffold", "package", file, "-t", f"x:{n}", cwd=place, XDG_DATA_HOME=name
                        )
                    ),
                    "gzip": lambda _: timed(lambda: run("gzip", "-k", "-f", file)),
                },
                ROUNDS,
            )
            rows.append(
                Row(
                    f"package {label}, against gzip of the same bytes", medians["ours"], medians["gzip"], None
                )
            )
    return rows


def images() -> list[Row]:
    """`scaffold images` on a store of 1,000."""
    with tempfile.TemporaryDirectory() as name:
        store = Store(Path(name) / "proxy-wasm-scaffold/images")
        for number in range(1000):
            image = compat(_module(1000), PluginInfo("bench", version=str(number)))
            store.add(image, Reference.parse(f"localhost:5000/acme/bench:{number}"))
        medians = interleaved(
            {"ours": lambda _: timed(lambda: run(BIN / "scaffold", "images", XDG_DATA_HOME=name))}, 9
        )
    return [Row("`images`, of 1,000", medians["ours"], None, 0.5, goal_of="ours")]


def _module(size: int) -> bytes:
    """A plugin that exports its ABI's marker, and a custom section of random bytes that fills it up."""
    marker = b"proxy_abi_version_0_2_1"
    exports = bytes([1, len(marker)]) + marker + b"\0\0"
    head = b"\0asm\1\0\0\0" + b"\1\4\1\x60\0\0" + b"\3\2\1\0" + bytes([7, len(exports)]) + exports
    body = b"\4rand" + os.urandom(size - len(head) - 20)
    return head + b"\x0a\4\1\2\0\x0b" + b"\0" + _leb128(len(body)) + body


def _leb128(number: int) -> bytes:
    made = bytearray()
    while number > 0x7F:
        made.append(number & 0x7F | 0x80)
        number >>= 7
    return bytes([*made, number])


@contextmanager
def _registry(place: Path) -> Iterator[str]:
    """Debian's docker-registry on a free port of loopback."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    config = place / "registry.yml"
    config.write_text(_REGISTRY.format(root=place / "registry", port=port))
    with subprocess.Popen(["docker-registry", "serve", str(config)], stderr=subprocess.DEVNULL) as server:
        try:
            for _ in range(200):
                with suppress(OSError):
                    urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/")
                    break
                time.sleep(0.05)
            yield f"localhost:{port}"
        finally:
            server.terminate()
