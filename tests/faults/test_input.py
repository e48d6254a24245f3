"""R18: files that a person, an editor or a merge has broken."""

from __future__ import annotations

import json
import resource
import shutil
import time

import pytest
from support import wasm_asm
from support.places import TINY, Place, in_this_process, names, supervisors

from scaffold.hosts.envoy.user_bootstrap import MANAGER, ROUTER

MANIFEST = TINY["Cargo.toml"]
DEEP = 100_000
BOOTSTRAP = """static_resources:
  listeners:
  - name: ingress
    address: {socket_address: {address: 127.0.0.1, port_value: 0}}
    filter_chains:
    - filters:
      - name: envoy.filters.network.http_connection_manager
        typed_config:
          "@type": type.googleapis.com/{MANAGER}
          stat_prefix: ingress
          route_config:
            virtual_hosts:
            - name: all
              domains: ["*"]
              routes: [{match: {prefix: "/"}, direct_response: {status: 200}}]
          http_filters:
          - name: envoy.filters.http.router
            typed_config: {"@type": type.googleapis.com/{ROUTER}}
""".replace("{MANAGER}", MANAGER).replace("{ROUTER}", ROUTER)


def conflict(text: str) -> str:
    return f"<<<<<<< HEAD\n{text}=======\n{text}>>>>>>> theirs\n"


def laughs() -> str:
    """Nine kinds of nothing: 10 ** 9 nodes, once it is spelt out."""
    lines = ["a0: &a0 [x, x, x, x, x, x, x, x, x, x]"]
    lines += [f"a{n}: &a{n} [{', '.join([f'*a{n - 1}'] * 10)}]" for n in range(1, 9)]
    return "\n".join(lines) + "\n" + BOOTSTRAP


# kind: the file's content, whether it is taken, what is said of it
MANIFESTS: dict[str, tuple[bytes, bool, str]] = {
    "empty": (b"", False, "no [package] with a name"),
    "a byte order mark": (b"\xef\xbb\xbf" + MANIFEST.encode(), True, ""),
    "CRLF": (MANIFEST.replace("\n", "\r\n").encode(), True, ""),
    "NUL": (MANIFEST.encode() + b"\0", False, "(at line "),
    "no UTF-8": (MANIFEST.encode() + b'# \xff"', False, "cannot read"),
    "a key twice": (MANIFEST.encode() + b'[lib]\ncrate-type = ["cdylib"]\n', False, "(at line "),
    "conflict markers": (conflict(MANIFEST).encode(), False, "(at line 1, column 1)"),
    "nested deeply": (MANIFEST.encode() + b"a = " + b"[" * DEEP, False, "nested too deeply"),
    "cut": (MANIFEST[:40].encode(), False, "(at "),
    "100 MB": (MANIFEST.encode() + b"# " + b"x" * 100_000_000, None, ""),  # type: ignore[dict-item]
    "UTF-16": (MANIFEST.encode("utf-16"), False, "cannot read"),
}
CONFIGURATIONS: dict[str, tuple[bytes, bool, str]] = {
    "empty": (b"", True, ""),
    "a byte order mark": (b'\xef\xbb\xbf{"a": 1}', True, ""),
    "CRLF": (b'{\r\n"a": 1\r\n}', True, ""),
    "NUL": (b"\0", True, ""),
    "no UTF-8": (b"\xff\xfe\xfd", True, ""),
    "a key twice": (b'{"a": 1, "a": 2}', True, ""),
    "conflict markers": (conflict('{"a": 1}\n').encode(), True, ""),
    "nested deeply": (b"[" * DEEP, True, ""),
    "100 MB": (b'"' + b"x" * 100_000_000 + b'"', None, ""),  # type: ignore[dict-item]
}
BOOTSTRAPS: dict[str, tuple[bytes, bool, str]] = {
    "empty": (b"", False, "contains no mapping"),
    "a byte order mark": (b"\xef\xbb\xbf" + BOOTSTRAP.encode(), True, ""),
    "CRLF": (BOOTSTRAP.replace("\n", "\r\n").encode(), True, ""),
    "NUL": (BOOTSTRAP.encode() + b"\0", False, "neither YAML nor JSON"),
    "no UTF-8": (BOOTSTRAP.encode() + b"# \xff", False, "cannot read the bootstrap"),
    "a key twice": (BOOTSTRAP.encode() + b"static_resources: {}\n", False, ""),
    "conflict markers": (conflict(BOOTSTRAP).encode(), False, "line 2, column"),
    "nested deeply": (b"[" * DEEP, False, "nested too deeply"),
    "tabs": (b"a:\n\tb: 1\n", False, "line 2, column 1"),
    "an object of Python's": (b"a: !!python/object/apply:os.system [ls]\n", False, "line 1, column 4"),
    "a list": (b"- a\n", False, "contains no mapping"),
    "two documents": (BOOTSTRAP.encode() + b"---\na: 1\n", False, "neither YAML nor JSON"),
    "an alias of itself": (b"a: &a [*a]\n" + BOOTSTRAP.encode(), False, "grows without end"),
    "nine kinds of laughs": (laughs().encode(), False, "grows without end"),
    "100 MB": (BOOTSTRAP.encode() + b"# " + b"x" * 100_000_000, False, "is larger than 4 MB"),
}


