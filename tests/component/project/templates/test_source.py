"""Where templates come from: each kind of source gives one exact state, closed, and nothing of it runs."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import socket
import stat
import subprocess
import sys
import tempfile
import threading
import time
import zipfile
from contextlib import suppress
from pathlib import Path

import psutil
import pytest
import trustme
from hypothesis import given
from hypothesis import strategies as st
from support.commands import listing, terminal
from support.foreign_templates import INSIDE, commit, git, hook, served, template, zipped
from support.slow_servers import SLOW, answering, pouring

from scaffold.core.events import Noted, listening
from scaffold.errors import MachineError, ProjectError, ScaffoldError, ToolFailed, UsageError
from scaffold.project.templates import git as git_module
from scaffold.project.templates import render, zip_download
from scaffold.project.templates import snapshot as snapshots
from scaffold.project.templates.source import bundled, fetched

FILES = ["cookiecutter.json", INSIDE, f"{INSIDE}/Cargo.toml", f"{INSIDE}/src", f"{INSIDE}/src/lib.rs"]


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """A user's folders of our own, and no settings of the user's for git."""
    folder = tmp_path_factory.mktemp("user")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder / "cache"))
    monkeypatch.setenv("XDG_DATA_HOME", str(folder / "data"))
    monkeypatch.setenv("HOME", str(folder))
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")
    yield folder
    assert [path.name for path in folder.rglob(".scaffold-*")] == []


@pytest.fixture
def mine(tmp_path):
    return template(tmp_path / "mine")


def url(folder):
    return f"file://{folder}"


def state(source, **options):
    """What a template's source gives: its pin, and its files."""
    with fetched(str(source), **options) as found:
        return found.pin, listing(found.folder)


def refusal(source, **options):
    """Why a source gives nothing: the error."""
    with pytest.raises((UsageError, ProjectError)) as caught, fetched(str(source), **options):
        pass
    return caught.value


# --- kinds of sources


def test_one_that_comes_with_us_is_the_folder_itself():
    with fetched("http") as found:
        assert (found.source, found.folder, found.pin, found.foreign) == (
            "http",
            bundled()["http"],
            None,
            False,
        )


def test_a_folder_is_copied_and_named_by_its_content(mine):
    with fetched(str(mine)) as found:
        assert (found.name, found.source, found.directory, found.foreign) == ("mine", str(mine), None, True)
        assert found.folder != mine
        assert listing(found.folder) == sorted(FILES)
        (mine / "cookiecutter.json").write_text("changed meanwhile")
        assert "changed" not in (found.folder / "cookiecutter.json").read_text()
        copied = found.folder
    assert not copied.exists()


def test_the_digest_is_of_names_bytes_links_and_modes(mine):
    seen = {state(mine)[0]}

    def change(why):
        pin = state(mine)[0]
        assert pin not in seen, why
        assert pin.startswith("sha256:")
        seen.add(pin)

    path = mine / INSIDE / "run.sh"
    path.write_text("a")
    change("a file more")
    path.write_text("b")
    change("other bytes")
    path.chmod(0o755)
    change("a program now")
    path.rename(mine / INSIDE / "walk.sh")
    change("another name")
    path.symlink_to("walk.sh")
    change("a link more")
    before = state(mine)
    (mine / INSIDE / "empty {{ cookiecutter }}").mkdir()
    (mine / "__pycache__").mkdir()
    (mine / "__pycache__" / "a.pyc").write_text("x")
    assert state(mine) == before, "what isn't copied doesn't count, and what counts is copied"


def test_the_same_content_has_the_same_digest_wherever_it_lies(mine, tmp_path):
    pin, there = state(mine)
    archive = zipped(mine, tmp_path / "a.zip")
    hosted = zipped(mine, tmp_path / "b.zip", "mine-main")
    shutil.copytree(mine, tmp_path / "elsewhere")
    assert state(tmp_path / "elsewhere") == state(archive) == state(hosted) == (pin, there)
    with served(tmp_path) as place:
        assert state(f"http://{place}/a.zip") == (pin, there)


def test_a_path_and_a_name_are_told_apart(tmp_path, monkeypatch):
    """A folder of that name never takes the place of one that comes with us."""
    monkeypatch.chdir(tmp_path)
    template(tmp_path / "http")
    template(tmp_path / "mine")
    with fetched("http") as ours, fetched("./http") as theirs:
        assert (ours.foreign, theirs.foreign) == (False, True)
    error = refusal("mine")
    assert (error.message, error.hint) == ("no template named `mine`", "for the folder, write ./mine")
    assert refusal("htp").hint == "did you mean `http`?"
    assert refusal("./nothing").message == f"there is no template at {tmp_path / 'nothing'}"
    assert refusal("nothing.zip").message == f"there is no template at {tmp_path / 'nothing.zip'}"


def test_ours_take_no_checkout():
    assert refusal("http", checkout="v1").message == "the bundled template http takes no --checkout"
    assert refusal("http", directory="a").message == "the bundled template http takes no --directory"


# --- git


def test_a_repository_gives_its_newest_commit_and_any_other(mine):
    first = commit(mine)
    git(mine, "tag", "v1")
    (mine / "more").write_text("x")
    second = commit(mine)
    git(mine, "branch", "old", first)
    newest = (second, sorted([*FILES, "more"]))
    assert state(url(mine)) == state(url(mine), checkout="main") == newest
    assert state(f"git+{url(mine)}", checkout=second) == newest
    for ref in ("v1", "old", first, first[:8]):
        assert state(url(mine), checkout=ref) == (first, sorted(FILES)), ref
    with fetched(url(mine)) as found:
        assert (found.name, found.source) == ("mine", url(mine))


