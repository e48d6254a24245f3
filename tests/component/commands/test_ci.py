"""`scaffold ci`: what a project gets, what is refused, and whether the providers' own judges are content."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import os
import re
import subprocess
import sys
import tomllib
from importlib import metadata
from pathlib import Path

import pytest
import yaml
from support import pipelines
from support.commands import entered, error, listing, run
from support.documents import ROOT

import scaffold
from scaffold.commands import ci as workflows
from scaffold.errors import UsageError

BIN = Path(sys.executable).parent
FILES = {"github": ".github/workflows/ci.yml", "gitlab": ".gitlab-ci.yml"}
SCHEMAS = {
    "github": ["vendor.github-workflows"],
    "gitlab": ["vendor.gitlab-ci", "--data-transform=gitlab-ci"],
}
CARGO_TOML = '[package]\nname = "a"\nversion = "1.0.0"\n[lib]\ncrate-type = ["cdylib"]\n'
OWN = sorted((ROOT / ".github/workflows").iterdir())

each_provider = pytest.mark.parametrize("provider", FILES)


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """A user's cache of our own, where workflows are rendered."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    for name in ("CI", "GITHUB_ACTIONS"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def project(tmp_path):
    folder = tmp_path / "a"
    folder.mkdir()
    (folder / "Cargo.toml").write_text(CARGO_TOML)
    return folder


def judged(*words, cwd):
    """How a linter of the development environment judges, with its words as the reason."""
    env = {"PATH": f"{BIN}{os.pathsep}{os.environ['PATH']}", "HOME": str(cwd)}
    return subprocess.run([str(word) for word in words], cwd=cwd, env=env, text=True, capture_output=True)


# --- what is written


def test_every_folder_is_a_provider():
    assert (
        sorted(workflows.providers())
        == sorted(FILES)
        == sorted(path.name for path in (ROOT / "ci").iterdir())
    )


@each_provider
def test_a_project_gets_its_workflow_and_no_more(provider, project, capsys):
    ran = entered(capsys, "ci", provider, "--root", project)
    path = project / FILES[provider]
    assert (ran.code, ran.out, ran.err) == (0, f"{path}\n", "")
    assert [name for name in listing(project) if (project / name).is_file()] == [
        FILES[provider],
        "Cargo.toml",
    ]
    text = path.read_text()
    assert f"proxy-wasm-scaffold=={scaffold.__version__}\n" in text
    assert "cookiecutter" not in text and "[[" not in text and "#%" not in text
    assert text.endswith("\n") and not text.endswith("\n\n")
    assert not re.search(r"[ \r]$|\n\n\n", text, re.MULTILINE)


@each_provider
@pytest.mark.parametrize("locked", [False, True], ids=["a version", "hashes"])
def test_scaffold_is_installed_by_its_version_or_by_hashes(provider, project, tmp_path, locked):
    if locked:
        (project / "scaffold-requirements.txt").touch()
    text = workflows.render(provider)[Path(FILES[provider])].decode()
    workflow = yaml.safe_load(text.replace("!reference ", ""))  # a tag of GitLab's
    if provider == "github":
        steps = workflow["jobs"]["build"]["steps"]
        script = next(step["run"] for step in steps if step.get("name") == "Install scaffold")
    else:
        script = "\n".join(workflow[".scaffold"]["before_script"])
    programs = tmp_path / "home/.venv/bin"
    programs.mkdir(parents=True)
    for name in ("apt-get", "python", "python3", "pip"):
        (programs / name).write_text(f'#!/bin/sh\necho {name} "$@"\n')
        (programs / name).chmod(0o755)
    env = {
        "HOME": str(tmp_path / "home"),
        "PATH": f"{programs}:{os.environ['PATH']}",
        "GITHUB_PATH": str(tmp_path / "path"),
    }
    ran = run("bash", "-eo", "pipefail", "-c", script, cwd=project, env=env)
    what = "--require-hashes --requirement scaffold-requirements.txt"
    assert ran.out.splitlines()[-1] == (
        f"pip install {what if locked else f'proxy-wasm-scaffold=={scaffold.__version__}'}"
    )