def judged(place: Place, taken: bool | None, words: str, *line: object) -> str:
    """Run a command that reads the file, in bounded memory and time; what it made of it."""
    begun = time.monotonic()
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    ran = place.run(*line)
    took = time.monotonic() - begun
    most = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss
    assert ran.explained, f"{ran.code}: {ran.err[-2000:]}"
    assert len(ran.err) < 5000, "a file is not quoted at length"
    assert words in ran.err, ran.err
    if taken is not None:
        assert (ran.code == 0) == taken, f"{ran.code}: {ran.err}"
    assert took < 60
    assert most == before or most < 3_000_000, f"{most} KiB"
    return f"exit code {ran.code}: {ran.sentence}" if ran.code else "taken"


@pytest.mark.faults("R18")
@pytest.mark.parametrize("kind", MANIFESTS)
def test_a_manifest(place, record, kind):
    content, taken, words = MANIFESTS[kind]
    crate = place.tiny()
    (crate / "Cargo.toml").write_bytes(content)
    seen = judged(place, taken, words, "build", "--root", crate)
    record(f"build: Cargo.toml, {kind}", seen)


@pytest.mark.faults("R18")
@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_a_configuration(place, probe, record, kind):
    """A file's bytes are the plugin's own affair: they reach it as they are."""
    content, taken, words = CONFIGURATIONS[kind]
    path = place.folder / "config.json"
    path.write_bytes(content)
    module = probe.path
    if len(content) > 60_000:  # more than the probe can show in a header
        module = place.folder / "small.wasm"
        module.write_bytes(wasm_asm.plugin())
    line = ("deploy", "envoy", module, "--root", place.project(), "--port=0", "--config", path)
    seen = judged(place, taken, words, *line)
    record(f"deploy --config FILE: {kind}", seen)


@pytest.mark.faults("R18")
def test_a_configuration_on_the_line(place, probe, record):
    for text in ("{", "[" * 50_000, '{"a": }', "<<<<<<< HEAD", "\ufeff{}"):
        line = ("deploy", "envoy", probe.path, "--root", place.project(), "--port=0", f"--config={text}")
        ran = place.run(*line)
        assert ran.code == 2, f"{ran.code}: {ran.err[-500:]}"
        assert len(ran.err) < 1000
    record("deploy --config TEXT: broken, nested deeply, with a mark", "exit code 2, line and column")


@pytest.mark.faults("R18")
@pytest.mark.parametrize("kind", BOOTSTRAPS)
def test_a_bootstrap(place, probe, record, kind):
    content, taken, words = BOOTSTRAPS[kind]
    path = place.folder / "envoy.yaml"
    path.write_bytes(content)
    line = ("bootstrap", probe.path, "--root", place.project(), "--bootstrap", path)
    seen = judged(place, taken, words, *line, "--out", place.folder / "made.yaml")
    assert ("made.yaml" in names(place.folder)) == (seen == "taken")
    record(f"bootstrap --bootstrap FILE: {kind}", seen)


