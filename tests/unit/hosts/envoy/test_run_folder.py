"""What lies in an Envoy's folder: modules, logs, and who may read them."""

from __future__ import annotations

import dataclasses
import json
import os
import stat
import time
from pathlib import Path

import pytest
from support.crates import plugin_of
from support.wasm_asm import plugin as assembled

from scaffold.core.files import digest
from scaffold.errors import ModuleError, ProjectError
from scaffold.hosts.envoy.run_folder import Folder
from scaffold.hosts.options import HostSettings
from scaffold.hosts.plugin import Plugin
from scaffold.project.envoy_clusters import Address
from scaffold.wasm.module import WasmModule


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    folder = Folder(tmp_path / "envoy")
    folder.path.mkdir()
    folder.make_folders()
    return folder


def again(module: WasmModule) -> WasmModule:
    """The module as a supervisor gets it: by its path and digest."""
    return WasmModule(**dataclasses.asdict(module))


def module(path: Path, mark: int) -> WasmModule:
    """A module of its own digest: a custom section holds the mark."""
    path.write_bytes(assembled() + bytes([0, 5, 1, 97, mark, 0, 0]))
    return WasmModule.read(path)


def test_the_live_module_is_never_pruned_though_the_clock_goes_back(folder, tmp_path):
    for mark in range(6):
        live = module(tmp_path / "m.wasm", mark)
        folder.write_filters([Plugin("p", "", live)], (1, 40))
        if mark < 5:
            later = time.time() + 3600
            os.utime(folder.modules / f"{live.digest.removeprefix('sha256:')}.wasm", (later, later))
        folder.prune()
        named = json.loads(folder.filter().read_text())["resources"][0]["typed_config"]["config"]
        assert Path(named["vm_config"]["code"]["local"]["filename"]).exists()
    assert len(list(folder.modules.glob("*.wasm"))) == 3


def test_what_runs_is_what_was_read_whatever_becomes_of_the_file(folder, tmp_path):
    read = module(tmp_path / "m.wasm", 1)
    module(tmp_path / "m.wasm", 2)
    folder.write_filters([Plugin("p", "", read)], (1, 40))
    (kept,) = folder.modules.glob("*.wasm")
    assert digest(kept.read_bytes()) == read.digest


def test_a_module_that_has_changed_since_another_process_read_it_is_refused(folder, tmp_path):
    read = again(module(tmp_path / "m.wasm", 1))
    module(tmp_path / "m.wasm", 2)
    with pytest.raises(ModuleError, match="changed while it was being read"):
        folder.write_filters([Plugin("p", "", read)], (1, 40))
    (tmp_path / "m.wasm").unlink()
    with pytest.raises(ModuleError, match="cannot read the module"):
        folder.write_filters([Plugin("p", "", read)], (1, 40))


def test_a_configuration_may_hold_secrets_so_nobody_else_reads_it(folder, tmp_path):
    folder.write_filters([Plugin("p", "", module(tmp_path / "m.wasm", 1), b"secret")], (1, 40))
    assert stat.S_IMODE(folder.filter().stat().st_mode) == 0o600


def swap(folder, tmp_path, broken):
    """Two filters are replaced, and something goes wrong once `broken` of them are."""
    made = [Plugin(name, "", module(tmp_path / f"{name}.wasm", 1)) for name in ("one", "two")]
    folder.write_filters(made, (1, 40))
    before = [path.read_bytes() for path in folder.filters()]
    newer = [Plugin(name, "", module(tmp_path / f"{name}.wasm", 2)) for name in ("one", "two")]
    with pytest.raises(KeyboardInterrupt), folder.staged(newer, (1, 40)) as links:
        assert [link.before for link in links] == [json.loads(old)["version_info"] for old in before]
        for link in links[:broken]:
            link.take_effect()
        assert [path.read_bytes() == old for path, old in zip(folder.filters(), before, strict=True)] == [
            place >= broken for place in range(2)
        ]
        raise KeyboardInterrupt
    return before


@pytest.mark.parametrize("broken", [0, 1, 2])
def test_filters_are_as_they_were_when_a_swap_fails(folder, tmp_path, broken):
    before = swap(folder, tmp_path, broken)
    assert [path.read_bytes() for path in folder.filters()] == before
    assert sorted(path.name for path in folder.watched.glob("ecds*")) == ["ecds-2.json", "ecds.json"]


def test_what_cannot_be_written_is_known_before_the_first_filter_is_replaced(folder, tmp_path):
    made = [Plugin(name, "", module(tmp_path / f"{name}.wasm", 1)) for name in ("one", "two")]
    folder.write_filters(made, (1, 40))
    before = [path.read_bytes() for path in folder.filters()]
    marks = {"one": 2, "two": 3}
    modules = {name: again(module(tmp_path / f"{name}.wasm", mark)) for name, mark in marks.items()}
    newer = [Plugin(name, "", each) for name, each in modules.items()]
    (tmp_path / "two.wasm").unlink()
    with pytest.raises(ModuleError), folder.staged(newer, (1, 40)):
        pytest.fail("nothing may be replaced yet")
    assert [path.read_bytes() for path in folder.filters()] == before
    assert sorted(path.name for path in folder.watched.glob("ecds*")) == ["ecds-2.json", "ecds.json"]


