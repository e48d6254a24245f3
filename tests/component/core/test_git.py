"""How git is run: as the user set it up, but not in the repository of a git that runs us."""

from __future__ import annotations

import pytest

from scaffold.core import git

SHOW = ("-c", "alias.show-env=!env", "show-env")


@pytest.fixture
def shown(monkeypatch, tmp_path):
    """The environment of a git that we start, when ours has these variables."""

    def shown(**env):
        for name, value in env.items():
            monkeypatch.setenv(name, value)
        ran = git.run(*SHOW, cwd=tmp_path)
        assert ran.code == 0, ran.stderr
        return dict(line.partition("=")[::2] for line in ran.stdout.splitlines())

    return shown


def test_it_speaks_english_whatever_the_users_language_is(shown):
    assert shown(LC_ALL="de_DE.UTF-8", LANG="de_DE.UTF-8")["LC_ALL"] == "C"


def test_the_repository_of_a_git_that_runs_us_is_not_its_own(shown, tmp_path):
    others = {"GIT_DIR": "/other/.git", "GIT_INDEX_FILE": "/other/index", "GIT_WORK_TREE": "/other"}
    others |= {"GIT_OBJECT_DIRECTORY": "/other/objects", "GIT_PREFIX": "other/"}
    found = shown(**others)
    assert {name: found[name] for name in others if found.get(name) == others[name]} == {}


def test_the_users_settings_are_kept(shown):
    settings = {"GIT_AUTHOR_NAME": "Alice", "GIT_SSH_COMMAND": "ssh -v", "GIT_SSL_CAINFO": "/ca.pem"}
    found = shown(**settings)
    assert {name: found.get(name) for name in settings} == settings
