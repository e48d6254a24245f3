from __future__ import annotations

import pytest

from scaffold.errors import ProjectError
from scaffold.project.load_requests import LoadRequest, LoadResponse, traffic
from scaffold.project.probe_request import Probe


@pytest.fixture
def crate(tmp_path):
    def write(**files: str):
        for name, text in files.items():
            path = tmp_path / "bench" / f"{name}.toml"
            path.parent.mkdir(exist_ok=True)
            path.write_text(text)
        return tmp_path

    return write


def test_a_file_describes_requests_and_what_the_upstream_answers(crate):
    root = crate(
        b='[[request]]\npath = "/b"\nmethod = "POST"\nbody = "é"\nweight = 3\n[request.headers]\nx-a = "1"\n',
        a='[[request]]\n[response]\nstatus = 404\nbody = "{}"\nheaders = { content-type = "a/b" }\n',
    )
    found = traffic(root)
    assert found.requests == (LoadRequest(), LoadRequest("/b", "POST", {"x-a": "1"}, "é", 3))
    assert found.response == LoadResponse(404, {"content-type": "a/b"}, "{}")
    assert found.source == "bench/a.toml, bench/b.toml"


def test_without_a_file_it_is_the_probe_or_a_get(tmp_path):
    probe = Probe("/health", "PUT", {"accept": "x"}, "body")
    (asked,) = traffic(tmp_path, probe).requests
    assert (asked.path, asked.method, asked.body, asked.headers["accept"]) == ("/health", "PUT", "body", "x")
    assert traffic(tmp_path, probe).source == "the probe in Cargo.toml"
    for found in (traffic(tmp_path), traffic(None), traffic(tmp_path, Probe(sent=False))):
        assert [str(each) for each in found.requests] == ["GET /"]


def test_a_request_as_it_is_sent():
    asked = LoadRequest("/a?b=c", "POST", {"X-Y": "z"}, "é")
    assert asked.content == (
        b"POST /a?b=c HTTP/1.1\r\nhost: localhost\r\ncontent-length: 2\r\nX-Y: z\r\n\r\n\xc3\xa9"
    )
    assert LoadRequest(headers={"Host": "a"}).content == b"GET / HTTP/1.1\r\nHost: a\r\n\r\n"
    assert not LoadRequest(method="HEAD").has_answer_body
    assert LoadRequest(method="GET").has_answer_body


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("[[request]]\nmethods = ''\n", "unknown key `methods` in [[request]] of ", "did you mean `method`?"),
        ("[[requests]]\n", "unknown key `requests` in ", "did you mean `request`?"),
        ("", "no request in ", "write `[[request]]` with"),
        ("[response]\nstatus = 200\n", "no request in ", "write `[[request]]`"),
        ("[request]\npath = '/'\n", "`request` in ", "write `[[request]]`"),
        ("request = [1]\n", "[[request]] of ", "write `[[request]]`"),
        ("[[request]]\npath = 'a'\n", "`path` in [[request]] of ", None),
        ("[[request]]\nmethod = 'A B'\n", "`method` in [[request]] of ", None),
        ("[[request]]\nheaders = { 'a b' = 'c' }\n", "`headers` in [[request]] of ", None),
        ('[[request]]\nheaders = { a = "b\\r\\nc: d" }\n', "`headers` in [[request]] of ", None),
        ("[[request]]\nbody = 1\n", "`body` in [[request]] of ", None),
        ("[[request]]\nweight = 0\n", "`weight` in [[request]] of ", None),
        ("[[request]]\nweight = true\n", "`weight` in [[request]] of ", None),
        ("[[request]]\n[response]\nstatus = 100\n", "`status` in [response] of ", None),
        ("[[request]]\n[response]\nstatuses = [1]\n", "unknown key `statuses` in [response]", "`status`?"),
        ("[[request]\n", " is not TOML: ", None),
        ("[[request]]\n" * 1001, "1,001 requests in ", None),
    ],
)
def test_a_file_with_a_mistake_is_refused(crate, text, message, hint):
    with pytest.raises(ProjectError) as caught:
        traffic(crate(cases=text))
    assert message in caught.value.message
    assert str(crate() / "bench") in caught.value.message
    assert hint is None or hint in (caught.value.hint or "")


def test_a_file_that_cannot_be_read_is_named(crate):
    root = crate(a="[[request]]\n")
    (root / "bench" / "b.toml").symlink_to("nowhere")
    with pytest.raises(ProjectError, match=r"cannot read .*b\.toml: No such file"):
        traffic(root)


def test_one_file_alone_says_what_the_upstream_answers(crate):
    answer = "[[request]]\n[response]\nstatus = 200\n"
    with pytest.raises(ProjectError, match=r"\[response\] is in .*a\.toml and in .*b\.toml"):
        traffic(crate(a=answer, b=answer))
