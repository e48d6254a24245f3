"""What is trusted: the exact state of a template, and nothing that only looks like it."""

from __future__ import annotations

import json

import pytest

from scaffold.errors import UsageError
from scaffold.project.templates import trust
from scaffold.project.templates.source import Template

COMMIT = "0123456789abcdef" * 2 + "01234567"
OTHER = COMMIT[:-1] + "8"
DIGEST = f"sha256:{'0123456789abcdef' * 4}"


@pytest.fixture
def template(tmp_path, monkeypatch):
    """A foreign template, in one state or another."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/cookiecutter.json").write_text(json.dumps({"name": "a"}))

    def template(pin=COMMIT, *, source="https://git.example/mine", foreign=True, **more):
        return Template("mine", source, tmp_path / "mine", pin, foreign=foreign, **more)

    return template


def is_trusted(template):
    try:
        trust.require(template)
    except UsageError as error:
        assert error.hint.startswith(f"read it, then add `--checkout {template.pin} --trust`")
        return False
    return True


@pytest.mark.parametrize("more", [{}, {"directory": "inner"}, {"directory": "inner", "place": "inner"}])
def test_a_foreign_template_is_trusted_once_that_is_said_and_not_before(template, more):
    mine = template(**more)
    assert not is_trusted(mine)
    assert trust.trusted() == [], "being asked doesn't make it so"
    trust.require(mine, trust=True)
    assert is_trusted(mine)


def test_another_state_of_the_same_source_is_not_trusted(template):
    trust.require(template(), trust=True)
    assert not is_trusted(template(OTHER))
    assert not is_trusted(template(DIGEST))


def test_the_same_state_is_trusted_wherever_it_comes_from(template):
    trust.require(template(), trust=True)
    assert is_trusted(template(source="/home/me/mine"))


def test_each_folder_of_a_commit_is_trusted_by_itself(template):
    one, two = template(place="one"), template(place="two")
    trust.require(one, trust=True)
    assert [is_trusted(each) for each in (one, two, template())] == [True, False, False]
    trust.require(two, trust=True)
    assert [is_trusted(each) for each in (one, two, template())] == [True, True, False]


def test_content_is_trusted_in_any_folder(template):
    trust.require(template(DIGEST, place="one"), trust=True)
    assert is_trusted(template(DIGEST, place="two"))


def test_one_of_ours_needs_no_trust(template):
    assert is_trusted(template(None, foreign=False))


def test_what_it_runs_is_named_before_it_is_trusted(template, tmp_path, said):
    (tmp_path / "mine/hooks").mkdir()
    for name in ("pre_prompt.py", "pre_gen_project.sh", "post_gen_project.py", "notes.txt"):
        (tmp_path / "mine/hooks" / name).touch()
    (tmp_path / "mine/cookiecutter.json").write_text(json.dumps({"name": "a", "_extensions": ["b.C"]}))
    assert not is_trusted(template())
    names = ("post_gen_project.py", "pre_gen_project.sh", "pre_prompt.py")
    assert said[1:] == [*(f"it runs hooks/{name}" for name in names), "it loads b.C"]


@pytest.mark.parametrize(
    ("pin", "named"),
    [(COMMIT, COMMIT[:7]), (COMMIT, COMMIT), (DIGEST, DIGEST[:14]), (DIGEST, DIGEST[7:14]), (DIGEST, DIGEST)],
)
def test_a_state_is_forgotten_by_the_beginning_of_its_pin(template, pin, named):
    trust.require(template(pin), trust=True)
    assert trust.forget(named) == []
    assert not is_trusted(template(pin))


@pytest.mark.parametrize("named", [COMMIT[:6], COMMIT[1:9], DIGEST[:13], DIGEST[8:16], "", "sha256:"])
def test_too_short_a_part_or_another_one_forgets_nothing(template, named):
    for pin in (COMMIT, DIGEST):
        trust.require(template(pin), trust=True)
    with pytest.raises(UsageError, match="isn't a trusted template"):
        trust.forget(named)
    assert len(trust.trusted()) == 2


def test_a_beginning_that_several_have_forgets_none(template):
    for pin in (COMMIT, OTHER):
        trust.require(template(pin), trust=True)
    with pytest.raises(UsageError, match="matches several trusted templates"):
        trust.forget(COMMIT[:10])
    assert len(trust.trusted()) == 2
