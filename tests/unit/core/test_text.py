"""What a terminal of 80 columns shows, without a word broken; and what a pipe gets."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaffold.commands.doctor.finding import Finding
from scaffold.core.files import digest
from scaffold.core.text import (
    age,
    coloured,
    cut,
    escaped,
    fit,
    flat,
    indented,
    line,
    one_line,
    quoted,
    safe,
    without_secret,
)

DIGEST = digest(b"x")


def test_lines_that_fit_stay_as_they_are():
    text = f"name\n  manifest digest  short\n\n{DIGEST}"
    assert fit(text, 80) == text
    assert fit("a" * 100, 80) == "a" * 100


def test_a_column_of_words_goes_on_below_itself():
    assert fit("  imports (3)  proxy_log, proxy_done, proxy_get", 28) == (
        "  imports (3)  proxy_log,\n               proxy_done,\n               proxy_get"
    )


def test_a_word_that_is_too_long_for_its_column_has_lines_of_its_own():
    assert fit(f"  manifest digest  {DIGEST}", 80) == f"  manifest digest\n    {DIGEST}"
    assert fit(f"  pin  of {DIGEST}", 60) == f"  pin\n    of\n    {DIGEST}"


def test_prose_is_broken_between_words():
    assert fit("  one two three four", 12) == "  one two\n    three\n    four"


@pytest.mark.parametrize(("width", "shown"), [(10, "0123456789"), (7, "012…789"), (6, "012…89"), (1, "…")])
def test_a_cut_word_keeps_its_ends(width, shown):
    assert cut("0123456789", width) == shown
    assert len(shown) == width


@pytest.mark.parametrize("make_safe", [safe, indented, line, flat, one_line, escaped, quoted, without_secret])
@given(st.text())
def test_no_foreign_text_controls_the_terminal(make_safe, text):
    assert not any(each in "\x1b\x07\b\r\x9b\x00" for each in make_safe(text))


@pytest.mark.parametrize("shorten", [one_line, escaped, quoted, without_secret])
@given(st.text(st.characters(codec="utf-8"), max_size=500))
def test_foreign_text_is_one_short_line(shorten, text):
    assert shorten(text).isprintable()
    assert len(shorten("x" * 5000)) < 210


@given(st.text())
def test_what_can_be_printed_is_all_that_is_left(text):
    for make in (safe, indented, line, coloured):
        make(text).encode(errors="surrogateescape")


@given(st.text(st.sampled_from("a \n\t")))
def test_a_message_begins_one_line_at_the_left(text):
    _, *others = indented(text).split("\n")
    assert not [each for each in others if each.strip() and not each.startswith(("  ", "\t", " \t"))]
    assert indented(text).split() == text.split()
    assert "\n" not in line(text)


def test_a_message_that_is_indented_already_stays_so():
    assert indented("a:\n  b\n    c\n\nd") == "a:\n  b\n    c\n\n  d"


def test_colours_stay_and_other_commands_go():
    assert (
        coloured("\x1b[1;31ma\x1b[0m\x1b[2K\x1b]8;;x\x07") == "\x1b[1;31ma\x1b[0m\ufffd[2K\ufffd]8;;x\ufffd"
    )


def test_an_ordinary_result_is_the_same_object():
    for value in ("a", ["a", ("b", 1)], Finding("a", "ok", "b\nc"), Path("a")):
        assert flat(value) is value
    assert flat(Finding("a\n", "ok", "b\nc")) == Finding("a\\n", "ok", "b\nc")


def test_an_ordinary_name_stays_as_it_is():
    assert escaped("proxy_log") == one_line("proxy_log") == safe("proxy_log") == "proxy_log"
    assert escaped("C:\\a\\b 'c'") == "C:\\a\\b 'c'"
    assert quoted("proxy_log") == '"proxy_log"'


def test_what_is_no_ordinary_name_can_be_read():
    assert safe("a\x1b[2Jb\r\n\tc") == "a\ufffd[2Jb\ufffd\n\tc"
    assert one_line("a\x1b[31m\r\n b\u202e\x00c") == "a [31m b c"
    assert escaped("a\x1b[31m\n") == r"a\x1b[31m\n"
    assert escaped("x" * 5000) == "x" * 100 + "…"
    assert quoted(["\x1b[31m"]) == '["\\u001b[31m"]'
    assert quoted({"a": "x" * 99}) == '{"a": "' + "x" * 53 + "…"


def test_a_url_is_shown_without_its_secret():
    assert without_secret("https://me:secret@host/a@b") == "https://host/a@b"
    assert without_secret("https://me:se@cret@host") == "https://host"


def test_an_age_is_told_in_its_largest_unit():
    ages = (0.4, 59, 60, 7200, 86400 * 3, 86400 * 800)
    assert [age(each) for each in ages] == ["0 s", "59 s", "1 min", "2 h", "3 d", "2 y"]
