"""The user's own kubectl: find it, run it, and turn its error messages (those of 1.37) into our errors."""

from __future__ import annotations

import json
import re
import shutil
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Self

from scaffold.core import process
from scaffold.core.events import Warned, emit
from scaffold.errors import MachineError, ScaffoldError, TargetError, UsageError

REQUEST_SECONDS = 15
_RUN_SECONDS = 120.0
_WARNING = "Warning: "  # mostly of an admission webhook
_LOG_LINE = re.compile(r"[EWI]\d{4} ")  # client-go's log, before kubectl's own output
# how kubectl's errors begin: the API server's, with its reason, and its own
_BY_SERVER = re.compile(r"Error from server(?: \((\w+)\))?: (.*)")
_NO_NAMESPACE = re.compile(r'^(?:.*: )?namespaces "([^"]*)" not found$')
_WEBHOOK = re.compile(r'failed calling webhook "([^"]*)"')
_BUSY = ("Timeout", "ServerTimeout", "ServiceUnavailable")
_UNKNOWN_USER = ("You must be logged in to the server", "the server has asked for the client")
_NO_CREDENTIALS = ("error reading input for ", "Unable to connect to the server: getting credentials: ")
_NO_KIND = ("resource mapping not found for ", "the server doesn't have a resource type ")
_NO_ANSWER = (
    "Unable to connect to the server: ",
    "The connection to the server ",
    "context deadline exceeded",
    "the server is currently unable to handle the request",
    'Get "',
)
_CHECKING = 'error validating "STDIN": error validating data: failed to download openapi: '
_ADVICE = " Please review the fields above"  # followed by a page about field managers
_UNCHECKED = "; if you choose to ignore these errors, turn validation off"


class Unreachable(TargetError):
    """The cluster doesn't answer."""


class Forbidden(TargetError):
    """The cluster denies this user the request."""


@dataclass(frozen=True)
class Resource:
    """The identity of a resource in a cluster."""

    api: str
    kind: str
    namespace: str
    name: str

    @property
    def words(self) -> tuple[str, ...]:
        """kubectl's arguments for it: the kind is unique only with its version and group."""
        group, _, version = self.api.partition("/")
        return f"{self.kind}.{version}.{group}", self.name, "--namespace", self.namespace

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True)
class Kubectl:
    """kubectl for one context; `server` is the URL of the context's cluster."""

    path: str
    context: str
    server: str

    @classmethod
    def find(cls, context: str | None = None) -> Self:
        """The kubectl on PATH, for that context or the current one.

        Raises `MachineError` without a kubectl, `UsageError` without such a context.
        """
        path = shutil.which("kubectl")
        if path is None:
            raise MachineError(
                "there is no kubectl on PATH",
                hint="see https://kubernetes.io/docs/tasks/tools/; `scaffold manifest` needs no kubectl",
            )
        chosen = ["--context", context] if context else []
        ran = process.run([path, "config", "view", "--minify", "-o", "json", *chosen], timeout=_RUN_SECONDS)
        if ran.code:
            raise _no_context(context, ran.stderr)
        try:
            config = json.loads(ran.stdout)
            return cls(path, config["current-context"], config["clusters"][0]["cluster"]["server"])
        except (ValueError, KeyError, IndexError, TypeError) as error:
            raise _no_context(context, "the context names no cluster") from error

    def run(self, *words: str, stdin: str | None = None) -> str:
        """Run kubectl and return its standard output; its warnings are announced.

        Raises `TargetError` with its message when it fails, or `UsageError` for a missing namespace.
        """
        always = ("--context", self.context, f"--request-timeout={REQUEST_SECONDS}s")
        ran = process.run([self.path, *words, *always], input=stdin, timeout=_RUN_SECONDS, guarded=True)
        if ran.code:
            raise self._error(_message(ran.stderr))
        for line in ran.stderr.splitlines():
            if line.startswith(_WARNING):
                emit(Warned(line.removeprefix(_WARNING)))
        return ran.stdout

    def get(self, resource: Resource) -> dict[str, Any] | None:
        """A resource as the cluster has it; None when it doesn't exist."""
        output = self.run("get", *resource.words, "--ignore-not-found", "-o", "json")
        document: dict[str, Any] | None = json.loads(output) if output.strip() else None
        return document

    def check_namespace(self, name: str) -> None:
        """Raise `UsageError` when there is no such namespace; a user who may not read namespaces passes."""
        with suppress(Forbidden):
            if not self.run("get", "namespace", name, "--ignore-not-found", "-o", "name").strip():
                raise self._no_namespace(name)

    def _no_namespace(self, name: str) -> UsageError:
        return UsageError(
            f"the cluster of the context `{self.context}` has no namespace `{name}`",
            hint=f"`kubectl create namespace {name}`, or pass another --namespace",
        )

    def _error(self, message: str) -> ScaffoldError:
        """Our error for kubectl's message."""
        where = f"the cluster of the context `{self.context}`"
        by_server = _BY_SERVER.match(message)
        reason, detail = (by_server[1] or "", by_server[2]) if by_server else ("", "")
        if reason == "NotFound" and (missing := _NO_NAMESPACE.search(detail)):
            return self._no_namespace(missing[1])
        if reason == "Forbidden":
            return Forbidden(
                f"{where} doesn't permit that: {message}", hint="`kubectl auth whoami` shows your user there"
            )
        if reason == "Conflict" or message.startswith("Apply failed with "):
            return TargetError(
                f"another tool manages fields of the resource: {message}", hint="choose another --name"
            )
        if reason == "InternalError" and (webhook := _WEBHOOK.search(detail)):
            return TargetError(
                f"{where} can't reach its webhook {webhook[1]}: {message}",
                hint="check that the webhook's control plane runs",
            )
        if message.startswith(_UNKNOWN_USER):
            return TargetError(f"{where} doesn't know you: {message}", hint="log in to it again")
        if message == "EOF" or message.startswith(_NO_CREDENTIALS):  # it asked for a password
            return TargetError(
                f"kubectl has no credentials for {where}: {message}",
                hint="log in to it again; if a program provides them, it must be on PATH",
            )
        if message.startswith(_NO_KIND):
            return TargetError(
                f"{where} doesn't know such a resource: {message}",
                hint="check that the control plane is installed there",
            )
        if reason in _BUSY or message.startswith(_NO_ANSWER):
            return Unreachable(
                f"{where} can't be reached at {self.server}: {message}",
                hint=f"`kubectl cluster-info --context {self.context}`",
            )
        return TargetError(f"kubectl failed: {message}")


def _no_context(context: str | None, stderr: str) -> UsageError:
    which = f"context `{context}`" if context else "current context"
    return UsageError(
        f"kubectl has no {which}: {_message(stderr)}",
        hint="`kubectl config get-contexts`, then pass --context NAME",
    )


def _message(stderr: str) -> str:
    """kubectl's message in one line, without the log before it and the advice around it."""
    lines, logging = [], False
    for line in stderr.splitlines():
        if _LOG_LINE.match(line):
            logging = line.endswith("<")  # a record of several lines, up to " >"
        elif not logging:
            lines.append(line.strip())
        logging = logging and line != " >"
    message = " ".join(filter(None, lines)).removeprefix("error: ")
    message = message.removeprefix(_CHECKING).partition(_UNCHECKED)[0].partition(_ADVICE)[0]
    return message[:1000] or "no message"
