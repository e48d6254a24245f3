"""What a deploy says of a change that restarts Envoy: no digests, no files of ours."""

from dataclasses import replace

import pytest

from scaffold.hosts.background.deploy import _changes
from scaffold.hosts.background.deployments import DeployedPlugin, Record
from scaffold.hosts.options import HostSettings

OURS = "/data/proxy-wasm-scaffold/tls/localhost.pem"
PLAIN = HostSettings()
TLS = replace(PLAIN, tls=(OURS, OURS), tls_digest="sha256:1")
MINE = replace(PLAIN, tls=("/a/cert.pem", "/a/key.pem"), tls_digest="sha256:2")
BOOTSTRAP = replace(PLAIN, bootstrap="/a/envoy.yaml", bootstrap_digest="sha256:3")


@pytest.mark.parametrize(
    ("before", "after", "said"),
    [
        (PLAIN, TLS, "TLS: off -> on, our certificate"),
        (TLS, PLAIN, "TLS: on, our certificate -> off"),
        (TLS, MINE, "TLS: on, our certificate -> on, certificate /a/cert.pem"),
        (MINE, replace(MINE, tls_digest="sha256:4"), "/a/cert.pem has changed"),
        (TLS, replace(TLS, tls_digest="sha256:4"), "our certificate was renewed"),
        (PLAIN, BOOTSTRAP, "bootstrap: the default -> /a/envoy.yaml"),
        (BOOTSTRAP, replace(BOOTSTRAP, bootstrap_digest="sha256:4"), "/a/envoy.yaml has changed"),
        (PLAIN, replace(PLAIN, log_level="debug"), "log level: info -> debug"),
        (PLAIN, PLAIN, ""),
    ],
)
def test_what_changes(before, after, said, monkeypatch):
    monkeypatch.setenv("XDG_DATA_HOME", "/data")
    plugin = DeployedPlugin("a", "sha256:0", "")
    record = Record(
        root="/",
        target="envoy",
        folder="/",
        plugins=[plugin],
        settings=before,
        options={},
        pid=1,
        since=0,
        restarts=True,
        port=1,
        envoy_version=[1, 40, 0],
        started=0,
    )
    assert _changes(record, "envoy", [plugin], after) == said
