"""Unit: the request of a curl command line."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from scaffold.errors import UsageError
from scaffold.project.curl import CurlRequest, in_one_word, parse

OWN = (("user-agent", "curl/8.5.0"), ("accept", "*/*"))


def request(text: str, folder: Path = Path()) -> CurlRequest:
    return parse(shlex.split(text.replace("\\\n", " ")), folder)


def test_a_url_alone_is_a_get_with_the_headers_of_curl() -> None:
    assert request("curl localhost:8080") == CurlRequest("GET", "http", "localhost:8080", "/", OWN)


def test_what_chrome_copies_is_understood() -> None:
    copied = """curl 'https://shop.example/cart?id=1' \\
      -H 'accept: application/json' \\
      -H 'x-empty;' \\
      -b 'session=1' \\
      --data-raw '{"name":"Neillé"}' \\
      --compressed --insecure"""
    found = request(copied)
    assert (found.method, found.authority, found.target) == ("POST", "shop.example", "/cart?id=1")
    assert found.body == '{"name":"Neillé"}'.encode()
    headers = dict(found.headers)
    assert headers["accept"] == "application/json" and headers["x-empty"] == ""
    assert headers["cookie"] == "session=1" and headers["accept-encoding"] == "deflate, gzip"


def test_short_options_may_stand_together() -> None:
    found = request("curl -sSXPUT -Hx-a:1 -m 2.5 -d a=1 -d b=2 http://h/p")
    assert (found.method, found.body, found.seconds) == ("PUT", b"a=1&b=2", 2.5)
    assert ("x-a", "1") in found.headers
    assert ("content-type", "application/x-www-form-urlencoded") in found.headers


def test_a_header_without_a_value_takes_one_of_curls_own_away() -> None:
    assert request("curl -H accept: http://h/").headers == OWN[:1]


def test_the_written_host_is_the_authority() -> None:
    found = request("curl -H 'Host: example.com' http://localhost:1/")
    assert found.authority == "example.com" and found.headers == OWN


def test_data_goes_into_the_query_with_get() -> None:
    found = request("curl -G --data-urlencode 'q=a b' http://h/?x=1")
    assert (found.method, found.target, found.body) == ("GET", "/?x=1&q=a%20b", b"")


def test_json_has_its_type() -> None:
    found = request("curl --json '{}' http://h/")
    assert dict(found.headers)["content-type"] == dict(found.headers)["accept"] == "application/json"
    assert (found.method, found.body) == ("POST", b"{}")


def test_a_body_comes_from_a_file(tmp_path: Path) -> None:
    (tmp_path / "body").write_bytes(b"a\nb\n")
    assert request("curl -d @body http://h/", tmp_path).body == b"ab"
    assert request("curl --data-binary @body http://h/", tmp_path).body == b"a\nb\n"


def test_a_user_is_basic_authorization_and_head_is_a_method() -> None:
    found = request("curl -I -u me:secret http://me@h/")
    assert found.method == "HEAD" and found.authority == "h"
    assert dict(found.headers)["authorization"] == "Basic bWU6c2VjcmV0"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("curl", "no URL"),
        ("curl http://a/ http://b/", "several URLs"),
        ("curl --upload-file x http://a/", "`--upload-file` isn't known"),
        ("curl -L http://a/", "`-L` isn't known"),
        ("curl -H", "needs a value"),
        ("curl -H nothing http://a/", "isn't a header"),
        ("curl -H @file http://a/", "names a file"),
        ("curl -b jar http://a/", "names a file"),
        ("curl -d @missing http://a/", "cannot read the body"),
        ("curl -d @- http://a/", "standard input"),
        ("curl -m soon http://a/", "isn't a number"),
        ("curl ftp://a/", "isn't the URL"),
        ("curl http://a:port/", "isn't the URL"),
        ("curl -I -d x http://a/", "a body with `--head`"),
        ("curl --data-urlencode a@file http://a/", "with a file"),
        ("curl -d @/dev/zero http://a/", "cannot read the body"),
    ],
)
def test_what_cannot_be_sent_is_refused_by_name(text: str, message: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=message):
        request(text, tmp_path)


def test_a_misspelled_option_gets_its_nearest() -> None:
    with pytest.raises(UsageError) as caught:
        request("curl --heder x:1 http://a/")
    assert caught.value.hint == "did you mean `--header`?"


def test_a_command_line_in_one_word_is_taken_apart() -> None:
    assert in_one_word(["curl -H 'a: b' \\\n h/"]) == ["curl", "-H", "a: b", "h/"]
    assert in_one_word(["curl", "h/"]) == ["curl", "h/"]
    assert in_one_word(["curl.log"]) == ["curl.log"]
    with pytest.raises(UsageError, match="isn't whole"):
        in_one_word(["curl 'h/"])


def test_the_last_option_of_a_kind_counts_a_header_before_all_and_an_empty_one_is_left_out() -> None:
    assert dict(request("curl -A a -A b http://h/").headers)["user-agent"] == "b"
    assert request("curl -A a -H 'User-Agent: c' http://h/").headers == (OWN[1], ("User-Agent", "c"))
    assert request("curl -A '' http://h/").headers == OWN[1:]
    assert dict(request("curl -b a=1 -b b=2 http://h/").headers)["cookie"] == "a=1; b=2"
    assert dict(request("curl http://me:secr%65t@h/").headers)["authorization"] == "Basic bWU6c2VjcmV0"


def test_bytes_that_are_no_text_are_sent_as_they_are() -> None:
    byte = "\udcff"  # as the command line's words have it
    assert parse(["-d", byte, "http://h/"]).body == b"\xff"
    assert parse(["--data-urlencode", f"a@b={byte}", "http://h/"]).body == b"a@b=%FF"
    assert parse(["-G", "-d", f"a={byte}&b", "http://h/"]).target == "/?a=%FF&b"
    assert dict(parse(["-u", byte, "http://h/"]).headers)["authorization"] == "Basic /w=="
