import socket

from scaffold.oci.registry import address


def test_the_loopback_is_spoken_to_as_it_speaks(server, tls_server):
    assert address.base(server.name, plain_http=False, seconds=5) == f"http://{server.name}"
    assert address.base(tls_server.name, plain_http=False, seconds=5) == f"https://{tls_server.name}"


def test_where_nothing_listens_that_is_for_the_first_request_to_say():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        name = f"127.0.0.1:{unused.getsockname()[1]}"
        assert address.base(name, plain_http=False, seconds=1) == f"http://{name}"
