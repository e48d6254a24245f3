"""Places in a source map: what is written is found, and nothing else raises more than `ValueError`."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaffold.wasm import source_map


@given(st.dictionaries(st.integers(0, 2**31), st.integers(0, 2**31)), st.integers(0, 2**31))
def test_the_places_are_those_of_the_entries_before(places, offset):
    mappings = source_map.write(sorted(places.items()))
    before = [place for at, place in sorted(places.items()) if at <= offset]
    assert source_map.passed(mappings, offset) == before


def test_an_entry_without_a_place_has_none():
    places = [(4, 100), (8, None), (9, 90)]
    mappings = source_map.write(places)
    assert list(source_map.read(mappings)) == places
    assert [source_map.passed(mappings, at) for at in (3, 4, 7, 8, 9)] == [[], [100], [100], [], [90]]


@pytest.mark.parametrize("mappings", ["!", "A,,A", "é"])
def test_what_is_no_source_map_is_said(mappings):
    with pytest.raises(ValueError, match=r"isn't a digit|empty"):
        source_map.passed(mappings, 1000)


@given(st.text())
def test_any_text_is_read(text):
    with suppress(ValueError):
        assert not source_map.passed(text, 1000) or text
