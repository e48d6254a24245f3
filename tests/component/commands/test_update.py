"""`scaffold update`: real histories of a template, of a user's edits, and of both; no work is lost."""

from __future__ import annotations

import json
import os
import random
import shutil
import signal
import subprocess
import time
import tomllib
import zipfile
from pathlib import Path

import pytest
from support.commands import SCAFFOLD, entered, run
from support.documents import ROOT
from support.repositories import commit, contents, git, own

import scaffold
from scaffold import __version__
from scaffold.commands import ci as workflows
from scaffold.commands import new as templating
from scaffold.core import files
from scaffold.core.events import Noted, Started, Warned, listening
from scaffold.errors import MachineError, ProjectError, UsageError
from scaffold.project.budget import Budget
from scaffold.project.crate import Project
from scaffold.project.template_record import Rendered
from scaffold.project.templates import answers, trust
from scaffold.project.templates import merge as worktree
from scaffold.project.templates import workspace_member as members
from scaffold.project.templates.git import NoTemplate
from scaffold.project.templates.sdk_dependency import SDK
from scaffold.project.templates.source import Template, fetched

HTTP = ROOT / "cookiecutters" / "http"
CI = HTTP.parent.parent / "ci"
OLDER = "0.0.9"
HOSTS = "Envoy, Istio and other hosts"  # in README.md


@pytest.fixture(autouse=True)
def alone(tmp_path, monkeypatch):
    """A user of our own, without settings of git's, and no package index."""
    for kind in ("STATE", "CACHE", "DATA", "CONFIG"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind.lower()))
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_", "GIT_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("GIT_CONFIG_NOSYSTEM", "1")


@pytest.fixture
def said():
    """The steps that begin, and the words of what is noted or warned of."""
    words = []

    def hear(event):
        match event:
            case Started(title):
                words.append(title)
            case Noted(text) | Warned(text):
                words.append(text)

    with listening(hear):
        yield words


@pytest.fixture
def older():
    """The folder of `http` as 0.0.9 had it, where a test says what was different then; fetched already."""
    release = files.cache_dir() / "releases" / OLDER
    shutil.copytree(HTTP, release / "cookiecutters/http")
    shutil.copytree(CI, release / "ci")
    return release / "cookiecutters/http"


def rendered(folder, root, **given):
    """A project as scaffold 0.0.9 made it, committed."""
    template = Template("http", "http", folder, pin=OLDER)
    root.mkdir(parents=True)
    settled = answers.settle(template, root.name, given, no_input=True)
    templating.render_unchecked(template, settled, root)
    commit(root)
    return root


def inside(folder, path="."):
    return folder / "{{cookiecutter.name}}" / path


def edit(path, before, after):
    text = path.read_text()
    assert before in text
    path.write_text(text.replace(before, after))


def fresh(tmp_path, name="hello"):
    """What `scaffold new` makes today."""
    return scaffold.new(name, output_dir=tmp_path / "fresh", no_input=True).root


def refusal(kind, root, **options):
    before = contents(root)
    with pytest.raises(kind) as caught:
        scaffold.update(root, **options)
    assert contents(root) == before
    return caught.value


# --- what a project records


def test_a_new_project_records_where_it_came_from(tmp_path):
    made = scaffold.new("hello", output_dir=tmp_path, variable=['description=says "hi" \\'], no_input=True)
    given = {"name": "hello", "description": 'says "hi" \\', "license": "Apache-2.0"}
    assert made.settings.template == Rendered("http", __version__, given)
    manifest = tomllib.loads((made.root / "Cargo.toml").read_text())
    assert manifest["package"]["metadata"]["proxy-wasm"]["template"]["answers"] == given


@pytest.mark.parametrize(
    ("table", "message"),
    [
        ("template = 1", "is not a table"),
        ("template.sauce = 'http'", "unknown key `sauce`"),
        ("template.source = 'http'", "`version` in"),
        ("template = { source = 1, version = '1' }", "`source` in"),
        ("template = { source = 'http', version = '1', directory = 1 }", "`directory` in"),
        ("template = { source = 'http', version = '1' }", "`answers` in"),
        ("template = { source = 'http', version = '1', answers = { name = 1 } }", "`answers` in"),
    ],
)
def test_a_record_that_cannot_be_is_refused(table, message, tmp_path):
    crate = '[package]\nname = "a"\n[lib]\ncrate-type = ["cdylib"]\n[package.metadata.proxy-wasm]\n'
    (tmp_path / "Cargo.toml").write_text(crate + table)
    with pytest.raises(ProjectError) as caught:
        Project.load(tmp_path)
    assert message in caught.value.message


# --- histories


