"""The clusters that a plugin's source calls, and what the warning of a missing one suggests."""

from __future__ import annotations

import tomllib

import pytest

from scaffold.project import called_clusters, envoy_clusters


@pytest.fixture
def crate(tmp_path):
    """Writes a source file and gives the crate's folder."""

    def write(text, name="src/lib.rs"):
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True, parents=True)
        path.write_text(text)
        return tmp_path

    return write


def entries(root, **clusters):
    return [entry for _, entry in called_clusters.missing(root, clusters)]


def test_a_cluster_that_nothing_defines_is_named_with_its_place(crate):
    root = crate('self.dispatch_http_call("nowhere", head, None, vec![], SECOND)', "src/http/call.rs")
    assert list(called_clusters.missing(root, {})) == [
        ("src/http/call.rs calls the cluster `nowhere`", 'nowhere = "upstream"')
    ]


@pytest.mark.parametrize(
    ("source", "wanted"),
    [
        ('dispatch_http_call(\n    "a", head)', ['a = "upstream"']),
        ('dispatch_grpc_call("users", "S", "m")', ['users = "grpc://upstream"']),
        ('open_grpc_stream("users", "S", "m")', ['users = "grpc://upstream"']),
        ('const AUTHZ: &str = "authz";\ndispatch_http_call(AUTHZ, head)', ['authz = "upstream"']),
        ('dispatch_http_call("outbound|80||a.b", head)', ['"outbound|80||a.b" = "upstream"']),
        ('dispatch_http_call("a", h); dispatch_http_call("a", h)', ['a = "upstream"']),
        ('dispatch_http_call("upstream", h)', []),
        ('dispatch_http_call("here", h)', []),
        ('// dispatch_http_call("a", h)', []),
        ("dispatch_http_call(&self.config.cluster, h)", []),
        ("dispatch_http_call(cluster, h)", []),
        ('dispatch_http_call("two words", h)', []),
    ],
)
def test_the_entry_defines_the_cluster(crate, source, wanted):
    found = entries(crate(source), here="http://h")
    assert found == wanted
    for entry in found:
        envoy_clusters.check(tomllib.loads(entry), "the test")  # what is suggested is accepted


def test_what_is_no_text_is_passed_over(crate):
    root = crate('dispatch_http_call("a", h)')
    (root / "src/odd.rs").write_bytes(b'\xff dispatch_http_call("b", h)')
    assert entries(root) == ['a = "upstream"']
    assert entries(root / "nowhere") == []