@each_provider
def test_the_hashes_are_for_the_oldest_python_too(provider):
    """uv's default is the Python that runs it, which leaves out what an older one needs."""
    text = workflows.render(provider)[Path(FILES[provider])].decode()
    oldest = metadata.metadata("proxy-wasm-scaffold")["Requires-Python"].removeprefix(">=")
    (command,) = [line for line in text.splitlines() if "uv pip compile" in line]
    assert f" --universal --python-version {oldest} " in command


@each_provider
def test_the_same_again_changes_nothing(provider, project, capsys):
    path = project / FILES[provider]
    scaffold.ci(provider, project)
    before = path.stat().st_mtime_ns, path.stat().st_ino
    ran = entered(capsys, "ci", provider, "--root", project)
    assert (ran.code, ran.out) == (0, f"{path} is up to date\n")
    assert (path.stat().st_mtime_ns, path.stat().st_ino) == before


def test_what_was_changed_is_written_over_by_force_only(project, capsys):
    path = project / FILES["gitlab"]
    path.write_text("mine\n")
    ran = entered(capsys, "ci", "gitlab", "--root", project)
    hint = "pass --force to overwrite it, then compare with `git diff`"
    assert (ran.code, ran.out) == (3, "")
    assert ran.err == error(f"{path} already exists and differs", hint)
    assert path.read_text() == "mine\n"
    assert entered(capsys, "ci", "gitlab", "--root", project, "--force").code == 0
    assert path.read_bytes() == workflows.render("gitlab")[Path(FILES["gitlab"])]


def test_the_result_as_json(project, capsys):
    path = str(project / FILES["github"])
    ran = entered(capsys, "ci", "github", "--root", project, "--json")
    assert json.loads(ran.out) == {"provider": "github", "written": [path], "unchanged": []}
    ran = entered(capsys, "ci", "github", "--root", project, "--json")
    assert json.loads(ran.out) == {"provider": "github", "written": [], "unchanged": [path]}


@each_provider
def test_a_new_project_gets_the_same(provider, tmp_path, capsys):
    ran = entered(capsys, "new", "a_filter", "--ci", provider, "--no-input", "--output-dir", tmp_path)
    assert ran.code == 0, ran.err
    content = (tmp_path / "a_filter" / FILES[provider]).read_bytes()
    assert {Path(FILES[provider]): content} == workflows.render(provider)
    other = scaffold.new("another", output_dir=tmp_path, no_input=True)
    assert set(listing(tmp_path / "a_filter")) - set(listing(other.root)) == {
        *[FILES[provider]],
        *[str(above) for above in Path(FILES[provider]).parents if above != Path()],
    }


@each_provider
def test_below_the_top_of_a_repository_both_commands_warn(provider, tmp_path, capsys):
    """A provider reads workflows at the top alone."""
    (tmp_path / ".git").mkdir()
    project = tmp_path / "filters/gate"
    warning = f"warning: move the workflow to {tmp_path}, where CI looks for it, and make its steps run in"
    ran = entered(capsys, "new", "gate", "--ci", provider, "--no-input", "--output-dir", project.parent)
    assert (ran.code, f"{warning} {project}\n" in ran.err) == (0, True), ran.err
    ran = entered(capsys, "ci", provider, "--root", project)
    assert (ran.code, ran.err) == (0, f"{warning} {project}\n")
    ran = entered(capsys, "new", "at_the_top", "--no-input", "--output-dir", project.parent)
    assert (ran.code, "warning" in ran.err) == (0, False), "it has no workflow"


@each_provider
def test_plain_cookiecutter_renders_the_same(provider, tmp_path):
    words = (ROOT / "ci" / provider, "--no-input", "--output-dir", tmp_path / "theirs")
    ran = run(sys.executable, "-m", "cookiecutter", *words, env={"HOME": str(tmp_path)})
    assert ran.code == 0, ran.err
    content = (tmp_path / "theirs" / "hello_world" / FILES[provider]).read_bytes()
    assert {Path(FILES[provider]): content} == workflows.render(provider, requirement="proxy-wasm-scaffold")


# --- what is refused


