"""Every template: formatted, linted, tested natively and in a real Envoy, and no larger than it may be."""

from __future__ import annotations

import http.client
import json
import os
import shutil
import socket
import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from support.crates import EVERYTHING

import scaffold
from scaffold.errors import ModuleError
from scaffold.hosts.background import deployments
from scaffold.project.crate import TRIPLES, Project
from scaffold.project.templates import render as rendering
from scaffold.toolchain import relink

TEMPLATES = list(rendering.bundled("cookiecutters"))
PEDANTIC = ("--all-targets", "--", "-W", "clippy::pedantic", "-D", "warnings")
DESCRIPTION = """odd: "quoted" \\ {{ 世界 }} 'n' #"""


@pytest.fixture(scope="module")
def rendered(tmp_path_factory, state):
    """A project of a template, each under an odd name of its own; don't change it."""
    folder = tmp_path_factory.mktemp("templates")

    def rendered(template: str) -> Path:
        root = folder / f"{template}-9_x"
        if not root.exists():
            description = [f"description={DESCRIPTION}"]
            scaffold.new(root.name, template=template, output_dir=folder, variable=description, no_input=True)
        return root

    return rendered


@pytest.mark.parametrize("template", TEMPLATES)
def test_its_code_is_clean(template, rendered, run):
    root = rendered(template)
    for tool in ("fmt", "clippy"):
        if not shutil.which("cargo") or run("cargo", tool, "--version", cwd=root).returncode:
            pytest.skip(f"there is no cargo {tool} that works")
    ran = run("cargo", "fmt", "--check", cwd=root)
    assert ran.returncode == 0, ran.stdout
    features = [[], ["--features", "schema"]] if (root / "examples").is_dir() else [[]]
    for chosen in features:
        ran = run("cargo", "clippy", *chosen, *PEDANTIC, cwd=root)
        assert ran.returncode == 0, ran.stderr


@pytest.mark.parametrize("template", TEMPLATES)
def test_it_passes_its_own_tests(template, rendered, run):
    root = rendered(template)
    ran = run("scaffold", "test", "--root", root, "--json")
    assert ran.returncode == 0, ran.stderr
    (play,) = json.loads(ran.stdout)["outcomes"]
    assert play["passed"] > 0
    assert (play["failed"], play["errors"], play["skipped"]) == (0, 0, 0)


def test_emulator_and_envoy_agree_about_connections(rendered, run):
    ran = run("scaffold", "diff", "--root", rendered("tcp"))
    assert (ran.returncode, ran.stdout.strip()) == (0, "emulator and envoy: no difference in 16 tests")


@pytest.mark.parametrize("template", TEMPLATES)
def test_it_holds_its_budget_and_has_one_that_says_something(template, rendered):
    """Untrimmed, too, as scaffold builds it where nothing is known of a crate."""
    root = rendered(template)
    limits = Project.load(root).settings.budget
    assert limits.module_bytes and limits.initial_memory_bytes
    for options in (scaffold.BuildOptions(no_trim=True), scaffold.BuildOptions()):
        module = scaffold.build(root, options)  # raises an error if it is over its budget
        assert limits.module_bytes / 3 < module.size <= limits.module_bytes
        assert module.file.memory_pages * 65_536 <= limits.initial_memory_bytes


@pytest.mark.parametrize("template", TEMPLATES if EVERYTHING else ["http", "body"])
def test_it_holds_its_budget_for_both_triples_with_and_without_wasm_opt(
    template, rendered, tmp_path, monkeypatch, no_optimiser, optimiser
):
    root = shutil.copytree(rendered(template), tmp_path / template)
    manifest = root / "Cargo.toml"
    for triple in TRIPLES:
        manifest.write_text(manifest.read_text().replace(TRIPLES[0], triple))
        sizes = []
        for path in (str(no_optimiser), f"{optimiser.parent}{os.pathsep}{no_optimiser}"):
            monkeypatch.setenv("PATH", path)
            module = scaffold.build(root)  # raises an error if it is over its budget
            made = relink.made(module.path)
            assert made
            assert (module.path.parts[-3], made.optimised) == (triple, path != str(no_optimiser))
            sizes.append(module.size)
        assert sizes[1] < sizes[0]


class Client:
    """A client of a deployment that keeps its connection."""

    def __init__(self, deployment: deployments.Record) -> None:
        self._connection = http.client.HTTPConnection("127.0.0.1", deployment.port, timeout=10)

    def get(self) -> tuple[int, str]:
        """The answer's status, and the cluster that the origin was told of; 0 when no whole answer came."""
        try:
            self._connection.request("GET", "/headers")
            answer = self._connection.getresponse()
            body = answer.read()
        except (OSError, http.client.HTTPException):
            self._connection.close()
            return 0, ""
        told = json.loads(body)["headers"] if answer.status == 200 else {}
        return answer.status, told.get("X-Cluster", "")


