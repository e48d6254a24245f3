"""A workspace of two plugins and what they share, built, tested, packaged and deployed from its root."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import psutil
import pytest
from support.crates import touch_what_differs
from support.places import logged

import scaffold
from scaffold.hosts.background import deployments
from scaffold.project.workspace import Workspace
from scaffold.toolchain import find as toolchain

SCAFFOLD = (sys.executable, "-m", "scaffold")
MANIFEST = """[workspace]
members = ["shared", "plugins/*"]
resolver = "2"

[workspace.package]
version = "7.1.0"
"""
SHARED = '[package]\nname = "shared"\nversion = "0.1.0"\nedition = "2021"\n'
PLACE = "pub fn place() -> &'static str { file!() }\n"


@pytest.fixture(scope="session")
def built(tmp_path_factory, state, crate) -> Path:
    """The workspace, built; don't change it: `root` is a copy. `crate` has built what plugins are made of."""
    root = tmp_path_factory.mktemp("workspace") / "ws"
    (root / "shared/src").mkdir(parents=True)
    (root / "Cargo.toml").write_text(MANIFEST)
    (root / "shared/Cargo.toml").write_text(SHARED)
    (root / "shared/src/lib.rs").write_text(PLACE)
    for name in ("one", "two"):
        scaffold.new(name, output_dir=root / "plugins", no_input=True)
    two = root / "plugins/two"
    text = (two / "Cargo.toml").read_text().replace('version = "0.1.0"', "version.workspace = true", 1)
    needs = '[dependencies]\nshared = { path = "../../shared" }\n'
    (two / "Cargo.toml").write_text(text.replace("[dependencies]\n", needs))
    text = (two / "src/lib.rs").read_text()
    uses = 'info!("{}", shared::place());\n'
    (two / "src/lib.rs").write_text(text.replace("        // as bytes", f"        {uses}        // as bytes"))
    shutil.copy(crate / "Cargo.lock", root)  # the same versions, which are built already
    scaffold.build(root, options=scaffold.BuildOptions(yes=True))
    return root


@pytest.fixture
def root(built, tmp_path) -> Iterator[Path]:
    """A workspace of the test's own."""
    root = Path(shutil.copytree(built, tmp_path / "ws", ignore=shutil.ignore_patterns("target")))
    yield root
    scaffold.undeploy(root)
    touch_what_differs(built, root)


def digests(root: Path) -> dict[str, str]:
    return {module.path.stem: module.digest for module in scaffold.build(root)}


def test_one_call_of_cargo_builds_all_and_a_member_finds_itself_fresh(built, run):
    ran = run(*SCAFFOLD, "build", "--json", cwd=built)
    assert ran.returncode == 0, ran.stderr
    assert ran.stderr.count("Finished") == 1
    modules = json.loads(ran.stdout)
    assert [Path(module["path"]).name for module in modules] == ["one.wasm", "two.wasm"]
    alone = run(*SCAFFOLD, "build", "--json", cwd=built / "plugins/two")
    assert json.loads(alone.stdout) == modules[1]
    assert "Compiling" not in alone.stderr


def test_a_relative_target_folder_counts_from_the_root_for_a_single_plugin_too(root, run):
    shutil.rmtree(root / "plugins/two")
    ran = run(*SCAFFOLD, "build", "--json", cwd=root, CARGO_TARGET_DIR="../out")
    (module,) = json.loads(ran.stdout)
    assert module["path"] == str(root.parent / "out/wasm32-wasip1/release/one.wasm")


def test_another_place_makes_the_same_modules_from_its_root_or_in_a_member(built, tmp_path, run):
    """`shared` is outside of its plugin's folder, but not of the workspace."""
    root = Path(shutil.copytree(built, tmp_path / "an other" / "place"))
    target = str(tmp_path / "target")
    alone = run(*SCAFFOLD, "build", "--json", cwd=root / "plugins/two", CARGO_TARGET_DIR=target)
    assert "warning" not in alone.stderr
    content = Path(json.loads(alone.stdout)["path"]).read_bytes()
    all_of_it = run(*SCAFFOLD, "build", "--json", cwd=root, CARGO_TARGET_DIR=target)
    made = {Path(module["path"]).stem: module["digest"] for module in json.loads(all_of_it.stdout)}
    assert made == digests(built)
    assert b"shared/src/lib.rs" in content
    for place in (root, built, tmp_path):
        assert os.fsencode(place) not in content


