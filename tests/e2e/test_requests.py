"""`scaffold requests`, and what `run` and `logs` say of requests, with a real Envoy."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import threading
from dataclasses import replace

import pytest
from support.places import get, until

import scaffold
from scaffold.core.events import Changes, HeaderChange
from scaffold.errors import HostError, TargetError, UsageError
from scaffold.hosts.envoy import installed

HERE = scaffold.RunOptions(port=0)


def requests(root, path, **wanted):
    """The requests to a path, once there is one: its line comes a moment after its answer."""
    found = []

    def any_yet():
        found[:] = scaffold.requests(root, path=path, **wanted)
        return found

    until(any_yet)
    return found


def test_what_the_plugin_changed_and_logged(root, hello, run):
    deployed = scaffold.deploy(root, module=hello.path, run=HERE)
    get(deployed.url, "/anything")
    (request,) = requests(root, "/anything")
    (added,) = request.request.headers
    assert (added.name, added.before) == ("x-hello", None)
    assert added.after.startswith("Hello world from localhost:")
    assert (request.method, request.status, request.recorded) == ("GET", 200, True)
    assert request.response == Changes((), request.sent)
    assert request.milliseconds > 0
    (line,) = request.logs
    assert "HTTP headers in #" in line.text
    assert line.request == request.id
    shown = run("scaffold", "requests", "--root", root, "--path", "/anything").stdout
    assert f"  + request x-hello: {added.after}\n" in shown
    assert f"    log     [info] {line.text}\n" in shown
    assert f"{request.id[:8]} [info] {line.text}\n" in run("scaffold", "logs", "--root", root).stdout


def test_headers_set_and_removed_bodies_and_an_answer_of_its_own(root, probe):
    deployed = scaffold.deploy(root, module=probe.path, run=scaffold.RunOptions(port=0, config='"one"'))
    get(deployed.url, "/strip")
    (stripped,) = requests(root, "/strip")
    (change,) = stripped.request.headers
    assert (change.name, change.after) == ("x-request-id", None)
    assert stripped.id == "", "the plugin took it away"
    assert stripped.response.headers == (HeaderChange("x-configuration", None, '"one"'),)
    get(deployed.url, "/lengthen")
    (lengthened,) = requests(root, "/lengthen")
    assert lengthened.sent == lengthened.response.body + 10
    get(deployed.url, "/local")
    (local,) = requests(root, "/local")
    assert (local.status, local.recorded, local.request) == (418, True, None)
    get(deployed.url, "/status/503")
    assert get(deployed.url, "/panic")[0] == 503
    (crashed,) = requests(root, "/panic", status="5xx")
    assert any("asked to panic" in line.text for line in crashed.logs)
    assert [each.path for each in scaffold.requests(root, failed=True, tail=2)] == ["/status/503", "/panic"]


def test_secrets_are_not_recorded_and_nothing_foreign_reaches_the_terminal(root, probe, run):
    """A plugin may move a password from one header to another; a client may send anything."""
    deployed = scaffold.deploy(root, module=probe.path, run=HERE)
    port = int(deployed.url.rpartition(":")[2])
    with socket.create_connection(("localhost", port)) as client:
        client.sendall(b"GET /metadata HTTP/1.1\r\nhost: x\r\nx-metadata: a\tb\xfe\r\n\r\n")
        client.recv(1000)
    (request,) = requests(root, "/metadata")
    (change,) = request.request.headers
    assert (change.name, change.before) == ("x-metadata", "a\tb\N{REPLACEMENT CHARACTER}")
    get(deployed.url, "/%1b%5b2J", headers={"x-request-id": "\x9b2J"})
    get(deployed.url, "/secrets", headers={"authorization": "Bearer hunter2"})
    (request,) = requests(root, "/secrets")
    assert request.request.headers == (
        HeaderChange("authorization", "(14 bytes)", None),
        HeaderChange("x-api-key", None, "(7 bytes)"),
    )
    shown = run("scaffold", "requests", "--root", root).stdout
    assert "hunter2" not in shown
    assert not set(shown) & set(map(chr, [*range(9), *range(11, 32), 127]))


def test_requests_that_are_served_at_once_share_what_was_logged(root, probe):
    deployed = scaffold.deploy(root, module=probe.path, run=HERE)
    before = len(list(scaffold.requests(root)))
    asking = [threading.Thread(target=get, args=(deployed.url, "/delay/1")) for _ in range(2)]
    for each in asking:
        each.start()
    for each in asking:
        each.join()
    until(lambda: len(list(scaffold.requests(root))) == before + 2)
    saw = [line.text for each in requests(root, "/delay") for line in each.logs if "saw" in line.text]
    assert len(saw) < 2, "of both, while both were served, nobody can tell"
    assert sum("saw /delay" in line.text for line in scaffold.logs(root)) == 2
    assert [each.path for each in scaffold.requests(root, slow="900ms")] == ["/delay/1"] * 2


def test_new_ones_are_followed_with_the_metrics_that_move(root, probe):
    deployed = scaffold.deploy(root, module=probe.path, run=HERE)
    argv = ["scaffold", "requests", "-f", "--json", "--path", "/measure", "--root", str(root)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
        assert following.stdout and following.stderr
        assert following.stderr.readline() == "Press Ctrl-C to stop\n"
        get(deployed.url, "/measure/7")
        request = json.loads(following.stdout.readline())
        assert request["metrics"] == {"probe_level": 7, "probe_requests": 1} | {
            name: by for name, by in request["metrics"].items() if name == "probe.sizes"
        }
        following.send_signal(signal.SIGINT)
        assert following.wait(10) == 0


def test_a_reader_that_goes_away_ends_it(root, probe):
    deployed = scaffold.deploy(root, module=probe.path, run=HERE)
    argv = ["scaffold", "requests", "-f", "--root", str(root)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
        assert following.stdout and following.stderr
        following.stderr.readline()
        following.stdout.close()
        until(lambda: get(deployed.url) and following.poll() is not None)
        assert "Traceback" not in following.stderr.read()


def test_they_outlive_the_deployment_and_a_restart(root, probe, hello):
    deployed = scaffold.deploy(root, module=probe.path, run=HERE)
    get(deployed.url, "/first")
    requests(root, "/first")
    scaffold.deploy(root, module=hello.path, run=scaffold.RunOptions(log_level="debug"))
    assert requests(root, "/first")
    scaffold.undeploy(root)
    assert requests(root, "/first")
    with pytest.raises(TargetError, match="nothing is deployed"):
        scaffold.requests(root, follow=True)
    scaffold.clean(root, logs=True)
    with pytest.raises(TargetError, match="nothing is deployed"):
        scaffold.requests(root)


def test_without_the_changes(root, hello):
    deployed = scaffold.deploy(root, module=hello.path, run=replace(HERE, changes=False))
    get(deployed.url, "/plain")
    (request,) = requests(root, "/plain")
    assert (request.recorded, request.request, request.response) == (False, None, None)
    assert request.status == 404
    assert request.logs


def test_an_envoy_without_lua_is_told_apart(root, hello, tmp_path):
    envoy = installed.find(None).path
    (tmp_path / "envoy").write_text(
        f"""#!/bin/sh
