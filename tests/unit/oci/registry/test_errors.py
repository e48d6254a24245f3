import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaffold.oci.registry.errors import of_status, text_of


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
    shown = of_status(403, {}, text, registry="r", by="r", doing="push to", thing="a").message
    assert shown.isprintable()
    assert len(shown) <= 350


def test_words_from_outside_are_one_line():
    text = "a\x1b[31m\r\n b\u202e\x00c" + "x" * 1000
    shown = of_status(403, {}, text, registry="r", by="r", doing="push to", thing="a").message
    assert shown == "r doesn't let you push to a: a [31m b c" + "x" * 290 + "…"
