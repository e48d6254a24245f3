"""`scaffold rollback` to what the files of today no longer say, or what Envoy refuses."""

from __future__ import annotations

import hashlib
import json
import ssl
from pathlib import Path

import pytest
import trustme
import yaml
from support import wasm_asm
from support.places import get
from support.ports import free_port

import scaffold
from scaffold.core import events
from scaffold.errors import ModuleError, ProjectError
from scaffold.hosts.background import history
from scaffold.hosts.client import send
from scaffold.hosts.envoy import resources
from scaffold.hosts.exchange import Request


def deploy(root, module, **options):
    return scaffold.deploy(root, module=module.path, run=scaffold.RunOptions(**options), no_probe=True)


def rolled_back(root, number: int | None = None) -> tuple[str, list[str]]:
    """Where what a rollback brought back answers, and what was said."""
    said: list[str] = []
    with events.listening(lambda event: said.append(getattr(event, "text", ""))):
        return scaffold.rollback(number, root).url, said


def write_bootstrap(path: Path, port: int, answer: str) -> None:
    listener = resources.listener(host="127.0.0.1", port=port, filters=[], answer=answer)
    path.write_text(yaml.safe_dump({"static_resources": {"listeners": [listener]}}))


def test_an_edited_bootstrap_comes_back_as_it_was(root, probe, tmp_path):
    bootstrap, port = tmp_path / "mine.yaml", free_port()

    def answer() -> bytes:
        return send(port, Request("GET", "/"), 10)[0].body

    write_bootstrap(bootstrap, port, "first")
    deploy(root, probe, bootstrap=bootstrap)
    write_bootstrap(bootstrap, port, "second")
    deploy(root, probe)
    assert answer() == b"second"
    assert [each.number for each in scaffold.history(root)] == [2, 1], "another bootstrap is another deploy"
    _, said = rolled_back(root)
    assert answer() == b"first"
    (copy,) = [Path(each.bootstrap) for each in history.read(root) if each.number == 3]
    assert any(f"{bootstrap} has changed since deploy 1: {copy} is as it was" in line for line in said)
    assert copy.stat().st_mode & 0o077 == 0
    deploy(root, probe)
    assert answer() == b"second", "a deploy takes what the file says now"
    bootstrap.unlink()
    assert rolled_back(root, 1)
    assert answer() == b"first", "the file isn't there any more"
    copy.write_text("{}")
    with pytest.raises(ProjectError, match="the bootstrap of deploy 1 is gone, or was changed"):
        scaffold.rollback(1, root)


def test_a_renewed_certificate_is_kept(root, probe, tmp_path):
    authority = trustme.CA()
    cert, key, trust = (tmp_path / name for name in ("cert.pem", "key.pem", "ca.pem"))
    authority.cert_pem.write_to_path(str(trust))

    def renew() -> bytes:
        pair = authority.issue_cert("localhost")
        pair.cert_chain_pems[0].write_to_path(str(cert))
        pair.private_key_pem.write_to_path(str(key))
        return cert.read_bytes()

    renew()
    deploy(root, probe, port=0, config='"one"', tls_cert=cert, tls_key=key)
    deploy(root, probe, config='"two"')
    _, said = rolled_back(root)
    assert not [line for line in said if "has changed" in line]
    renewed = renew()
    url, said = rolled_back(root, 2)
    assert any(f"{cert} has changed since deploy 2: what it has now is used" in line for line in said)
    served = ssl.get_server_certificate(("127.0.0.1", int(url.rpartition(":")[2])), ca_certs=str(trust))
    assert ssl.PEM_cert_to_DER_cert(served) == ssl.PEM_cert_to_DER_cert(renewed.decode())


def test_a_module_that_envoy_refuses_now_changes_nothing(root, probe):
    deploy(root, probe, port=0, config='"one"')
    url = deploy(root, probe, config='"two"').url
    refused = wasm_asm.plugin(hostcalls=[("proxy_log", wasm_asm.signature())])
    kept = history.folder(root) / "modules" / f"{hashlib.sha256(refused).hexdigest()}.wasm"
    kept.write_bytes(refused)
    path = history.folder(root) / "1.json"
    made = json.loads(path.read_text())
    made["plugins"][0]["module"] |= {"path": str(kept), "digest": f"sha256:{kept.stem}"}
    path.write_text(json.dumps(made))
    with pytest.raises(ModuleError, match="Envoy refused the plugin probe; the previous version keeps"):
        scaffold.rollback(root=root)
    assert get(url)[1]["x-configuration"] == '"two"'
    assert [(each.number, each.live) for each in scaffold.history(root)] == [(2, True), (1, False)]


def test_a_configuration_comes_back_with_its_module_whatever_the_schema_says_now(root, probe):
    (root / "Cargo.toml").write_text(
        '[package]\nname = "probe"\nversion = "0.1.0"\n[lib]\ncrate-type = ["cdylib"]\n'
    )
    schema = root / "config.schema.json"
    schema.write_text(json.dumps({"const": {"old": 1}}))
    deploy(root, probe, port=0, config='{"old": 1}')
    schema.write_text(json.dumps({"const": {"new": 2}}))
    url = deploy(root, probe, config='{"new": 2}').url
    scaffold.rollback(root=root)
    assert get(url)[1]["x-configuration"] == '{"old": 1}'