for each; do case "$each" in */bootstrap.json) config="$each";; esac; done
if [ -n "$config" ] && grep -q filters.http.lua "$config"; then
  echo "Didn't find a registered implementation for 'envoy.filters.http.lua' with type URL: 'x'" >&2; exit 1
fi
exec {envoy} "$@"
"""
    )
    (tmp_path / "envoy").chmod(0o755)
    own = replace(HERE, envoy=str(tmp_path / "envoy"))
    with pytest.raises(HostError) as caught:
        scaffold.deploy(root, module=hello.path, run=own)
    assert "--no-changes" in (caught.value.hint or "")
    assert scaffold.deploy(root, module=hello.path, run=replace(own, changes=False)).url


def test_in_the_users_own_envoy_configuration(root, hello, tmp_path):
    path = tmp_path / "envoy.yaml"
    scaffold.bootstrap(root, module=hello.path, options=scaffold.RunOptions(port=0), out=path)
    deployed = scaffold.deploy(root, module=hello.path, run=scaffold.RunOptions(bootstrap=path))
    get(deployed.url, "/own")
    (request,) = requests(root, "/own")
    assert [each.name for each in request.request.headers] == ["x-hello"]


@pytest.mark.parametrize("version", ["1.36", "1.37", "1.39"])
def test_in_other_envoys(version, root, hello):
    deployed = scaffold.deploy(root, module=hello.path, run=replace(HERE, envoy=version))
    get(deployed.url, "/other")
    (request,) = requests(root, "/other")
    assert [each.name for each in request.request.headers] == ["x-hello"]
    assert len(request.logs) == 1


@pytest.mark.parametrize(
    ("wanted", "words"),
    [
        ({"status": "7"}, "--status can't be `7`"),
        ({"status": "200,"}, "--status can't be ``"),
        ({"slow": "fast"}, "--slow isn't a duration"),
        ({"since": "then"}, "--since isn't a time"),
        ({"tail": -1}, "--tail can't be -1"),
    ],
)
def test_what_cant_be_asked_for(wanted, words, root):
    with pytest.raises(UsageError, match=words) as caught:
        scaffold.requests(root, **wanted)
    assert caught.value.hint


def test_in_a_container(root, hello, images):
    own = scaffold.RunOptions(port=0, envoy_image=images.envoy)
    deployed = scaffold.deploy(root, target="docker", module=hello.path, run=own)
    get(deployed.url, "/contained")
    (request,) = requests(root, "/contained")
    assert [each.name for each in request.request.headers] == ["x-hello"]
    assert len(request.logs) == 1
