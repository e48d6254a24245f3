"""How a plugin runs here: what its options may be."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import pytest
import trustme

from scaffold.errors import UsageError
from scaffold.hosts.options import RunOptions


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"port": -1}, "--port can't be `-1`", "pass a number from 0 to 65535"),
        ({"port": 65536}, "--port can't be `65536`", "pass a number from 0 to 65535"),
        ({"log_level": "inof"}, "--log-level can't be `inof`", "did you mean `info`?"),
    ],
)
def test_an_impossible_value_is_refused_in_python_too(options, message, hint):
    """On the command line click refuses it; a caller of the function has no click."""
    with pytest.raises(UsageError) as caught:
        RunOptions(**options)
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_the_limits_themselves_are_possible():
    assert [RunOptions(port=port).settings.port for port in (0, 65535)] == [0, 65535]
    assert RunOptions(log_level="trace").settings.log_level == "trace"


@pytest.mark.parametrize(
    ("value", "port"),
    [(None, 8080), ("", 8080), ("8081", 8081), ("0", 0)],
    ids=["unset", "empty", "set", "any"],
)
def test_the_port_without_an_option_is_the_variables(value, port, monkeypatch):
    monkeypatch.delenv("SCAFFOLD_PORT", raising=False)
    if value is not None:
        monkeypatch.setenv("SCAFFOLD_PORT", value)
    assert RunOptions().settings.port == port
    assert RunOptions(port=9000).settings.port == 9000


@pytest.mark.parametrize("value", ["x", "-1", "65536", "1e3", "80 80"])
def test_a_variable_that_has_no_port_is_refused_by_name(value, monkeypatch):
    monkeypatch.setenv("SCAFFOLD_PORT", value)
    with pytest.raises(UsageError) as caught:
        _ = RunOptions().settings
    assert caught.value.message == f"$SCAFFOLD_PORT is `{value}`, which isn't a port"


def test_a_deployment_remembers_every_kind_of_option(tmp_path, monkeypatch):
    """The record is JSON, and the next command may run in another folder."""
    monkeypatch.chdir(tmp_path)
    Path("vm.json").write_text('"vm"')
    deployed = RunOptions(env=("A=1", "B"), vm_config="vm.json", allow_stop_iteration=True, log_level="debug")
    record = json.loads(json.dumps(deployed.record()))
    monkeypatch.chdir("/")
    again = RunOptions(env=("C=3",)).over(record)
    assert (again.env, again.vm_configuration) == (("C=3",), b'"vm"'), "a new list replaces the old one"
    assert (again.allow_stop_iteration, again.log_level) == (True, "debug")
    assert RunOptions().over(record).env == deployed.env
    assert RunOptions().over(record, chain=True) == RunOptions(log_level="debug")


@pytest.mark.parametrize(
    ("env", "message"),
    [(("1=x",), "`1` isn't a valid variable name"), (("A", "A=1"), "--env sets a variable twice")],
)
def test_a_variable_that_cannot_be(env, message):
    with pytest.raises(UsageError) as caught:
        RunOptions(env=env)
    assert caught.value.message == message


def test_a_vm_configuration_that_is_neither_a_file_nor_json_is_named():
    with pytest.raises(UsageError) as caught:
        _ = RunOptions(vm_config="{a").settings
    assert caught.value.message.startswith("--vm-config is neither a file nor JSON: ")
    assert caught.value.hint.startswith("for example --vm-config ")


def test_the_users_own_routes_say_which_host_goes_to_the_upstream():
    own = RunOptions(bootstrap=Path("envoy.yaml"))
    kept = {"keep_host": True, "tls": True}
    assert own.over(kept) == own, "a deployment had it, and now has another configuration"
    with pytest.raises(UsageError, match="--keep-host is for our own listener"):
        replace(own, keep_host=True).check_for("envoy")
    with pytest.raises(UsageError, match="--tls-key is for our own listener"):
        replace(own, tls_key=Path("key.pem")).check_for("envoy")
    with pytest.raises(UsageError, match="--port is for our own listener"):
        replace(own, port=8080).check_for("envoy")
    replace(own, port=0).check_for("envoy")
    with pytest.raises(UsageError, match="--keep-host is for our own listener"):
        _ = RunOptions(keep_host=True).over(own.record()).settings


def test_tls_of_an_earlier_deploy_can_be_switched_off_for_good(tmp_path):
    kept = {
        "tls": True,
        "tls_cert": str(tmp_path / "a.pem"),
        "tls_key": str(tmp_path / "a.key"),
        "keep_host": True,
    }
    off = RunOptions(tls=False).over(kept)
    assert off.settings.tls == ()
    assert off.record() == {"tls": False, "keep_host": True}
    assert RunOptions().over(off.record()).settings.tls == ()
    assert RunOptions(tls=True).over(off.record()).tls
    with pytest.raises(UsageError, match="--no-tls and a certificate exclude each other"):
        _ = RunOptions(tls=False, tls_cert=tmp_path / "a.pem").settings


@pytest.mark.parametrize("options", [{"env": ("A=1",)}, {"vm_config": "1"}, {"allow_stop_iteration": True}])
def test_what_one_plugin_gets_isnt_for_a_chain(options):
    with pytest.raises(UsageError, match="is for a single plugin"):
        RunOptions(**options).check_for_many(2)


def test_https_takes_a_certificate_and_its_key(tmp_path):
    one, two = tmp_path / "one.pem", tmp_path / "two.pem"
    for path in (one, two):
        trustme.CA().issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(str(path))
    assert RunOptions(tls_cert=one, tls_key=one).settings.tls == (str(one), str(one))
    with pytest.raises(UsageError, match=r"one.pem and .*two.pem aren't a certificate and its key: KEY_VAL"):
        _ = RunOptions(tls_cert=one, tls_key=two).settings
    with pytest.raises(UsageError, match="No such file"):
        _ = RunOptions(tls_cert=one, tls_key=tmp_path / "none.pem").settings
    with pytest.raises(UsageError, match="a certificate for HTTPS needs its key"):
        _ = RunOptions(tls_cert=one).settings
