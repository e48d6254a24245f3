"""The request that a deploy sends through a plugin, as the project or the user wants it."""

from __future__ import annotations

import pytest
from support.places import logged

import scaffold
from scaffold.core import events
from scaffold.errors import ProjectError, TargetError, UsageError

HERE = scaffold.RunOptions(port=0)
MANIFEST = """[package]
name = "probe"
version = "0.1.0"

[lib]
crate-type = ["cdylib"]

[package.metadata.proxy-wasm]
probe = {}
"""


def deploy(root, module, setting=None, **more):
    """Deploy with the project's setting; what was said."""
    if setting is not None:
        (root / "Cargo.toml").write_text(MANIFEST.format(setting))
    said: list[str] = []
    with events.listening(lambda event: said.append(getattr(event, "text", ""))):
        scaffold.deploy(root, module=module.path, run=HERE, **more)
    return said


def requests(root) -> int:
    return next(each.value for each in scaffold.metrics(root) if each.name == "probe_requests")


def test_a_project_says_which_request_and_what_is_expected(root, probe):
    setting = '{ path = "/local", method = "PUT", headers = { x-key = "1" }, body = "x", statuses = [%s] }'
    deploy(root, probe, setting % "200, 418")
    assert requests(root) == 1
    with pytest.raises(TargetError, match="answered the probe with 418 instead of 200 or 204"):
        deploy(root, probe, setting % "200, 204")
    deploy(root, probe, setting % 200, probe="/headers")
    with pytest.raises(ProjectError, match="`path` of `probe`"):
        deploy(root, probe, '{ path = "local" }')


@pytest.mark.parametrize(("setting", "more"), [("false", {}), (None, {"no_probe": True})])
def test_none_is_sent_if_nobody_wants_it(root, probe, setting, more):
    assert "not verified: no request was sent" in deploy(root, probe, setting, **more)
    assert "probe_requests" not in [each.name for each in scaffold.metrics(root) if each.value]
    deploy(root, probe, setting, probe="/first")
    assert requests(root) == 1, "a path wants one"


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
    deploy(root, probe, probe="/second")
    logged(root, "saw /second")


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
