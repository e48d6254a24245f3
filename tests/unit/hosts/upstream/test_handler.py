from scaffold.hosts.upstream.handler import MOST_BYTES, MOST_REQUESTS, Record
from scaffold.hosts.upstream.http1 import BODY_LIMIT, Received


def _got(name="", body=b"", headers=()):
    return Received(b"GET", f"/{name}".encode(), list(headers), body)


def _names(record, since=0):
    return [received.target[1:].decode() for received in record.newest_first(since)]


def test_only_the_last_requests_are_kept():
    record = Record()
    for number in range(MOST_REQUESTS + 5):
        record.add(_got(str(number)))
    assert record.count == MOST_REQUESTS + 5
    assert _names(record)[0] == str(MOST_REQUESTS + 4)
    assert _names(record)[-1] == "5"
    assert len(_names(record)) == MOST_REQUESTS
    assert _names(record, since=record.count - 2) == [str(MOST_REQUESTS + 4), str(MOST_REQUESTS + 3)]
    assert _names(record, since=record.count) == []


def test_their_memory_is_bounded():
    record, body = Record(), bytes(BODY_LIMIT)
    for number in range(100):
        record.add(_got(str(number), body))
    assert len(_names(record)) == MOST_BYTES // BODY_LIMIT
    assert _names(record)[0] == "99"


def test_many_small_headers_take_memory_too():
    record = Record()
    for _ in range(500):
        record.add(_got(headers=[(b"a", b"")] * 10_000))
    assert len(_names(record)) < 50