def test_a_folder_as_its_repository_has_it_is_that_commit(mine):
    first = commit(mine)
    assert state(mine) == (first, sorted(FILES))
    (mine / "more").write_text("x")
    assert state(mine)[0].startswith("sha256:")
    second = commit(mine)
    assert state(mine) == (second, sorted([*FILES, "more"]))
    assert state(mine, checkout=first) == (first, sorted(FILES))
    assert state(mine, checkout="main")[0] == second


def test_a_folder_below_a_repository(tmp_path):
    mine = template(tmp_path / "all" / "templates" / "mine")
    pin = commit(tmp_path / "all")
    assert state(mine) == (pin, sorted(FILES))
    assert state(tmp_path / "all", directory="templates/mine") == (pin, sorted(FILES))
    shutil.rmtree(mine)
    assert state(mine, checkout=pin) == (pin, sorted(FILES))


def test_an_ignored_file_is_seen_too(mine):
    """Git would call it clean."""
    (mine / ".gitignore").write_text("hooks/\n")
    pin = commit(mine)
    assert state(mine)[0] == pin
    hook(mine, "print('hello')")
    assert git(mine, "status", "--porcelain") == ""
    assert state(mine)[0] not in (pin, None)


def test_a_pin_gives_the_very_state_again_or_says_that_it_is_gone(mine, tmp_path):
    pin, there = state(mine)
    assert state(mine, checkout=pin) == (pin, there)
    (mine / "more").write_text("x")
    error = refusal(mine, checkout=pin)
    assert error.message == f"{mine} has changed: it is no longer {pin}"
    old = commit(mine)
    (mine / "more").unlink()
    commit(mine)
    assert state(mine, checkout=old)[0] == state(url(mine), checkout=old)[0] == old
    assert state(mine, checkout=pin)[0] == pin, "clean, and asked for by its content"


def test_a_directory_says_where_in_a_source(tmp_path):
    template(tmp_path / "all" / "one")
    template(tmp_path / "all" / "two", more="x")
    archive = zipped(tmp_path / "all", tmp_path / "all.zip", "all-1.0")
    error = refusal(tmp_path / "all")
    assert error.message == f"{tmp_path / 'all'} has no cookiecutter.json, so it isn't a template"
    assert error.hint == "choose one with --directory: one, two"
    pin = commit(tmp_path / "all")
    for source in (tmp_path / "all", archive, url(tmp_path / "all")):
        with fetched(str(source), directory="two") as found:
            assert (found.name, found.directory) == ("two", "two")
            assert listing(found.folder) == sorted(FILES)
            assert found.pin in (pin, snapshots.digest(tmp_path / "all" / "two"))
        assert "no folder three" in refusal(source, directory="three").message


@pytest.mark.parametrize("where", ["..", "../..", "one/../..", "/etc"])
def test_a_directory_that_leads_out_is_refused(where, mine, tmp_path):
    for source in (mine, url(mine), zipped(mine, tmp_path / "a.zip")):
        error = refusal(source, directory=where)
        assert error.message == f"--directory {where} leaves the template's source"


def test_a_directory_that_is_a_link_out_is_refused(mine, tmp_path):
    template(tmp_path / "secret")
    (mine / "out").symlink_to(tmp_path / "secret")
    commit(mine)
    for source in (mine, url(mine)):
        assert refusal(source, directory="out").message == "--directory out leaves the template's source"


@pytest.mark.parametrize(
    "ref", ["v9", "0" * 40, "abcdef1", "a:b", "--upload-pack=x", "-q", "main..", "a b", "+a", ""]
)
def test_a_state_that_there_isnt(ref, mine):
    commit(mine)
    message = refusal(url(mine), checkout=ref).message
    if ref in ("a:b", "--upload-pack=x", "-q", "a b", "+a", ""):
        assert message == f"{json.dumps(ref)} isn't a branch, a tag or a commit"
    else:
        assert message == f"there is no branch, tag or commit `{ref}` in {url(mine)}"


def test_a_submodule_is_named_and_the_hint_brings_its_files_along(mine, tmp_path, monkeypatch):
    """Nobody has trusted that other repository, and without its files the project would lack some."""
    part = tmp_path / "part"
    part.mkdir()
    (part / "f.txt").write_text("hello")
    commit(part)
    git(tmp_path, "init", "-q", "mine")
    for each in (f"{INSIDE}/vendor", "elsewhere/theme"):
        git(mine, "-c", "protocol.file.allow=always", "submodule", "add", "-q", url(part), each)
    template(mine / "plain")
    commit(mine)
    refused = refusal(url(mine))
    assert re.search(r"has the submodule (\S+), whose files aren't fetched", refused.message)[1] in (
        "elsewhere/theme",
        f"{INSIDE}/vendor",
    )
    assert "submodule" in refusal(mine, checkout="main").message
    assert state(url(mine), directory="plain")[1] == FILES, "the others are outside of this template"
    command = re.search(r"`(git clone .*?)`", refused.hint)[1]
    monkeypatch.setenv("GIT_ALLOW_PROTOCOL", "file")
    subprocess.run(shlex.split(command), cwd=tmp_path / "part", check=True)
    monkeypatch.chdir(tmp_path / "part")
    made = re.search(r"pass --template (\S+)", refused.hint)[1]
    assert f"{INSIDE}/vendor/f.txt" in state(made)[1]


def test_a_repository_that_there_isnt_and_one_that_is_empty(tmp_path):
    nothing = url(tmp_path / "nothing")
    assert refusal(nothing).message == f"there is no git repository at {nothing}"
    git(tmp_path, "init", "-q", "empty")
    assert refusal(url(tmp_path / "empty")).message == f"there is no commit in {url(tmp_path / 'empty')}"


