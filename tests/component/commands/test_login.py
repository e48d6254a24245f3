"""Logging in and out, and listing tags, as operations."""

import base64
import io
import json
import os
import subprocess
import sys

import pytest
from support.commands import terminal
from support.credentials import keep
from support.faulty_registry import Reply, error

from scaffold.commands.login import Login, Logout, login, logout
from scaffold.commands.tags import tags
from scaffold.core import events
from scaffold.errors import MachineError, RegistryError, UsageError
from scaffold.oci.registry.credentials import Credentials, find
from scaffold.oci.spec import MANIFEST

pytestmark = pytest.mark.usefixtures("home")
BASIC = "Basic " + base64.b64encode(b"alice:open sesame").decode()


@pytest.fixture
def closed(server):
    """A registry that doesn't let you in but Alice."""
    refusal = error(401, "UNAUTHORIZED", "authentication required", WWW_Authenticate='Basic realm="r"')
    server.on("GET", "/v2/", lambda seen: None if seen.headers.get("Authorization") == BASIC else refusal)
    return server


def answering(**answers):
    """Somebody who answers what is asked, and knows when it is to be hidden."""

    def listen(event):
        if isinstance(event, events.Prompt):
            assert event.hidden == (event.text == "Password")
            return answers[event.text]
        return None

    return events.listening(listen)


def test_who_is_let_in_is_kept(closed, home):
    with answering(Username="alice", Password="open sesame"):
        assert login(closed.name) == Login(closed.name, "alice", str(home / ".docker/config.json"))
    assert find(closed.name) == Credentials("alice", "open sesame")
    assert logout(closed.name) == Logout(closed.name, True)
    assert find(closed.name) is None
    assert logout(closed.name).summary() == f"not logged in to {closed.name}"


def test_who_isnt_let_in_isnt_kept(closed, home):
    with answering(Password="wrong"), pytest.raises(RegistryError) as caught:
        login(closed.name, username="alice")
    message = f"{closed.name} rejects this password for `alice`: authentication required"
    assert caught.value.message == message
    hint = "check both; some registries require a token instead of the password"
    assert caught.value.hint == hint
    assert not (home / ".docker").exists()


def test_what_is_kept_already_isnt_tried_instead(closed, home):
    (home / ".docker").mkdir()
    entry = {"auth": BASIC.removeprefix("Basic ")}
    (home / ".docker/config.json").write_text(json.dumps({"auths": {closed.name: entry}}))
    with answering(Password="wrong"), pytest.raises(RegistryError):
        login(closed.name, username="alice")


def test_a_registry_that_lets_anybody_in_is_named(server, said):
    with answering(Password="p"):
        login(server.name, username="alice")
    assert f"{server.name} needs no login: the password was not checked" in said
    assert find(server.name) == Credentials("alice", "p")


def test_a_password_is_typed_unseen(closed, tmp_path):
    code = f"""
from scaffold.cli import console
from scaffold.commands.login import login
with console.reporting(), console.showing_events():
    console.show(login({closed.name!r}))
"""
    with terminal(sys.executable, "-c", code, cwd=tmp_path) as shown:
        shown.until("Username: ")
        shown.type("alice\n")
        shown.until("Password: ")
        shown.type("open sesame\n")
        assert shown.end() == 0, shown.seen
    assert "sesame" not in shown.seen
    assert f"logged in to {closed.name} as alice" in shown.seen


@pytest.mark.parametrize(
    ("typed", "password"), [("open sesame\n", "open sesame"), ("p\r\n", "p"), (" p ", " p ")]
)
def test_a_password_may_be_piped_in(server, typed, password):
    call = f"login({server.name!r}, username='a', password_stdin=True)"
    code = f"from scaffold.commands.login import login; print({call})"
    ran = subprocess.run([sys.executable, "-c", code], input=typed.encode(), capture_output=True)
    assert ran.returncode == 0, ran.stderr
    assert find(server.name) == Credentials("a", password)
    assert b"sesame" not in ran.stdout + ran.stderr


@pytest.mark.parametrize("typed", [b"", b"\n", b"\xff", b"a\nb\n", b"x" * 70_000])
def test_what_is_piped_in_may_be_no_password(server, monkeypatch, typed):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(typed)))
    with pytest.raises(UsageError):
        login(server.name, username="alice", password_stdin=True)
    assert not server.seen


def test_nobody_is_there_to_answer(server):
    with pytest.raises(UsageError) as caught:
        login(server.name)
    assert caught.value.hint == "--username NAME"
    with pytest.raises(UsageError, match="the password is empty") as caught:
        login(server.name, username="alice")
    command = f"scaffold login {server.name} --username alice --password-stdin"
    assert caught.value.hint == f"pipe it into `{command}`"
    with pytest.raises(UsageError, match="--password-stdin needs --username"):
        login(server.name, password_stdin=True)
    with pytest.raises(UsageError, match="isn't a valid user name"):
        login(server.name, username="a:b")


@pytest.mark.parametrize("typed", ["https://{0}/", "{0}", "http://{0}"])
def test_a_registry_may_be_typed_as_a_url(server, typed):
    with answering(Password="p"):
        assert login(typed.format(server.name), username="a").registry == server.name


# --- tags


def test_signatures_are_no_tags(server):
    pin = "sha256-" + "0" * 64
    for name in ("1", pin, f"{pin}.sig", f"{pin}.att", f"{pin}.sbom", f"{pin}.other", "sha256-1"):
        server.manifests[f"a:{name}"] = (MANIFEST, b"")
    assert tags(f"{server.name}/a") == ["1", f"{pin}.other", "sha256-1"]


def test_no_tags_are_said_to_be_none(server, said):
    assert tags(f"{server.name}/a") == []
    assert f"{server.name}/a has no tags" in said


def test_the_operations_are_quick_to_import():
    code = "import sys, scaffold.commands.login; print(*({'requests', 'ssl'} & set(sys.modules)))"
    env = {key: value for key, value in os.environ.items() if not key.startswith("COV")}
    assert (
        subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, env=env).stdout == "\n"
    )


def test_what_a_hostile_registry_says_cant_control_the_terminal(server):
    server.on("GET", "/tags/list", Reply(200, json.dumps({"tags": ["ok", "\x1b[2J", "a\nb", 7]}).encode()))
    assert tags(f"{server.name}/a") == ["ok"]


def test_a_missing_helper_is_named_before_a_password_is_asked_for(closed, home):
    keep(home / ".docker/config.json", {"credsStore": "desktop.exe"})
    with answering(), pytest.raises(MachineError, match=r"names the credential helper desktop\.exe"):
        login(closed.name)