def test_buckets_hold_over_all_workers_exactly(rendered, tmp_path):
    """Four workers, sixteen connections of one client, all at once: as many pass as its bucket has tokens.

    They go where nothing answers, so that those that pass are as quick as the others, and workers meet.
    """
    root = shutil.copytree(rendered("ratelimit"), tmp_path / "ratelimit")
    with (root / "Cargo.toml").open("a") as manifest:
        manifest.write('\n[package.metadata.proxy-wasm.clusters]\ndead = "http://127.0.0.1:1"\n')
    config = {"requests": 1, "seconds": 3600, "burst": 4000, "client": {"header": "x-client"}}
    scaffold.deploy(
        root, run=scaffold.RunOptions(port=0, config=json.dumps(config), envoy_args="--concurrency 4")
    )
    deployment = deployments.load(root)
    assert deployment
    try:
        with ThreadPoolExecutor(16) as threads:
            seen = list(threads.map(lambda _: statuses(deployment.port, 400), range(16)))
    finally:
        scaffold.undeploy(root)
    total = sum(seen, Counter())
    assert total == {503: 4000, 429: 2400}, total


def test_a_bucket_that_is_new_to_all_workers_is_made_once(rendered, tmp_path):
    """Sixteen connections ask for the same clients at once, each of which has a single request."""
    root = rendered("ratelimit")
    config = {"requests": 1, "seconds": 3600, "burst": 1, "client": {"header": "x-client"}}
    scaffold.deploy(
        root, run=scaffold.RunOptions(port=0, config=json.dumps(config), envoy_args="--concurrency 4")
    )
    deployment = deployments.load(root)
    assert deployment
    clients = [f"client-{number}" for number in range(300)]

    def passed(_: int) -> list[str]:
        """The clients whose request passed on one connection."""
        with closing(http.client.HTTPConnection("127.0.0.1", deployment.port, timeout=10)) as connection:
            seen = []
            for client in clients:
                connection.request("GET", "/headers", headers={"x-client": client})
                answer = connection.getresponse()
                answer.read()
                seen += [client] if answer.status == 200 else []
            return seen

    try:
        with ThreadPoolExecutor(16) as threads:
            total = sum(map(Counter, threads.map(passed, range(16))), Counter())
    finally:
        scaffold.undeploy(root)
    assert set(total.values()) == {1}
    assert len(total) > 250, "some clients share a bucket"


def test_two_limits_in_one_proxy_have_buckets_of_their_own(rendered, tmp_path):
    """One after the other, for all clients: else each request would take two tokens from one bucket."""
    root = rendered("ratelimit")
    config = json.dumps({"requests": 1, "seconds": 3600, "burst": 4, "client": "all"})
    first = tmp_path / "first.yaml"
    scaffold.bootstrap(
        root, options=scaffold.RunOptions(id="first", config=config, upstream="http://127.0.0.1:1"), out=first
    )
    scaffold.deploy(root, run=scaffold.RunOptions(port=0, id="second", config=config, bootstrap=first))
    deployment = deployments.load(root)
    assert deployment
    try:
        assert statuses(deployment.port, 6) == {503: 4, 429: 2}
    finally:
        scaffold.undeploy(root)


def statuses(port: int, number: int) -> Counter[int]:
    """Those of so many requests, one after the other; by a bare socket, since the client must be quick."""
    seen: Counter[int] = Counter()
    with socket.create_connection(("127.0.0.1", port), timeout=10) as connection:
        for _ in range(number):
            connection.sendall(b"GET / HTTP/1.1\r\nhost: h\r\nx-client: one\r\nx-cluster: dead\r\n\r\n")
            head, _, body = connection.recv(65536).partition(b"\r\n\r\n")
            length = int(head.lower().partition(b"content-length: ")[2].split()[0])
            while len(body) < length:
                body += connection.recv(65536)
            seen[int(head.split()[1])] += 1
    return seen


def test_a_configuration_is_swapped_under_load_and_nothing_is_lost(rendered):
    """Two in turn, and some that the plugin refuses, under eight clients: one of the two answers each."""
    root = rendered("routing")
    scaffold.deploy(root, run=scaffold.RunOptions(port=0, config='{"otherwise": "red"}'))
    deployment = deployments.load(root)
    assert deployment
    stop = threading.Event()
    seen: Counter[tuple[int, str]] = Counter()

    def ask() -> None:
        client = Client(deployment)
        while not stop.is_set():
            seen[client.get()] += 1

    clients = [threading.Thread(target=ask) for _ in range(8)]
    for thread in clients:
        thread.start()
    try:
        for number in range(1, 7):
            colour = ("red", "blue")[number % 2]
            scaffold.deploy(root, run=scaffold.RunOptions(port=0, config=json.dumps({"otherwise": colour})))
            # another one each time: Envoy remembers what was refused, and doesn't ask again why
            refused = {"rules": [{"name": f"r{number}", "cluster": "b", "user": "X"}]}
            with pytest.raises(ModuleError, match="isn't a header name"):
                scaffold.deploy(root, run=scaffold.RunOptions(port=0, config=json.dumps(refused)))
            assert Client(deployment).get() == (200, colour)
    finally:
        stop.set()
        for thread in clients:
            thread.join()
        scaffold.undeploy(root)
    assert set(seen) == {(200, "red"), (200, "blue")}
    assert sum(seen.values()) > 500
