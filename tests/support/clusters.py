"""A cluster as far as kubectl asks one: an API server in memory, with the kinds that our targets apply.

It answers discovery, server-side apply, get and delete as Kubernetes does. What a control plane would
write into a resource's status, a test says; what arrived is kept.
"""

from __future__ import annotations

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import yaml

Document = dict[str, Any]
# by "group/version": plural and kind
KINDS = {
    "v1": {"namespaces": "Namespace"},
    "extensions.istio.io/v1alpha1": {"wasmplugins": "WasmPlugin", "trafficextensions": "TrafficExtension"},
    "networking.istio.io/v1alpha3": {"envoyfilters": "EnvoyFilter"},
    "gateway.envoyproxy.io/v1alpha1": {"envoyextensionpolicies": "EnvoyExtensionPolicy"},
    "extensions.higress.io/v1alpha1": {"wasmplugins": "WasmPlugin"},
}


@dataclass(frozen=True)
class Seen:
    """A request that arrived; `dry` when nothing was to come of it."""

    method: str
    path: str
    query: dict[str, list[str]]
    body: str

    @property
    def dry(self) -> bool:
        return "dryRun" in self.query or '"dryRun"' in self.body


@dataclass
class Cluster:
    """`objects` by path; `control_plane` gives a resource's status after each change; `refuse` a refusal;
    `warning` is what an admission webhook says of every change."""

    objects: dict[str, Document] = field(default_factory=dict)
    seen: list[Seen] = field(default_factory=list)
    kinds: dict[str, dict[str, str]] = field(default_factory=lambda: dict(KINDS))
    control_plane: Callable[[Document], Document | None] = lambda resource: None
    refuse: Callable[[Seen], tuple[int, str, str] | None] = lambda seen: None
    warning: str = ""
    port: int = 0

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def changes(self) -> list[Seen]:
        """What changed something, or would have."""
        return [seen for seen in self.seen if seen.method not in ("GET", "HEAD")]

    def named(self, name: str) -> Document:
        """The one resource of that name."""
        (found,) = [each for path, each in self.objects.items() if path.endswith(f"/{name}")]
        return found

    def answer(self, seen: Seen) -> tuple[int, Document]:
        """What the API server says to a request."""
        refused = self.refuse(seen)
        if refused:
            return refused[0], _status(*refused)
        found = self._discovery(seen.path)
        if found is not None:
            return 200, found
        if seen.method == "PATCH":
            return self._apply(seen)
        if seen.path not in self.objects:
            *_, plural, name = seen.path.split("/")
            return 404, _status(404, "NotFound", f'{plural} "{name}" not found')
        if seen.method == "DELETE":
            if not seen.dry:
                del self.objects[seen.path]
            return 200, _status(200, "", "")
        return 200, self.objects[seen.path]

    def _apply(self, seen: Seen) -> tuple[int, Document]:
        namespace = seen.path.split("/namespaces/")[1].split("/")[0]
        if f"/api/v1/namespaces/{namespace}" not in self.objects:
            return 404, _status(404, "NotFound", f'namespaces "{namespace}" not found')
        resource = yaml.safe_load(seen.body)
        before = self.objects.get(seen.path)
        metadata = resource["metadata"]
        metadata["uid"] = before["metadata"]["uid"] if before else str(uuid.uuid4())
        metadata["generation"] = before["metadata"]["generation"] + 1 if before else 1
        if not seen.dry:
            self.objects[seen.path] = resource
            status = self.control_plane(resource)
            if status is not None:
                resource["status"] = status
        return (200 if before else 201), resource

    def _discovery(self, path: str) -> Document | None:
        api = path.removeprefix("/apis/") if path.startswith("/apis/") else path.removeprefix("/api/")
        if path == "/api":
            return {"kind": "APIVersions", "versions": ["v1"]}
        if path == "/apis":
            groups = [_group(name) for name in self.kinds if "/" in name]
            return {"kind": "APIGroupList", "apiVersion": "v1", "groups": groups}
        if api in self.kinds:
            return {"kind": "APIResourceList", "groupVersion": api, "resources": self._resources(api)}
        if path == "/openapi/v3":
            return {"paths": {f"apis/{name}": {"serverRelativeURL": f"/openapi/v3/{name}"} for name in KINDS}}
        if path.startswith("/openapi/v3/"):
            return self._openapi(path.removeprefix("/openapi/v3/"))
        return None

    def _resources(self, api: str) -> list[Document]:
        return [
            {
                "name": plural,
                "singularName": kind.lower(),
                "namespaced": kind != "Namespace",
                "kind": kind,
                "verbs": ["get", "patch", "delete"],
            }
            for plural, kind in self.kinds[api].items()
        ]

    def _openapi(self, api: str) -> Document:
        """As much as says that a field may be validated, and nothing be done, on the server's side."""
        group, _, version = api.partition("/")
        paths = {
            f"/apis/{api}/namespaces/{{namespace}}/{plural}/{{name}}": {
                "patch": {
                    "x-kubernetes-group-version-kind": {"group": group, "version": version, "kind": kind},
                    "parameters": [
                        {"name": "fieldValidation", "in": "query"},
                        {"name": "dryRun", "in": "query"},
                    ],
                    "responses": {},
                }
            }
            for plural, kind in KINDS[api].items()
        }
        return {"openapi": "3.0.0", "info": {"title": api, "version": "1"}, "paths": paths}


def _group(api: str) -> Document:
    version = {"groupVersion": api, "version": api.partition("/")[2]}
    return {"name": api.partition("/")[0], "versions": [version], "preferredVersion": version}


def _status(code: int, reason: str, message: str) -> Document:
    status = "Failure" if reason else "Success"
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": status,
        "message": message,
        "reason": reason,
        "code": code,
    }


@contextmanager
def cluster(*namespaces: str) -> Iterator[Cluster]:
    """One that listens on a free port of the loopback while the block runs, with these namespaces."""
    running = Cluster()
    for name in namespaces:
        running.objects[f"/api/v1/namespaces/{name}"] = {
            "kind": "Namespace",
            "apiVersion": "v1",
            "metadata": {"name": name},
        }

    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def handle_one(self) -> None:
            parts = urlsplit(self.path)
            body = self.rfile.read(int(self.headers.get("Content-Length") or 0)).decode()
            seen = Seen(self.command, parts.path, parse_qs(parts.query), body)
            running.seen.append(seen)
            code, answer = running.answer(seen)
            content = json.dumps(answer).encode()
            self.send_response(code)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(content)))
            if running.warning and seen.method == "PATCH":
                self.send_header("Warning", f'299 - "{running.warning}"')
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_PATCH = do_DELETE = do_POST = handle_one  # noqa: N815 - http.server's names

        def log_message(self, *_: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        running.port = server.server_address[1]
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02})
        thread.start()
        try:
            yield running
        finally:
            server.shutdown()
            thread.join()


def kubeconfig(path: Path, servers: dict[str, str], current: str | None = None) -> Path:
    """A kubeconfig with a context for each server, by name."""
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": name, "cluster": {"server": url}} for name, url in servers.items()],
        "contexts": [{"name": name, "context": {"cluster": name, "user": "me"}} for name in servers],
        "users": [{"name": "me", "user": {}}],
    }
    path.write_text(json.dumps(config | ({"current-context": current} if current else {})))
    return path