def test_every_ones_tests_are_played_and_told_whole_and_the_worst_counts(root, run):
    tests = root / "plugins/two/tests/test_plugin.py"
    tests.write_text(
        f"{tests.read_text()}\n\ndef test_of_two(proxy):\n    assert proxy.get('/').status == 299\n"
    )
    ran = run(*SCAFFOLD, "test", "--json", "--junitxml", "report.xml", cwd=root)
    assert ran.returncode == 1, ran.stderr
    one, two = json.loads(ran.stdout)
    assert (one["plugin"], two["plugin"]) == ("one", "two")
    assert (one["outcomes"][0]["failed"], one["outcomes"][0]["error"]) == (0, None)
    assert (two["outcomes"][0]["failed"], two["outcomes"][0]["error"]) == (1, "tests failed")
    native, _, hosted = ran.stderr.partition("Building one, two")
    assert native.count("Running unittests") == 2
    parts = re.split(r"^Testing (\w+) in envoy$", hosted, flags=re.MULTILINE)
    said = dict(zip(parts[1::2], parts[2::2], strict=True))
    for name in ("one", "two"):
        assert f"rootdir: {root / 'plugins' / name}\n" in said[name]
        assert said[name].count("test session starts") == 1
    assert "test_of_two" in said["two"]
    assert "test_of_two" not in said["one"]
    assert {path.name for path in root.glob("*.xml")} == {"report-one.xml", "report-two.xml"}


def test_some_tests_need_not_be_every_plugins(root, run):
    (root / "plugins/two/tests/test_plugin.py").write_text("def test_of_two(proxy):\n    proxy.get('/')\n")
    ran = run(*SCAFFOLD, "test", "-k", "of_two", cwd=root)
    assert ran.returncode == 0, ran.stderr
    none = run(*SCAFFOLD, "test", "-k", "of_nobody", cwd=root)
    assert (none.returncode, "error: no tests ran" in none.stderr) == (3, True)


def test_a_native_test_that_fails_keeps_no_other_from_running(root, run):
    with (root / "plugins/one/src/lib.rs").open("a") as file:
        file.write("#[test]\nfn it_fails() { assert_eq!(1, 2) }\n")
    ran = run(*SCAFFOLD, "test", cwd=root)
    assert (ran.returncode, ran.stderr.count("test result: ")) == (1, 2), ran.stderr
    assert ran.stderr.endswith("error: native tests failed\n")


def test_an_interrupt_ends_all_of_it(root):
    for name in ("one", "two"):
        begun = f"    open('{root}/{name}', 'w').close()\n"
        test = f"import time\n\ndef test_long(proxy):\n{begun}    time.sleep(300)\n"
        (root / f"plugins/{name}/tests/test_plugin.py").write_text(test)
    child = subprocess.Popen(
        [*SCAFFOLD, "test"], cwd=root, stderr=subprocess.PIPE, text=True, start_new_session=True
    )
    limit = min(2, len(os.sched_getaffinity(0)))
    await_(lambda: sum((root / name).exists() for name in ("one", "two")) >= limit)
    family = psutil.Process(child.pid).children(recursive=True)
    assert sum(process.name() == "envoy" for process in family) == limit
    child.send_signal(signal.SIGINT)
    _, said = child.communicate(timeout=60)
    assert (child.returncode, said.splitlines()[-1]) == (130, "error: interrupted")
    await_(lambda: not any(process.is_running() and process.status() != "zombie" for process in family))


def await_(sign, within: float = 60) -> None:
    deadline = time.monotonic() + within
    while not sign():
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_image_of_each_is_made_and_called_by_its_version(built, run, tmp_path):
    home = {"XDG_DATA_HOME": str(tmp_path)} if shutil.which("rustup") else {}
    ran = run(*SCAFFOLD, "package", "--json", cwd=built, **home)
    assert ran.returncode == 0, ran.stderr
    one, two = json.loads(ran.stdout)
    assert (one["reference"], two["reference"]) == ("one:0.1.0", "two:7.1.0")
    assert [one["module_digest"], two["module_digest"]] == list(digests(built).values())


