"""`scaffold metrics`: what a plugin has counted, in a real Envoy."""

from __future__ import annotations

import json
import signal
import subprocess

import pytest
from support import wasm_asm
from support.places import get

import scaffold
from scaffold.errors import TargetError, UsageError
from scaffold.hosts.envoy.plugin_metrics import Metric

HERE = scaffold.RunOptions(port=0)


def read(root, name) -> Metric | None:
    return next((each for each in scaffold.metrics(root) if each.name == name), None)


def test_counters_gauges_and_histograms(root, probe, run):
    deployed = scaffold.deploy(root, module=probe.path, run=HERE)
    counted = read(root, "probe_requests").value
    for number in (10, 20, 300):
        get(deployed.url, f"/measure/{number}")
    assert read(root, "probe_requests").value == counted + 3
    assert read(root, "probe_level") == Metric("probe_level", "gauge", 300)
    sizes = read(root, "probe.sizes")
    assert (sizes.type, sizes.value) == ("histogram", 3)
    assert sizes.sum == pytest.approx(330, rel=0.05)
    assert sizes.quantiles["0"] == pytest.approx(10, rel=0.1)
    assert sizes.quantiles["100"] == pytest.approx(300, rel=0.1)
    names = {each.name for each in scaffold.metrics(root)}
    more = {each.name for each in scaffold.metrics(root, everything=True)}
    assert "wasm.wasm_vm_count" in more - names
    ran = run("scaffold", "metrics", "--root", root, "--json")
    assert {each["name"] for each in json.loads(ran.stdout)} == names
    text = run("scaffold", "metrics", "--root", root, "--prometheus").stdout
    assert "# TYPE probe_level gauge\nprobe_level{} 300\n" in text


def test_what_moves_is_followed(root, probe):
    deployed = scaffold.deploy(root, module=probe.path, run=HERE)
    argv = ["scaffold", "metrics", "-f", "--json", "--root", str(root)]
    with subprocess.Popen(argv, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True) as following:
        assert following.stdout and following.stderr
        assert following.stderr.readline() == "Press Ctrl-C to stop\n"
        get(deployed.url, "/measure/7")
        while (moved := json.loads(following.stdout.readline()))["name"] != "probe_level":
            pass
        assert (moved["value"], moved["change"]) == (7, 7)
        following.send_signal(signal.SIGINT)
        assert following.wait(10) == 0


def test_a_plugin_without_metrics_is_told_how_to_define_one(root, tmp_path, run):
    (tmp_path / "silent.wasm").write_bytes(wasm_asm.plugin())
    with pytest.raises(TargetError, match="nothing is deployed"):
        scaffold.metrics(root)
    scaffold.deploy(root, module=str(tmp_path / "silent.wasm"), run=HERE)
    ran = run("scaffold", "metrics", "--root", root)
    assert (ran.returncode, ran.stdout) == (0, "")
    assert "`proxy_wasm::hostcalls::define_metric(" in ran.stderr


def test_prometheus_has_no_following(root):
    with pytest.raises(UsageError, match="--prometheus can't follow"):
        scaffold.metrics(root, follow=True, prometheus=True)
