"""`new` in a cargo workspace: the crate becomes a member, or there is no crate."""

from __future__ import annotations

import os
import signal
import tomllib
from pathlib import Path

import pytest
from support.commands import SCAFFOLD, entered, error, listing, run

import scaffold
from scaffold.core import files
from scaffold.errors import ProjectError
from scaffold.project.crate import Project
from scaffold.project.templates.workspace_member import fit
from scaffold.project.workspace import Workspace

VIRTUAL = '# ours\n[workspace]\nmembers = [\n    "lib", # shared\n]\nresolver = "2"\n'


pytestmark = pytest.mark.usefixtures("users_folders")


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "ws"
    folder.mkdir()
    write(folder, VIRTUAL)
    return folder


def write(root: Path, text: str) -> None:
    (root / "Cargo.toml").write_bytes(text.encode())


def read(root: Path) -> str:
    return (root / "Cargo.toml").read_bytes().decode()


def new(root: Path, name: str = "first") -> Project:
    return scaffold.new(name, output_dir=root, no_input=True)


def test_the_crate_is_named_in_the_workspace_and_all_else_stays(root):
    (root / "Cargo.toml").chmod(0o640)
    new(root)
    text = read(root)
    assert text.startswith(VIRTUAL.replace("shared\n", 'shared\n    "first",\n'))
    assert Workspace.at(root).plugins() == [root / "first"]
    assert (root / "Cargo.toml").stat().st_mode & 0o777 == 0o640


@pytest.mark.faults(
    "R2", injected="`new` in a workspace: Ctrl-C once the crate is named there", seen="the crate stays"
)
def test_interrupted_when_it_is_named_already_it_stays(root, monkeypatch):
    """Without the crate, cargo would refuse the whole workspace."""
    write_file = files.write

    def interrupted(path, *given, **more):
        write_file(path, *given, **more)
        if path == root / "Cargo.toml":
            os.kill(os.getpid(), signal.SIGINT)

    monkeypatch.setattr(files, "write", interrupted)
    with pytest.raises(KeyboardInterrupt):
        new(root)
    assert Workspace.at(root).plugins() == [root / "first"]


def test_the_profiles_go_to_the_root_with_their_comments_and_the_lints_stay(root, tmp_path):
    alone = tomllib.loads(read(new(tmp_path, "first").root))
    made, text = tomllib.loads(read(new(root).root)), read(root)
    assert alone.pop("profile") == tomllib.loads(text)["profile"]
    assert made == alone
    assert "# Small: Envoy compiles" in text
    assert "Envoy compiles" not in read(root / "first")
    assert "lints" in made
    new(root, "second")
    assert read(root) == text.replace('"first",\n', '"first",\n    "second",\n'), "they are there already"


def test_a_profile_of_the_workspaces_own_stays(root):
    write(root, VIRTUAL + "[profile.release]\nlto = false\n")
    new(root)
    profiles = tomllib.loads(read(root))["profile"]
    assert profiles["release"] == {"lto": False}
    assert profiles["dev"]["opt-level"] == 1


def test_what_a_glob_covers_needs_no_name(root):
    write(root, '[workspace]\nmembers = ["plugins/*"]\n[profile.release]\n[profile.dev]\n')
    before = read(root)
    scaffold.new("first", output_dir=root / "plugins", no_input=True)
    assert read(root) == before
    assert Workspace.at(root).plugins() == [root / "plugins/first"]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        ("[workspace]\n", '[workspace]\nmembers = ["deep/first"]\n'),
        ('[workspace]\nmembers = ["lib"]  # all\n', '[workspace]\nmembers = ["lib", "deep/first"]  # all\n'),
        ('[workspace]\nmembers = [\n  "a"]\n', '[workspace]\nmembers = [\n  "a",\n  "deep/first"]\n'),
        ('[workspace]\r\nmembers = [\r\n]\r\n', '[workspace]\r\nmembers = [\r\n    "deep/first"\r\n]\r\n'),
        ('workspace = { members = ["a"] }\n', 'workspace = { members = ["a", "deep/first"] }\n'),
        ('[package]\n[workspace]\n', '[package]\n[workspace]\nmembers = ["deep/first"]\n'),
    ],
    ids=["no list", "a comment behind", "no last comma", "CRLF", "inline", "a package"],
)  # fmt: skip
def test_however_the_list_is_written(before, after, root):
    scaffold.new("first", output_dir=write(root, before) or root / "deep", no_input=True)
    assert read(root).startswith(after)
    assert tomllib.loads(read(root))["workspace"]["members"][-1] == "deep/first"