def test_a_project_of_today_is_up_to_date(tmp_path, capsys):
    root = fresh(tmp_path)
    commit(root)
    before = contents(root)
    for words in ([], ["--check"], ["--dry-run"]):
        ran = entered(capsys, "update", "--root", root, *words)
        assert (ran.code, ran.out) == (0, f"http {__version__} is up to date\n"), ran.err
    assert contents(root) == before


def test_what_changed_in_the_template_and_what_the_user_changed_come_together(older, tmp_path):
    inside(older, "src/greeting.rs").write_text("// is gone since\n")
    inside(older, "Makefile").chmod(0o755)  # not since
    edit(inside(older, "README.md"), HOSTS, "Envoy")
    edit(inside(older, "Cargo.toml"), 'opt-level = "z"', 'opt-level = "s"')
    inside(older, "tests/test_plugin.py").unlink()  # new since
    root = rendered(older, tmp_path / "hello")
    edit(root / "src/lib.rs", "Hello world", "Good morning")
    edit(root / "Cargo.toml", "[dependencies]\n", '[dependencies]\nserde = "1"  # mine\n')
    with (root / "Cargo.toml").open("a") as file:
        file.write("\n[features]\nmine = []\n")
    (root / "notes.bin").write_bytes(b"\0\xff")
    commit(root)
    update = scaffold.update(root)
    assert (update.before, update.after, update.conflicts) == (OLDER, __version__, ())
    assert set(update.changed) == {
        *("Cargo.toml", "Makefile", "README.md", "src/greeting.rs", "tests/test_plugin.py")
    }
    expected = own(fresh(tmp_path))
    found = own(root)
    assert found.pop("notes.bin")[1] == b"\0\xff"
    assert b"Good morning" in found["src/lib.rs"][1]
    assert found.keys() == expected.keys()
    for path in found.keys() - {"src/lib.rs", "Cargo.toml"}:
        assert found[path] == expected[path], path
    manifest = (root / "Cargo.toml").read_text()
    assert (
        manifest.replace('serde = "1"  # mine\n', "").replace("\n[features]\nmine = []\n", "").encode()
        == (expected["Cargo.toml"][1])
    )
    assert git(root, "diff", "--cached", "--name-only") == "", "nothing is staged"
    commit(root)
    assert scaffold.update(root, check=True).exit_code == 0


def test_a_project_without_a_budget_gets_one_and_the_users_own_stays(older, tmp_path):
    manifest = inside(older, "Cargo.toml")
    text = manifest.read_text()
    edit(inside(older, "README.md"), HOSTS, "Envoy")
    raised = rendered(older, tmp_path / "raised")
    edit(raised / "Cargo.toml", "module-bytes = 150_000", "module-bytes = 400_000")
    commit(raised)
    start = text.index("# What the plugin may cost")
    manifest.write_text(text[:start] + text[text.index("[lib]") :])  # as it was before there were budgets
    without = rendered(older, tmp_path / "without")
    assert Project.load(without).settings.budget == Budget()
    scaffold.update(without)
    assert Project.load(without).settings.budget == Project.load(fresh(tmp_path)).settings.budget
    manifest.write_text(text)
    scaffold.update(raised)
    assert Project.load(raised).settings.budget.module_bytes == 400_000


def test_a_file_that_the_user_moved_is_followed(older, tmp_path):
    edit(inside(older, "README.md"), HOSTS, "Envoy")
    root = rendered(older, tmp_path / "hello")
    (root / "docs").mkdir()
    git(root, "mv", "README.md", "docs/about.md")
    commit(root)
    assert "docs/about.md" in scaffold.update(root).changed
    assert "Envoy, Istio and other hosts" in (root / "docs/about.md").read_text()
    assert not (root / "README.md").exists()


def test_conflicts_are_marked_and_said(older, tmp_path, capsys):
    edit(inside(older, "src/lib.rs"), "Hello world from", "Hi from")
    edit(inside(older, "tests/test_plugin.py"), "Hello world from", "Hi from")
    root = rendered(older, tmp_path / "hello")
    edit(root / "src/lib.rs", '[b"Hi from ', '[b"Good morning from ')
    (root / "tests/test_plugin.py").unlink()
    commit(root)
    ran = entered(capsys, "update", "--root", root)
    assert ran.code == 3
    lines = ran.out.splitlines()
    assert lines[0] == f"http {OLDER} -> {__version__}"
    assert {"  conflict  src/lib.rs", "  conflict  tests/test_plugin.py", "  changed   Cargo.toml"} <= set(
        lines
    )
    assert "CONFLICT (content): Merge conflict in src/lib.rs" in ran.err
    assert "CONFLICT (modify/delete): tests/test_plugin.py deleted in yours" in ran.err
    assert "set all changes aside with `git stash -u`" in ran.err
    source = (root / "src/lib.rs").read_text()
    assert "<<<<<<< yours\n" in source
    assert ">>>>>>> template-http-" in source
    assert '[b"Good morning from ' in source
    assert '[b"Hello world from ' in source
    again = entered(capsys, "update", "--root", root)
    assert (again.code, again.out) == (3, ran.out), "nothing of it is lost, and nothing new came"
    edit(root / "src/lib.rs", "Good morning", "resolved by hand")
    assert "uncommitted changes in src/lib.rs" in refusal(UsageError, root).message
    commit(root)
    assert entered(capsys, "update", "--root", root).code == 0


