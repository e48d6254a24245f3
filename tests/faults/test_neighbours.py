"""R7, R10: other users of the machine, and other containers that share the user's folders."""

from __future__ import annotations

import os
import subprocess

import pytest
from support.places import SCAFFOLD, answers, supervisors
from support.scripts import in_other_pids

# runs a command in a container, and then waits there, so that it doesn't end
STAYS = 'out=$1; shift; "$@" > "$out"; echo $?; exec cat'


@pytest.mark.faults("R10")
def test_a_deployment_that_another_container_can_only_see(place, probe, record):
    root = place.project()
    url = place.deploy(root, "envoy", probe.path)["url"]
    here, place.wrapper = place.wrapper, in_other_pids()
    assert place.status(root)["running"]
    deploys = ("deploy", "envoy", probe.path, "--port=0", "--log-level=trace")  # Envoy would have to restart
    for words in (("undeploy",), deploys):
        ran = place.run(*words, "--root", root)
        assert (ran.code, "runs in another container" in ran.sentence) == (9, True), ran.err
    place.run("doctor", "--fix", "--root", root)
    assert answers(url)
    assert place.status(root)["running"]
    place.wrapper = here
    assert len(supervisors(place)) == 1
    place.well("undeploy", "--root", root)
    place.nothing_left()
    record("undeploy, deploy, doctor --fix: in another container", "exit code 9, names it; it serves on")


@pytest.mark.faults("R10")
def test_a_deployment_of_a_container_of_ours(place, probe, record):
    root, out = place.project(), place.folder / "out"
    words = [*SCAFFOLD, "deploy", "envoy", str(probe.path), "--root", str(root), "--port=0", "--json"]
    argv = [*in_other_pids(), "sh", "-c", STAYS, "sh", out, *words]
    with subprocess.Popen(argv, env=place.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as inside:
        try:
            assert inside.stdout.readline() == b"0\n"
            status = place.status(root)
            assert status["running"]
            place.run("doctor", "--fix", "--root", root)
            assert answers(status["url"])
            place.well("undeploy", "--root", root)
        finally:
            inside.kill()
    place.nothing_left()
    record("status, doctor --fix, undeploy: deployed in a container", "it runs; undeploy ends it")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be another user")
@pytest.mark.faults("R7")
def test_another_user_finds_no_way_into_our_folders(place, probe, record):
    place.deploy(place.project(), "envoy", probe.path)
    data = str(place.folder / "d")
    place.well("package", probe.path, "--root", place.project(), "-t", "a:1", XDG_DATA_HOME=data)
    looks = "import os, sys; os.setuid(65534); print(*(x for x in sys.argv[1:] if os.access(x, os.R_OK)))"
    ours = [place.folder / kind / "proxy-wasm-scaffold" for kind in "scd"]
    assert all(folder.is_dir() for folder in ours)
    inside = [path for folder in ours for path in folder.rglob("*")]
    said = subprocess.run(
        [SCAFFOLD[0], "-c", looks, *map(str, [*ours, *inside])], capture_output=True, text=True, check=True
    )
    assert said.stdout == "\n"
    record("deploy, package: another user looks into our folders", "nothing can be opened or locked")
