"""Records on disk: whole or absent, of their type, and readable by an earlier and a later version."""

from __future__ import annotations

import json
import stat
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from scaffold.core import records
from scaffold.core.events import Warned, listening


@dataclass(frozen=True)
class Part:
    name: str
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class Whole:
    part: Part
    parts: list[Part]
    ratio: float
    good: bool
    path: Path | None = None
    names: Mapping[str, str] = field(default_factory=dict)


WHOLE = Whole(Part("a", (1, 2)), [Part("b")], 1.5, True, None, {"c": "d"})


def test_what_is_written_is_read_back(tmp_path):
    path = tmp_path / "folder" / "record.json"
    records.write(path, WHOLE)
    assert records.read(path, Whole) == WHOLE
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    records.write(path, [WHOLE, WHOLE])
    assert records.read(path, list[Whole]) == [WHOLE, WHOLE]


def test_an_absent_record_is_none(tmp_path):
    assert records.read(tmp_path / "none", Whole) is None
    assert records.read_or_warn(tmp_path / "none", Whole) is None


def test_a_later_version_may_know_more_and_an_earlier_one_less(tmp_path):
    path = tmp_path / "record.json"
    path.write_text(json.dumps({"name": "a", "colour": "red"}))
    assert records.read(path, Part) == Part("a", ())


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"part": {}}, "its `name` is missing"),
        ({"part": []}, "its `part` isn't valid"),
        ({"part": {"name": "a", "sizes": [True]}}, "its `sizes` isn't valid"),
        ({"parts": [{"name": 1}]}, "its `name` isn't valid"),
        ({"ratio": "1"}, "its `ratio` isn't valid"),
        ({"good": 1}, "its `good` isn't valid"),
        ({"path": 1}, "its `path` isn't valid"),
        ({"names": {"a": 1}}, "its `names` isn't valid"),
    ],
)
def test_a_damaged_record_names_the_file_and_the_field(tmp_path, change, why):
    path = tmp_path / "a record.json"
    records.write(path, WHOLE)
    path.write_text(json.dumps(json.loads(path.read_text()) | change))
    with pytest.raises(records.DamagedRecord) as caught:
        records.read(path, Whole)
    assert caught.value.message == f"{path} is damaged: {why}"
    assert caught.value.hint == f"`rm '{path}'` forgets what it records"


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"null", b"[" * 100_000, b"\xff"])
def test_a_damaged_record_is_named_once_and_counts_as_absent(tmp_path, content):
    path = tmp_path / "record.json"
    path.write_bytes(content)
    heard = []
    with listening(heard.append):
        assert records.read_or_warn(path, Whole) is records.read_or_warn(path, Whole) is None
    assert [type(event) for event in heard] == [Warned]
    assert str(path) in heard[0].text


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.fixed_dictionaries({}, optional=dict.fromkeys(("name", "sizes"), JSON)) | JSON)
def test_whatever_the_json_is_it_is_a_record_or_damaged(tmp_path, value):
    path = tmp_path / "record.json"
    path.write_text(json.dumps(value))
    try:
        assert isinstance(records.read(path, Part), Part)
    except records.DamagedRecord as error:
        assert str(path) in error.message