def test_a_provider_that_there_is_not(project, tmp_path, capsys):
    hint = "did you mean `gitlab`?"
    for line in (
        ["ci", "gitlap", "--root", project],
        ["new", "b", "--ci", "gitlap", "--output-dir", tmp_path],
    ):
        ran = entered(capsys, *line)
        assert (ran.code, ran.out, ran.err) == (2, "", error("no CI provider named `gitlap`", hint))
    with pytest.raises(UsageError):
        workflows.render("gitlap")
    assert listing(tmp_path) == ["a", "a/Cargo.toml"]


@pytest.mark.parametrize(
    ("there", "why"), [(".github/workflows/ci.yml/", "Is a directory"), (".github", "Not a directory")]
)
def test_something_else_in_its_place(there, why, project, capsys):
    if there.endswith("/"):
        (project / there).mkdir(parents=True)
    else:
        (project / there).touch()
    before = listing(project)
    ran = entered(capsys, "ci", "github", "--root", project, "--force")
    assert (ran.code, ran.out) == (3, "")
    assert ran.err == error(f"cannot write the workflow to {project / FILES['github']}: {why}")
    assert listing(project) == before


def test_where_nobody_looks_for_it_there_is_a_warning(project, capsys):
    (project.parent / ".git").mkdir()
    ran = entered(capsys, "ci", "gitlab", "--root", project)
    assert ran.code == 0
    assert ran.err.startswith(f"warning: move the workflow to {project.parent}, where CI looks for it")
    (project / ".git").touch()  # a submodule's, or a second working tree's
    assert entered(capsys, "ci", "gitlab", "--root", project).err == ""


# --- this repository's own


def own(name):
    """One of our own workflows. YAML 1.1 reads the key `on` as true."""
    read = yaml.safe_load((ROOT / ".github/workflows" / name).read_text())
    return {"on" if key is True else key: value for key, value in read.items()}


def own_tasks():
    spec = importlib.util.spec_from_file_location("tasks", ROOT / "tasks.py")
    tasks = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(tasks)
    return set(tasks.ns.task_names)


def test_our_own_workflows_call_tasks_that_there_are():
    called = [name for path in OWN for name in re.findall(r"invoke (dev\.\w+)", path.read_text())]
    assert set(called) <= own_tasks()
    assert set(called) == {"dev.test", "dev.component", "dev.e2e", "dev.faults"}


def test_the_linters_of_a_commit_are_local_and_installed():
    """So that nothing is downloaded, and CI runs the same ones: `invoke dev.lint` reads this file."""
    (repository,) = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text())["repos"]
    assert repository["repo"] == "local"
    programs = [hook["entry"].split()[0] for hook in repository["hooks"]]
    assert {"ruff", "mypy", "lint-imports", "codespell", "actionlint", "zizmor"} == set(programs)
    assert {hook["language"] for hook in repository["hooks"]} == {"system"}
    assert not [name for name in programs if not (BIN / name).is_file()]


def test_our_unit_tests_run_on_every_python_and_both_systems():
    matrix = own("ci.yml")["jobs"]["unit"]["strategy"]["matrix"]
    required = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["requires-python"]
    assert matrix["python"] == ["3.11", "3.12", "3.13", "3.14"]
    assert required == f">={matrix['python'][0]}"
    assert [system.partition("-")[0] for system in matrix["system"]] == ["ubuntu", "macos"]
    assert "schedule" in own("nightly.yml")["on"]


def test_a_release_is_tested_on_both_systems_before_it_is_published():
    release = own("release.yml")
    jobs = release["jobs"]
    assert release["on"] == {"push": {"tags": ["v*"]}}
    assert set(jobs["publish"]["needs"]) == {"build", "test"}
    systems = jobs["test"]["strategy"]["matrix"]["system"]
    assert [system.partition("-")[0] for system in systems] == ["ubuntu", "macos"]
    assert [step["with"] for step in jobs["publish"]["steps"]][-1] == {"attestations": True}


def test_a_tag_that_is_not_our_version_is_not_released(tmp_path):
    (script,) = [
        step["run"] for step in own("release.yml")["jobs"]["build"]["steps"] if "GITHUB_REF_NAME" in str(step)
    ]
    script = script.replace(".venv/bin/python", sys.executable)
    assert shell(script, tmp_path, GITHUB_REF_NAME=f"v{scaffold.__version__}").returncode == 0
    ran = shell(script, tmp_path, GITHUB_REF_NAME=f"v{scaffold.__version__}.1")
    assert ran.returncode == 1
    assert "nothing is published" in ran.stdout


