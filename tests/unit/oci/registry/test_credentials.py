import json
import stat
import threading

import pytest
from support.credentials import auth, keep

from scaffold.errors import MachineError
from scaffold.oci.registry import credentials
from scaffold.oci.registry.credentials import Credentials

# --- find


def test_nobody_logged_in(home):
    assert credentials.find("r.example") is None


@pytest.mark.parametrize(
    ("entry", "found"),
    [
        (auth("alice:a:b"), Credentials("alice", "a:b")),
        ({"username": "alice", "password": "p"}, Credentials("alice", "p")),
        ({"identitytoken": "t"}, Credentials(identity_token="t")),
        ({**auth("00000000:"), "identitytoken": "t"}, Credentials("00000000", identity_token="t")),
        ({"registrytoken": "t"}, Credentials(registry_token="t")),
        (auth("alice:pässwörd"), Credentials("alice", "pässwörd")),
        ({}, None),
        (None, None),
    ],
)
def test_an_entry_is_read(docker, entry, found):
    keep(docker, {"auths": {"r.example": entry}})
    assert credentials.find("r.example") == found


@pytest.mark.parametrize(
    "entry", [{"auth": "***"}, {"auth": 7}, auth("no colon"), "text", [1], {"password": {"a": 1}}]
)
def test_an_entry_that_makes_no_sense_is_warned_about(docker, said, entry):
    keep(docker, {"auths": {"r.example": entry}})
    assert credentials.find("r.example") is None
    assert said == [f"the entry for r.example in {docker} can't be read, and isn't used"]


@pytest.mark.parametrize(
    "key", ["https://r.example", "https://r.example/v1/", "R.example", "http://r.example/v2/"]
)
def test_a_key_may_be_a_url(docker, key):
    keep(docker, {"auths": {key: auth("alice:p")}})
    assert credentials.find("r.example") == Credentials("alice", "p")
    assert credentials.find("r.example:5000") is None
    assert credentials.find("other.example") is None


@pytest.mark.parametrize(
    "key", ["https://index.docker.io/v1/", "docker.io", "index.docker.io", "registry-1.docker.io"]
)
def test_docker_hub_has_many_names(docker, key):
    keep(docker, {"auths": {key: auth("alice:p")}})
    assert credentials.find("docker.io", "library/hello") == Credentials("alice", "p")


def test_of_podmans_names_the_longest_counts(home):
    keep(
        home / ".config/containers/auth.json",
        {
            "auths": {
                "r.example": auth("all:1"),
                "r.example/a": auth("team:2"),
                "r.example/a/b": auth("one:3"),
            }
        },
    )
    assert credentials.find("r.example", "a/b") == Credentials("one", "3")
    assert credentials.find("r.example", "a/c") == Credentials("team", "2")
    assert credentials.find("r.example", "ab") == Credentials("all", "1")
    assert credentials.find("r.example") == Credentials("all", "1")


def test_dockers_file_comes_first_and_then_podmans(home, monkeypatch, tmp_path):
    places = [
        home / ".config/containers/auth.json",
        tmp_path / "run/containers/auth.json",
        tmp_path / "named.json",
        home / ".docker/config.json",
    ]
    monkeypatch.setenv("XDG_RUNTIME_DIR", str(tmp_path / "run"))
    monkeypatch.setenv("REGISTRY_AUTH_FILE", str(tmp_path / "named.json"))
    for number, path in enumerate(places):
        keep(path, {"auths": {"r.example": auth(f"user{number}:p")}})
        assert credentials.find("r.example") == Credentials(f"user{number}", "p")
    keep(places[-1], {"credsStore": "", "auths": {"elsewhere.example": auth("x:y")}})
    assert credentials.find("r.example") == Credentials("user2", "p")


def test_docker_config_names_a_folder(tmp_path, monkeypatch, docker):
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "elsewhere"))
    keep(docker, {"auths": {"r.example": auth("wrong:p")}})
    keep(tmp_path / "elsewhere/config.json", {"auths": {"r.example": auth("right:p")}})
    assert credentials.find("r.example") == Credentials("right", "p")


@pytest.mark.parametrize("text", ["{", "[]", '{"auths": [1]}', '{"credHelpers": "x"}', "\x00", "[" * 100_000])
def test_a_broken_file_is_warned_about_and_the_next_one_read(home, docker, said, text):
    keep(docker, text)
    keep(home / ".config/containers/auth.json", {"auths": {"r.example": auth("alice:p")}})
    assert credentials.find("r.example") == Credentials("alice", "p")
    assert len(said) == 1
    assert str(docker) in said[0]


