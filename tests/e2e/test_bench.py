"""`bench` with a real Envoy: what is told apart, what is said, and what is left. No times are asserted."""

from __future__ import annotations

import json
import re
import signal
import subprocess
from pathlib import Path

import psutil
import pytest
from support.commands import SCAFFOLD
from support.costly_modules import burning, calling, leaking, leaking_at_start
from support.places import TINY
from support.processes import gone
from support.repositories import commit, git

import scaffold
from scaffold.errors import ProjectError, UsageError

QUICK = ("--rounds", "2", "--duration", "100ms", "--rate", "50")
STEPS = 10_000_000


@pytest.fixture
def modules(root: Path) -> tuple[Path, Path]:
    """One that burns processor time, and one that doesn't."""
    paths = root / "burns.wasm", root / "quiet.wasm"
    for path, steps in zip(paths, (STEPS, 0), strict=True):
        path.write_bytes(burning(steps))
    return paths


@pytest.fixture
def tiny(root: Path) -> Path:
    """A crate in a repository that compiles quickly."""
    for path, text in TINY.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_text(text)
    subprocess.run(["cargo", "generate-lockfile", "--quiet"], cwd=root, check=True)
    commit(root)
    return root


def test_a_plugin_that_burns_is_told_from_one_that_doesnt(root, modules):
    burns, quiet = modules
    found = scaffold.bench(root, module=str(burns), against=str(quiet), rounds=6, duration="200ms", rate=30)
    sides = {each.name: each for each in found.sides}
    assert list(sides) == ["none", "native", "lua", "floor", "plugin", "base"]
    assert all(each.statuses == {"200": 36} and not each.failures for each in found.sides)
    assert sides["plugin"].cpu.low > 3 * sides["base"].cpu.high
    assert not sides["plugin"].cpu_added.is_noise
    assert found.comparison
    assert found.comparison.cpu.low > 500  # microseconds: ten million steps take thousands
    assert found.comparison.module_bytes == len(burns.read_bytes()) - len(quiet.read_bytes())
    assert sides["floor"].cpu.high < sides["plugin"].cpu.low
    assert not sides["plugin"].memory_added.is_noise
    assert sides["plugin"].memory_added.median > 1e6
    text = found.summary()
    assert re.search(r"^burns in Envoy [\d.]+: 6 rounds of 0\.2 s at 30 requests/s, with a default req", text)
    titles = ["no filter", "header_mutation", "Lua", "the floor", "burns", "quiet.wasm"]
    rows = [line for line in text.splitlines() if "µs  " in line and " ms  " in line]
    assert [row.partition("  ")[0] for row in rows] == titles
    assert re.search(r"\nCompared with \S*quiet\.wasm\n  CPU per request  \+[\d,.]+ µs \(", text)
    assert re.search(r"\nThe machine has \d+ cores?, and a load of [\d.]+ before and [\d.]+ after\.", text)


def test_the_requests_are_those_of_the_project(root, tiny, run):
    (tiny / "bench").mkdir()
    (tiny / "bench/cases.toml").write_text(
        '[[request]]\nweight = 3\n[[request]]\nmethod = "POST"\npath = "/a"\nbody = "hello"\n'
        '[response]\nstatus = 404\nheaders = { content-type = "text/html" }\nbody = "no"\n'
    )
    page = tiny / "bench.html"
    ran = run("scaffold", "bench", "--root", tiny, "--json", "--html", page, *QUICK)
    assert ran.returncode == 0, ran.stderr
    found = json.loads(ran.stdout)
    assert found["requests"] == "2 requests of bench/cases.toml"
    assert [each["statuses"] for each in found["sides"]] == [{"404": 10}] * 5
    assert "Measuring tiny with 2 requests of bench/cases.toml" in ran.stderr
    assert "Measuring: 100 %" in ran.stderr
    assert f"{page} has the figures drawn" in ran.stderr
    assert "<h1>What tiny costs</h1>" in page.read_text()


def test_a_plugin_whose_calls_cannot_be_repeated_has_no_floor(root):
    path = root / "ticking.wasm"
    path.write_bytes(calling("proxy_set_tick_period_milliseconds"))
    found = scaffold.bench(root, module=str(path), rounds=2, duration="100ms", rate=20)
    assert [each.name for each in found.sides] == ["none", "native", "lua", "plugin"]
    assert found.no_floor == "it calls proxy_set_tick_period_milliseconds"
    assert f"\nThere is no floor: {found.no_floor}.\n" in found.summary()


def allow(root: Path, **limits: float) -> None:
    path = root / "Cargo.toml"
    lines = [f"{key.replace('_', '-')} = {limit}" for key, limit in limits.items()]
    text = path.read_text().partition("\n[package.metadata")[0]
    path.write_text("\n".join([text, "[package.metadata.proxy-wasm.budget]", *lines, ""]))


