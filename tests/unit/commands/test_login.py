"""Logging in and out, and listing tags, as operations."""

import base64
import json

import pytest

from scaffold.commands.login import login, logout
from scaffold.commands.tags import tags
from scaffold.errors import UsageError

pytestmark = pytest.mark.usefixtures("home")


@pytest.mark.parametrize("name", ["foo", "r.example/acme", "r.example:x", "", "https://", "r_x:1", "a b.c"])
def test_a_registry_is_a_host(name):
    for act in (login, logout):
        with pytest.raises(UsageError):
            act(name, username="a") if act is login else act(name)


def test_other_files_credentials_are_mentioned_when_they_stay(home, said):
    path = home / ".config/containers/auth.json"
    path.parent.mkdir(parents=True)
    path.write_text(json.dumps({"auths": {"r.example": {"auth": base64.b64encode(b"a:b").decode()}}}))
    path.chmod(0o600)
    assert not logout("r.example").removed
    assert said == ["another file still has credentials for r.example: `podman logout r.example`"]


def test_a_name_without_a_registry_has_no_remote_tags():
    with pytest.raises(UsageError, match="doesn't name a registry"):
        tags("hello")
