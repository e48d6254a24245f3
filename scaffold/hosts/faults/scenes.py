"""Requests of a project's tests, with what they met: kept while the tests run, to be played again."""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaffold.hosts.exchange import Headers, Request, Response


@dataclass(frozen=True)
class Answer:
    """An answer that a test had the upstream give; the fields are those of `Origin.answer`."""

    response: Response
    path: str | None = None
    after: float = 0
    cut: bool = False


@dataclass(frozen=True)
class Scene:
    """A request, the plugin's configuration then, and the answers that the test had set."""

    request: Request
    configuration: bytes = b""
    answers: tuple[Answer, ...] = ()

    def __str__(self) -> str:
        return f"{self.request.method} {self.request.target}"


def keep(path: Path, scene: Scene) -> None:
    """Add a scene to a file, to which other processes may add theirs."""
    request = scene.request
    made = {
        "method": request.method,
        "target": request.target,
        "headers": list(request.headers.iteritems()),
        "trailers": list(request.trailers.iteritems()),
        "body": _text(request.body),
        "pieces": request.pieces,
        "configuration": _text(scene.configuration),
        "answers": [_shown(each) for each in scene.answers],
    }
    with path.open("a") as file:
        file.write(json.dumps(made) + "\n")


def read(path: Path) -> list[Scene]:
    """The scenes of a file, each once, in their order."""
    lines: Iterable[str] = path.read_text().splitlines() if path.exists() else ()
    return [_scene(json.loads(line)) for line in dict.fromkeys(lines)]


def _scene(made: dict[str, Any]) -> Scene:
    request = Request(
        made["method"],
        made["target"],
        Headers(map(tuple, made["headers"])),
        base64.b64decode(made["body"]),
        trailers=Headers(map(tuple, made["trailers"])),
        pieces=tuple(made["pieces"]),
    )
    answers = tuple(map(_answer, made["answers"]))
    return Scene(request, base64.b64decode(made["configuration"]), answers)


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
