"""The setting `probe`: what it may be, and how it is refused."""

from __future__ import annotations

import pytest

from scaffold.errors import ProjectError, UsageError
from scaffold.project.probe_request import Probe, check_path

WHERE = "[package.metadata.proxy-wasm] of Cargo.toml"


@pytest.mark.parametrize(
    ("value", "probe"),
    [
        ({}, Probe()),
        (False, Probe(sent=False)),
        ({"path": "/health?x=1", "statuses": [200, 401]}, Probe("/health?x=1", statuses=(200, 401))),
        (
            {"method": "POST", "headers": {"x-key": "a b"}, "body": "é"},
            Probe(method="POST", headers={"x-key": "a b"}, body="é"),
        ),
    ],
    ids=str,
)
def test_it_is_a_table_or_false(value, probe):
    assert Probe.parse(value, WHERE) == probe


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (True, "`probe` in .* is neither a table nor false"),
        ("/", "`probe` in .* is neither a table nor false"),
        ({"sent": False}, "unknown key `sent` in `probe`"),
        ({"pathh": "/"}, "unknown key `pathh` in `probe`"),
        ({"path": "health"}, "`path` of `probe` in .* isn't valid: 'health'"),
        ({"path": "/a b"}, "`path` of `probe`"),
        ({"path": 1}, "`path` of `probe`"),
        ({"method": "GET /"}, "`method` of `probe`"),
        ({"headers": ["a"]}, "`headers` of `probe`"),
        ({"headers": {"a b": ""}}, "`headers` of `probe`"),
        ({"headers": {"a": "b\r\nc: d"}}, "`headers` of `probe`"),
        ({"body": 1}, "`body` of `probe`"),
        ({"statuses": 200}, "`statuses` of `probe`"),
        ({"statuses": [True]}, "`statuses` of `probe`"),
        ({"statuses": [99]}, "`statuses` of `probe`"),
        ({"statuses": [600]}, "`statuses` of `probe`"),
    ],
    ids=str,
)
def test_anything_else_is_refused_by_name(value, message):
    with pytest.raises(ProjectError, match=message) as caught:
        Probe.parse(value, WHERE)
    assert caught.value.hint


def test_a_typo_is_recognised():
    with pytest.raises(ProjectError) as caught:
        Probe.parse({"pathh": "/"}, WHERE)
    assert caught.value.hint == "did you mean `path`?"


@pytest.mark.parametrize("status", [200, 404])
def test_without_statuses_it_accepts_any(status):
    assert Probe().accepts(status)
    assert Probe(statuses=(status,)).accepts(status)
    assert not Probe(statuses=(500,)).accepts(status)


def test_the_path_of_an_option_is_one():
    check_path("/a?b=%20")
    for path in ("", "a", "/a b", "http://localhost/"):
        with pytest.raises(UsageError, match="isn't the path of a request"):
            check_path(path)
