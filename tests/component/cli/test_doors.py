"""One function, three doors: they take the same, refuse alike, and open quickly."""

from __future__ import annotations

import json
import os
import shutil
import sys
from pathlib import Path

import pytest
from support.commands import INVOKE, SCAFFOLD, TASKS, entered, error, run

import scaffold
from scaffold.cli.commands import cli
from scaffold.errors import ProjectError
from scaffold.project.crate import Project

COMMANDS = {name.replace("-", "_"): command for name, command in cli.commands.items() if name != "completion"}


@pytest.fixture(autouse=True)
def _user(users_folders, monkeypatch):
    """A user whose PATH leads to us, outside of any shell's completion."""
    monkeypatch.delenv("_SCAFFOLD_COMPLETE", raising=False)
    monkeypatch.setenv("PATH", f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}")


@pytest.fixture
def project(tmp_path):
    """A folder with a tasks.py, and no more."""
    (tmp_path / "tasks.py").write_text(TASKS)
    return tmp_path


def test_words_reach_the_operation_alike(project):
    """Every kind of parameter: an argument, an option, a switch, and what may be repeated."""
    words = ["new", "hello_world", "--variable", "description=b c", "--variable", "license=MIT", "--no-input"]
    for door, folder in ((SCAFFOLD, "one"), (INVOKE, "two")):
        ran = run(*door, *words, "--output-dir", folder, "--json", cwd=project)
        assert (ran.code, json.loads(ran.out)["root"]) == (0, str(project / folder / "hello_world")), ran.err
        manifest = (project / folder / "hello_world" / "Cargo.toml").read_text()
        assert 'description = "b c"' in manifest
        assert 'license = "MIT"' in manifest
    variable = ["description=b c", "license=MIT"]
    made = scaffold.new("hello_world", output_dir=project / "three", variable=variable, no_input=True)
    assert isinstance(made, Project)
    assert (made.root / "Cargo.toml").read_text() == manifest


def test_tasks_follow_each_other_and_a_failure_ends_the_row(project):
    ran = run(*INVOKE, "status", "status", "--all", "build", "status", cwd=project)
    assert ran.err == f"nothing is deployed from {project}\nnothing is deployed\n" + error(
        "no Cargo.toml in the current folder", "run `scaffold new NAME` first, or pass --root"
    )
    assert ran.code == 3


def test_a_project_adds_tasks_of_its_own(project):
    with (project / "tasks.py").open("a") as file:
        file.write("from invoke import task\n@task\ndef greet(_):\n    print('hello')\nns.add_task(greet)\n")
    assert run(*INVOKE, "greet", "status", cwd=project).out == "hello\n"


def test_a_task_explains_itself(project):
    listed = run(*INVOKE, "--list", cwd=project)
    assert listed.code == 0
    for name, command in COMMANDS.items():
        assert f"  {name.replace('_', '-')} " in listed.out
        assert " ".join(listed.out.split()).count(" ".join(command.help.partition("\n\n")[0].split())) == 1
    helped = run(*INVOKE, "--help", "deploy", cwd=project)
    assert (helped.code, "--config=STRING" in helped.out) == (0, True)
    assert "Plugin configuration;" in helped.out


# --- refusals


@pytest.mark.parametrize("door", [SCAFFOLD, INVOKE], ids=["scaffold", "invoke"])
def test_a_missing_project_is_explained_alike_at_every_door(door, project):
    nowhere = project / "nowhere"
    ran = run(*door, "build", "--root", nowhere, cwd=project)
    with pytest.raises(ProjectError) as caught:
        scaffold.build(nowhere)
    assert ran.err == error(caught.value.message, caught.value.hint)
    assert ran.err == (
        f"error: no Cargo.toml in {nowhere}\n\nhint: run `scaffold new NAME` first, or pass --root\n"
    )
    assert (ran.code, ran.out) == (ProjectError.exit_code, "")


def test_the_task_door_judges_values_as_the_command_line_does(project):
    """Invoke itself would show a traceback for a number that is none."""
    ran = run(*INVOKE, "run", "--port", "http", cwd=project)
    assert ran.err == error("--port can't be `http`", "pass a number from 0 to 65535")
    assert (ran.code, ran.out) == (2, "")


