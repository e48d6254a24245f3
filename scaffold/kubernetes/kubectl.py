"""The user's own kubectl: found, asked, and its refusals told apart by its words (of 1.37)."""

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
_WARNING = "Warning: "  # an admission webhook's, mostly
_LOG_LINE = re.compile(r"[EWI]\d{4} ")  # client-go's own, before kubectl's words
# how its errors begin, those that the API server gave a reason for, and those it has itself
_BY_SERVER = re.compile(r"Error from server(?: \((\w+)\))?: (.*)")
_NO_NAMESPACE = re.compile(r'^(?:.*: )?namespaces "([^"]*)" not found$')
_WEBHOOK = re.compile(r'failed calling webhook "([^"]*)"')
_LATER = ("Timeout", "ServerTimeout", "ServiceUnavailable")
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
_ADVICE = " Please review the fields above"  # a page about field managers
_UNCHECKED = "; if you choose to ignore these errors, turn validation off"


class Unreachable(TargetError):
    """Nothing answers where the cluster should be."""


class Forbidden(TargetError):
    """The cluster doesn't let this user do that."""


@dataclass(frozen=True)
class Resource:
    """One resource of a cluster, by what finds it."""

    api: str
    kind: str
    namespace: str
    name: str

    @property
    def words(self) -> tuple[str, ...]:
        """As kubectl's arguments: the kind with its version and group, which none else can have."""
        group, _, version = self.api.partition("/")
        return f"{self.kind}.{version}.{group}", self.name, "--namespace", self.namespace

    def __str__(self) -> str:
        return f"{self.kind} {self.namespace}/{self.name}"


@dataclass(frozen=True)
class Kubectl:
    """kubectl for one context; `server` is the URL of the cluster that the context means now."""

    path: str
    context: str
    server: str

    @classmethod
    def find(cls, context: str | None = None) -> Self:
        """The one on PATH, for that context or the current one.

        Raises `MachineError` when there is none, `UsageError` when there is no such context.
        """
        path = shutil.which("kubectl")
        if path is None:
            raise MachineError(
                "there is no kubectl on PATH",
                hint="install it: https://kubernetes.io/docs/tasks/tools/; `scaffold manifest` needs none",
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
        """What kubectl answers on standard output; what it warns of is announced.

        Raises `TargetError`, in its words, when it refuses, or `UsageError` for a missing namespace.
        """
        always = ("--context", self.context, f"--request-timeout={REQUEST_SECONDS}s")
        ran = process.run([self.path, *words, *always], input=stdin, timeout=_RUN_SECONDS)
        if ran.code:
            raise self._refused(_said(ran.stderr))
        for line in ran.stderr.splitlines():
            if line.startswith(_WARNING):
                emit(Warned(line.removeprefix(_WARNING)))
        return ran.stdout

    def get(self, resource: Resource) -> dict[str, Any] | None:
        """A resource as it is in the cluster; None when it isn't there."""
        answer = self.run("get", *resource.words, "--ignore-not-found", "-o", "json")
        found: dict[str, Any] | None = json.loads(answer) if answer.strip() else None
        return found

    def check_namespace(self, name: str) -> None:
        """Raise `UsageError` when there is no such namespace; who may not ask is told when it matters."""
        with suppress(Forbidden):
            if not self.run("get", "namespace", name, "--ignore-not-found", "-o", "name").strip():
                raise self._no_namespace(name)

    def _no_namespace(self, name: str) -> UsageError:
        return UsageError(
            f"the cluster of the context `{self.context}` has no namespace `{name}`",
            hint=f"`kubectl create namespace {name}` makes it; or pass another --namespace",
        )

    def _refused(self, words: str) -> ScaffoldError:
        where = f"the cluster of the context `{self.context}`"
        found = _BY_SERVER.match(words)
        reason, said = (found[1] or "", found[2]) if found else ("", "")
        if reason == "NotFound" and (missing := _NO_NAMESPACE.search(said)):
            return self._no_namespace(missing[1])
        if reason == "Forbidden":
            return Forbidden(
                f"{where} doesn't let you: {words}", hint="`kubectl auth whoami` says who you are there"
            )
        if reason == "Conflict" or words.startswith("Apply failed with "):
            return TargetError(
                f"another tool looks after fields of the resource: {words}", hint="choose another --name"
            )
        if reason == "InternalError" and (webhook := _WEBHOOK.search(said)):
            return TargetError(
                f"{where} can't ask its webhook {webhook[1]}: {words}",
                hint="does the control plane run that the webhook belongs to?",
            )
        if words.startswith(_UNKNOWN_USER):
            return TargetError(f"{where} doesn't know you: {words}", hint="log in to it again")
        if words == "EOF" or words.startswith(_NO_CREDENTIALS):  # it has asked for a password, in vain
            return TargetError(
                f"kubectl has no credentials for {where}: {words}",
                hint="log in to it again; a program that gets them must be on PATH",
            )
        if words.startswith(_NO_KIND):
            return TargetError(
                f"{where} doesn't know such a resource: {words}", hint="is the control plane installed there?"
            )
        if reason in _LATER or words.startswith(_NO_ANSWER):
            return Unreachable(
                f"{where} can't be reached at {self.server}: {words}",
                hint=f"`kubectl cluster-info --context {self.context}` says more",
            )
        return TargetError(f"kubectl refused: {words}")


def _no_context(context: str | None, words: str) -> UsageError:
    if context:
        message = f"kubectl has no context `{context}`: {_said(words)}"
    else:
        message = f"kubectl has no current context: {_said(words)}"
    return UsageError(message, hint="`kubectl config get-contexts` lists them; then pass --context NAME")


def _said(stderr: str) -> str:
    """Its words in one line, without the log before them, and what is around those of a failed check."""
    lines, logging = [], False
    for line in stderr.splitlines():
        if _LOG_LINE.match(line):
            logging = line.endswith("<")  # a record of several lines, up to " >"
        elif not logging:
            lines.append(line.strip())
        logging = logging and line != " >"
    words = " ".join(filter(None, lines)).removeprefix("error: ")
    words = words.removeprefix(_CHECKING).partition(_UNCHECKED)[0].partition(_ADVICE)[0]
    return words[:1000] or "without a word"
