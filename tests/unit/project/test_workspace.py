"""Which crates are in a workspace, and what commands mean at its root. Cargo's own word is in e2e/."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from support.commands import entered, error
from support.wasm_asm import plugin as assembled

import scaffold
from scaffold.commands.deploy_targets import roots_of
from scaffold.commands.test import Part, jobs
from scaffold.errors import ProjectError
from scaffold.hosts import source as plugins
from scaffold.project.crate import Project
from scaffold.project.projects import projects_at, triples_at
from scaffold.project.workspace import Workspace

LIB = '[lib]\ncrate-type = ["cdylib"]\n'
SDK = '[dependencies]\nproxy-wasm = "0.2.5"\n'


pytestmark = pytest.mark.usefixtures("users_folders")


@pytest.fixture
def root(tmp_path):
    folder = tmp_path / "ws"
    folder.mkdir()
    return folder


def crate(folder: Path, rest: str = LIB + SDK, version: str = 'version = "1.2.3"') -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "Cargo.toml").write_text(f'[package]\nname = "{folder.name}"\n{version}\n{rest}')
    return folder


def write(root: Path, text: str) -> Path:
    (root / "Cargo.toml").write_text(text)
    return root


def names(folders: list[Path]) -> list[str]:
    return [folder.name for folder in folders]


# --- which are members


def test_members_are_in_the_order_of_the_manifest_and_those_of_a_glob_by_name(root):
    write(root, '[workspace]\nmembers = ["z", "plugins/*", "deep/**/x"]\nexclude = ["plugins/old"]\n')
    for name in ("z", "plugins/b", "plugins/a", "plugins/old", "deep/1/2/x", "stranger"):
        crate(root / name)
    (root / "plugins/empty").mkdir()
    (root / "plugins/file").touch()
    found = Workspace.at(root)
    assert names(found.members()) == ["z", "a", "b", "x"]
    assert found.members()[0] == (root / "z").resolve()


def test_a_root_that_is_a_package_is_a_member(root):
    crate(root, '[workspace]\nmembers = ["a"]\n')
    crate(root / "a")
    assert names(Workspace.at(root).members()) == ["ws", "a"]


def test_a_crate_is_in_the_nearest_workspace_that_does_not_exclude_it(root):
    write(root, '[workspace]\nmembers = ["in/*"]\nexclude = ["out", "in/old"]\n')
    write(crate(root / "out"), "[workspace]\nexclude = ['apart']\n")
    assert Workspace.of(root / "in/new").root == root
    assert Workspace.of(root / "in/old") is None
    assert Workspace.of(root / "out/one").root == root / "out"
    assert Workspace.of(root / "out/apart") is None


def test_a_member_can_be_named_although_its_folder_is_excluded(root):
    write(root, '[workspace]\nmembers = ["in/this"]\nexclude = ["in"]\n')
    crate(root / "in/this"), crate(root / "in/that")
    assert names(Workspace.at(root).members()) == ["this"]
    assert (Workspace.of(root / "in/this"), Workspace.of(root / "in/that")) == (Workspace.at(root), None)


@pytest.mark.parametrize("members", ["3", '"a"', "[3, '', '/nowhere/*', '../w*/a']", "{}"])
def test_what_cargo_would_refuse_is_no_bug_of_ours(root, members):
    crate(write(root, f"[workspace]\nmembers = {members}\n") / "a")
    assert names(Workspace.at(root).members()) == (["a"] if ".." in members else [])


def test_a_broken_manifest_is_named(root):
    write(root, "[workspace")
    with pytest.raises(ProjectError, match=r"ws/Cargo\.toml is not TOML"):
        Workspace.of(root / "a")


# --- which are plugins


def test_a_plugin_says_so_or_makes_a_cdylib_with_the_sdk(root):
    write(root, '[workspace]\nmembers = ["*"]\n')
    crate(root / "plain")
    crate(root / "renamed", LIB + '[dependencies]\npw = { package = "proxy-wasm", version = "0.2" }\n')
    crate(root / "shared", LIB + "[dependencies]\nproxy-wasm.workspace = true\n")
    crate(root / "said", LIB + "[package.metadata.proxy-wasm]\n")
    crate(root / "library", SDK)
    crate(root / "other", LIB + '[dependencies]\nserde = "1"\n')
    assert names(Workspace.at(root).plugins()) == ["plain", "renamed", "said", "shared"]


def test_a_root_that_is_a_plugin_is_meant_alone(root):
    crate(root, LIB + SDK + '[workspace]\nmembers = ["a"]\n')
    crate(root / "a")
    assert projects_at(root).workspace is None
    assert Project.load(root).name == "ws"


def test_a_root_that_is_none_stands_for_all(root, monkeypatch):
    crate(root, '[workspace]\nmembers = ["b", "a"]\n')
    crate(root / "a"), crate(root / "b")
    assert [project.name for project in projects_at(root)] == ["b", "a"]
    (root / "folder").mkdir()
    monkeypatch.chdir(root / "folder")
    assert [project.name for project in projects_at(Path())] == ["b", "a"], "from a folder in it, too"


@pytest.mark.parametrize("command", ["build", "test", "package", "clean", "setup"])
def test_a_workspace_without_a_plugin_says_so(command, root, capsys):
    crate(write(root, '[workspace]\nmembers = ["a"]\n') / "a", "")
    ran = entered(capsys, command, "--root", root)
    hint = "add one with `scaffold new NAME`, or turn a plugin crate into a project with `scaffold adopt`"
    assert (ran.code, ran.err) == (3, error(f"no member of the workspace in {root} is a plugin", hint))


@pytest.mark.parametrize("line", ["manifest istio", "deploy istio", "ci github"])
def test_what_is_about_one_plugin_names_them(line, root, capsys, monkeypatch):
    write(root, '[workspace]\nmembers = ["*"]\n')
    crate(root / "a b"), crate(root / "c"), crate(root / "library", "")
    monkeypatch.chdir(root.parent)
    ran = entered(capsys, *line.split(), "--root", "ws")
    message = "ws/Cargo.toml describes a workspace, but this command needs a single plugin"
    assert (ran.code, ran.err) == (3, error(message, "choose a plugin: --root 'ws/a b', --root ws/c"))


def chained(root, said=""):
    text = f"[workspace.metadata.proxy-wasm]\n{said}\n" if said else ""
    write(root, f'[workspace]\nmembers = ["b", "a", "c", "library"]\n{text}')
    for name in "abc":
        crate(root / name)
    crate(root / "library", "")


def test_a_chain_has_all_plugins_in_the_order_of_the_members(root):
    chained(root)
    assert [project.name for project in projects_at(root).chain] == ["b", "a", "c"]
    assert projects_at(root / "a").workspace is None


def test_a_chain_is_what_it_is_said_to_be(root):
    chained(root, 'chain = ["c", "b"]')
    assert [project.name for project in projects_at(root).chain] == ["c", "b"]
    assert [project.name for project in projects_at(root)] == ["b", "a", "c"], "others are built all the same"


@pytest.mark.parametrize(
    ("said", "message", "hint"),
    [
        ('chian = ["a"]', "unknown key `chian` in {}", "known: chain"),
        ('chain = "a"', "`chain` in {} is not a list of names", 'write `chain = ["auth", "ratelimit"]`'),
        ("chain = []", "`chain` in {} is not a list of names", 'write `chain = ["auth", "ratelimit"]`'),
        ("chain = [1]", "`chain` in {} is not a list of names", 'write `chain = ["auth", "ratelimit"]`'),
        (
            'chain = ["library"]',
            "`chain` in {} names `library`, which isn't a plugin of this workspace",
            "known: b, a, c",
        ),
        ('chain = ["a", "b", "a"]', "`chain` in {} names `a` twice", None),
    ],
)
@pytest.mark.parametrize("command", ["run", "deploy", "bootstrap", "test"])
def test_a_chain_that_cannot_be_is_said_before_anything_is_built(command, said, message, hint, root, capsys):
    chained(root, said)
    ran = entered(capsys, command, "--root", root)
    where = f"[workspace.metadata.proxy-wasm] of {root / 'Cargo.toml'}"
    assert (ran.code, ran.err) == (3, error(message.format(where), hint))


@pytest.mark.parametrize(
    ("said", "message", "hint"),
    [
        (
            '[workspace.metadata.proxy_wasm]\nchain = ["a"]',
            "[workspace.metadata.proxy_wasm] in {} is misspelt",
            "write [workspace.metadata.proxy-wasm]",
        ),
        (
            '[workspace.metadata]\nproxy-wasm = "a"',
            "workspace.metadata.proxy-wasm in {} is not a table",
            None,
        ),
    ],
)
def test_a_chain_that_is_said_elsewhere_is_not_passed_over(said, message, hint, root, capsys):
    chained(root)
    with (root / "Cargo.toml").open("a") as file:
        file.write(said)
    ran = entered(capsys, "deploy", "--root", root)
    assert (ran.code, ran.err) == (3, error(message.format(root / "Cargo.toml"), hint))


def test_no_two_of_a_workspace_have_a_name(root, capsys):
    chained(root)
    before = sorted(root.rglob("*"))
    ran = entered(capsys, "new", "a", "--output-dir", root / "elsewhere", "--no-input")
    message = f"the workspace in {root} already has a package `a`, in {root / 'a'}"
    hint = "choose another name: names are unique within a workspace"
    assert (ran.code, ran.err, sorted(root.rglob("*"))) == (2, error(message, hint), before)


@pytest.mark.parametrize(
    ("command", "hint"),
    [
        ("update", "hint: choose a plugin: --root b, --root a, --root c\n"),
        ("adopt", "hint: pass --root a plugin's crate, not a workspace\n"),
    ],
)
def test_what_is_for_a_member_is_not_done_to_the_workspace(command, hint, root, capsys, monkeypatch):
    chained(root)
    monkeypatch.chdir(root)
    ran = entered(capsys, command)
    assert (ran.code, ran.err.endswith(hint)) == (3, True), "not that git should take all of it"


def test_a_modules_file_at_a_workspaces_root_is_the_members_of_its_name(root, tmp_path):
    chained(root)
    crate(root / "a-b")
    (root / "Cargo.toml").write_text('[workspace]\nmembers = ["*"]\nexclude = ["library"]\n')
    for name, home in (("a_b", root / "a-b"), ("other", None)):
        path = tmp_path / f"{name}.wasm"
        path.write_bytes(assembled())
        choice = plugins.choose(path, root)
        assert (choice.project and choice.project.root) == home


@pytest.mark.parametrize("out", ["nowhere/x.yaml", "."])
@pytest.mark.parametrize("line", ["bootstrap", "manifest envoy"])
def test_what_cannot_be_a_file_is_said_before_anything_is_built(line, out, root, capsys, monkeypatch):
    chained(root)
    monkeypatch.chdir(root)
    ran = entered(capsys, *line.split(), "--out", out)
    why = "it is a folder" if out == "." else "there is no folder nowhere"
    assert (ran.code, ran.err) == (2, error(f"cannot write {out}: {why}", "--out takes the name of a file"))


@pytest.mark.parametrize("where", ["root", "member"])
def test_nothing_deployed_is_said_before_anything_is_tested(where, root, capsys):
    chained(root)
    folder = root if where == "root" else root / "a"
    ran = entered(capsys, "test", "--deployed", "--root", folder)
    assert ran.code == 9
    assert ran.err == error(f"nothing is deployed from {folder}", "run `scaffold deploy` first")


def shared(root, *words):
    """Which words go to whom."""
    for folder in ("a", "b", "."):
        (root / folder / "tests").mkdir(parents=True)
        (root / folder / "tests/test_plugin.py").touch()
    (root / "tests/test_chain.py").touch()
    parts = [Part(name, root / name, []) for name in "ab"]
    parts.append(Part("chain", root, [], ("--rootdir=x",), (str(root / "tests"),)))
    made = jobs(parts, {"envoy": ["--on"]}, words, None, by_name=True)
    return {job.name: [word.replace(f"{root}/", "") for word in job.arguments[1:]] for job in made}


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        ([], {"a": [], "b": [], "chain": ["--rootdir=x", "tests"]}),
        (["-k", "x"], {"a": ["-k", "x"], "b": ["-k", "x"], "chain": ["--rootdir=x", "-k", "x", "tests"]}),
        (["tests/test_chain.py"], {"chain": ["--rootdir=x", "tests/test_chain.py"]}),
        (
            ["-x", "tests/test_chain.py::test_it[1::2]"],
            {"chain": ["--rootdir=x", "-x", "tests/test_chain.py::test_it[1::2]"]},
        ),
        (["a/tests/test_plugin.py"], {"a": ["a/tests/test_plugin.py"]}),
        (["a/tests", "tests"], {"a": ["a/tests"], "chain": ["--rootdir=x", "tests"]}),
        (["no.py"], {"a": ["no.py"], "b": ["no.py"], "chain": ["--rootdir=x", "no.py", "tests"]}),
    ],
)
def test_a_file_of_tests_goes_to_those_that_it_is_of(words, wanted, root, monkeypatch):
    root.mkdir(exist_ok=True)
    monkeypatch.chdir(root)
    assert shared(root, *words) == wanted


def test_a_file_of_tests_that_is_named_as_in_a_member_goes_to_each(root, monkeypatch):
    monkeypatch.chdir(root.parent)
    got = shared(root, "tests/test_plugin.py")
    assert {name: words[-1] for name, words in got.items()} == {
        "a": "a/tests/test_plugin.py",
        "b": "b/tests/test_plugin.py",
        "chain": "tests/test_plugin.py",
    }


def test_a_service_runs_beside_the_chain(root):
    chained(root)
    crate(root / "a", LIB + '[package.metadata.proxy-wasm]\ntype = "service"\n')
    assert [project.name for project in projects_at(root).chain] == ["b", "a", "c"]


def test_a_root_with_a_package_that_is_no_plugin_is_there_once(root, capsys):
    crate(root, '[workspace]\nmembers = ["a"]\n')
    crate(root / "a")
    assert roots_of(root) == [root, root / "a"]


@pytest.mark.parametrize("command", ["run", "deploy", "bootstrap"])
@pytest.mark.parametrize("words", [["--config", "{}"], ["--id", "x"], ["--root-id", "x"]])
def test_what_is_of_one_plugin_cannot_be_said_of_a_chain(command, words, root, capsys):
    chained(root)
    ran = entered(capsys, command, *words, "--root", root)
    hint = "set it in each plugin's Cargo.toml, or choose a plugin with --root"
    assert (ran.code, ran.err) == (
        2,
        error(f"{words[0]} is for a single plugin, but this is a workspace", hint),
    )


def test_of_many_plugins_a_few_are_named(root):
    write(root, '[workspace]\nmembers = ["*"]\n')
    for number in range(20):
        crate(root / f"p{number:02}")
    with pytest.raises(ProjectError) as caught:
        Project.load(root)
    assert caught.value.hint.count("--root") == 5
    assert caught.value.hint.endswith("(20 in all)")


@pytest.mark.parametrize("words", [["test", "--module", "x.wasm"], ["package", "--tag", "x:1"]])
def test_what_only_one_can_be_given_is_refused(words, root, capsys):
    crate(write(root, '[workspace]\nmembers = ["a"]\n') / "a")
    ran = entered(capsys, *words, "--root", root)
    message = f"{words[1]} is for a single plugin, but this is a workspace"
    assert (ran.code, ran.err) == (
        2,
        error(message, f"choose a plugin: --root {os.path.relpath(root / 'a')}"),
    )


def test_the_toolchain_is_for_all_triples_at(root):
    write(root, '[workspace]\nmembers = ["a", "b", "c"]\n')
    other = LIB + '[package.metadata.proxy-wasm]\ntriple = "wasm32-unknown-unknown"\n'
    crate(root / "a"), crate(root / "b", other), crate(root / "c")
    assert triples_at(root) == ["wasm32-wasip1", "wasm32-unknown-unknown"]
    assert triples_at(root / "b") == ["wasm32-unknown-unknown"]
    assert triples_at(root / "nowhere") == ["wasm32-wasip1"]


def test_nothing_deployed_from_a_workspace_is_an_empty_list(root, capsys):
    crate(write(root, '[workspace]\nmembers = ["a"]\n') / "a")
    for command in ("status", "undeploy"):
        ran = entered(capsys, command, "--json", "--root", root)
        assert (ran.code, json.loads(ran.out)) == (0, [])
    write(root, "[workspace")
    assert scaffold.status(root) == [], "what is deployed goes on, whatever the files say now"


# --- what members take from it


def test_a_version_of_the_workspaces_is_the_plugins(root):
    write(root, '[workspace]\nmembers = ["a"]\n[workspace.package]\nversion = "7.1.0"\nlicense = "MIT"\n')
    crate(root / "a", 'license.workspace = true\ndescription = "own"\n' + LIB, "version.workspace = true")
    assert Project.load(root / "a").version == "7.1.0"
    package = {"version": {"workspace": True}, "license": {"workspace": True}, "description": "own", "x": 3}
    assert Workspace.at(root).describe(package) == {
        "version": "7.1.0",
        "license": "MIT",
        "description": "own",
    }


def test_the_lock_file_is_at_the_top(root):
    crate(write(root, '[workspace]\nmembers = ["a"]\n') / "a")
    assert Project.load(root / "a").top == projects_at(root).top == root
    assert Project.load(crate(root.parent / "alone")).top == root.parent / "alone"