@pytest.mark.parametrize(
    ("words", "hint"),
    [
        ("deploy --prot 1", "did you mean `--port`?"),
        ("deploy --tsl", "did you mean `--tls`?"),
        ("deploy --no-tsl", "did you mean `--no-tls`?"),
        ("build --no-such-thing", "`invoke --help build` lists the flags"),
        ("--no-such-thing build", "`invoke --help` lists the flags"),
        ("build tset", "did you mean `test`?"),
        ("undeploy xyzzy", "`invoke --list` lists the tasks"),
        ("status greeet", "did you mean `greet`?"),
        (
            "deploy xyzzy",
            "an argument of `invoke deploy` is a flag: `--target=xyzzy` or `--module=xyzzy`",
        ),
    ],
)
def test_a_word_that_invoke_does_not_know_gets_a_hint(words, hint, project):
    with (project / "tasks.py").open("a") as file:
        file.write("from invoke import task\n@task\ndef greet(_):\n    print('hello')\nns.add_task(greet)\n")
    ran = run(*INVOKE, *words.split(), cwd=project)
    word = next(each for each in words.split() if f"'{each}'" in ran.err)
    assert (ran.code, ran.out, ran.err) == (1, "", f"No idea what '{word}' is!\nhint: {hint}\n")


@pytest.mark.parametrize(
    ("flags", "named"),
    [
        (["--dry"], "--dry"),
        (["-R"], "--dry"),
        (["--hide=both"], "--hide"),
        (["-w"], "--warn-only"),
        (["-T", "1"], "--command-timeout"),
        (["-e"], "--echo"),
        (["-p"], "--pty"),
    ],
)
def test_invokes_own_flags_are_refused_by_name_before_anything_is_done(project, flags, named):
    ran = run(*INVOKE, *flags, "new", "hello", "--no-input", cwd=project)
    message = f"`invoke new` doesn't support invoke's flag {named}, and did nothing"
    assert (ran.code, ran.out, ran.err) == (2, "", error(message, "leave it out"))
    assert not (project / "hello").exists()


def test_the_suggested_dry_run_exists_and_a_dry_invoke_by_the_environment_is_refused_too(project):
    ran = run(*INVOKE, "adopt", cwd=project, env={"INVOKE_RUN_DRY": "1"})
    assert ran.code == 2
    assert "hint: run `scaffold adopt --dry-run`" in ran.err
    ran = run(*SCAFFOLD, "adopt", "--dry-run", cwd=project)
    assert "no such option" not in ran.err
    assert run(*INVOKE, "images", cwd=project, env={"INVOKE_RUN_ECHO": "1"}).code == 0


def test_what_follows_two_dashes_reaches_the_command_or_is_refused(project):
    ran = run(*INVOKE, "rmi", "--", "a b:1", cwd=project)
    assert "a b" in ran.err
    ran = run(*INVOKE, "images", "--", "--all", cwd=project)
    assert (ran.code, ran.err) == (
        2,
        error("`invoke images` takes nothing after `--`", "run `invoke images --help`"),
    )


def test_a_new_project_as_json(tmp_path, capsys):
    ran = entered(capsys, "new", "hello_world", "--output-dir", tmp_path, "--no-input", "--json")
    made = json.loads(ran.out)
    assert (made["name"], made["root"]) == ("hello_world", str(tmp_path / "hello_world"))
    assert made["settings"]["root_id"] == "hello_world"
    assert made.keys() == {"root", "name", "version", "settings"}


# --- start-up

HEAVY = "rich docker cookiecutter invoke requests urllib3 psutil pytest envoy jinja2 platformdirs asyncio"


@pytest.mark.parametrize("words", ["--help", "deploy --help", "bild"])
def test_it_starts_light(words):
    """What an operation needs comes in when its command runs."""
    modules = loaded(*words.split())
    assert modules & set(HEAVY.split()) == set()
    ours = {name for name in modules if name.startswith("scaffold.")}
    cli = {f"scaffold.cli.{name}" for name in "commands console group options".split()}
    options = {f"scaffold.{package}.options" for package in "hosts kubernetes toolchain".split()}
    read_by_these = {
        "scaffold.core.host_names",
        "scaffold.core.option_fields",
        "scaffold.core.text",
        "scaffold.core.versions",
        "scaffold.project.envoy_clusters",
        "scaffold.project.vm_environment",
        "scaffold.wasm.proxy_features",
    }
    assert words == "deploy --help" or not modules & options
    modules = cli | options | read_by_these | {"scaffold.errors"}
    assert ours - modules <= {name.rpartition(".")[0] for name in modules}