def test_what_is_deployed_of_members_is_seen_and_ended_at_the_root(root, run):
    members = [root / "plugins" / name for name in ("one", "two")]
    for folder in members:
        assert run(*SCAFFOLD, "deploy", "--port", 0, cwd=folder).returncode == 0
    both = json.loads(run(*SCAFFOLD, "status", "--json", cwd=root).stdout)
    assert [each["root"] for each in both] == [str(folder) for folder in members]
    several = run(*SCAFFOLD, "logs", cwd=root)
    assert (several.returncode, "choose one: --root plugins/one, --root plugins/two" in several.stderr) == (
        2,
        True,
    )
    assert run(*SCAFFOLD, "test", "--deployed", cwd=root).returncode == 0
    assert run(*SCAFFOLD, "undeploy", cwd=members[0]).returncode == 0
    assert run(*SCAFFOLD, "logs", cwd=root).returncode == 0, "of the only one that is left"
    assert len(json.loads(run(*SCAFFOLD, "undeploy", "--json", cwd=root).stdout)) == 1
    assert json.loads(run(*SCAFFOLD, "status", "--json", cwd=root).stdout) == []


# --- the chain


def seen(url: str) -> str:
    """What the origin says it was sent, without the system's proxy."""
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(f"{url}/headers") as answer:
        return answer.read().decode()


CHAIN = """
def test_each_has_its_turn(proxy):
    exchange = proxy.get("/headers")
    assert exchange.upstream.headers["x-hello"].startswith("Hello world")
    first, second = (int(line.split()[1]) for line in exchange.logs if line.startswith("Got "))
    assert second == first + 1, "it gets the header that the first has set"
"""


def test_a_chain_is_deployed_swapped_and_ended_as_one(root, run):
    (deployed,) = json.loads(f"[{run(*SCAFFOLD, 'deploy', '--port', 0, '--json', cwd=root).stdout}]")
    assert [plugin["name"] for plugin in deployed["plugins"]] == ["one", "two"]
    assert '"X-Hello": "Hello world from localhost' in seen(deployed["url"])
    lib = root / "plugins/two/src/lib.rs"
    lib.write_text(lib.read_text().replace("x-hello", "x-second"))
    with traffic(deployed["url"]) as (answers, lost):
        again = run(*SCAFFOLD, "deploy", "--json", cwd=root)
    assert again.returncode == 0, again.stderr
    assert len(answers) > 20 and all('"X-Hello"' in answer for answer in answers)
    assert "Replacing the plugin in the running Envoy with the chain one, two\n" in again.stderr
    assert lost == []
    swapped = json.loads(again.stdout)
    assert (swapped["url"], swapped["admin_address"]) == (deployed["url"], deployed["admin_address"])
    assert '"X-Hello"' in seen(deployed["url"]) and '"X-Second"' in seen(deployed["url"])
    said = run(*SCAFFOLD, "logs", cwd=root).stdout
    assert "[info] one: Got " in said and "[info] two: Got " in said
    (status,) = json.loads(run(*SCAFFOLD, "status", "--json", cwd=root).stdout)
    assert status["plugins"] == swapped["plugins"]
    assert json.loads(run(*SCAFFOLD, "status", "--json", cwd=root / "plugins/one").stdout) == []
    ended = json.loads(run(*SCAFFOLD, "undeploy", "--json", cwd=root).stdout)
    assert [each["name"] for each in ended] == ["the chain one, two"]


@contextmanager
def traffic(url: str):
    """Requests, one after the other, while the block runs: the good answers, and what else came."""
    answers: list[str] = []
    lost: list[str] = []
    stop = threading.Event()

    def ask() -> None:
        while not stop.is_set():
            try:
                answers.append(seen(url))
            except OSError as error:
                lost.append(repr(error))

    clients = [threading.Thread(target=ask) for _ in range(2)]
    for client in clients:
        client.start()
    try:
        yield answers, lost
    finally:
        stop.set()
        for client in clients:
            client.join()


def test_filters_that_change_their_places_are_never_missing(root, run):
    """Replaced one by one, `one` would be gone until it is there again: so Envoy restarts, and says so."""
    first = json.loads(run(*SCAFFOLD, "deploy", "--port", 0, "--json", cwd=root).stdout)
    supervisor = deployments.load(root).pid
    with (root / "Cargo.toml").open("a") as file:
        file.write('[workspace.metadata.proxy-wasm]\nchain = ["two", "one"]\n')
    with traffic(first["url"]) as (answers, _):
        again = run(*SCAFFOLD, "deploy", "--json", cwd=root)
    assert "plugins: one, two -> two, one; Envoy restarts, and open connections drop\n" in again.stderr
    assert all('"X-Hello"' in answer for answer in answers)
    second = json.loads(again.stdout)
    assert [plugin["name"] for plugin in second["plugins"]] == ["two", "one"]
    assert (second["url"], deployments.load(root).pid != supervisor) == (first["url"], True)
    text = (root / "Cargo.toml").read_text().replace('["two", "one"]', '["two"]')
    (root / "Cargo.toml").write_text(text)
    alone = run(*SCAFFOLD, "deploy", "--json", cwd=root)
    assert "plugins: two, one -> two; Envoy restarts, and open connections drop\n" in alone.stderr


