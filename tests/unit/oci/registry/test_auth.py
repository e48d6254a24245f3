import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scaffold.errors import RegistryError
from scaffold.oci.registry.auth import Access, challenges, check_realm
from scaffold.oci.registry.credentials import Credentials
from scaffold.oci.spec import Descriptor

BLOB = Descriptor.of("application/octet-stream", b"content")


def read(client, repository="a"):
    """The blob, by a single request where all goes well."""
    into = io.BytesIO()
    client.blob(repository, BLOB, into)
    return into.getvalue()


# --- WWW-Authenticate


@pytest.mark.parametrize(
    ("header", "read"),
    [
        ("", []),
        ("Basic", [("basic", {})]),
        ('Basic realm="a, b"', [("basic", {"realm": "a, b"})]),
        (
            'Bearer realm="https://auth.example/token",service="r.example",scope="repository:a/b:pull,push"',
            [
                (
                    "bearer",
                    {
                        "realm": "https://auth.example/token",
                        "service": "r.example",
                        "scope": "repository:a/b:pull,push",
                    },
                )
            ],
        ),
        (
            "BEARER Realm = https://a.example , SERVICE=s",
            [("bearer", {"realm": "https://a.example", "service": "s"})],
        ),
        ('Bearer realm="a\\"b\\\\c"', [("bearer", {"realm": 'a"b\\c'})]),
        ('Negotiate, Basic realm="r"', [("negotiate", {}), ("basic", {"realm": "r"})]),
        ('Basic realm="r", Bearer realm="s"', [("basic", {"realm": "r"}), ("bearer", {"realm": "s"})]),
        ("NTLM TlRMTVNTUAAB==, Basic", [("ntlm", {"tlrmtvntuaab": "="}), ("basic", {})]),
        ('Bearer realm="a",realm="b"', [("bearer", {"realm": "a"})]),
        ('Bearer realm="never closed', [("bearer", {})]),
    ],
)
def test_a_challenge_is_read(header, read):
    found = [(each.scheme, dict(each.parameters)) for each in challenges(header)]
    assert found[: len(read)] == read
    assert bool(found) == bool(read)


@given(st.text())
def test_no_header_breaks_the_reader(header):
    assert all(each.scheme == each.scheme.lower() for each in challenges(header))


@given(
    st.dictionaries(
        st.sampled_from(["realm", "service", "scope"]),
        st.text(st.characters(max_codepoint=255, min_codepoint=32)),
    )
)
def test_quoted_parameters_come_back_as_they_were(parameters):
    quoted = [
        f'{name}="{value}"'
        for name, value in (
            (name, value.replace("\\", "\\\\").replace('"', '\\"')) for name, value in parameters.items()
        )
    ]
    (challenge,) = challenges("Bearer " + ",".join(quoted))
    assert challenge.parameters == parameters


def test_scopes_are_what_token_servers_call_them():
    assert Access("a/b").scopes == ("repository:a/b:pull",)
    assert Access("a", "pull,push", "b").scopes == ("repository:a:pull,push", "repository:b:pull")
    assert Access().scopes == ()


# --- where we would ask for a token

PUBLIC, PLAIN, LOCAL = "https://r.example", "http://r.example:5000", "http://127.0.0.1:5000"


@pytest.mark.parametrize(
    ("base", "realm"),
    [
        (PUBLIC, "https://auth.example/token"),
        (PUBLIC, "https://r.example/token"),
        (PUBLIC, "https://r.example:8443/token"),
        (PUBLIC, "https://8.8.8.8/token"),
        ("https://10.0.0.1:5000", "https://10.0.0.1:5001/token"),
        (PLAIN, "http://r.example:5001/token"),
        (PLAIN, "https://auth.example/token"),
        (LOCAL, "http://localhost:5001/token"),
        (LOCAL, "https://127.0.0.1:5001/token"),
        ("https://localhost:5000", "http://127.0.0.1:1/token"),
    ],
)
def test_a_token_may_be_asked_for(base, realm):
    assert check_realm(realm, base) is None


@pytest.mark.parametrize(
    ("base", "realm"),
    [
        (PUBLIC, "http://auth.example/token"),
        (PUBLIC, "http://r.example/token"),
        (PUBLIC, "http://localhost/token"),
        (PUBLIC, "https://localhost/token"),
        (PUBLIC, "https://127.0.0.1/token"),
        (PUBLIC, "https://127.1/token"),
        (PUBLIC, "https://2130706433/token"),
        (PUBLIC, "https://[::ffff:127.0.0.1]/token"),
        (PUBLIC, "https://[::1]/token"),
        (PUBLIC, "https://10.0.0.1/token"),
        (PUBLIC, "https://169.254.169.254/latest"),
        (PLAIN, "http://auth.example/token"),
        (PLAIN, "http://127.0.0.1/token"),
        (LOCAL, "http://auth.example/token"),
        (LOCAL, "https://10.0.0.1/token"),
        (PUBLIC, "https://r.example@evil.example/token"),
        (PUBLIC, "https://r.example\\@evil.example/token"),
        (PUBLIC, "file:///etc/passwd"),
        (PUBLIC, "/token"),
        (PUBLIC, ""),
    ],
)
def test_a_token_is_not_asked_for_where_secrets_could_be_overheard(base, realm):
    with pytest.raises(RegistryError):
        check_realm(realm, base)


def test_no_secret_is_in_a_repr():
    assert repr(Credentials("alice", "p-1", "p-2", "p-3")) == "Credentials(username='alice')"