@pytest.mark.parametrize("members", ['[\n  "a"\n  # the last\n]', "3"])
def test_a_list_that_takes_no_more_leaves_no_crate_behind(members, root):
    write(root, f"[workspace]\nmembers = {members}\n")
    before = listing(root), read(root)
    with pytest.raises(ProjectError) as caught:
        scaffold.new("first", output_dir=root, no_input=True)
    assert caught.value.message == f"cannot add to `members` of {root / 'Cargo.toml'}"
    assert caught.value.hint == 'add "first" by hand, or reformat that list'
    assert (listing(root), read(root)) == before


def test_a_broken_workspace_gets_no_crate(root, capsys):
    write(root, "[workspace\n")
    ran = entered(capsys, "new", "first", "--output-dir", root, "--no-input")
    assert (ran.code, listing(root)) == (3, ["Cargo.toml"])
    assert f"{root / 'Cargo.toml'} is not TOML" in ran.err


@pytest.mark.parametrize("text", ['[workspace]\nexclude = ["apart"]\n', '[package]\nname = "x"\n'])
def test_outside_of_a_workspace_a_crate_is_as_ever(text, root):
    write(root, text)
    made = scaffold.new("first", output_dir=root / "apart", no_input=True)
    assert read(root) == text
    assert "[profile.release]" in read(made.root)


def test_it_says_so(root, capsys):
    ran = entered(capsys, "new", "first", "--output-dir", root, "--no-input", "--json")
    assert f"first is a member of the workspace in {root}\n" in ran.err


def test_after_a_kill_before_the_last_step_it_says_what_is_left_to_do(root, tmp_path, capsys):
    """The folder comes first, since a workspace that names a missing one builds nothing at all."""
    made = new(tmp_path, "first").root
    made.rename(root / "first")
    ran = entered(capsys, "new", "first", "--output-dir", root, "--no-input")
    hint = f'add "first" to `members` in {root / "Cargo.toml"}, or choose another name'
    assert (ran.code, ran.err) == (2, error(f"{root / 'first'} already exists", hint))
    assert read(root) == VIRTUAL
    write(root, VIRTUAL.replace("lib", "first"))
    again = entered(capsys, "new", "first", "--output-dir", root, "--no-input")
    assert "choose another name, or another --output-dir" in again.err


def test_two_at_once_are_both_members(root):
    import concurrent.futures

    names = [f"f{number}" for number in range(4)]
    with concurrent.futures.ThreadPoolExecutor() as threads:
        words = [(*SCAFFOLD, "new", name, "--output-dir", root, "--no-input") for name in names]
        ended = list(threads.map(lambda argv: run(*argv), words))
    assert [ran.code for ran in ended] == [0] * len(names), ended
    assert sorted(folder.name for folder in Workspace.at(root).plugins()) == names


# --- the manifest of a member


def test_whatever_belongs_to_profiles_goes(tmp_path):
    write(
        tmp_path,
        '# first\n[package]\nname = "a"\n\n# small\n# and quick\n[profile.release]\nlto = true\n\n'
        '[profile.release.package."*"]\nopt-level = 3\n\n# last\n[lints.rust]\nunused = "deny"\n',
    )
    assert fit(tmp_path) == [
        "# small\n# and quick\n[profile.release]\nlto = true\n\n",
        '[profile.release.package."*"]\nopt-level = 3\n\n',
    ]
    assert read(tmp_path) == '# first\n[package]\nname = "a"\n\n# last\n[lints.rust]\nunused = "deny"\n'


@pytest.mark.parametrize(
    "text",
    [
        '[package]\nname = "a"\n',
        '[package]\nname = "a"\n[workspace]\n[profile.dev]\ndebug = true\n',
        'profile.dev.debug = true\n[package]\nname = "a"\n',
        '[package]\ndescription = """\n[profile.dev]\n"""\n',
        '[package]\na = """\n[profile.dev]\n"""\n[profile.dev]\ndebug = true\n[b]\nc = """\n[x]\n"""\n',
    ],
    ids=["none", "a root of its own", "no table", "a text", "a text and a table"],
)
def test_what_is_no_profile_stays(text, tmp_path):
    write(tmp_path, text)
    before = tomllib.loads(text)
    taken = fit(tmp_path)
    assert tomllib.loads(read(tmp_path)) == {
        key: before[key] for key in before if not (taken and key == "profile")
    }