def test_a_link_that_envoy_refuses_leaves_the_chain_as_it_was(root, run):
    deployed = json.loads(run(*SCAFFOLD, "deploy", "--port", 0, "--json", cwd=root).stdout)
    one, two = (root / "plugins" / name / "src/lib.rs" for name in ("one", "two"))
    one.write_text(one.read_text().replace("x-hello", "x-other"))
    two.write_text(two.read_text().replace("proxy_wasm::main! {{", 'proxy_wasm::main! {{ panic!("no");'))
    refused = run(*SCAFFOLD, "deploy", cwd=root)
    assert refused.returncode == 6, refused.stderr
    assert refused.stderr.endswith("Envoy refused the plugin two; the previous version keeps serving\n")
    assert '"X-Hello"' in seen(deployed["url"]) and '"X-Other"' not in seen(deployed["url"])
    (status,) = json.loads(run(*SCAFFOLD, "status", "--json", cwd=root).stdout)
    assert status["plugins"] == deployed["plugins"]


def test_a_chain_has_tests_of_its_own_where_it_has_any(root, run):
    (root / "tests").mkdir()
    (root / "tests/test_chain.py").write_text(CHAIN)
    ran = run(*SCAFFOLD, "test", "--json", cwd=root)
    assert ran.returncode == 0, ran.stderr
    reports = json.loads(ran.stdout)
    assert [report["plugin"] for report in reports] == ["one", "two", "the chain"]
    assert [report["outcomes"][0]["passed"] for report in reports] == [5, 5, 1]
    assert run(*SCAFFOLD, "deploy", "--port", 0, cwd=root).returncode == 0
    (root / "tests/test_chain.py").rename(root / "chain.py")
    untested = run(*SCAFFOLD, "test", "--deployed", cwd=root)
    assert (
        untested.returncode,
        "the deployed chain has no tests" in untested.stderr,
    ) == (
        3,
        True,
    )
    (root / "chain.py").rename(root / "tests/test_chain.py")
    against = run(*SCAFFOLD, "test", "--deployed", "--json", cwd=root)
    assert [(each["plugin"], each["outcomes"][0]["passed"]) for each in json.loads(against.stdout)] == [
        ("the chain", 1)
    ], against.stderr


def test_a_test_of_a_chain_says_whose_configuration_it_changes(root, run):
    for name in ("one", "two"):
        shutil.rmtree(root / "plugins" / name / "tests")
    (root / "tests").mkdir()
    (root / "tests/test_chain.py").write_text(
        "import pytest\nfrom scaffold.errors import UsageError\n\n"
        "def test_it(proxy):\n"
        "    with pytest.raises(UsageError, match='configure.. needs to know which plugin of the chain'):\n"
        "        proxy.configure('x')\n"
        "    with pytest.raises(UsageError, match='no plugin named `tow`'):\n"
        "        proxy.configure('x', plugin='tow')\n"
        "    proxy.configure('x', plugin='two')\n"
        "    assert proxy.get('/headers').status == 200\n"
    )
    ran = run(*SCAFFOLD, "test", "-k", "test_it", cwd=root)
    assert ran.returncode == 0, ran.stderr


def test_what_was_said_of_one_plugin_is_not_said_of_those_that_came(root, run):
    manifest = root / "Cargo.toml"
    whole = manifest.read_text()
    manifest.write_text(f'{whole}[workspace.metadata.proxy-wasm]\nchain = ["one"]\n')
    assert run(*SCAFFOLD, "deploy", "--port", 0, "--id", "mine", cwd=root).returncode == 0
    manifest.write_text(whole)
    ran = run(*SCAFFOLD, "deploy", "--json", cwd=root)
    assert ran.returncode == 0, ran.stderr
    assert [plugin["name"] for plugin in json.loads(ran.stdout)["plugins"]] == ["one", "two"]


