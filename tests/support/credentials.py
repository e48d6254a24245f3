"""Files of credentials, as Docker and others keep them."""

import base64
import json

import pytest


def auth(text):
    return {"auth": base64.b64encode(text.encode()).decode()}


def keep(path, record, mode=0o600):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(record if isinstance(record, str) else json.dumps(record))
    path.chmod(mode)
    return path


@pytest.fixture
def docker(home):
    """Docker's file."""
    return home / ".docker/config.json"
