import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaffold.core import host_names as net
from scaffold.errors import RegistryError
from scaffold.oci.registry import address

LOOPBACK = ["localhost", "LOCALHOST.", "a.localhost", "127.0.0.1", "127.9.9.9", "::1", "[::1]", "127.1"]
LOOPBACK += ["0x7f000001", "2130706433", "::ffff:127.0.0.1", "017700000001"]
INNER = [*LOOPBACK, "10.1.2.3", "192.168.0.1", "172.16.0.9", "169.254.169.254", "fe80::1", "fd00::1"]
INNER += ["0.0.0.0", "::", "100.64.0.1", "::ffff:10.0.0.1", "[fe80::1%eth0]"]
OUTSIDE = [
    "ghcr.io",
    "localhost.example.com",
    "127.example.com",
    "8.8.8.8",
    "2606:4700::1111",
    "notlocalhost",
]


@pytest.mark.parametrize("host", LOOPBACK)
def test_what_is_this_machine(host):
    assert net.is_loopback(host)
    assert net.is_own(host)


@pytest.mark.parametrize("host", INNER)
def test_what_only_an_inner_network_has(host):
    assert net.is_inner(host)


@pytest.mark.parametrize("host", OUTSIDE)
def test_what_is_outside(host):
    assert not net.is_inner(host)
    assert not net.is_loopback(host)
    assert not net.is_own(host)


def test_where_a_cloud_keeps_its_secrets_is_nobody_elses():
    assert net.is_own("169.254.169.254")
    assert not net.is_own("10.0.0.1")


@given(st.text())
def test_any_text_is_this_machine_or_it_isnt(host):
    assert isinstance(net.is_inner(host), bool)


@pytest.mark.parametrize(
    "url",
    [
        "https://user@ghcr.io/",
        "https://ghcr.io\\@evil.example/",
        "https://ghcr.io/a\\b",
        "https://ghcr.io /",
        "https://ghcr.io/\r\nX: y",
        "https://ghcr.io:99999/",
        "https://ghcr.io:0/",
        "https://[::1/",
        "https:///path",
        "ftp://ghcr.io/",
        "file:///etc/passwd",
        "//ghcr.io",
        "",
    ],
)
def test_a_url_that_could_be_read_two_ways_is_refused(url):
    with pytest.raises(RegistryError, match="isn't a valid registry address"):
        address.split(url)


@given(st.text(), st.text())
def test_whatever_a_location_is_it_is_joined_or_refused(url, location):
    try:
        joined = address.join(url, location)
    except RegistryError:
        return
    assert address.split(joined).hostname


def test_a_relative_location_keeps_its_query_and_loses_its_fragment():
    came = "https://r.example/v2/a/blobs/uploads/"
    assert address.join(came, "/up?_state=a%3D&x=1#f") == "https://r.example/up?_state=a%3D&x=1"
    assert address.join(came, "https://blobs.example/x?sig=%2F") == "https://blobs.example/x?sig=%2F"


def test_an_origin_is_scheme_host_and_port():
    assert address.origin("https://R.example/a") == address.origin("https://r.example:443/b")
    assert address.origin("https://r.example/") != address.origin("http://r.example/")
    assert address.origin("https://r.example/") != address.origin("https://r.example:444/")


def test_tls_is_spoken_everywhere_but_where_plain_http_is_asked_for():
    assert address.base("ghcr.io", plain_http=False, seconds=1) == "https://ghcr.io"
    assert address.base("10.0.0.1:5000", plain_http=False, seconds=1) == "https://10.0.0.1:5000"
    assert address.base("10.0.0.1:5000", plain_http=True, seconds=1) == "http://10.0.0.1:5000"


def test_docker_hub_answers_elsewhere():
    assert address.base("docker.io", plain_http=False, seconds=1) == "https://registry-1.docker.io"