def test_a_check_says_by_its_exit_code_whether_there_is_an_update(older, tmp_path, capsys):
    root = rendered(older, tmp_path / "hello")
    ran = entered(capsys, "update", "--root", root, "--check")
    assert (ran.code, ran.out) == (0, f"http {OLDER} is up to date\n"), "the template is as it was"
    edit(inside(older, "README.md"), HOSTS, "Envoy")
    root = rendered(older, tmp_path / "two/hello")
    before = contents(root)
    ran = entered(capsys, "update", "--root", root, "--check", "--json")
    assert ran.code == 3
    found = json.loads(ran.out)
    assert (found["available"], found["written"], found["changed"]) == (
        True,
        False,
        ["Cargo.toml", "README.md"],
    )
    plain = entered(capsys, "update", "--root", root, "--check")
    assert (plain.code, plain.out.splitlines()[0]) == (
        3,
        f"update available: http {OLDER} -> {__version__}",
    )
    assert contents(root) == before


def test_a_record_of_an_older_version_is_renewed_though_nothing_else_changed(older, tmp_path):
    root = rendered(older, tmp_path / "hello")
    assert scaffold.update(root).changed == ("Cargo.toml",)
    assert own(root) == own(fresh(tmp_path))


def test_a_dry_run_prints_the_patch(older, tmp_path, capsys):
    edit(inside(older, "README.md"), HOSTS, "Envoy")
    root = rendered(older, tmp_path / "hello")
    copy = shutil.copytree(root, tmp_path / "copy")
    before = contents(root)
    ran = entered(capsys, "update", "--root", root, "--dry-run")
    assert ran.code == 0
    assert contents(root) == before
    (tmp_path / "patch").write_text(ran.out)
    git(copy, "apply", tmp_path / "patch")
    scaffold.update(root)
    assert own(copy) == own(root)


def test_a_project_in_a_folder_of_a_repository(older, tmp_path):
    edit(inside(older, "README.md"), HOSTS, "Envoy")
    top = tmp_path / "a repository"
    top.mkdir()
    (top / "README.md").write_text("another\n")
    commit(top)
    root = rendered(older, top / "filters here" / "hello")
    (top / "README.md").write_text("not committed\n")
    scaffold.update(root)
    assert own(root) == own(fresh(tmp_path))
    assert (top / "README.md").read_text() == "not committed\n"


def test_a_ci_workflow_is_brought_along(older, tmp_path):
    github = older.parent.parent / "ci/github/[[ cookiecutter.name ]]/.github/workflows/ci.yml"
    edit(github, "name: CI", "name: CI of then")
    root = rendered(older, tmp_path / "hello")
    workflow = root / ".github/workflows/ci.yml"
    workflows.render_into(root, "github", version=OLDER)
    assert f"proxy-wasm-scaffold=={OLDER}" in workflow.read_text()
    workflow.write_text(workflow.read_text() + "# mine\n")
    commit(root)
    assert scaffold.update(root).changed == (".github/workflows/ci.yml", "Cargo.toml")
    today = workflows.render("github")[Path(".github/workflows/ci.yml")].decode()
    assert workflow.read_text() == today + "# mine\n"


def test_a_member_of_a_workspace_stays_without_profiles(older, tmp_path):
    edit(inside(older, "Cargo.toml"), 'opt-level = "z"', 'opt-level = "s"')
    edit(inside(older, "README.md"), HOSTS, "Envoy")
    (tmp_path / "Cargo.toml").write_text('[workspace]\nmembers = ["hello"]\n')
    root = rendered(older, tmp_path / "hello")
    members.fit(root)
    commit(root)
    assert scaffold.update(root).changed == ("Cargo.toml", "README.md")
    assert "profile" not in (root / "Cargo.toml").read_text()


@pytest.mark.parametrize("kind", ["sha256", "linked"])
def test_repositories_of_any_kind(kind, older, tmp_path):
    edit(inside(older, "README.md"), HOSTS, "Envoy")
    root = rendered(older, tmp_path / "hello")
    if kind == "sha256":
        shutil.rmtree(root / ".git")
        git(root, "init", "-q", "--object-format=sha256")
        commit(root)
    else:
        git(root, "worktree", "add", "-q", tmp_path / "other" / "hello")
        root = tmp_path / "other" / "hello"
    assert scaffold.update(root).changed == ("Cargo.toml", "README.md")
    found = own(root)
    found.pop(".git", None)
    assert found == own(fresh(tmp_path))