def test_a_plugin_over_its_budget_fails_and_says_where(tiny, run, tmp_path):
    path = tmp_path / "burns.wasm"
    path.write_bytes(burning(STEPS))
    size = path.stat().st_size
    words = ["scaffold", "bench", path, "--root", tiny, "--check", "--duration", "200ms", "--rate", "30"]
    allow(tiny, module_bytes=size - 1, cpu_over_native_us=100, peak_memory_bytes=1_000_000)
    ran = run(*words, "--rounds", "6")
    assert ran.returncode == 1
    held, over = (
        [line for line in ran.stdout.splitlines() if line.startswith(begins)]
        for begins in ("within the budget: ", "tiny is over its budget: ")
    )
    assert held == []
    assert [re.sub(r".*`([a-z-]+) = .*", r"\1", line) for line in over] == [
        *("module-bytes", "cpu-over-native-us", "peak-memory-bytes")
    ]
    assert f"`module-bytes = {size - 1}` is exceeded by 1 (" in over[0]
    assert re.search(
        r"`cpu-over-native-us = 100` is exceeded by [\d,.]+ \(.*, and [\d,.]+ at least$", over[1]
    )


def test_a_plugin_within_its_budget_passes(tiny):
    allow(tiny, module_bytes=10**6, cpu_over_native_us=10**6, peak_memory_bytes=10**9)
    found = scaffold.bench(tiny, check=True, rounds=2, duration="100ms", rate=20)
    assert (found.exit_code, found.verdict.over, found.verdict.undecided) == (0, [], [])
    assert [line.split("`")[1].split(" ")[0] for line in found.verdict.held] == [
        *("module-bytes", "cpu-over-native-us", "peak-memory-bytes")
    ]


def test_a_check_needs_a_budget(tiny, root, tmp_path):
    with pytest.raises(ProjectError, match="tiny has no budget that `bench` checks") as caught:
        scaffold.bench(tiny, check=True)
    assert "cpu-over-native-us" in (caught.value.hint or "")
    path = tmp_path / "quiet.wasm"
    path.write_bytes(burning(0))
    with pytest.raises(UsageError, match="--check needs a crate"):
        scaffold.bench(tmp_path, module=str(path), check=True)


SOAK = {"soak": True, "requests": 1500, "swaps": 40}


def test_a_plugin_that_leaks_with_each_request_is_found(root, run):
    path = root / "leaking.wasm"
    path.write_bytes(leaking())
    ran = run("scaffold", "bench", path, "--root", root, "--soak", "--requests", "1500", "--swaps", "40")
    assert ran.returncode == 1
    requests, swaps = ran.stdout.splitlines()[1:]
    assert re.match(r"  requests  grows by 4,[01]\d\d bytes each \(", requests)  # the page that it writes to
    assert swaps.startswith("  swaps     flat: ")


def test_a_plugin_that_leaks_whenever_it_starts_is_found(root):
    path = root / "leaking.wasm"
    path.write_bytes(leaking_at_start(130_000))
    found = scaffold.bench(root, module=str(path), **SOAK)
    assert [(each.what, each.leaks) for each in found.growth] == [("requests", False), ("swaps", True)]
    assert found.growth[1].each.low > 100_000
    assert found.exit_code == 1


def test_a_vector_that_grows_is_found(copy):
    source = copy / "src/lib.rs"
    text = source.read_text()
    text = text.replace(
        "info!(", "KEPT.with(|kept| kept.borrow_mut().push(vec![1_u8; 2000]));\n        info!(", 1
    )
    source.write_text(
        f"{text}\nuse std::cell::RefCell;\nthread_local! {{\n"
        "    static KEPT: RefCell<Vec<Vec<u8>>> = const { RefCell::new(Vec::new()) };\n}\n"
    )
    requests, swaps = scaffold.bench(copy, **SOAK).growth
    assert requests.leaks
    assert 1500 < requests.each.low <= requests.each.high < 3000
    assert not swaps.leaks


def test_the_template_is_flat(hello, root):
    found = scaffold.bench(root, module=str(hello.path), **SOAK)
    assert [each.leaks for each in found.growth] == [False, False]
    assert found.exit_code == 0
    assert set(found.statuses) == {"200"}


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"soak": True, "against": "HEAD"}, "--against isn't supported with --soak"),
        ({"soak": True, "rounds": 3}, "--rounds isn't supported with --soak"),
        ({"soak": True, "html": Path("a.html")}, "--html isn't supported with --soak"),
        ({"soak": True, "check": True}, "--check isn't supported with --soak"),
        ({"swaps": 100}, "--swaps isn't supported without --soak"),
        ({"requests": 1000}, "--requests isn't supported without --soak"),
        ({"duration": "1"}, "--duration isn't a duration"),
        ({"duration": "1ms"}, "--duration can't be `1ms`"),
        ({"duration": "100ms", "rate": 5}, "in such a round there is no request"),
        ({"run": scaffold.RunOptions(tls=True)}, "--tls isn't supported for `bench`"),
        (
            {"run": scaffold.RunOptions(upstream="http://localhost:1")},
            "--upstream isn't supported for `bench`",
        ),
    ],
)
def test_options_that_do_not_fit_are_refused(root, options, message):
    with pytest.raises(UsageError, match=re.escape(message)):
        scaffold.bench(root, module="nowhere.wasm", **options)