def test_each_of_our_own_jobs_may_do_only_what_it_needs_and_not_for_ever():
    for path in OWN:
        workflow = own(path.name)
        assert workflow["permissions"] == {}
        for name, job in workflow["jobs"].items():
            publishes = (path.name, name) == ("release.yml", "publish")
            assert job["permissions"] in (
                ({"id-token": "write"},) if publishes else ({"contents": "read"}, {})
            )
            assert job["timeout-minutes"] <= 180
            assert not [step for step in job["steps"] if "${{" in step.get("run", "")]


# --- the providers' judges


@each_provider
def test_the_schema_of_the_provider_is_met(provider, project):
    scaffold.ci(provider, project)
    paths = [project / FILES[provider], *(OWN if provider == "github" else [])]
    words = ("check-jsonschema", "--builtin-schema", *SCHEMAS[provider])
    ran = judged(*words, *paths, cwd=project)
    assert ran.returncode == 0, ran.stdout
    broken = project / "broken.yml"
    broken.write_text(paths[0].read_text().replace("timeout", "timeouts"))
    assert judged(*words, broken, cwd=project).returncode == 1


ZIZMOR = ("zizmor", "--offline", "--no-config", "--persona", "pedantic")


def test_zizmor_finds_nothing(project):
    scaffold.ci("github", project)
    ran = judged(*ZIZMOR, project / FILES["github"], *OWN, cwd=project)
    assert ran.returncode == 0, ran.stdout
    assert "No findings to report" in ran.stdout


@pytest.mark.parametrize(
    ("before", "after", "finding"),
    [
        ("permissions: {}\n", "", "excessive-permissions"),
        (r" +with:\n +persist-credentials: false\n", "", "artipacked"),
        (r"checkout@\w+", "checkout@v7", "unpinned-uses"),
        (r" +lookup-only: .*\n", "", "cache-poisoning"),
        ('"\\$ENVOY"', "${{ github.head_ref }}", "template-injection"),
        (r"concurrency:\n.*\n.*\n", "", "concurrency-limits"),
    ],
)
def test_zizmor_would_find(before, after, finding, project):
    """What keeps it content is in the workflow for a reason."""
    text = workflows.render("github")[Path(FILES["github"])].decode()
    path = project / FILES["github"]
    path.parent.mkdir(parents=True)
    path.write_text(re.sub(before, lambda _: after, text, count=1))
    assert path.read_text() != text
    ran = judged(*ZIZMOR, path, cwd=project)
    assert ran.returncode != 0
    assert f"[{finding}]" in ran.stdout


def test_actionlint_finds_nothing_and_would_find_a_mistake(project):
    """With shellcheck, which judges the scripts."""
    scaffold.ci("github", project)
    path = project / FILES["github"]
    ran = judged("actionlint", "-shellcheck=shellcheck", path, *OWN, cwd=project)
    assert (ran.returncode, ran.stdout) == (0, "")
    text = path.read_text()
    path.write_text(text.replace("        run: ", "        run: echo $UNQUOTED; ", 1))
    ran = judged("actionlint", "-shellcheck=shellcheck", path, cwd=project)
    assert (ran.returncode, "SC2086" in ran.stdout) == (1, True)


def test_actions_are_pinned_by_commit_with_their_version_beside():
    text = workflows.render("github")[Path(FILES["github"])].decode()
    text += "".join(path.read_text() for path in OWN)
    used = re.findall(r"uses: (.*)", text)
    assert used
    assert [use for use in used if not re.fullmatch(r"[\w/-]+@[0-9a-f]{40} # v\d+\.\d+\.\d+", use)] == []
    assert len(set(used)) == len({use.partition("@")[0] for use in used}), "one action in two versions"