def test_a_service_is_an_extension_beside_the_listener(folder, tmp_path):
    chain = [
        Plugin("svc", "", module(tmp_path / "s.wasm", 1), b"first", type="service"),
        Plugin("web", "", module(tmp_path / "m.wasm", 1)),
    ]
    folder.write_filters(chain, (1, 40))
    made = folder.make_bootstrap(HostSettings().serving(*chain), {"upstream": Address()})
    (extension,) = made["bootstrap_extensions"]
    config = extension["typed_config"]["config"]
    assert (config["name"], config["configuration"]["value"]) == ("svc", "first")
    assert "failure_policy" not in config, "Envoy reloads no service"
    (listener,) = made["static_resources"]["listeners"]
    manager = listener["filter_chains"][0]["filters"][0]["typed_config"]
    assert [each["name"] for each in manager["http_filters"]] == ["scaffold-2", "envoy.filters.http.router"]


def test_a_network_filter_has_a_chain_of_its_own(folder, tmp_path):
    tap = Plugin("tap", "", module(tmp_path / "m.wasm", 1), type="network")
    folder.write_filters([tap], (1, 40))
    clusters = {"upstream": Address("127.0.0.1", 1), "beta": Address("127.0.0.1", 2)}
    made = folder.make_bootstrap(HostSettings().serving(tap), clusters)
    (listener,) = made["static_resources"]["listeners"]
    ours, end = listener["filter_chains"][0]["filters"]
    kind = json.loads(folder.filter().read_text())["resources"][0]["typed_config"]["@type"]
    assert ours["config_discovery"]["type_urls"] == [kind]
    assert ".network." in kind
    assert end["typed_config"]["cluster"] == "upstream"
    assert [each["name"] for each in made["static_resources"]["clusters"]] == ["upstream", "beta"]


def test_a_misspelt_table_is_not_taken_for_none(tmp_path):
    (tmp_path / "Cargo.toml").write_text(
        '[package]\nname = "p"\n[lib]\ncrate-type = ["cdylib"]\n[package.metadata.proxy_wasm]\n'
    )
    with pytest.raises(ProjectError, match=r"\[package.metadata.proxy_wasm\] in .* is misspelt"):
        plugin_of(tmp_path, module(tmp_path / "m.wasm", 1))


def test_the_previous_filters_come_back_once(folder, tmp_path):
    assert not folder.revert(), "there are none"
    texts = []
    for mark in range(3):
        folder.write_filters([Plugin("p", "", module(tmp_path / "m.wasm", mark))], (1, 40))
        texts.append(folder.filter().read_text())
        folder.prune()
    assert folder.revert()
    assert folder.filter().read_text() == texts[1]
    named = json.loads(texts[1])["resources"][0]["typed_config"]["config"]
    assert Path(named["vm_config"]["code"]["local"]["filename"]).exists()
    assert folder.reverted.exists()
    assert not folder.revert()
    folder.write_filters([Plugin("p", "", module(tmp_path / "m.wasm", 4))], (1, 40))
    assert not folder.reverted.exists()


def named(folder, place=0):
    """The module that a filter names."""
    config = json.loads(folder.filter(place).read_text())["resources"][0]["typed_config"]["config"]
    return Path(config["vm_config"]["code"]["local"]["filename"]), config["vm_config"]["vm_id"]


@pytest.mark.parametrize(("enclosed", "modes"), [(False, [0o700] * 2), (True, [0o755, 0o777])])
def test_the_folders_of_an_envoy_are_its_users_alone_unless_it_runs_as_another(tmp_path, enclosed, modes):
    folder = Folder(tmp_path, enclosed=enclosed)
    before = os.umask(0)
    try:
        folder.make_folders()
    finally:
        os.umask(before)
    assert [
        stat.S_IMODE(each.stat().st_mode) for each in (folder.watched, folder.admin_socket.parent)
    ] == modes


def test_a_module_that_was_damaged_on_the_disk_is_written_again(folder, tmp_path):
    read = module(tmp_path / "m.wasm", 1)
    folder.write_filters([Plugin("p", "", read)], (1, 40))
    named(folder)[0].write_bytes(b"damaged")
    folder.write_filters([Plugin("p", "", read)], (1, 40))
    assert named(folder)[0].read_bytes() == read.content


def test_the_module_to_revert_to_is_kept_however_many_were_tried_meanwhile(folder, tmp_path):
    for mark in (1, 2):
        folder.write_filters([Plugin("p", "", module(tmp_path / "m.wasm", mark))], (1, 40))
    for mark in range(3, 9):  # each was refused
        with (
            pytest.raises(ModuleError),
            folder.staged([Plugin("p", "", module(tmp_path / "m.wasm", mark))], (1, 40)),
        ):
            raise ModuleError("refused")
    assert folder.revert()
    assert named(folder)[0].exists()


def test_a_chain_of_which_one_has_no_previous_filter_is_not_reverted_in_part(folder, tmp_path):
    both = [Plugin(name, "", module(tmp_path / f"{name}.wasm", 1)) for name in ("one", "two")]
    for _ in range(2):
        folder.write_filters(both, (1, 40))
    (folder.previous / folder.filter(1).name).unlink()
    before = [path.read_text() for path in folder.filters()]
    assert not folder.revert()
    assert [path.read_text() for path in folder.filters()] == before


def test_a_fresh_plugin_gets_a_vm_of_its_own(folder, tmp_path):
    plugin = Plugin("p", "", module(tmp_path / "m.wasm", 1))
    seen = set()
    for fresh in (False, True, True):
        with folder.staged([plugin], (1, 40), fresh=fresh) as staged:
            for file in staged:
                file.take_effect()
        seen.add(named(folder)[1])
    assert len(seen) == 3
    assert "" in seen
