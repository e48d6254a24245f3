import json
import os
import sys

import pytest
from support.credentials import auth, keep

from scaffold.errors import MachineError
from scaffold.oci.registry import credentials
from scaffold.oci.registry.credentials import Credentials


@pytest.fixture
def helper(tmp_path, monkeypatch):
    """Puts a helper on PATH that keeps what it is told in a file beside it, and notes its arguments."""
    folder = tmp_path / "bin"
    folder.mkdir()
    monkeypatch.setenv("PATH", f"{folder}{os.pathsep}{os.environ['PATH']}")

    def make(name, kept=None, *, get=""):
        store = folder / f"{name}.json"
        store.write_text(json.dumps(kept or {}))
        program = folder / f"docker-credential-{name}"
        program.write_text(f"""#!{sys.executable}
import json, pathlib, sys
verb, told = sys.argv[1], sys.stdin.read()
store = pathlib.Path({str(store)!r})
kept = json.loads(store.read_text())
with store.with_suffix(".log").open("a") as log:
    print(*sys.argv[1:], file=log)
{get or "pass"}
if verb == "get":
    if told.strip() not in kept:
        sys.exit(print("credentials not found in native keychain") or 1)
    print(json.dumps(dict(ServerURL=told, **kept[told.strip()])))
elif verb == "store":
    told = json.loads(told)
    kept[told.pop("ServerURL")] = told
else:
    kept.pop(told.strip())
store.write_text(json.dumps(kept))
""")
        program.chmod(0o755)
        return store

    return make


# --- helpers


def test_a_helper_of_a_registrys_own_comes_before_the_store_and_both_before_the_file(docker, helper):
    own = helper("own", {"r.example": {"Username": "own", "Secret": "1"}})
    store = helper("all", {"r.example": {"Username": "all", "Secret": "2"}})
    keep(
        docker,
        {"credHelpers": {"r.example": "own"}, "credsStore": "all", "auths": {"r.example": auth("file:3")}},
    )
    assert credentials.find("r.example") == Credentials("own", "1")
    own.write_text("{}")
    assert credentials.find("r.example") == Credentials("all", "2")
    store.write_text("{}")
    assert credentials.find("r.example") == Credentials("file", "3")


def test_a_helper_may_keep_an_identity_token(docker, helper):
    helper("x", {"https://index.docker.io/v1/": {"Username": "<token>", "Secret": "t"}})
    keep(docker, {"credsStore": "x", "auths": {"https://index.docker.io/v1/": {}}})
    assert credentials.find("docker.io") == Credentials(identity_token="t")


@pytest.mark.parametrize(
    ("get", "complaint"),
    [
        ("sys.exit('the keyring is locked')", "docker-credential-x get failed: the keyring is locked"),
        ("sys.exit(3)", "docker-credential-x get failed: it exited with 3"),
        ("sys.exit(print('no json'))", "docker-credential-x get didn't print credentials"),
        ("sys.exit(print('[]'))", "docker-credential-x get didn't print credentials"),
    ],
)
def test_a_helper_that_fails_is_warned_about(docker, helper, said, get, complaint):
    helper("x", get=get)
    keep(docker, {"credsStore": "x", "auths": {"r.example": auth("file:3")}})
    assert credentials.find("r.example") == Credentials("file", "3")
    assert said == [f"{complaint}; repair the helper, or remove credsStore from {docker}, which names it"]


def test_a_helper_that_isnt_there_is_warned_about(docker, said):
    keep(docker, {"credsStore": "nowhere"})
    assert credentials.find("r.example") is None
    named = f"{docker} names the credential helper nowhere (credsStore)"
    assert said[0].startswith(f"{named}, but there is no program docker-credential-nowhere on PATH")


@pytest.mark.parametrize(
    ("record", "key"),
    [
        ({"credsStore": "desktop.exe"}, "credsStore"),
        ({"credHelpers": {"r.example": "desktop.exe"}}, "`r.example` in credHelpers"),
    ],
)
def test_the_ways_out_of_a_missing_helper_work(docker, tmp_path, monkeypatch, record, key):
    keep(docker, record)
    for broken in (
        lambda: credentials.check_place("r.example"),
        lambda: credentials.store("r.example", Credentials("alice", "p")),
        lambda: credentials.erase("r.example"),
    ):
        with pytest.raises(MachineError) as caught:
            broken()
        assert f"({key})" in caught.value.message
        assert f"remove {key} from {docker}" in (caught.value.hint or "")
        assert "export DOCKER_CONFIG=" in (caught.value.hint or "")
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "other"))
    credentials.check_place("r.example")
    assert credentials.store("r.example", Credentials("alice", "p")) == str(tmp_path / "other/config.json")
    monkeypatch.delenv("DOCKER_CONFIG")
    keep(docker, {})
    credentials.check_place("r.example")
    assert credentials.store("r.example", Credentials("alice", "p")) == str(docker)


def test_where_there_is_a_helper_the_file_holds_no_secret(docker, helper):
    store = helper("x")
    keep(docker, {"credsStore": "x"})
    assert credentials.store("r.example", Credentials("alice", "open sesame")) == "docker-credential-x"
    assert json.loads(store.read_text()) == {"r.example": {"Username": "alice", "Secret": "open sesame"}}
    assert json.loads(docker.read_text()) == {"credsStore": "x", "auths": {"r.example": {}}}
    assert store.with_suffix(".log").read_text() == "store\n"  # nothing secret where `ps` shows it
    assert credentials.find("r.example") == Credentials("alice", "open sesame")
    assert credentials.erase("r.example")
    assert json.loads(store.read_text()) == {}
    assert json.loads(docker.read_text())["auths"] == {}


def test_a_helper_that_refuses_to_keep_it_leaves_the_file_as_it_was(docker, helper):
    helper("x", get="sys.exit('the keyring is locked')")
    keep(docker, {"credsStore": "x"})
    with pytest.raises(MachineError, match="the keyring is locked") as caught:
        credentials.store("r.example", Credentials("alice", "open sesame"))
    assert json.loads(docker.read_text()) == {"credsStore": "x"}
    assert "sesame" not in f"{caught.value!r}{caught.value.hint}"


def test_a_helper_that_never_answers_is_not_waited_for(docker, helper, said, monkeypatch):
    monkeypatch.setattr(credentials, "_HELPER_SECONDS", 0.3)
    helper("x", get="import time; time.sleep(60)")
    keep(docker, {"credsStore": "x", "auths": {"r.example": auth("file:3")}})
    assert credentials.find("r.example") == Credentials("file", "3")
    assert said[0].startswith("docker-credential-x didn't answer within 0.3 s")