def test_every_job_may_do_only_what_it_needs_and_not_for_ever():
    jobs = yaml.safe_load(workflows.render("github")[Path(FILES["github"])])["jobs"]
    permissions = {name: job["permissions"] for name, job in jobs.items()}
    assert permissions.pop("publish") == {"contents": "read", "packages": "write"}
    assert all(permission == {"contents": "read"} for permission in permissions.values())
    assert all(job["timeout-minutes"] <= 20 for job in jobs.values())
    assert jobs["publish"]["if"] == "startsWith(github.ref, 'refs/tags/v')"
    assert set(jobs["publish"]["needs"]) == set(jobs) - {"publish"}


def test_lines_take_foreign_values_from_the_environment_only():
    jobs = yaml.safe_load(workflows.render("github")[Path(FILES["github"])])["jobs"]
    lines = [step["run"] for job in jobs.values() for step in job["steps"] if "run" in step]
    assert lines
    assert [line for line in lines if "${{" in line] == []


# --- the lines that compare


def shell(line, folder, **env):
    """Run a line of a workflow as the providers do."""
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    words = ["bash", "--noprofile", "--norc", "-eo", "pipefail", "-c", line]
    return subprocess.run(words, cwd=folder, env={"PATH": path} | env, capture_output=True, text=True)


def lines_with(provider, text):
    """The lines of a workflow that have this text, each script once."""
    said = yaml.load(workflows.render(provider)[Path(FILES[provider])], pipelines.Loader)
    jobs = said.get("jobs", said).values()
    steps = [step for job in jobs if isinstance(job, dict) for step in job.get("steps", [])]
    scripts = [step["run"] for step in steps if "run" in step]
    for job in jobs:
        if isinstance(job, dict):
            scripts += [*job.get("script", []), *job.get("before_script", [])]
    return sorted({script for script in scripts if text in script})


@each_provider
def test_another_module_than_the_one_that_was_built_is_seen(provider, tmp_path):
    (line,) = lines_with(provider, "sha256sum --check")
    module = tmp_path / "target" / "module" / "plugin.wasm"
    module.parent.mkdir(parents=True)
    module.write_bytes(b"the module")
    right = f"sha256:{hashlib.sha256(b'the module').hexdigest()}"
    assert shell(line, tmp_path, MODULE_DIGEST=right).returncode == 0
    assert shell(line, tmp_path, MODULE_DIGEST=right.replace("sha256:", "sha256:0")[:-1]).returncode != 0
    assert shell(line, tmp_path, MODULE_DIGEST="").returncode != 0
    module.write_bytes(b"another")
    assert shell(line, tmp_path, MODULE_DIGEST=right).returncode != 0


@each_provider
def test_another_image_than_the_one_that_was_packaged_is_seen(provider, tmp_path):
    (tmp_path / "target").mkdir()
    (tmp_path / "scaffold").write_text("#!/bin/sh\necho '  manifest digest  sha256:12ab'\n")
    (tmp_path / "scaffold").chmod(0o755)
    (line,) = lines_with(provider, "MANIFEST_DIGEST:?")
    if provider == "gitlab":  # where each line stands for itself
        line = f"scaffold package > target/package.txt\n{line}"
    names = {"GITHUB_REPOSITORY": "a/b", "GITHUB_REF_NAME": "v1", "GITHUB_ENV": str(tmp_path / "env")}
    assert shell(line, tmp_path, **names, MANIFEST_DIGEST="sha256:12ab").returncode == 0
    assert shell(line, tmp_path, **names, MANIFEST_DIGEST="sha256:12ac").returncode != 0
    assert shell(line, tmp_path, **names, MANIFEST_DIGEST="").returncode != 0


@each_provider
@pytest.mark.parametrize("tag", ["v1.2.4", "v1.2.3-rc.1", "v1.2", "v1.2.30", "1.2.3", "v"])
def test_a_tag_that_is_not_the_version_publishes_nothing(provider, tag, tmp_path):
    """It is the first that a job does which could push, and says why."""
    said = yaml.load(workflows.render(provider)[Path(FILES[provider])], pipelines.Loader)
    publish = said.get("jobs", said)["publish"]
    line = publish["steps"][0]["run"] if provider == "github" else publish["script"][0]
    name = {"github": "GITHUB_REF_NAME", "gitlab": "CI_COMMIT_TAG"}[provider]
    assert shell(line, tmp_path, CRATE_VERSION="1.2.3", **{name: "v1.2.3"}).returncode == 0
    ran = shell(line, tmp_path, CRATE_VERSION="1.2.3", **{name: tag})
    assert ran.returncode == 1
    sentence = f"The tag {tag} isn't v1.2.3, Cargo.toml's version: nothing is published.\n"
    assert ran.stdout.removeprefix("::error::") == sentence
    assert shell(line, tmp_path, CRATE_VERSION="", **{name: "v"}).returncode != 0


