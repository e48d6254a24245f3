"""Requests and connections of a project's tests, with what they met: kept to be played again."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaffold.hosts.client import Conversation
from scaffold.hosts.exchange import Headers, Request, Response

Sent = Request | Conversation


@dataclass(frozen=True)
class Answer:
    """An answer that a test had the upstream give; the fields are those of `Origin.answer`."""

    response: Response
    path: str | None = None
    after: float = 0
    cut: bool = False


@dataclass(frozen=True)
class Scene:
    """What a client sends, the plugin's configuration then, and the answers that the test had set."""

    request: Sent
    configuration: bytes = b""
    answers: tuple[Answer, ...] = ()

    def __str__(self) -> str:
        return f"{self.request.method} {self.request.target}"


def keep(path: Path, scene: Scene) -> None:
    """Add a scene to a file, to which other processes may add theirs."""
    made = {
        "request": _of(scene.request),
        "configuration": _text(scene.configuration),
        "answers": [_shown(each) for each in scene.answers],
    }
    with path.open("a") as file:
        file.write(json.dumps(made) + "\n")


def read(path: Path) -> list[Scene]:
    """The scenes of a file, each once, in their order."""
    lines: Iterable[str] = path.read_text().splitlines() if path.exists() else ()
    return [_scene(json.loads(line)) for line in dict.fromkeys(lines)]


def _of(sent: Sent) -> dict[str, Any]:
    if isinstance(sent, Conversation):
        return {"sent": [_text(each) for each in sent.pieces], "finishes": sent.finishes}
    return {
        "method": sent.method,
        "target": sent.target,
        "headers": list(sent.headers.iteritems()),
        "trailers": list(sent.trailers.iteritems()),
        "body": _text(sent.body),
        "pieces": sent.pieces,
    }


def _scene(made: dict[str, Any]) -> Scene:
    answers = tuple(map(_answer, made["answers"]))
    return Scene(_sent(made["request"]), base64.b64decode(made["configuration"]), answers)


def _sent(made: dict[str, Any]) -> Sent:
    if "sent" in made:
        return Conversation(tuple(map(base64.b64decode, made["sent"])), made["finishes"])
    return Request(
        made["method"],
        made["target"],
        Headers(map(tuple, made["headers"])),
        base64.b64decode(made["body"]),
        trailers=Headers(map(tuple, made["trailers"])),
        pieces=tuple(made["pieces"]),
    )


def _shown(answer: Answer) -> dict[str, Any]:
    response = answer.response
    return {
        "status": response.status,
        "headers": list(response.headers.iteritems()),
        "trailers": list(response.trailers.iteritems()),
        "body": _text(response.body),
        "path": answer.path,
        "after": answer.after,
        "cut": answer.cut,
    }


def _answer(made: dict[str, Any]) -> Answer:
    headers, trailers = (Headers(map(tuple, made[name])) for name in ("headers", "trailers"))
    response = Response(made["status"], headers, base64.b64decode(made["body"]), trailers)
    return Answer(response, made["path"], made["after"], made["cut"])


def _text(content: bytes) -> str:
    return base64.b64encode(content).decode()