def test_the_chains_log_comes_before_a_members(root, run):
    assert run(*SCAFFOLD, "deploy", "--port", 0, cwd=root / "plugins/two").returncode == 0
    assert run(*SCAFFOLD, "deploy", "--port", 0, cwd=root).returncode == 0
    seen(scaffold.status(root)[0].url)
    logged(root, "Got ")
    said = run(*SCAFFOLD, "logs", cwd=root)
    assert (said.returncode, "[info] one: Got " in said.stdout) == (0, True), said.stderr
    both = json.loads(run(*SCAFFOLD, "status", "--json", cwd=root).stdout)
    assert [each["root"] for each in both] == [str(root), str(root / "plugins/two")]
    member = run(*SCAFFOLD, "status", cwd=root / "plugins/one")
    assert member.stderr.endswith("it runs in the chain one, two: --root ../..\n")
    lost = run(*SCAFFOLD, "logs", cwd=root / "plugins/one")
    assert lost.stderr.endswith("hint: pass --root ../..: it runs in the chain one, two\n")


def test_a_chain_runs_in_the_foreground_and_in_an_envoy_of_ones_own(root, run):
    ran = run(*SCAFFOLD, "bootstrap", "--out", "envoy.json", cwd=root)
    assert ran.returncode == 0, ran.stderr
    made = json.loads((root / "envoy.json").read_text())
    (manager,) = made["static_resources"]["listeners"][0]["filter_chains"][0]["filters"]
    names = [each["name"] for each in manager["typed_config"]["http_filters"]]
    assert names == ["scaffold", "scaffold-2", "envoy.filters.http.router"]
    child = subprocess.Popen(
        [*SCAFFOLD, "run", "--port", "0"], cwd=root, stderr=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    try:
        url = next(
            found[1]
            for line in child.stderr
            if (found := re.match(r"the chain one, two answers at (http:\S+)", line))
        )
        assert '"X-Hello"' in seen(url)
        assert any("[info] one: Got " in line for line in child.stdout)  # beside the request's own line
    finally:
        child.send_signal(signal.SIGINT)
        child.communicate(timeout=60)
    assert child.returncode == 0


def test_cleaning_removes_what_was_built_of_all(root, run):
    target = root / "target"
    (target / "debug").mkdir(parents=True)
    (target / "CACHEDIR.TAG").write_text("Signature: 8a477f597d28d172789f06886806bc55\n# made by cargo\n")
    env = {key: value for key, value in os.environ.items() if key != "CARGO_TARGET_DIR"}
    ran = subprocess.run([*SCAFFOLD, "clean"], cwd=root, env=env, capture_output=True, text=True)
    assert (ran.returncode, target.exists()) == (0, False), ran.stderr


LAYOUTS = {
    "globs": '[workspace]\nmembers = ["a", "p/*", "deep/**/x"]\nexclude = ["p/old"]\n',
    "a named one in what is excluded": '[workspace]\nmembers = ["p/old"]\nexclude = ["p"]\n',
    "a root package": '[package]\nname = "ws"\nversion = "1.0.0"\n[workspace]\nmembers = ["p/b"]\n',
    "outside": '[workspace]\nmembers = ["../outside", "a"]\n',
    "hidden, and in hidden folders": '[workspace]\nmembers = ["**/**/i", "hidden/*h"]\n',
    "twice": '[workspace]\nmembers = ["a", "*", "./a"]\nexclude = ["p", "deep", "src", "hidden"]\n',
}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_members_are_those_that_cargo_says(layout, tmp_path, run):
    root = tmp_path / "ws"
    plain = ("ws", "ws/a", "ws/p/b", "ws/p/old", "ws/deep/1/x", "outside")
    for folder in (*plain, "ws/hidden/.h", "ws/hidden/.j/i"):
        (tmp_path / folder / "src").mkdir(parents=True)
        (tmp_path / folder / "src/lib.rs").touch()
        package = f'[package]\nname = "{Path(folder).name.strip(".")}"\nversion = "1.0.0"\nedition = "2021"\n'
        more = '[package.metadata.proxy-wasm]\n[lib]\ncrate-type = ["cdylib"]\n'
        workspace = 'workspace = "../ws"\n' if folder == "outside" else ""
        (tmp_path / folder / "Cargo.toml").write_text(package + workspace + more)
    (root / "Cargo.toml").write_text(layout)
    cargo = toolchain.find("wasm32-wasip1", install=False).cargo
    said = run(cargo, "metadata", "--no-deps", "--offline", "--format-version", "1", cwd=root)
    packages = json.loads(said.stdout)["packages"]
    members = Workspace.at(root).members()
    assert sorted(map(str, members)) == sorted(str(Path(each["manifest_path"]).parent) for each in packages)
    for folder in members:
        assert Workspace.of(folder) == Workspace.at(root)