# --- what both say alike


def test_both_test_in_the_envoys_that_the_readme_names():
    (named,) = re.findall(r"`scaffold test --envoy (\S+)`", (ROOT / "README.md").read_text())
    for provider, path in FILES.items():
        text = workflows.render(provider)[Path(path)].decode()
        (listed,) = re.findall(r"(?i)envoy: (\[.*\])", text)
        assert json.loads(listed) == named.split(",")


@pytest.mark.parametrize("provider", FILES)
def test_help_and_the_refusal_name_the_same_providers(provider, capsys):
    assert f"`{provider}`" in entered(capsys, "ci", "--help").out
    assert provider in entered(capsys, "new", "--help").out


# --- which jobs of GitLab's run, and after which


def gitlab():
    """The workflow; what a job inherits is in it."""
    text = workflows.render("gitlab")[Path(FILES["gitlab"])]
    said = yaml.load(text, pipelines.Loader)
    parents = {
        name: said[job["extends"]] | job for name, job in said.items() if name in JOBS and "extends" in job
    }
    return said | parents


JOBS = ("check", "build", "test", "package", "publish")
TAG = {"if": "$CI_COMMIT_TAG =~ /^v/"}


def test_gitlab_runs_for_merge_requests_the_default_branch_and_tags_alone():
    """So that a merge request's branch has one pipeline, not two."""
    assert gitlab()["workflow"]["rules"] == [
        {"if": '$CI_PIPELINE_SOURCE == "merge_request_event"'},
        {"if": "$CI_COMMIT_BRANCH == $CI_DEFAULT_BRANCH"},
        TAG,
    ]


def test_gitlab_publishes_a_tag_alone_once_all_else_has_passed_and_to_the_end():
    jobs = gitlab()
    assert jobs["publish"]["rules"] == [TAG]
    assert [name for name in JOBS if "rules" in jobs[name]] == ["publish"]
    assert set(jobs["publish"]["needs"]) == set(JOBS) - {"publish"}
    assert (jobs["default"]["interruptible"], jobs["publish"]["interruptible"]) == (True, False)


def test_gitlab_packages_what_was_tested_and_compares_it_in_each_job():
    jobs = gitlab()
    assert {name: jobs[name].get("needs") for name in JOBS[:4]} == {
        "check": None,
        "build": [],
        "test": ["build"],
        "package": ["build", "test"],
    }
    for name in ("test", "package", "publish"):
        assert "sha256sum --check" in str(jobs[name]["before_script"]), name


def test_github_packages_what_was_tested_in_a_shell_that_fails_with_its_pipes():
    workflow = yaml.safe_load(workflows.render("github")[Path(FILES["github"])])
    needs = {name: job.get("needs") for name, job in workflow["jobs"].items()}
    assert {name: needs[name] for name in JOBS[:4]} == {
        "check": None,
        "build": None,
        "test": "build",
        "package": ["build", "test"],
    }
    assert workflow["permissions"] == {}
    assert workflow["defaults"]["run"]["shell"] == "bash"


@each_provider
def test_what_is_published_is_built_without_a_cache_from_the_crates_of_the_lock_file(provider):
    text = workflows.render(provider)[Path(FILES[provider])]
    said = yaml.load(text, pipelines.Loader)
    jobs = said.get("jobs", said)
    cached = [name for name in JOBS if jobs[name].get("cache") or "actions/cache" in str(jobs[name])]
    assert cached == ["check"]
    (fetch,) = lines_with(provider, "cargo fetch")
    assert fetch == "cargo fetch --locked"


@each_provider
def test_a_password_is_no_argument(provider):
    """Every user of a machine sees those."""
    (line,) = lines_with(provider, "scaffold login")
    assert "--password-stdin <<<" in line
    assert "--password " not in line
