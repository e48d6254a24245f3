"""What is installed: floors above known holes, and a file of hashes that fits pyproject.toml."""

import re
import tomllib

import pytest
from packaging.requirements import Requirement
from packaging.version import Version
from support.documents import ROOT

PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
DIRECT = [Requirement(line) for line in PYPROJECT["project"]["dependencies"]]
DEVELOPMENT = [Requirement(line) for line in PYPROJECT["dependency-groups"]["dev"]]
LOCK = (ROOT / "requirements-dev.txt").read_text().replace("\\\n", "")
LOCKED = [line for line in LOCK.splitlines() if line and not line.lstrip().startswith("#")]
# the last releases with a known hole
HOLES = {"certifi": "2024.6.2", "jinja2": "3.1.5", "requests": "2.32.3", "urllib3": "2.6.2"}


@pytest.mark.parametrize("name", HOLES)
def test_no_release_with_a_known_hole_is_accepted(name):
    (requirement,) = [each for each in DIRECT if each.name == name]
    assert Version(HOLES[name]) not in requirement.specifier


def test_the_locked_versions_fit_pyproject():
    versions = {
        found[1]: Version(found[2]) for found in (re.match(r"([\w.-]+)==(\S+)", line) for line in LOCKED)
    }
    wrong = [
        str(requirement)
        for requirement in (*DIRECT, *DEVELOPMENT, *map(Requirement, PYPROJECT["build-system"]["requires"]))
        if versions.get(requirement.name, Version("0")) not in requirement.specifier
        or requirement.name not in versions
    ]
    assert wrong == [], "renew requirements-dev.txt, as CONTRIBUTING.md says"


def test_every_locked_version_has_hashes_and_no_other_source():
    assert [line for line in LOCKED if not re.search(r" --hash=sha256:[0-9a-f]{64}", line)] == []
    assert [line for line in LOCKED if "://" in line or line.startswith("-")] == []


def test_ci_installs_nothing_else():
    """Only the wheel that is tested before its release is installed as a user installs it."""
    text = "".join(path.read_text() for path in sorted((ROOT / ".github/workflows").iterdir()))
    called = re.findall(r"\bmake (.*)", text)
    assert called and all(words.startswith("LOCKED=1 ") for words in called)
    assert re.findall(r"pip\"? install (.*)", text) == ["dist/*.whl"]
    assert re.findall(r"-m build(.*?)(?: #.*)?\n", text) == [" --no-isolation"]
