"""`scaffold logs`: what it shows of a running deployment, and of one that has ended."""

from __future__ import annotations

import json
import re
import subprocess
import time

import pytest
from support.places import get, logged

import scaffold
from scaffold.errors import TargetError, UsageError
from scaffold.hosts.background import deployments

HERE = scaffold.RunOptions(port=0)
LINE = re.compile(r"\d\d:\d\d:\d\d\.\d\d\d [0-9a-f]{8} \[info\] saw /first")


def texts(root, **wanted):
    return [line.text for line in scaffold.logs(root, **wanted)]


def test_the_log_outlives_restarts_and_the_deployment(root, probe, hello, run):
    deployed = scaffold.deploy(root, module=probe.path, run=HERE)
    get(deployed.url, "/first")
    logged(root, "saw /first")
    scaffold.deploy(root, module=hello.path, run=scaffold.RunOptions(log_level="debug"))  # restarts Envoy
    assert any("saw /first" in text for text in texts(root))
    shown = [text for text in texts(root) if text.startswith("deployed ")]
    assert [module in text for module, text in zip((probe.digest, hello.digest), shown, strict=True)] == [
        True,
        True,
    ]
    with pytest.raises(TargetError, match="still deployed") as caught:
        scaffold.clean(root, logs=True)
    assert str(root) in (caught.value.hint or "")
    scaffold.undeploy(root)
    ran = run("scaffold", "logs", "--root", root, "--grep", "saw /first")
    assert LINE.search(ran.stdout), ran
    assert "nothing is deployed now" in ran.stderr
    ran = run("scaffold", "logs", "--root", root)
    assert "saw /first" in ran.stdout
    assert "logged nothing" not in ran.stderr
    scaffold.clean(root, logs=True)
    with pytest.raises(TargetError, match="nothing is deployed"):
        scaffold.logs(root)


def test_the_lines_that_are_asked_for(root, probe, run):
    begun = time.time()
    deployed = scaffold.deploy(root, module=probe.path, run=HERE)
    for path in ("/first", "/second", "/third"):
        get(deployed.url, path)
    logged(root, "saw /third")
    asked = texts(root, tail=2, grep="saw /[fst]")
    assert [text.rpartition(" ")[2] for text in asked] == ["/second", "/third"]
    assert texts(root, level="critical") == []
    assert texts(root, since="1h") == texts(root)
    later = time.strftime("%Y-%m-%d %H:%M", time.localtime(begun + 3600))
    assert texts(root, since=later) == []
    ran = run("scaffold", "logs", "--root", root, "--json", "--grep", "saw /second")
    (line,) = map(json.loads, ran.stdout.splitlines())
    assert (line["level"], line["source"]) == ("info", "probe")
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"])


def test_following_goes_on_while_a_deploy_restarts_envoy(root, probe):
    deployed = scaffold.deploy(root, module=probe.path, run=HERE)
    argv = ["scaffold", "logs", "-f", "--root", str(root)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) as following:
        assert following.stdout
        get(deployed.url, "/first")
        while "saw /first" not in following.stdout.readline():
            pass
        scaffold.deploy(root, module=probe.path, run=scaffold.RunOptions(log_level="debug"))
        get(deployed.url, "/second")
        while "saw /second" not in following.stdout.readline():
            pass
        following.terminate()
        following.wait(10)


@pytest.mark.parametrize(
    ("wanted", "message"),
    [
        ({"grep": "("}, "--grep isn't"),
        ({"level": "warn"}, "--level can't"),
        ({"since": "x"}, "--since isn't"),
    ],
)
def test_what_cannot_be_followed_is_refused_by_name(root, wanted, message):
    with pytest.raises(UsageError, match=message):
        scaffold.logs(root, **wanted)


def test_hostcalls_that_envoy_traces_are_not_the_plugins(root, probe):
    deployed = scaffold.deploy(root, module=probe.path, run=scaffold.RunOptions(port=0, log_level="trace"))
    get(deployed.url, "/first")
    shown = logged(root, "saw /first")
    assert not [text for text in shown if "vm->host" in text or "host->vm" in text]


def test_the_log_of_long_ago_is_forgotten_at_a_later_deploy(root, probe, monkeypatch, tmp_path_factory):
    other = tmp_path_factory.mktemp("other")
    old = deployments.logs(deployments.folder(other), make=True)
    (old / "envoy.log").write_text("")
    scaffold.deploy(root, module=probe.path, run=HERE)
    assert old.exists()
    scaffold.undeploy(root)
    monkeypatch.setattr(deployments, "KEPT", -1.0)
    scaffold.deploy(root, module=probe.path, run=HERE)
    assert not old.exists()