def test_a_file_that_anybody_can_read_is_warned_about(docker, said):
    keep(docker, {"auths": {"r.example": auth("alice:p")}}, mode=0o644)
    assert credentials.find("r.example") == Credentials("alice", "p")
    assert said == [f"every user of this machine can read the credentials in {docker}: `chmod 600 {docker}`"]
    docker.chmod(0o600)
    said.clear()
    credentials.find("r.example")
    assert said == []


def test_a_helper_is_a_name_and_no_path(docker, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "docker-credential-x").mkdir()
    ran = tmp_path / "ran"
    evil = tmp_path / "evil"
    evil.write_text(f"#!/bin/sh\ntouch {ran}\n")
    evil.chmod(0o755)
    keep(docker, {"credsStore": "x/../evil"})
    assert credentials.find("r.example") is None
    assert not ran.exists()


# --- store and erase


def test_a_password_is_kept_in_a_file_of_the_user_alone(docker):
    kept = credentials.store("r.example:5000", Credentials("alice", "p:q"))
    assert kept == str(docker)
    assert json.loads(docker.read_text()) == {"auths": {"r.example:5000": auth("alice:p:q")}}
    assert stat.S_IMODE(docker.stat().st_mode) == 0o600
    assert stat.S_IMODE(docker.parent.stat().st_mode) == 0o700
    assert credentials.find("r.example:5000") == Credentials("alice", "p:q")


def test_what_else_is_in_the_file_stays(docker):
    before = {"proxies": {"default": {}}, "auths": {"a.example": auth("x:y")}, "HttpHeaders": {"Ä": "1"}}
    keep(docker, before, mode=0o644)
    credentials.store("r.example", Credentials("alice", "p"))
    now = json.loads(docker.read_text())
    assert now.pop("auths") == {"a.example": auth("x:y"), "r.example": auth("alice:p")}
    assert now == {key: value for key, value in before.items() if key != "auths"}
    assert stat.S_IMODE(docker.stat().st_mode) == 0o600


def test_another_spelling_of_the_registry_is_replaced(docker):
    keep(docker, {"auths": {"https://index.docker.io/v1/": auth("old:p"), "docker.io": auth("older:p")}})
    credentials.store("docker.io", Credentials("alice", "p"))
    assert json.loads(docker.read_text())["auths"] == {"https://index.docker.io/v1/": auth("alice:p")}


def test_a_file_that_cant_be_read_is_never_overwritten(docker):
    keep(docker, '{"auths": {')
    for act in (
        lambda: credentials.store("r.example", Credentials("alice", "p")),
        lambda: credentials.erase("r.example"),
    ):
        with pytest.raises(MachineError, match="isn't JSON"):
            act()
    assert docker.read_text() == '{"auths": {'


def test_an_empty_file_is_as_good_as_none(docker):
    keep(docker, "")
    credentials.store("r.example", Credentials("alice", "p"))
    assert credentials.find("r.example") == Credentials("alice", "p")


def test_a_link_to_the_file_stays_one(docker, tmp_path):
    real = keep(tmp_path / "dotfiles/config.json", {})
    docker.parent.mkdir()
    docker.symlink_to(real)
    credentials.store("r.example", Credentials("alice", "p"))
    assert docker.is_symlink()
    assert "r.example" in real.read_text()


def test_logging_out_forgets_and_says_whether_there_was_anything(docker):
    keep(docker, {"auths": {"r.example": auth("alice:p"), "a.example": auth("x:y")}})
    assert credentials.erase("r.example")
    assert json.loads(docker.read_text()) == {"auths": {"a.example": auth("x:y")}}
    assert not credentials.erase("r.example")
    assert credentials.find("r.example") is None


@pytest.mark.parametrize("typed", ["docker.io", "index.docker.io", "registry-1.docker.io"])
def test_logging_out_of_docker_hub_forgets_it_by_all_its_names(docker, typed):
    names = (
        "https://index.docker.io/v1/",
        "docker.io",
        "index.docker.io",
        "https://registry-1.docker.io/v2/",
    )
    keep(docker, {"auths": {name: auth("alice:p") for name in (*names, "r.example")}})
    assert credentials.erase(typed)
    assert json.loads(docker.read_text()) == {"auths": {"r.example": auth("alice:p")}}
    assert credentials.find("docker.io") is None


def test_two_who_log_in_at_once_are_both_kept(docker):
    names = [f"r{number}.example" for number in range(8)]
    threads = [
        threading.Thread(target=credentials.store, args=(name, Credentials("u", "p"))) for name in names
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(json.loads(docker.read_text())["auths"]) == names