@pytest.mark.faults("R18")
def test_the_records_of_a_deployment(here, probe, record, capsys):
    """Whatever the record says, all commands say what they make of it, and one deployment is the most."""
    place, root = here, here.project()
    place.deploy(root, "envoy", probe.path)
    (folder,) = place.deployments
    path = folder / "deployment.json"
    whole = path.read_text()
    good = json.loads(whole)
    contents = {
        "empty": b"",
        "a list": b"[]",
        "nested deeply": b"[" * DEEP,
        "conflict markers": conflict(whole).encode(),
        "NUL": b"\0" * 100,
        "no UTF-8": b"\xff\xfe",
        "a byte order mark": b"\xef\xbb\xbf" + whole.encode(),
        "of another version": json.dumps(good | {"more": 1}).encode(),
        "without a pid": json.dumps({key: value for key, value in good.items() if key != "pid"}).encode(),
        "of other kinds": json.dumps(dict.fromkeys(good, "x")).encode(),
        **{
            f"{name} of another kind": json.dumps(good | {name: value}).encode()
            for name, value in {"settings": [], "options": {"port": "x"}, "port": None, "since": "x"}.items()
        },
        "a huge number": json.dumps(good | {"pid": 10**30, "started": 1e308}).encode(),
        "negative": json.dumps(good | {"pid": -1}).encode(),
    }
    for kind, content in contents.items():
        path.write_bytes(content)
        for words in (("status",), ("logs",), ("status", "--all")):
            ran = in_this_process(capsys, *words, "--root", root)
            assert ran.explained, f"{kind}, {words}: {ran.code} {ran.err[-1500:]}"
        if kind not in ("of other kinds", "options of another kind", "of another version", "negative"):
            continue
        ran = in_this_process(capsys, "deploy", "envoy", probe.path, "--root", root, "--port=0")
        assert ran.code == 0, f"{kind}: {ran.code} {ran.err[-1500:]}"
        assert len(supervisors(place)) == 1, f"{kind}: {supervisors(place)}"
    record(f"status, logs, deploy: {len(contents)} broken records", "explained; never two deployments")


@pytest.mark.faults("R8")
@pytest.mark.parametrize("command", ["deploy", "undeploy", "undeploy --all"])
@pytest.mark.parametrize("how", ["is emptied", "is another's", "names a pid that doesn't exist", "is gone"])
def test_a_deployment_that_no_record_names_is_found_and_ended(here, probe, record, capsys, how, command):
    """By its command line and folder; what is deployed then has its port."""
    root = here.project()
    port = here.deploy(root, "envoy", probe.path)["url"].rpartition(":")[2]
    (old,) = supervisors(here)
    (folder,) = here.deployments
    path = folder / "deployment.json"
    good = json.loads(path.read_text())
    damages = {
        "is emptied": "",
        "is another's": json.dumps(good | {"root": "/"}),
        "names a pid that doesn't exist": json.dumps(good | {"pid": 2**22 + 1}),
    }
    if how in damages:
        path.write_text(damages[how])
    else:
        shutil.rmtree(folder)
    words = {
        "deploy": ("deploy", "envoy", probe.path, "--root", root, "--port", port),
        "undeploy": ("undeploy", "--root", root),
        "undeploy --all": ("undeploy", "--all"),
    }[command]
    ran = in_this_process(capsys, *words)
    assert ran.code == 0, ran.err
    assert f"ended a supervisor that no record names (pid {old.partition(':')[0]})" in ran.err
    assert old not in supervisors(here)
    if command == "deploy":
        assert len(supervisors(here)) == 1
        assert here.status(root)["url"].endswith(f":{port}")
    else:
        assert (supervisors(here), here.deployments) == ([], [])
    record(f"{command}: the record of the running deployment {how}", "its supervisor is found and ended")


@pytest.mark.faults("R18")
@pytest.mark.parametrize("kind", ["conflict markers", "cut", "NUL"])
def test_a_lock_file(place, record, kind):
    crate = place.tiny()
    place.well("build", "--root", crate)
    lock = crate / "Cargo.lock"
    whole = lock.read_text()
    broken = {"conflict markers": conflict(whole), "cut": whole[:-20], "NUL": whole + "\0"}[kind]
    lock.write_text(broken)
    ran = place.run("build", "--root", crate)
    assert (ran.code, ran.explained) == (5, True), ran.err
    assert str(lock) in ran.err
    record(f"build: Cargo.lock, {kind}", "exit code 5 in cargo's words, names the file")