# --- what the user's git says


def test_settings_and_variables_of_gits_change_nothing(older, tmp_path, monkeypatch):
    edit(inside(older, "src/lib.rs"), "Hello world from", "Hi from")
    edit(inside(older, "README.md"), HOSTS, "Envoy")
    root = rendered(older, tmp_path / "hello")
    edit(root / "src/lib.rs", '[b"Hi from ', '[b"Good morning from ')
    commit(root)
    plain = shutil.copytree(root, tmp_path / "plain/hello")
    scaffold.update(plain)
    ran = tmp_path / "ran"
    (tmp_path / "home").mkdir()
    (tmp_path / "home/.gitconfig").write_text(
        f"[merge]\n conflictStyle = merge\n renames = false\n[diff]\n external = touch {ran}\n"
        f'[merge "evil"]\n driver = touch {ran}\n[core]\n hooksPath = {tmp_path}/hooks\n'
        f" attributesFile = {tmp_path}/attributes\n fsmonitor = touch {ran}\n[commit]\n gpgSign = true\n"
        f"[color]\n ui = always\n[init]\n templateDir = {tmp_path}/hooks\n"
    )
    (tmp_path / "attributes").write_text("* merge=evil\n")
    (tmp_path / "hooks").mkdir()
    for hook in ("post-checkout", "pre-commit", "post-index-change", "reference-transaction"):
        (tmp_path / "hooks" / hook).write_text(f"#!/bin/sh\ntouch {ran}\n")
        (tmp_path / "hooks" / hook).chmod(0o755)
    monkeypatch.setenv("GIT_DIR", str(tmp_path / "nowhere"))
    monkeypatch.setenv("GIT_INDEX_FILE", str(tmp_path / "no-index"))
    scaffold.update(root)
    assert own(root) == own(plain)
    assert not ran.exists()


def test_ends_of_lines_are_the_users(older, tmp_path):
    edit(inside(older, "README.md"), HOSTS, "Envoy")
    root = rendered(older, tmp_path / "hello")
    git(root, "config", "core.autocrlf", "true")
    git(root, "rm", "-q", "-r", "--cached", ".")
    git(root, "reset", "-q", "--hard")
    assert b"\r\n" in (root / "README.md").read_bytes()
    scaffold.update(root)
    text = (root / "README.md").read_bytes()
    assert b"Envoy, Istio and other hosts" in text
    assert text.count(b"\n") == text.count(b"\r\n")


# --- nothing uncommitted is overwritten


@pytest.fixture
def behind(older, tmp_path):
    """A project whose README.md changes, which gains .gitignore, and loses src/greeting.rs."""
    edit(inside(older, "README.md"), HOSTS, "Envoy")
    inside(older, ".gitignore").unlink()
    inside(older, "src/greeting.rs").write_text("// is gone since\n")
    return rendered(older, tmp_path / "hello")


@pytest.mark.parametrize(
    ("touch", "path"),
    [
        (lambda root: (root / "README.md").write_text("mine\n"), "README.md"),
        (lambda root: ((root / "README.md").write_text("mine\n"), git(root, "add", "-A")), "README.md"),
        (lambda root: (root / "README.md").chmod(0o755), "README.md"),
        (lambda root: (root / "README.md").unlink(), "README.md"),
        (lambda root: (root / ".gitignore").write_text("mine\n"), ".gitignore"),
        (lambda root: (root / ".gitignore").symlink_to("elsewhere"), ".gitignore"),
        (lambda root: (root / ".gitignore").mkdir(), ".gitignore"),
        (lambda root: (root / "src/greeting.rs").write_text("mine\n"), "src/greeting.rs"),
        (lambda root: (root / "Cargo.toml").open("a").write("# mine\n"), "Cargo.toml"),
    ],
    ids=["edited", "staged", "mode", "removed", "untracked", "link", "folder", "going", "manifest"],
)
def test_uncommitted_work_is_never_overwritten(touch, path, behind):
    touch(behind)
    refused = refusal(UsageError, behind)
    assert refused.message == f"uncommitted changes in {path} would be lost"
    assert "git stash" in refused.hint


def test_work_that_comes_while_it_is_at_it_is_not_overwritten(behind):
    """A filter of the user's stands in for their editor: it saves another file meanwhile."""
    git(behind, "config", "filter.slow.smudge", f"echo mine > '{behind}/README.md'; cat")
    (behind / ".git/info").mkdir(exist_ok=True)
    (behind / ".git/info/attributes").write_text(".gitignore filter=slow\n")
    with pytest.raises(UsageError) as caught:
        scaffold.update(behind)
    assert caught.value.message == "uncommitted changes in README.md would be lost"
    assert (behind / "README.md").read_text() == "mine\n"
    assert (behind / "src/greeting.rs").exists()


