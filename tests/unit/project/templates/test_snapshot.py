"""A template's files: counted, named by all that matters of them, and none outside."""

from __future__ import annotations

import io
import stat
import zipfile

import pytest

from scaffold.errors import ProjectError
from scaffold.project.templates import snapshot
from scaffold.project.templates.snapshot import Limit


def test_a_template_may_have_exactly_what_its_limits_say():
    limit = Limit(files=2, size=10)
    limit.take(4)
    limit.take(6)
    assert (limit.files, limit.size) == (0, 0)
    with pytest.raises(ProjectError, match="more than 10,000 files"):
        limit.take(0)
    with pytest.raises(ProjectError, match="more than 64 MB"):
        Limit(size=10).take(11)


def digest(folder, files):
    folder.mkdir()
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return snapshot.digest(folder)


def test_no_two_states_have_one_digest(tmp_path):
    states = [
        {"a": b"1"},
        {"a": b"2"},
        {"b": b"1"},
        {"a": b"", "b": b""},
        {"a": b"", "1": b""},
        {"a1": b""},
        {"ab": b"c"},
        {"a": b"bc"},
        {"d/a": b"1"},
        {},
    ]
    digests = [digest(tmp_path / str(number), state) for number, state in enumerate(states)]
    (tmp_path / "0/a").chmod(0o755)
    digests.append(snapshot.digest(tmp_path / "0"))
    (tmp_path / "1/a").unlink()
    (tmp_path / "1/a").symlink_to("1")
    digests.append(snapshot.digest(tmp_path / "1"))
    assert len(set(digests)) == len(digests)


def test_what_git_and_python_put_there_does_not_count(tmp_path):
    assert digest(tmp_path / "a", {"a": b"1"}) == digest(
        tmp_path / "b",
        {"a": b"1", ".git/config": b"x", "__pycache__/a.pyc": b"x", "d/__pycache__/b.pyc": b"x"},
    )


def packed(name, mode=stat.S_IFREG | 0o644):
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as archive:
        entry = zipfile.ZipInfo("x")
        entry.filename = entry.orig_filename = name
        entry.external_attr = mode << 16
        archive.writestr(entry, b"content")
    return made.getvalue()


@pytest.mark.parametrize("name", ["../a", "a/../../b", "/a", "a\\\\..\\\\b", ".."])
def test_an_entry_that_leads_out_is_refused(tmp_path, name):
    with pytest.raises(ProjectError, match="leads out of the template"):
        snapshot.unzip(packed(name), "mine.zip", tmp_path / "out")
    assert [path.name for path in tmp_path.rglob("*")] == ["out"]


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO])
def test_an_entry_that_is_no_file_is_refused(tmp_path, kind):
    with pytest.raises(ProjectError, match="is a link or a device"):
        snapshot.unzip(packed("a", kind | 0o644), "mine.zip", tmp_path / "out")
    snapshot.unzip(packed("a"), "mine.zip", tmp_path / "well")
    assert (tmp_path / "well/a").read_bytes() == b"content"


@pytest.mark.parametrize("aim", ["../secret", "nothing", "itself", "/etc/passwd"])
def test_a_link_that_leads_out_or_nowhere_is_refused(tmp_path, aim):
    (tmp_path / "secret").touch()
    (tmp_path / "mine").mkdir()
    (tmp_path / "mine/itself").symlink_to(aim)
    with pytest.raises(ProjectError, match="itself is a link that leads out of the template, or nowhere"):
        snapshot.check_links(tmp_path / "mine", "template")
