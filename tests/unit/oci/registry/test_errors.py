import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaffold.oci.registry.errors import clean, text_of


@pytest.mark.parametrize(
    ("body", "words"),
    [
        (b'{"errors": [{"code": "DENIED", "message": "no", "detail": {}}]}', "no"),
        (b'{"errors": [{"code": "DENIED"}]}', "DENIED"),
        (b'{"errors": [{"message": "a"}, {"message": "b"}]}', "a; b"),
        (b'{"details": "incorrect password"}', "incorrect password"),
        (b'{"error": "invalid_grant", "error_description": "it has expired"}', "it has expired"),
        (b'{"error": "invalid_grant"}', "invalid_grant"),
        (b'{"message": "Not Found"}', "Not Found"),
        (b'{"errors": [7, {"message": {"a": 1}}], "message": []}', ""),
        (b'{"errors": "no"}', ""),
        (b"<html>", ""),
        (b"[]", ""),
        (b"\xff", ""),
        (b"", ""),
        (b"[" * 100_000, ""),
    ],
)
def test_what_a_registry_says(body, words):
    assert text_of(body) == words


@given(st.text())
def test_nothing_from_outside_controls_the_terminal(text):
    shown = clean(text)
    assert shown.isprintable()
    assert len(shown) <= 303


def test_words_from_outside_are_one_line():
    assert clean("a\x1b[31m\r\n b\u202e\x00c") == "a [31m b c"
    assert clean("x" * 1000) == "x" * 300 + "..."