@pytest.mark.parametrize("more", ["", "mine", "empty/"])
def test_a_file_makes_room_for_a_folder_and_a_folder_for_a_file(more, older, tmp_path):
    inside(older, "data/a").mkdir(parents=True)
    inside(older, "data/a/one").write_text("x\n")
    inside(older, "src/greeting").write_text("y\n")
    root = rendered(older, tmp_path / "hello")
    newer = scaffold.new("hello", output_dir=tmp_path / "newer", no_input=True).root
    (newer / "data").write_text("z\n")
    (newer / "src/greeting").mkdir()
    (newer / "src/greeting/mod.rs").write_text("y\n")
    work = worktree.Worktree(root)
    with worktree.scratch(work) as repository:
        changes = repository.changes(work.tree, repository.tree(newer))
        if more:
            (root / "data/a" / more).mkdir() if more.endswith("/") else (root / "data/a" / more).touch()
            before = own(root)
            with pytest.raises(UsageError, match="uncommitted changes in data would be lost"):
                work.apply(changes, repository, last="Cargo.toml")
            assert own(root) == before
        else:
            for _ in range(2):  # as after a kill
                work.apply(changes, repository, last="Cargo.toml")
                assert own(root) == own(newer)


def test_settings_in_the_environment_are_the_users(behind, monkeypatch):
    """As CI jobs have them, `safe.directory` among them."""
    for key, value in (("COUNT", "1"), ("KEY_0", "core.fileMode"), ("VALUE_0", "false")):
        monkeypatch.setenv(f"GIT_CONFIG_{key}", value)
    (behind / "README.md").chmod(0o755)
    assert "README.md" in scaffold.update(behind).changed


def test_where_modes_mean_nothing_they_are_no_work(behind):
    git(behind, "config", "core.fileMode", "false")
    (behind / "README.md").chmod(0o755)
    assert "README.md" in scaffold.update(behind).changed


def test_work_that_it_does_not_touch_stays(behind, tmp_path):
    (behind / "src/lib.rs").write_text("mine\n")
    (behind / "mine").write_text("mine\n")
    scaffold.update(behind)
    assert (behind / "src/lib.rs").read_text() == (behind / "mine").read_text() == "mine\n"


def test_a_link_for_a_folder_is_not_followed(behind, tmp_path):
    shutil.move(behind / "src", tmp_path / "elsewhere")
    (behind / "src").symlink_to(tmp_path / "elsewhere")
    assert refusal(UsageError, behind).message == "uncommitted changes in src/greeting.rs would be lost"
    assert (tmp_path / "elsewhere/greeting.rs").exists()


def test_a_dry_run_warns_of_what_an_update_would_refuse(behind, said):
    (behind / "README.md").write_text("mine\n")
    assert scaffold.update(behind, dry_run=True).diff
    assert "uncommitted changes in README.md would be lost" in said


def test_no_repository_is_refused_with_the_way_to_one(older, tmp_path):
    root = rendered(older, tmp_path / "hello")
    shutil.rmtree(root / ".git")
    refused = refusal(UsageError, root)
    assert refused.message == f"{root} isn't in a git repository"
    assert "git init && git add -A && git commit" in refused.hint
    git(root, "init", "-q")
    assert refusal(UsageError, root).message == f"nothing in {root} is committed"
    (root / "other").touch()
    git(root, "add", "other")
    git(root, "commit", "-q", "-m", "without")
    assert refusal(UsageError, root).message == f"{root / 'Cargo.toml'} is not committed"


def test_without_git_or_with_an_old_one_the_machine_is_at_fault(behind, tmp_path, monkeypatch):
    tools = tmp_path / "tools"
    tools.mkdir()
    monkeypatch.setenv("PATH", str(tools))
    assert refusal(MachineError, behind).message == "there is no `git` on PATH"
    (tools / "git").write_text("#!/bin/sh\necho git version 2.30.2\n")
    (tools / "git").chmod(0o755)
    assert "merging needs 2.38 or later" in refusal(MachineError, behind).message


# --- killed


