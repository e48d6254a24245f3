"""Asking a URL behind which a plugin was put: whether it answers, once a cluster has the plugin."""

from __future__ import annotations

import time
from urllib.parse import urlsplit

from scaffold.core.events import step
from scaffold.errors import TargetError, UsageError

_PAUSE = 0.5


def check(url: str) -> None:
    """Raise `UsageError` for what is no URL."""
    try:
        parts = urlsplit(url)
        fine = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        fine = False
    if not fine:
        raise UsageError(
            f"--probe {url} is no URL that could be asked", hint="write it as http://gateway.example.com/"
        )


def see_it_answer(url: str, wait: float) -> None:
    """Ask a URL until it answers with less than a 500. Raises `TargetError` when it doesn't in time."""
    import requests

    deadline = time.monotonic() + wait
    with step(f"Asking {url}"):
        while True:
            try:
                answer = requests.get(url, timeout=5, allow_redirects=False)
                said = f"it answers {answer.status_code}"
                if answer.status_code < 500:
                    return
            except requests.exceptions.SSLError as error:
                said = str(error)[:200]
            except requests.ConnectionError:
                said = "nothing answers there"
            except requests.RequestException as error:
                said = str(error)[:200]
            if time.monotonic() >= deadline:
                raise TargetError(
                    f"the plugin is applied, but {url} doesn't answer: {said}",
                    hint="`scaffold undeploy` takes it away again",
                )
            time.sleep(_PAUSE)