def test_a_folder_in_no_repository_has_no_other_state(mine):
    assert refusal(mine, checkout="v1").message == f"{mine} isn't in a git repository, so it has no `v1`"


# --- nothing runs


@pytest.mark.faults(
    "R22", injected="a template's repository whose settings, hooks and filters are programs", seen="none runs"
)
def test_nothing_that_a_repository_says_is_run(mine, tmp_path):
    """Its own settings and hooks, which `git status` in it would run, and its attributes."""
    mark = tmp_path / "ran"
    touch = tmp_path / "touch.sh"
    touch.write_text(f"#!/bin/sh\ntouch {mark}\ncat\n")
    touch.chmod(0o755)
    (mine / ".gitattributes").write_text("* filter=evil\n")
    commit(mine)
    for name in ("post-checkout", "post-index-change", "reference-transaction"):
        shutil.copy(touch, mine / ".git" / "hooks" / name)
    settings = ("core.fsmonitor", "filter.evil.clean", "filter.evil.smudge", "uploadpack.packObjectsHook")
    for setting in (*settings, "core.sshCommand", "core.alternateRefsCommand"):
        git(mine, "config", setting, str(touch))
    mark.unlink(missing_ok=True)
    (mine / "cookiecutter.json").touch()
    assert len(state(mine)[0]) == 40
    assert len(state(url(mine))[0]) == 40
    assert not mark.exists()
    git(mine, "status")
    assert mark.exists(), "or this shows nothing"


@pytest.mark.parametrize("where", ["file", "environment"])
def test_a_filter_of_the_users_isnt_run_by_a_repositorys_attributes(
    where, mine, tmp_path, cache, monkeypatch
):
    mark = tmp_path / "ran"
    smudge = f"touch {mark}; cat"
    if where == "file":
        (cache / ".gitconfig").write_text(f'[filter "mine"]\n\tsmudge = {smudge}\n\tclean = cat\n')
    else:
        for key, value in (("COUNT", "1"), ("KEY_0", "filter.mine.smudge"), ("VALUE_0", smudge)):
            monkeypatch.setenv(f"GIT_CONFIG_{key}", value)
    (mine / ".gitattributes").write_text("* filter=mine\n")
    commit(mine)
    assert len(state(url(mine))[0]) == 40
    assert not mark.exists()


@pytest.mark.parametrize("setting", ["templateDir", "hooksPath"])
def test_no_hook_of_the_users_runs_in_a_repository_that_was_fetched(setting, mine, tmp_path, cache):
    """`git init` would copy those of a template folder, and a checkout run them."""
    mark, hooks = tmp_path / "ran", tmp_path / "theirs/hooks"
    hooks.mkdir(parents=True)
    for name in ("post-checkout", "post-index-change"):
        hook(hooks.parent, f"#!/bin/sh\ntouch {mark}\n", name).joinpath("hooks", name).chmod(0o755)
    section, folder = ("init", hooks.parent) if setting == "templateDir" else ("core", hooks)
    commit(mine)
    (cache / ".gitconfig").write_text(f"[{section}]\n\t{setting} = {folder}\n")
    assert len(state(url(mine))[0]) == 40
    assert not mark.exists()


@pytest.mark.parametrize("scheme", ["file", "https"])
def test_no_setting_turns_an_address_into_another_transport(scheme, mine, tmp_path, cache):
    """Such as `ext`, which runs a program."""
    mark = tmp_path / "ran"
    address = url(mine) if scheme == "file" else "https://127.0.0.1:1/mine.git"
    settings = f'[url "ext::touch {mark} "]\n\tinsteadOf = {address}\n[protocol "ext"]\n\tallow = always\n'
    (cache / ".gitconfig").write_text(settings)
    with pytest.raises((UsageError, ToolFailed)), fetched(address):
        pass
    assert not mark.exists()