@pytest.mark.faults(
    "R2",
    injected="`update`: SIGKILL, SIGINT at random moments",
    seen="every file the old or the new one; the next completes it",
)
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_whenever_it_is_killed_a_second_one_completes_it(number, behind, tmp_path):
    """Every file is whole, an old or a new one; and git alone brings the old ones back, too."""
    model = shutil.copytree(behind, tmp_path / "model" / "hello")
    words = (*SCAFFOLD, "update")
    begun = time.monotonic()
    assert run(*words, cwd=model).code == 0
    takes = time.monotonic() - begun
    before, after = own(behind), own(model)
    chance = random.Random(int(number))
    for _ in range(4):
        child = subprocess.Popen(words, cwd=behind, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(chance.uniform(takes / 3, takes * 1.1))  # sleep: the moment is what varies
        child.send_signal(number)
        child.wait()
        found = own(behind)
        for path in before.keys() | after.keys() | found.keys():
            assert found.get(path) in (before.get(path), after.get(path)), path
        git(behind, "status")  # no lock was left
        assert scaffold.update(behind).written
        assert own(behind) == after
        git(behind, "checkout", "-q", ".")
        git(behind, "clean", "-q", "-f")
        assert own(behind) == before


@pytest.mark.faults(
    "R2",
    injected="`update`: ended before each file it moves",
    seen="the record comes last; the next completes it",
)
def test_whichever_file_is_the_last_that_a_kill_lets_through_a_second_one_completes_it(behind, tmp_path):
    model = shutil.copytree(behind, tmp_path / "model" / "hello")
    written = scaffold.update(model).changed
    assert len(written) == 4
    for lets_through in range(len(written)):
        with pytest.MonkeyPatch.context() as patch:
            moves = iter(range(lets_through))
            move = files.move

            def moved(made, target, moves=moves, move=move):
                if next(moves, None) is None:
                    raise KeyboardInterrupt
                move(made, target)

            patch.setattr(files, "move", moved)
            if lets_through < 3:  # one of the four is removed
                with pytest.raises(KeyboardInterrupt):
                    scaffold.update(behind)
                assert own(behind) != own(model)
                assert Project.load(behind).settings.template.version == OLDER, "that comes last"
        scaffold.update(behind)
        assert own(behind) == own(model)
        git(behind, "checkout", "-q", ".")
        git(behind, "clean", "-q", "-f")


# --- versions


def test_the_older_templates_come_from_the_package_index(tmp_path, monkeypatch, said):
    """In the wheel of that release; once."""
    index = tmp_path / "index"
    index.mkdir()
    info = f"proxy_wasm_scaffold-{OLDER}.dist-info"
    tree = {
        f"scaffold/cookiecutters/http/{path.relative_to(HTTP)}": path.read_text()
        for path in HTTP.rglob("*")
        if path.is_file()
    }
    readme = "scaffold/cookiecutters/http/{{cookiecutter.name}}/README.md"
    tree[readme] += "\nIt was so in 0.0.9.\n"
    tree |= {
        "scaffold/__init__.py": "",
        "scaffold/ci/github/cookiecutter.json": "{}",
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: proxy-wasm-scaffold\nVersion: {OLDER}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    wheel = index / f"proxy_wasm_scaffold-{OLDER}-py3-none-any.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        for path, text in (tree | {f"{info}/RECORD": "".join(f"{path},,\n" for path in tree)}).items():
            file.writestr(path, text)
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    with zipfile.ZipFile(wheel) as file:
        file.extractall(tmp_path / "release")
    root = rendered(tmp_path / "release/scaffold/cookiecutters/http", tmp_path / "hello")
    assert "It was so" in (root / "README.md").read_text()
    wanted = f"Fetching the templates of scaffold {OLDER}"
    assert scaffold.update(root).changed == ("Cargo.toml", "README.md")
    assert own(root) == own(fresh(tmp_path))
    wheel.unlink()
    git(root, "checkout", "-q", ".")
    assert scaffold.update(root, check=True).available
    assert said.count(wanted) == 1


def test_a_version_that_cannot_be_had_is_said(older, tmp_path):
    root = rendered(older, tmp_path / "hello")
    shutil.rmtree(files.cache_dir())
    refused = refusal(MachineError, root)
    assert refused.message.startswith(
        "no package index within reach has proxy-wasm-scaffold for this machine"
    )
    assert list((files.cache_dir()).rglob("cookiecutters")) == []


@pytest.mark.parametrize("version", ["../../x", "", "1.0; import os", "-e .", "0.1 @ https://example.com"])
def test_what_is_no_version_is_refused(version, older, tmp_path):
    root = rendered(older, tmp_path / "hello")
    assert (
        refusal(UsageError, root, to=version or " ").message
        == f"`{version or ' '}` isn't a version of scaffold"
    )
    edit(root / "Cargo.toml", f'version = "{OLDER}"', f'version = "{version}"')
    commit(root)
    refused = refusal(UsageError, root)
    assert refused.message == f"`{version}` isn't a version of scaffold"


def test_a_project_of_a_newer_scaffold_is_left_alone(older, tmp_path):
    root = rendered(older, tmp_path / "hello")
    edit(root / "Cargo.toml", f'version = "{OLDER}"', 'version = "99.0.0"')
    commit(root)
    refused = refusal(UsageError, root)
    newer = f"the project was made by scaffold 99.0.0, which is newer than this {__version__}"
    assert refused.message == newer
    assert refused.hint == "run `pip install proxy-wasm-scaffold==99.0.0`"


def test_it_goes_to_the_version_that_is_named(older, tmp_path):
    edit(inside(older, "README.md"), HOSTS, "Envoy")
    root = fresh(tmp_path)
    commit(root)
    update = scaffold.update(root, to=OLDER)
    assert (update.before, update.after) == (__version__, OLDER)
    assert own(root) == own(rendered(older, tmp_path / "hello"))


def test_a_template_that_is_gone_is_said(older, tmp_path):
    older.rename(older.parent / "greeter")
    template = Template("greeter", "greeter", older.parent / "greeter", pin=OLDER)
    root = tmp_path / "hello"
    root.mkdir()
    templating.render_unchecked(template, answers.settle(template, "hello", {}, no_input=True), root)
    commit(root)
    refused = refusal(UsageError, root)
    assert refused.message == f"scaffold {__version__} no longer has the template `greeter`"
    assert "--to" in refused.hint


def test_a_project_without_a_record_is_adopted_instead(older, tmp_path):
    root = rendered(older, tmp_path / "hello")
    manifest = root / "Cargo.toml"
    manifest.write_text(manifest.read_text().partition("# Where this project came from")[0])
    commit(root)
    refused = refusal(ProjectError, root)
    assert refused.message == f"{manifest} doesn't record a template"
    assert "scaffold adopt" in refused.hint


def test_a_workspace_is_no_project(tmp_path):
    (tmp_path / "Cargo.toml").write_text("[workspace]\n")
    commit(tmp_path)
    refused = refusal(ProjectError, tmp_path)
    assert refused.hint == "pass --root a plugin's crate"


# --- answers


def test_answers_that_are_asked_for_no_more_are_dropped_and_new_ones_get_their_default(older, tmp_path, said):
    settings = json.loads((older / "cookiecutter.json").read_text())
    del settings["license"]
    (older / "cookiecutter.json").write_text(json.dumps(settings | {"mood": "glad"}))
    edit(
        inside(older, "README.md"),
        "{{ cookiecutter.description }}",
        "{{ cookiecutter.description }}, {{ cookiecutter.mood }}",
    )
    manifest = inside(older, "Cargo.toml")
    manifest.write_text("".join(line for line in manifest.open() if not line.startswith("license")))
    root = rendered(older, tmp_path / "hello", description="mine", mood="sad")
    assert "mine, sad" in (root / "README.md").read_text()
    scaffold.update(root, variable=["license=MIT"])
    assert "http no longer uses mood" in said
    record = Project.load(root).settings.template
    assert record.answers == {"name": "hello", "description": "mine", "license": "MIT"}
    assert 'license = "MIT"' in (root / "Cargo.toml").read_text()
    assert "sad" not in (root / "README.md").read_text()


def test_an_answer_that_the_template_refuses_is_named(older, tmp_path):
    root = rendered(older, tmp_path / "hello", license="MIT")
    assert "no variable named `licence`" in refusal(UsageError, root, variable=["licence=MIT"]).message
    refused = refusal(UsageError, root, variable=["license=a\nb"])
    assert refused.message.startswith("the variable `license` must be one line of plain text")
    edit(root / "Cargo.toml", 'license = "MIT"\n', 'license = "a\\u0007b"\n')
    commit(root)
    assert "the variable `license`" in refusal(UsageError, root).message


@pytest.mark.parametrize("name", ["../../out", "a/b", "-x", ""])
def test_a_recorded_name_that_leads_elsewhere_is_refused(name, older, tmp_path):
    root = rendered(older, tmp_path / "hello")
    edit(root / "Cargo.toml", 'answers]\nname = "hello"', f'answers]\nname = "{name}"')
    commit(root)
    assert "isn't a valid crate name" in refusal(UsageError, root).message


# --- renames


def test_the_fields_renames_are_done(older, tmp_path, said):
    edit(inside(older, "Cargo.toml"), "wasm32-wasip1", "wasm32-wasi")
    edit(inside(older, "Makefile"), "wasm32-wasip1", "wasm32-wasi")
    root = rendered(older, tmp_path / "hello")
    (root / "release.sh").write_text("cargo build --target wasm32-wasi\n")
    commit(root)
    update = scaffold.update(root)
    assert (root / "release.sh").read_text() == "cargo build --target wasm32-wasip1\n"
    assert Project.load(root).settings.triple == "wasm32-wasip1"
    assert (update.conflicts, "wasm32-wasi\n" in (root / "Makefile").read_text()) == ((), False)
    assert "the triple wasm32-wasi is now called wasm32-wasip1" in said


def test_a_line_that_needs_a_person_keeps_the_sdk_and_is_named(older, tmp_path, said):
    root = rendered(older, tmp_path / "hello")
    edit(root / "Cargo.toml", f'proxy-wasm = "{SDK}"', 'proxy-wasm = "0.1.4"')
    (root / "src/more.rs").write_text("\nconst F: f = X::on_http_request_headers;\n")
    commit(root)
    scaffold.update(root)
    assert 'proxy-wasm = "0.1.4"' in (root / "Cargo.toml").read_text()
    warned = (
        f"the crate can't move from proxy-wasm 0.1 to {SDK} before these lines change:\n  src/more.rs:2: "
    )
    assert any(each.startswith(warned) for each in said)


# --- foreign templates


@pytest.fixture
def foreign(tmp_path):
    """A template of somebody's, in git, with a project that came from its first commit."""
    folder = shutil.copytree(HTTP, tmp_path / "templates" / "mine")
    commit(folder)
    root = scaffold.new("hello", template=str(folder), trust=True, output_dir=tmp_path, no_input=True).root
    commit(root)
    edit(inside(folder, "README.md"), "Envoy, Istio and other hosts", "any host")
    return folder, root, commit(folder)


def test_a_foreign_template_is_followed_by_its_commits(foreign):
    folder, root, newest = foreign
    first = git(folder, "rev-parse", "HEAD~").strip()
    assert Project.load(root).settings.template.version == first
    refused = refusal(UsageError, root)
    assert "not trusted" in refused.message
    assert f"`scaffold update --to {newest} --trust`" in refused.hint
    update = scaffold.update(root, trust=True)
    assert (update.template, update.before, update.after) == ("mine", first, newest)
    assert "any host" in (root / "README.md").read_text()
    commit(root)
    scaffold.update(root, to=first)
    assert "Istio" in (root / "README.md").read_text()


@pytest.mark.parametrize("trusted", ["newer", "older"])
def test_both_states_of_a_foreign_template_must_be_trusted(foreign, trusted):
    """An update renders both of them, and each can run any code."""
    folder, root, newest = foreign
    first = git(folder, "rev-parse", "HEAD~").strip()
    if trusted == "newer":
        trust.forget(first)
        with fetched(str(folder), checkout=newest) as template:
            trust.require(template, trust=True)
    assert [each.pin for each in trust.trusted()] == [newest if trusted == "newer" else first]
    refused = refusal(UsageError, root)
    assert "the template mine is not trusted" in refused.message
    assert f"`scaffold update --to {newest} --trust`" in refused.hint
    assert "Istio" in (root / "README.md").read_text()
    scaffold.update(root, to=newest, trust=True)
    assert "any host" in (root / "README.md").read_text()


def test_an_answer_that_was_allowed_once_is_named_and_can_be_given_anew(foreign, capsys):
    folder, root, _ = foreign
    settings = folder / "cookiecutter.json"
    asked = json.loads(settings.read_text())
    settings.write_text(json.dumps(asked | {"mood": ["glad", "sad"]}))
    commit(folder)
    scaffold.update(root, trust=True)
    commit(root)
    assert Project.load(root).settings.template.answers["mood"] == "glad"
    settings.write_text(json.dumps(asked | {"mood": ["sad", "angry"]}))
    commit(folder)
    refused = refusal(UsageError, root, trust=True)
    assert refused.message == "no value for the variable `mood` named `glad`"
    scaffold.update(root, variable=["mood=angry"])
    assert Project.load(root).settings.template.answers["mood"] == "angry"


def test_a_foreign_template_that_is_gone_is_said(foreign):
    folder, root, _ = foreign
    shutil.rmtree(folder)
    assert str(folder) in refusal(UsageError, root, trust=True).message


@pytest.mark.parametrize("address", ["{}", "file://{}"])
def test_a_template_that_moved_is_followed_as_the_hint_says(foreign, said, address):
    folder, root, newest = foreign
    edit(root / "Cargo.toml", f'"{folder}"', f'"{address.format(folder)}"')
    commit(root)
    moved = folder.rename(folder.with_name("moved"))
    record = "[package.metadata.proxy-wasm.template] of Cargo.toml"
    hint = f"if it moved, write its new place into `source` in {record}, and commit that"
    assert refusal(NoTemplate, root, trust=True).hint == hint
    edit(root / "Cargo.toml", str(folder), str(moved))
    refusal(NoTemplate, root, trust=True)
    told = f"{record} is edited but not committed"
    assert [each for each in said if each.startswith(told)]
    commit(root)
    said.clear()
    assert scaffold.update(root, trust=True).after == newest
    assert not [each for each in said if each.startswith(told)]


def test_a_folder_that_nobody_kept_is_said(foreign):
    folder, root, _ = foreign
    shutil.rmtree(folder / ".git")
    root = scaffold.new("other", template=str(folder), trust=True, output_dir=root.parent, no_input=True).root
    commit(root)
    assert scaffold.update(root).changed == ()
    edit(inside(folder, "README.md"), "any host", "no host")
    refused = refusal(UsageError, root, trust=True)
    assert refused.message == f"{folder} has changed, and its earlier version isn't available"