def test_the_version_is_told_without_the_command_line():
    ran = run(sys.executable, "-X", "importtime", "-m", "scaffold", "--version")
    assert ran.out == f"scaffold {scaffold.__version__}\n"
    assert "scaffold" in ran.err and "click" not in ran.err


@pytest.mark.parametrize("command", ["status", "deploy"])
def test_what_is_heavy_waits_until_it_is_used(command, tmp_path):
    """In a folder where there is nothing to ask about, or to deploy."""
    modules = loaded(command, "--root", tmp_path)
    assert "scaffold.hosts.background.target" in modules
    assert modules & set(f"{HEAVY} http.client ssl yaml".split()) == {"platformdirs"}


def loaded(*words):
    """The modules that were imported by the end of a command."""
    shows = (
        "import atexit, sys\n"
        "atexit.register(lambda: print('loaded:', *sys.modules, file=sys.stderr))\n"
        "from scaffold.cli.commands import main\n"
        "main()\n"
    )
    ran = run(sys.executable, "-c", shows, *words)
    modules = set(ran.err.rpartition("loaded: ")[2].split())
    assert "click" in modules
    return modules


@pytest.mark.parametrize("door", [SCAFFOLD, ("scaffold",)], ids=["module", "script"])
def test_the_version(door):
    ran = run(*door, "--version")
    assert (ran.code, ran.out, ran.err) == (0, f"scaffold {scaffold.__version__}\n", "")


def test_the_library_brings_nothing_in_before_it_is_used():
    ran = run(sys.executable, "-c", "import scaffold, sys; print(*sys.modules)")
    assert [name for name in ran.out.split() if name.startswith("scaffold.")] == []
    with pytest.raises(AttributeError, match="no attribute 'frobnicate'"):
        scaffold.frobnicate  # noqa: B018


# --- completion


def shell(name):
    found = shutil.which(name)
    if not found:
        pytest.skip(f"no {name} here")
    return found


COMPLETE_IN_BASH = """
eval "$(scaffold completion bash)"
complete -p scaffold
COMP_WORDS=(scaffold {words}) COMP_CWORD={at}
_scaffold_completion scaffold
echo "${{COMPREPLY[*]}}"
"""


@pytest.mark.parametrize(
    ("words", "at", "found"),
    [
        ("un", 1, "undeploy"),
        ("build --pro", 2, "--profile"),
        ("deploy --log-level w", 3, "warning"),
        ("completion f", 2, "fish"),
        ("bild --pro", 2, ""),
    ],
)
def test_bash_completes(words, at, found):
    ran = run(shell("bash"), "--norc", "-c", COMPLETE_IN_BASH.format(words=words, at=at))
    assert ran.out.splitlines() == ["complete -o nosort -F _scaffold_completion scaffold", found]
    assert (ran.code, ran.err) == (0, "")


def test_zsh_is_told_the_words_and_what_they_mean():
    asked = {"_SCAFFOLD_COMPLETE": "zsh_complete", "COMP_WORDS": "scaffold un", "COMP_CWORD": "1"}
    ran = run(*SCAFFOLD, env=asked)
    assert ran.out.splitlines() == ["plain", "undeploy", "Stop the deployed plugin"]


@pytest.mark.parametrize(("words", "found"), [("un", "undeploy"), ("build --pro", "--profile")])
def test_fish_completes(words, found, tmp_path):
    line = f"scaffold completion fish | source; complete -C 'scaffold {words}'"
    ran = run(shell("fish"), "--no-config", "-c", line, env={"HOME": str(tmp_path)})
    assert (ran.code, ran.out.split("\t")[0].strip()) == (0, found), ran.err


def test_zsh_takes_the_script():
    line = 'autoload -U compinit; compinit -D -u; eval "$(scaffold completion zsh)"; print $_comps[scaffold]'
    ran = run(shell("zsh"), "-f", "-c", line)
    assert (ran.code, ran.out, ran.err) == (0, "_scaffold_completion\n", "")
