"""Envoy's admin interface: for the user who deployed, and for nobody else."""

from __future__ import annotations

import http.client
import os
import socket
import time
from pathlib import Path

import psutil
import pytest
from support.crates import plugin_of
from support.places import until
from support.users import as_another_user

import scaffold
from scaffold.errors import TargetError, UsageError
from scaffold.hosts import host as hosts
from scaffold.hosts.background import deployments
from scaffold.hosts.options import HostSettings

SECRET = "open sesame"
# what another user of the machine can try: every port that anyone listens at, and the socket by its path
INTRUDER = """
import http.client, socket, sys

def ask(connection):
    try:
        connection.request("GET", "/config_dump")
        return connection.getresponse().read().decode(errors="replace")
    except (OSError, http.client.HTTPException) as error:
        return f"{type(error).__name__}"

for port in sys.argv[2:]:
    print(ask(http.client.HTTPConnection("127.0.0.1", int(port), timeout=5)))
try:
    connection = socket.socket(socket.AF_UNIX)
    connection.connect(sys.argv[1])
    print("connected")
except OSError as error:
    print(type(error).__name__)
"""


def deploy(root: Path, probe, **options) -> deployments.Status:
    return scaffold.deploy(root, module=str(probe.path), run=scaffold.RunOptions(port=0, **options))


def ports(folder: Path) -> list[int]:
    """Every port where the Envoy of that folder listens."""
    (envoy,) = [
        each
        for each in psutil.process_iter(["cmdline", "name"])
        if each.info["name"] == "envoy" and str(folder) in " ".join(each.info["cmdline"] or ())
    ]
    return [each.laddr.port for each in envoy.net_connections() if each.status == psutil.CONN_LISTEN]


@pytest.mark.faults(
    "R26", injected="another user asks Envoy's admin interface", seen="no port, and no socket for them"
)
def test_another_user_reads_no_secret(root, probe, tmp_path):
    deployed = deploy(root, probe, config=f'"{SECRET}"')
    assert SECRET in scaffold.admin("/config_dump", root)
    found = ports(deployments.folder(root))
    assert found == [int(deployed.url.rpartition(":")[2])]
    said = as_another_user(INTRUDER, deployed.admin_address, *map(str, found))
    assert SECRET not in said
    assert said.splitlines()[-1] == "PermissionError"


def test_an_operation_asks_it(root, probe):
    deploy(root, probe)
    assert scaffold.admin("/ready", root) == scaffold.admin("ready", root) == "LIVE"
    assert "/config_dump" in scaffold.admin(root=root)
    with pytest.raises(
        TargetError, match="Envoy answered 405: Method GET not allowed, POST required"
    ) as caught:
        scaffold.admin("/logging", root)
    assert caught.value.hint == "pass --post"
    assert "wasm: trace" in scaffold.admin("/logging?wasm=trace", root, post=True)
    with pytest.raises(TargetError, match=r"^Envoy answered 404: invalid path\.\n"):
        scaffold.admin("/nope", root)


@pytest.mark.parametrize("path", ["/a b", "/a\r\nx: y", "/ä", "/\x1b[2J"])
def test_what_is_no_path_is_refused(path, root):
    with pytest.raises(UsageError, match="isn't the path of a URL"):
        scaffold.admin(path, root)


def test_without_a_deployment_there_is_nobody_to_ask(root):
    with pytest.raises(TargetError, match="nothing is deployed from here"):
        scaffold.admin("/ready", root)


def test_a_bootstraps_own_interface_stays_where_it_is(root, probe, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    bootstrap = tmp_path / "envoy.yaml"
    text = scaffold.bootstrap(root, scaffold.RunOptions(port=0), module=str(probe.path))
    own = f"admin: {{address: {{socket_address: {{address: 127.0.0.1, port_value: {port}}}}}}}\n"
    bootstrap.write_text(f"{text}\n{own}")
    deployed = scaffold.deploy(
        root, module=str(probe.path), run=scaffold.RunOptions(bootstrap=bootstrap), probe="/headers"
    )
    assert deployed.admin_address == f"127.0.0.1:{port}"
    connection = http.client.HTTPConnection(deployed.admin_address, timeout=5)
    connection.request("GET", "/ready")
    assert connection.getresponse().read() == b"LIVE\n"
    connection.close()
    assert scaffold.admin("/ready", root) == "LIVE"


def test_where_paths_are_long_the_socket_is_elsewhere(probe, tmp_path):
    folder = tmp_path / ("long" * 20)
    folder.mkdir(mode=0o700)
    with hosts.find("envoy")(plugin_of(tmp_path, probe), folder=folder, settings=HostSettings()) as host:
        assert len(os.fsencode(host.admin_address)) < 108
        assert not host.admin_address.startswith(str(folder))
        assert Path(host.admin_address).stat().st_mode & 0o777 == 0o600
        assert host.admin.live()
    assert not Path(host.admin_address).exists()


def test_a_debug_level_doesnt_make_envoy_spin(root, probe):
    """The folder that it watches once contained its log: each line woke it up, which wrote a line."""
    deploy(root, probe)
    scaffold.admin("/logging?level=debug", root, post=True)
    own = deployments.folder(root) / "envoy"
    log = own / "logs" / "envoy.log"

    def stands_still() -> bool:
        before = log.stat().st_size
        time.sleep(0.2)
        return log.stat().st_size == before

    until(stands_still)
    assert sorted(path.name for path in (own / "filters").iterdir()) == ["ecds.json"]
