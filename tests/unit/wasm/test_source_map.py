"""Places in a source map: what is written is found, and nothing else raises more than `ValueError`."""

from __future__ import annotations

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaffold.wasm import source_map

OFFSETS = st.integers(0, 2**31)


@given(st.dictionaries(OFFSETS, OFFSETS), OFFSETS, OFFSETS)
def test_the_places_are_those_of_the_entries_in_between(places, first, last):
    mappings = source_map.write(sorted(places.items()))
    between = [place for at, place in sorted(places.items()) if first <= at <= last]
    assert source_map.between(mappings, first, last) == between


def test_an_entry_without_a_place_has_none():
    places = [(4, 100), (8, None), (9, 90)]
    mappings = source_map.write(places)
    assert list(source_map.read(mappings)) == places
    assert source_map.between(mappings, 5, 9) == [None, 90]


@pytest.mark.parametrize("mappings", ["!", "A,,A", "é"])
def test_what_is_no_source_map_is_said(mappings):
    with pytest.raises(ValueError, match=r"isn't a digit|empty"):
        source_map.between(mappings, 0, 1000)


@given(st.text())
def test_any_text_is_read(text):
    with suppress(ValueError):
        assert not source_map.between(text, 0, 1000) or text
