from scaffold.hosts.upstream.http1 import BODY_LIMIT


def test_of_a_long_body_the_beginning_is_kept_and_all_is_taken(origin, say):
    body = bytes(range(256)) * 4096 * 3  # 3 MiB
    raw = b"POST /anything HTTP/1.1\r\nContent-Length: %d\r\n\r\n" % len(body)
    answers = say(raw, body, b"GET /status/202 HTTP/1.1\r\n\r\n")
    assert answers.endswith(b"HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n")
    kept = origin.requests()[0]
    assert kept.body == body[:BODY_LIMIT]
    assert kept.headers["content-length"] == str(len(body))
