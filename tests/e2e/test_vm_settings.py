"""What a plugin's VM gets: environment variables, a configuration, and leave to hold back headers alone."""

from __future__ import annotations

from pathlib import Path
from urllib.request import urlopen

import pytest
import yaml

import scaffold
from scaffold.errors import HostError
from scaffold.hosts import host as hosts
from scaffold.hosts.exchange import Request
from scaffold.hosts.plugin import Plugin

GREETS = """
def test_the_plugin_got_what_the_command_line_says(proxy):
    assert proxy.get("/vm").response.text == "Hi  {}"
"""


@pytest.fixture
def project(copy: Path) -> Path:
    """A crate whose Cargo.toml says what its VM gets."""
    manifest = copy / "Cargo.toml"
    settings = '[package.metadata.proxy-wasm]\nenv = ["GREETING=Hello"]\nvm-configuration = "vm.json"\n'
    manifest.write_text(manifest.read_text().replace("[package.metadata.proxy-wasm]\n", settings))
    (copy / "vm.json").write_text("{}")
    return copy


def answer(url: str) -> str:
    with urlopen(f"{url}/vm") as response:
        return str(response.read().decode())


@pytest.mark.parametrize("envoy", [None, "1.36.4"])
def test_a_deployments_environment_changes_without_a_new_envoy(project, probe, envoy, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")

    def deploy(**options) -> scaffold.commands.deploy.Status:
        run = scaffold.RunOptions(port=0, envoy=envoy, **options)
        return scaffold.deploy(project, module=str(probe.path), run=run)

    try:
        first = deploy()
        assert answer(first.url) == "Hello  {}"
        second = deploy(env=("GREETING=Hi",))
        assert (second.url, answer(first.url)) == (first.url, "Hi  {}"), "the other variable is gone"
        deploy(vm_config='"vm"')
        assert answer(first.url) == 'Hi  "vm"'
    finally:
        scaffold.undeploy(project)


def test_a_variable_without_a_value_is_envoys_own(probe, tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", "/home/me")
    plugin = Plugin("probe", "", probe, env=("HOME",))
    with hosts.find("envoy")(plugin, folder=tmp_path) as host:
        assert host.play(Request("GET", "/vm")).response.text == " /home/me "


def test_tests_run_with_what_the_command_line_says(project, probe, run):
    for test in (project / "tests").glob("*.py"):
        test.unlink()
    (project / "tests/test_vm.py").write_text(GREETS)
    words = ["scaffold", "test", "--root", project, "--module", probe.path]
    assert run(*words).returncode == 1
    ran = run(*words, "--env", "GREETING=Hi")
    assert ran.returncode == 0, ran.stderr
    ran = run(*words, "--env", "GREETING=Hi", "--vm-config", "[]")
    assert (ran.returncode, "Hi  []" in ran.stderr) == (1, True)


def test_a_bootstrap_has_it(project, probe):
    text = scaffold.bootstrap(
        project, scaffold.RunOptions(vm_config="[1]", allow_stop_iteration=True), module=str(probe.path)
    )
    (listener,) = yaml.safe_load(text)["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    plugin = manager["http_filters"][0]["typed_config"]["config"]
    assert plugin["allow_on_headers_stop_iteration"] is True
    assert plugin["vm_config"]["environment_variables"] == {"key_values": {"GREETING": "Hello"}}
    assert plugin["vm_config"]["configuration"]["value"] == "[1]"


def test_a_plugin_may_hold_back_headers_until_the_body_has_come(probe, tmp_path):
    request = Request("POST", "/wait-for-body", body=b"body")
    for allowed in (True, False):
        folder = tmp_path / str(allowed)
        folder.mkdir()
        plugin = Plugin("probe", "", probe, allow_stop_iteration=allowed)
        with hosts.find("envoy")(plugin, folder=folder) as host:
            if allowed:
                assert host.play(request, timeout=5).upstream.body == b"body"
            else:
                with pytest.raises(HostError):
                    host.play(request, timeout=2)