@pytest.mark.parametrize(("kind", "what"), [("network", "a network plugin"), ("service", "a service")])
def test_other_kinds_of_plugins_are_refused_by_name(tiny, kind, what):
    manifest = tiny / "Cargo.toml"
    manifest.write_text(f'{manifest.read_text()}\n[package.metadata.proxy-wasm]\ntype = "{kind}"\n')
    with pytest.raises(UsageError, match=f"`bench` measures HTTP plugins, and tiny is {what}"):
        scaffold.bench(tiny)


def started(*words: object) -> subprocess.Popen[str]:
    """`scaffold bench` at work, in the middle of its rounds."""
    child = subprocess.Popen(
        [*SCAFFOLD, "bench", *map(str, words)],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert child.stderr
    for line in child.stderr:
        if "Measuring: 10 %" in line:
            return child
    raise AssertionError(f"it ended with {child.wait()}")


def below(child: subprocess.Popen[str]) -> list[psutil.Process]:
    return psutil.Process(child.pid).children(recursive=True)


def test_an_envoy_that_dies_in_a_round_is_named(root, modules):
    child = started(modules[1], "--root", root, "--rounds", "50", "--duration", "100ms", "--rate", "50")
    processes = below(child)
    (envoy,) = (each for each in processes if "envoy" in each.name())
    envoy.send_signal(signal.SIGKILL)
    out, err = child.communicate(timeout=30)
    assert child.returncode == 8
    assert out == ""
    assert "error: Envoy ended by signal 9" in err
    assert re.search(r"This was in round \d+ of 50, at `(none|native|lua|floor|plugin)`", err)
    assert gone(*(each.pid for each in processes))


def test_ctrl_c_leaves_nothing(root, modules, state):
    child = started(modules[1], "--root", root, "--rounds", "50", "--duration", "100ms", "--rate", "50")
    processes = below(child)
    assert processes
    child.send_signal(signal.SIGINT)
    child.communicate(timeout=30)
    assert child.returncode == 130
    assert gone(child.pid, *(each.pid for each in processes))
    assert list((state / "cache/proxy-wasm-scaffold/scratch").iterdir()) == []


# --- what it is compared with


def worktrees(root: Path) -> int:
    return len(git(root, "worktree", "list").splitlines())


def test_a_commit_is_built_beside_and_leaves_nothing(tiny):
    head = git(tiny, "rev-parse", "HEAD").strip()
    source = tiny / "src/lib.rs"
    source.write_text(source.read_text() + "\n#[no_mangle]\npub static PAD: [u8; 3000] = [7; 3000];\n")
    hook = tiny / ".git/hooks/post-checkout"
    hook.parent.mkdir(exist_ok=True)
    hook.write_text(f"#!/bin/sh\ntouch {tiny}/ran\nexit 1\n")  # which a checkout would run
    hook.chmod(0o755)
    before = git(tiny, "status", "--porcelain")
    found = scaffold.bench(tiny, against="HEAD", rounds=2, duration="100ms", rate=20)
    assert found.comparison
    assert found.comparison.base == "HEAD"
    assert found.side("base").title == "HEAD"
    assert found.comparison.module_bytes > 2000
    assert git(tiny, "rev-parse", "HEAD").strip() == head
    assert git(tiny, "status", "--porcelain") == before
    assert worktrees(tiny) == 1


def test_a_commit_that_does_not_build_shows_what_cargo_says(tiny, run):
    source = tiny / "src/lib.rs"
    text = source.read_text()
    source.write_text(text + "\nthis is no Rust\n")
    git(tiny, "commit", "-qam", "broken")
    source.write_text(text)
    ran = run("scaffold", "bench", "--root", tiny, "--against", "HEAD", *QUICK)
    assert ran.returncode == 5
    assert "error: the plugin at HEAD: " in ran.stderr
    assert "this is no Rust" in ran.stderr  # cargo's own words
    assert "Measuring" not in ran.stderr
    assert worktrees(tiny) == 1


def test_a_page_that_cannot_be_written_is_refused_before_anything_runs(root):
    for path in (root, root / "no/page.html"):
        with pytest.raises(UsageError, match="--html can't be"):
            scaffold.bench(root, module="nowhere.wasm", html=path)


def test_what_is_neither_commit_nor_file_nor_image_is_said_so(tiny):
    with pytest.raises(UsageError, match="neither a commit, a file nor a local image `nowhere`") as caught:
        scaffold.bench(tiny, against="nowhere", rounds=2, duration="100ms", rate=20)
    assert "git log" in (caught.value.hint or "")


def test_a_commit_without_the_crate_is_named(tiny):
    git(tiny, "checkout", "-q", "--orphan", "empty")
    git(tiny, "rm", "-rfq", "--cached", ".")
    git(tiny, "commit", "-q", "--allow-empty", "-m", "nothing")
    with pytest.raises(ProjectError, match="at empty there is no crate"):
        scaffold.bench(tiny, against="empty", rounds=2, duration="100ms", rate=20)
    assert worktrees(tiny) == 1