@pytest.mark.parametrize(
    "source", ["ext::sh -c 'touch ran'", "fd::1/x", "--upload-pack=touch/ran", "hg+https://x/y"]
)
def test_no_other_transport_is_an_address(source, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    wanted = ("there is no template at", "no template named", "hg+https://x/y isn't an address")
    assert refusal(source).message.startswith(wanted)
    assert listing(tmp_path) == []


def test_short_forms_are_cookiecutters(monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(ToolFailed) as caught, fetched("gh:owner/name"):
        pass
    assert caught.value.message == "git cannot fetch https://github.com/owner/name.git"


# --- passwords


@pytest.fixture
def repository(tmp_path):
    """A folder to serve that has a repository."""
    mine = template(tmp_path / "served" / "mine")
    pin = commit(mine)
    git(tmp_path / "served", "clone", "-q", "--bare", "mine", "mine.git")
    zipped(mine, tmp_path / "served" / "mine.zip")
    return tmp_path / "served", pin


def test_nobody_is_asked_for_a_password_at_a_terminal_either(repository, tmp_path):
    folder, _ = repository
    code = "import sys; from scaffold.__main__ import main; sys.argv[0] = 'scaffold'; main()"
    with served(folder, "secret") as place:
        words = ("new", "a_filter", "--template", f"http://{place}/mine.git", "--no-input")
        with terminal(sys.executable, "-c", code, *words, cwd=tmp_path) as shown:
            assert shown.end() == 2, shown.seen
    assert "asks for a password or a key" in shown.seen
    assert "Username" not in shown.seen


@pytest.mark.parametrize("user", ["", "user@", "user:wrong-secret@"])
def test_a_password_that_is_asked_for_is_an_error_and_no_question(user, repository, cache):
    asks = cache / "asks"
    asks.write_text(f"#!/bin/sh\ntouch {cache / 'asked'}\n")
    asks.chmod(0o755)
    with pytest.MonkeyPatch.context() as patch, served(repository[0], "right") as place:
        for name in ("GIT_ASKPASS", "SSH_ASKPASS"):
            patch.setenv(name, str(asks))
        error = refusal(f"http://{user}{place}/mine.git")
        of_zip = refusal(f"http://{user}{place}/mine.zip")
    wanted = "asks for a password or a key, which scaffold never asks you for"
    assert error.message == f"http://{place}/mine.git {wanted}"
    assert of_zip.message == f"http://{place}/mine.zip asks for a password, which scaffold never asks you for"
    assert not (cache / "asked").exists()


@pytest.mark.parametrize("source", ["git@host.example:us/a.git", "ssh://git@host.example/us/a.git"])
@pytest.mark.parametrize("setting", ["environment", "git's", "none"])
def test_ssh_is_the_users_own_and_asks_nothing(source, setting, tmp_path, monkeypatch, cache):
    ssh = tmp_path / "ssh"
    ssh.write_text(
        f'#!/bin/sh\necho "$@" >> {tmp_path}/log\necho "a@b: Permission denied (publickey)." >&2\nexit 255\n'
    )
    ssh.chmod(0o755)
    monkeypatch.delenv("GIT_SSH_COMMAND", raising=False)
    if setting == "environment":
        monkeypatch.setenv("GIT_SSH_COMMAND", f"{ssh} -v")
    elif setting == "none":
        monkeypatch.setenv("PATH", f"{tmp_path}:{os.environ['PATH']}")
    else:
        (cache / ".gitconfig").write_text(f"[core]\n\tsshCommand = {ssh} -v\n")
    error = refusal(source)
    assert error.message == f"{source} asks for a password or a key, which scaffold never asks you for"
    words = (tmp_path / "log").read_text()
    assert "-o BatchMode=yes" in words
    assert ("-v" in words.split()) is (setting != "none")


def test_a_password_in_the_address_is_used_and_never_shown(repository, tmp_path, monkeypatch, cache):
    """Not in what is recorded, nor in the words of any process, nor to the user's own helpers."""
    folder, pin = repository
    programs = tmp_path / "bin"
    programs.mkdir()
    spy = programs / "git"
    spy.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/log\nexec {shutil.which("git")} "$@"\n')
    spy.chmod(0o755)
    (cache / ".gitconfig").write_text(f'[credential]\n\thelper = "!cat >> {tmp_path}/told; echo"\n')
    monkeypatch.setenv("PATH", f"{programs}:{os.environ['PATH']}")
    with served(folder, "top%secret") as place:
        with fetched(f"http://user:top%25secret@{place}/mine.git") as found:
            assert (found.pin, found.source) == (pin, f"http://{place}/mine.git")
            left = "".join(
                path.read_text(errors="replace") for path in found.folder.parent.rglob("*") if path.is_file()
            )
        with fetched(f"http://user:top%25secret@{place}/mine.zip") as found:
            assert found.source == f"http://{place}/mine.zip"
    assert "fetch" in (tmp_path / "log").read_text()
    assert "secret" not in (tmp_path / "log").read_text() + left
    assert not (tmp_path / "told").exists()


def test_a_password_does_not_follow_a_redirect_to_another_server(repository):
    """Not even to the same machine."""
    folder, _ = repository
    with served(folder, "secret") as place, served(folder, moved_to=place) as other:
        with fetched(f"http://user:secret@{place}/mine.zip"):
            pass
        error = refusal(f"http://user:secret@{other}/mine.zip")
    assert error.message == f"http://{other}/mine.zip asks for a password, which scaffold never asks you for"


def test_over_http_a_repository_gives_what_it_gives_as_a_folder(repository):
    folder, pin = repository
    with served(folder) as place:
        assert state(f"http://{place}/mine.git") == (pin, sorted(FILES))
        assert state(f"http://{place}/mine.git", checkout=pin[:9]) == (pin, sorted(FILES))
        assert "there is no git repository at" in refusal(f"http://{place}/other.git").message
        assert refusal(f"http://{place}/other.zip").message == f"there is nothing at http://{place}/other.zip"


@pytest.mark.parametrize(
    "source", ["http://example.com/a.git", "git://example.com/a.git", "http://u:p@example.com/a.zip"]
)
def test_plain_text_is_refused(source):
    shown = source.replace("u:p@", "")
    assert refusal(source).message == f"{shown} is plain text, which anybody on the way can change"


@pytest.mark.parametrize(
    "source", ["https://a b/c.git", "https://a:b:c/\x1b[31m.git", "https://[a/b.git", "https://a:99999/b"]
)
def test_what_is_no_address(source):
    assert "isn't a valid address of a repository" in refusal(source).message


@pytest.mark.parametrize("begin", ["https", "http", "htps", "git+https", "ftp", "hg+https"])
@pytest.mark.parametrize(
    "end", ["host:99999/a.git", "a b/c", "[x/a.zip", "example.com/x", "example.com:x/y.zip"]
)
def test_no_refusal_shows_a_secret(begin, end, monkeypatch):
    monkeypatch.setenv("https_proxy", "http://127.0.0.1:9")
    with pytest.raises(ScaffoldError) as caught, fetched(f"{begin}://user:hunter2@{end}"):
        pass
    assert "hunter2" not in f"{caught.value.message}{caught.value.hint}"
    assert "user" not in caught.value.message


def test_a_redirect_to_plain_text_is_refused_and_so_is_an_unknown_authority(repository, monkeypatch):
    authority = trustme.CA()
    with served(repository[0]) as plain, served(repository[0], authority=authority, moved_to=plain) as place:
        source = f"https://{place}/mine.zip"
        with authority.cert_pem.tempfile() as bundle, pytest.MonkeyPatch.context() as patch:
            patch.setenv("REQUESTS_CA_BUNDLE", bundle)
            redirected = refusal(source)
        with pytest.raises(MachineError) as distrusted, fetched(source):
            pass
    assert redirected.message == f"{source} redirects to plain text, which anybody on the way can change"
    assert distrusted.value.message.endswith("its certificate isn't trusted, or it doesn't speak TLS")


@pytest.mark.timeout(60)  # in place of for ever
def test_a_server_that_never_answers_is_waited_for_so_long_and_no_longer(monkeypatch):
    monkeypatch.setattr(git_module, "FETCH_SECONDS", 0.5)
    monkeypatch.setattr(zip_download, "FETCH_SECONDS", 0.5)
    monkeypatch.setattr(zip_download, "STALL_SECONDS", 0.5)
    before = set(psutil.Process().children(recursive=True))
    with socket.create_server(("127.0.0.1", 0)) as server:
        for suffix in ("git", "zip"):
            with (
                pytest.raises(MachineError) as caught,
                fetched(f"http://127.0.0.1:{server.getsockname()[1]}/a.{suffix}"),
            ):
                pass
            assert caught.value.exit_code == 4
    left = set(psutil.Process().children(recursive=True)) - before
    assert [each.cmdline() for each in left if "git" in each.name()] == []


@pytest.mark.faults(
    "R22",
    injected="a template's server: status, headers, body or redirects, a byte now and then",
    seen="exit code 4 when its time is over",
)
@pytest.mark.parametrize("kind", [kind for kind in SLOW if kind != "a handshake"])
def test_a_trickle_is_waited_for_so_long_and_no_longer(monkeypatch, kind):
    monkeypatch.setattr(zip_download, "FETCH_SECONDS", 0.5)
    begun = time.monotonic()
    with (
        answering(SLOW[kind]) as place,
        pytest.raises(MachineError) as caught,
        fetched(f"http://{place}/a.zip"),
    ):
        pass
    wanted = "redirects in circles" if kind == "a redirect's body" else "didn't arrive within 0.5 s"
    assert caught.value.message == f"http://{place}/a.zip {wanted}"
    assert time.monotonic() - begun < 5


@pytest.mark.faults(
    "R22", injected="a template's zip file behind a redirect with an endless body", seen="its body isn't read"
)
def test_the_body_of_a_redirect_is_not_read(mine, tmp_path):
    zipped(mine, tmp_path / "a.zip")
    sent = []
    with served(tmp_path) as there:
        head = f"HTTP/1.1 302 Found\r\nLocation: http://{there}/a.zip\r\n\r\n".encode()
        with answering(pouring(head, sent)) as place:
            assert state(f"http://{place}/b.zip") == state(mine)
    assert sum(sent) < 50_000_000, "what fits into the system's buffers"


def replying(status, headers="", body=b""):
    """A server that gives every request this answer."""

    def answer(client, over):
        client.recv(65536)
        head = f"HTTP/1.1 {status}\r\n{headers}Content-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        client.sendall(head.encode() + body)

    return answering(answer)


def test_redirects_without_an_end_are_given_up():
    with replying("302 Found", "Location: /mine.zip\r\n") as place:
        with pytest.raises(MachineError) as caught, fetched(f"http://{place}/mine.zip"):
            pass
        assert caught.value.message == f"http://{place}/mine.zip redirects in circles"


@pytest.mark.parametrize("status", ["500 Broken", "203 Other", "404 None", "403 No"])
def test_what_comes_with_another_status_is_not_unpacked(status, mine, tmp_path):
    """Though it might be a template."""
    page = zipped(mine, tmp_path / "mine.zip").read_bytes()
    with replying(status, body=page) as place:
        with pytest.raises((MachineError, UsageError)) as caught, fetched(f"http://{place}/mine.zip"):
            pass
        told = {"404": "there is nothing at", "403": "asks for a password"}
        assert told.get(status[:3], f"answers {status[:3]}, not with a file") in caught.value.message


@pytest.mark.faults("R22", injected="a template's zip file without an end", seen="exit code 3 after 64 MB")
def test_a_zip_file_without_an_end(tmp_path):
    sent = []
    with answering(pouring(b"HTTP/1.1 200 OK\r\n\r\n", sent)) as place:
        assert refusal(f"http://{place}/b.zip").message == "the template contains more than 64 MB"
    assert sum(sent) < 150_000_000


def test_a_zip_file_that_is_none_to_read(tmp_path):
    with (tmp_path / "a.zip").open("wb") as file:
        file.truncate(1 << 40)
    error = refusal(tmp_path / "a.zip")
    assert error.message == f"cannot read the template {tmp_path / 'a.zip'}: it is larger than 64 MB"


def test_what_breaks_off_is_said(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer():
            client, _ = server.accept()
            with client:
                client.recv(4096)
                client.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\nPK")

        thread = threading.Thread(target=answer)
        thread.start()
        url = f"http://127.0.0.1:{server.getsockname()[1]}/a.zip"
        with pytest.raises(MachineError) as caught, fetched(url):
            pass
        thread.join()
    assert caught.value.message == f"{url} can't be downloaded: its host can't be reached, or hung up"
    assert caught.value.hint == f"`curl -I {url}` asks for the same file"


def test_broken_settings_of_the_users_are_said_in_gits_words(mine, cache):
    commit(mine)
    (cache / ".gitconfig").write_text("[broken\n")
    said = []
    with listening(said.append), pytest.raises(ToolFailed), fetched(url(mine)):
        pass
    assert any(isinstance(each, Noted) and "bad config line 1" in each.text for each in said)


def test_without_git_that_is_said_and_folders_do(mine, monkeypatch, tmp_path):
    commit(mine)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(MachineError) as caught, fetched(url(mine)):
        pass
    assert (caught.value.message, caught.value.hint) == (
        "there is no `git` on PATH",
        "install it: `apt-get install git`, for example",
    )
    assert state(mine)[0].startswith("sha256:")


# --- what leads out


@pytest.mark.faults(
    "R22", injected="a template: links out, to nothing, to themselves", seen="exit code 3, named"
)
@pytest.mark.parametrize(
    "aim", ["/etc/passwd", "../../secret", "../../mine/../secret", "nothing", "itself", "..", "/"]
)
def test_a_link_that_leads_out_is_refused_by_name(aim, mine, tmp_path):
    (tmp_path / "secret").write_text("x")
    (mine / INSIDE / "itself").symlink_to(aim)
    if aim == "..":
        assert state(mine)[0].startswith("sha256:"), "the template itself: within"
        return
    commit(mine)
    for source in (mine, url(mine)):
        error = refusal(source)
        assert error.message == (
            f"{INSIDE}/itself is a link that leads out of the template, or nowhere: {aim}"
        )
        assert error.exit_code == 3


def test_a_chain_of_links_is_followed_to_its_end(mine):
    (mine / "a").symlink_to("b")
    (mine / "b").symlink_to(INSIDE)
    (mine / "c").symlink_to("a/../..")
    assert refusal(mine).message == "c is a link that leads out of the template, or nowhere: a/../.."
    (mine / "c").unlink()
    assert state(mine)[1] == sorted([*FILES, "a", "b"])


def test_what_is_no_file_is_refused(mine):
    os.mkfifo(mine / INSIDE / "pipe")
    assert (
        refusal(mine).message
        == f"{mine / INSIDE / 'pipe'} isn't a regular file, so no template can contain it"
    )


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (None, "has no cookiecutter.json, so it isn't a template"),
        ("{", "isn't JSON: "),
        (b"\xff\xfe", "isn't JSON: "),
        ("[" * 100_000, "isn't JSON: "),
        ("[]", "isn't a JSON object"),
        ('{"templates": {"a": {"path": "./one"}}}', "contains several templates"),
        ('{"templates": 5}', "contains several templates"),
        ('{"template": ["a (./one)"]}', "contains several templates"),
    ],
)
def test_what_is_no_template(content, why, mine, tmp_path):
    (mine / "cookiecutter.json").unlink()
    if content is not None:
        (mine / "cookiecutter.json").write_bytes(content if isinstance(content, bytes) else content.encode())
    commit(mine)
    for source in (mine, url(mine), zipped(mine, tmp_path / "a.zip")):
        error = refusal(source)
        assert why in error.message
        assert error.exit_code == (2 if why.startswith(("has", "contains")) else 3)


# --- zip files


def crafted(path, *entries):
    """A zip file of (name, mode, content)."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as file:
        for name, mode, content in entries:
            entry = zipfile.ZipInfo(name)
            entry.external_attr = mode << 16
            entry.compress_type = zipfile.ZIP_DEFLATED
            file.writestr(entry, content)
    return path


FILE = stat.S_IFREG | 0o644


@pytest.mark.faults(
    "R22",
    injected="a template's zip file: `..`, absolute, links, devices, two of one name",
    seen="exit code 3, named",
)
@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("name", "mode", "why"),
    [
        ("../x", FILE, "leads out"),
        ("a/../../x", FILE, "leads out"),
        ("/tmp/x", FILE, "leads out"),
        ("..\\x", FILE, "leads out"),
        ("a", stat.S_IFLNK | 0o777, "is a link or a device"),
        ("a", stat.S_IFIFO | 0o777, "is a link or a device"),
        ("a", stat.S_IFCHR | 0o777, "is a link or a device"),
        ("cookiecutter.json", FILE, "two entries with the same name"),
        ("cookiecutter.json/a", FILE, "two entries with the same name"),
    ],
)
def test_an_entry_of_a_zip_file_that_leads_out_is_refused(name, mode, why, tmp_path):
    archive = crafted(tmp_path / "a.zip", ("cookiecutter.json", FILE, "{}"), (name, mode, "/etc/passwd"))
    before = listing(tmp_path)
    assert why in refusal(archive).message
    assert listing(tmp_path) == before


@pytest.mark.faults(
    "R22",
    injected="a template's zip file: compiled Python that its digest doesn't count",
    seen="not unpacked",
)
def test_what_doesnt_count_isnt_unpacked(mine, tmp_path):
    """The pin says nothing of it, so trust in that would let it run: Python takes what was compiled."""
    pin = state(zipped(mine, tmp_path / "a.zip"))
    for place in ("__pycache__", f"{INSIDE}/.git", "hooks/__pycache__"):
        (mine / place).mkdir(parents=True)
        (mine / place / "local_extensions.cpython-311.pyc").write_text("x")
    (mine / "hooks" / "kept").write_text("x")
    shutil.rmtree(mine / "hooks")
    assert state(zipped(mine, tmp_path / "b.zip")) == pin


def test_modes_that_matter_come_out_of_a_zip_file_and_no_others(tmp_path):
    entries = [("cookiecutter.json", FILE, "{}"), ("run", stat.S_IFREG | 0o4777, "x"), ("plain", 0, "x")]
    with fetched(str(crafted(tmp_path / "a.zip", *entries))) as found:
        modes = {path.name: stat.S_IMODE(path.stat().st_mode) for path in found.folder.iterdir()}
    assert modes == {"cookiecutter.json": 0o644, "run": 0o755, "plain": 0o644}


def test_a_locked_damaged_or_empty_zip_file(mine, tmp_path):
    whole = zipped(mine, tmp_path / "a.zip").read_bytes()
    locked = bytearray(whole)
    at = locked.index(b"PK\x01\x02")
    locked[at + 8] |= 1
    for content, why in (
        (bytes(locked), "is encrypted"),
        (whole[: len(whole) // 2], "isn't a readable zip file"),
        (b"", "isn't a readable zip file"),
        (whole.replace(b"nothing yet", b"nothing now"), "isn't a readable zip file"),
        (b"PK\x05\x06" + bytes(18), "has no cookiecutter.json"),
    ):
        (tmp_path / "b.zip").write_bytes(content)
        assert why in refusal(tmp_path / "b.zip").message, why


@given(st.data())
def test_whatever_the_bytes_of_a_zip_file_are_it_is_unpacked_or_refused(data):
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place)
        entries = [("cookiecutter.json", FILE, "{}"), ("a/b.txt", FILE, "x" * 500), ("a/", stat.S_IFDIR, "")]
        content = bytearray(crafted(folder / "a.zip", *entries).read_bytes())
        for _ in range(data.draw(st.integers(1, 4))):
            content[data.draw(st.integers(0, len(content) - 1))] = data.draw(st.integers(0, 255))
        (folder / "a.zip").write_bytes(content)
        with suppress(ProjectError):
            snapshots.unzip(bytes(content), "a.zip", folder / "unpacked")
        assert {path.name for path in folder.iterdir()} <= {"a.zip", "unpacked"}


@pytest.mark.faults("R22", injected="a template: bombs of zip, and of many files", seen="exit code 3")
def test_bombs_go_off_nowhere(tmp_path, mine):
    zeros = bytes(snapshots.SIZE_LIMIT + 1)
    big = crafted(tmp_path / "big.zip", ("cookiecutter.json", FILE, "{}"), ("a", FILE, zeros))
    assert big.stat().st_size < 100_000
    many = crafted(tmp_path / "many.zip", *((f"a{i}", FILE, "") for i in range(snapshots.FILE_LIMIT + 1)))
    lying = bytearray(big.read_bytes())
    at = lying.rindex(b"PK\x01\x02")
    lying[at + 24 : at + 28] = (10).to_bytes(4, "little")  # the size that it says
    (tmp_path / "lying.zip").write_bytes(lying)
    assert refusal(big).message == "the template contains more than 64 MB"
    assert refusal(many).message == "the template contains more than 10,000 files"
    assert "isn't a readable zip file" in refusal(tmp_path / "lying.zip").message
    with (mine / "sparse").open("wb") as file:
        file.truncate(snapshots.SIZE_LIMIT + 1)
    assert refusal(mine).message == "the template contains more than 64 MB"


@pytest.mark.parametrize("kind", [zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_a_compression_that_knows_no_bounds_is_refused(kind, tmp_path):
    """Python's zipfile unpacks these whole, whatever size they say."""
    with zipfile.ZipFile(tmp_path / "a.zip", "w", kind) as file:
        file.writestr("cookiecutter.json", "{}")
    assert "uses a compression other than deflate" in refusal(tmp_path / "a.zip").message


@pytest.mark.faults(
    "R22", injected="a template's repository: ten million files in eight objects", seen="exit code 3"
)
@pytest.mark.timeout(60)  # ten million files would take long to write
def test_a_bomb_of_git_trees_is_counted_before_it_is_written(tmp_path):
    """Seven trees of ten entries each stand for ten million files."""
    git(tmp_path, "init", "-q", "bomb")
    bomb = tmp_path / "bomb"
    entry = f"100644 blob {git(bomb, 'hash-object', '-w', '--stdin', given=b'x')}"
    for _ in range(7):
        lines = "".join(f"{entry}\ta{i}\n" for i in range(10))
        entry = f"040000 tree {git(bomb, 'mktree', given=lines.encode())}"
    made = git(bomb, "commit-tree", "-m", "boom", entry.split()[2])
    git(bomb, "update-ref", "HEAD", made)
    assert refusal(url(bomb)).message == "the template contains more than 10,000 files"


ENDLESS = """\
#!{python}
import sys, zlib
size, number = 1 << 40, b""
kind = 3 << 4 | size & 15 | 128  # a blob of a terabyte
size >>= 4
while size:
    number += bytes([size & 127 | (128 if size > 127 else 0)])
    size >>= 7
sys.stdout.buffer.write(b"PACK" + (2).to_bytes(4, "big") + (1).to_bytes(4, "big") + bytes([kind]) + number)
packed = zlib.compressobj(0)
while True:
    sys.stdout.buffer.write(packed.compress(bytes(1 << 16)))
"""


@pytest.mark.faults(
    "R22",
    injected="a template's repository that sends an object without an end",
    seen="exit code 3 at 128 MB",
)
@pytest.mark.parametrize("abbreviated", [False, True], ids=["a branch", "an abbreviated commit"])
def test_a_repository_without_an_end_is_given_up_while_it_arrives(
    mine, tmp_path, cache, monkeypatch, abbreviated
):
    hook = tmp_path / "endless"
    hook.write_text(ENDLESS.format(python=sys.executable))
    hook.chmod(0o755)
    pin = commit(mine)
    (cache / ".gitconfig").write_text(f"[uploadpack]\n\tpackObjectsHook = {hook}\n")
    monkeypatch.setattr(git_module, "DOWNLOAD_LIMIT", 20_000_000)
    begun = time.monotonic()
    error = refusal(url(mine), checkout=pin[:10] if abbreviated else None)
    assert ("write the commit in full" in (error.hint or "")) == abbreviated
    assert error.message == f"the repository at {url(mine)} is too large: more than 20 MB arrived"
    assert time.monotonic() - begun < 30
    running = [each.info["cmdline"] or [] for each in psutil.process_iter(["cmdline"])]
    assert not [words for words in running if str(hook) in words]


@pytest.mark.faults(
    "R22",
    injected="a template's repository that lists branches without an end",
    seen="exit code 3 at 1 GB",
)
def test_a_list_of_branches_without_an_end_does_not_fill_the_memory(monkeypatch):
    monkeypatch.setattr(git_module, "MEMORY_LIMIT", 200_000_000)
    head = b"HTTP/1.1 200 OK\r\nContent-Type: application/x-git-upload-pack-advertisement\r\n\r\n"
    with answering(pouring(head, [])) as place:
        error = refusal(f"http://{place}/a.git")
    wanted = f"the repository at http://{place}/a.git is too large: it needs more than 200 MB of memory"
    assert error.message == wanted


def test_attributes_of_a_repository_do_not_change_its_files(mine):
    (mine / "a.txt").write_text("a $Id$\n")
    pin = commit(mine)
    (mine / ".gitattributes").write_text("*.txt working-tree-encoding=UTF-32 ident eol=crlf\n")
    git(mine, "update-index", "--add", "--cacheinfo", blob(mine))
    git(mine, "commit", "-q", "-m", "attributes")
    with fetched(url(mine)) as source:
        assert source.pin != pin
        assert (source.folder / ".gitattributes").exists()
        assert (source.folder / "a.txt").read_bytes() == b"a $Id$\n"


def blob(repository: Path) -> str:
    """The attributes in the form of `--cacheinfo`: adding them would convert the other files, too."""
    return f"100644,{git(repository, 'hash-object', '-w', '.gitattributes')},.gitattributes"


def nested(repository: Path, entry: str, names: list[str], times: int) -> None:
    """Make the repository's HEAD a commit of trees in trees, each with the same entries."""
    git(repository.parent, "init", "-q", repository.name)
    for _ in range(times):
        lines = "".join(f"{entry}\t{name}\n" for name in names)
        entry = f"040000 tree {git(repository, 'mktree', '--missing', given=lines.encode())}"
    git(repository, "update-ref", "HEAD", git(repository, "commit-tree", "-m", "boom", entry.split()[2]))


@pytest.mark.faults(
    "R22",
    injected="a template's repository: 10^9 empty folders, a path of megabytes",
    seen="exit code 3",
)
def test_folders_count_too_and_paths_have_an_end(tmp_path):
    git(tmp_path, "init", "-q", "empty")
    empty = f"040000 tree {git(tmp_path / 'empty', 'mktree', given=b'')}"
    nested(tmp_path / "empty", empty, [f"a{i}" for i in range(10)], 9)
    assert refusal(url(tmp_path / "empty")).message == "the template contains more than 10,000 files"
    git(tmp_path, "init", "-q", "deep")
    blob = f"100644 blob {git(tmp_path / 'deep', 'hash-object', '-w', '--stdin', given=b'x')}"
    nested(tmp_path / "deep", blob, ["x" * 1_000_000], 1)
    why = "the template contains a path that is longer than any system takes"
    assert refusal(url(tmp_path / "deep")).message == why


@pytest.mark.faults(
    "R22",
    injected="a template whose cookiecutter.json is a link: to a device, to a pipe, out",
    seen="exit code 3 at once",
)
@pytest.mark.parametrize("aim", ["/dev/zero", "/dev/stdin", "pipe", "secret.json"])
def test_nothing_is_read_through_a_link_that_leads_out(aim, mine, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "secret.json").write_text("{}")
    (mine / "cookiecutter.json").unlink()
    (mine / "cookiecutter.json").symlink_to(aim if aim.startswith("/") else tmp_path / aim)
    commit(mine)
    begun = time.monotonic()
    leads_out = "cookiecutter.json is a link that leads out of the template, or nowhere"
    for source in (url(mine), mine):
        error = refusal(source)
        assert error.exit_code == 3
        assert leads_out in error.message or "cannot read the cookiecutter.json" in error.message
        if source != mine:
            assert error.message.startswith(leads_out)
    assert time.monotonic() - begun < 20


# --- which scaffold


@pytest.mark.parametrize("wanted", [">=0.1", "~=0.1.0", "==0.1.*", ">=0.0.1,<9"])
def test_one_for_this_scaffold_is_taken(wanted, tmp_path):
    with fetched(str(template(tmp_path / "mine", _scaffold=wanted))) as found:
        found.check_fits()
        assert render.variables(found.folder)["_scaffold"] == wanted


def test_one_for_a_newer_scaffold_is_refused_with_both_versions(tmp_path):
    with (
        fetched(str(template(tmp_path / "mine", _scaffold=">=9.1"))) as found,
        pytest.raises(UsageError) as caught,
    ):
        found.check_fits()
    assert caught.value.message == "the template mine is for scaffold >=9.1, and this is 0.1.0"


@pytest.mark.parametrize("wanted", ["new", "9", 9, [">=1"]])
def test_what_says_no_version(wanted, tmp_path):
    mine = template(tmp_path / "mine", _scaffold=wanted)
    with fetched(str(mine)) as found, pytest.raises(ProjectError) as caught:
        found.check_fits()
    assert caught.value.message == f"the template mine has an invalid `_scaffold`: {json.dumps(wanted)}"
