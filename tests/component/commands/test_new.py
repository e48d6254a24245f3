"""`scaffold new`: every template renders, names make crates, and a folder appears whole or not at all."""

from __future__ import annotations

import json
import os
import random
import re
import signal
import stat
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import jsonschema
import pytest
from hypothesis import example, given
from hypothesis import strategies as st
from support.commands import SCAFFOLD, entered, error, listing, run, suggested
from support.documents import ROOT

import scaffold
from scaffold.commands import new as templating
from scaffold.core.text import escaped
from scaffold.errors import UsageError
from scaffold.project.crate import Project
from scaffold.project.templates import source as template_sources
from scaffold.toolchain import derive_schema

COOKIECUTTERS = ROOT / "cookiecutters"
TEMPLATES = sorted(path.parent.name for path in COOKIECUTTERS.glob("*/cookiecutter.json"))
CONFIGURED = sorted(path.parents[2].name for path in COOKIECUTTERS.glob("*/*/src/config.rs"))
RAW = re.compile(r"\{\{.*?\}\}")  # what cookiecutter fills in
HTTP = """\
.gitignore
Cargo.toml
Makefile
README.md
pytest.ini
src
src/lib.rs
tasks.py
tests
tests/test_plugin.py
""".split()


@pytest.fixture(autouse=True)
def cache(tmp_path_factory, monkeypatch):
    """A user's cache of our own, where trees are staged."""
    folder = tmp_path_factory.mktemp("cache")
    monkeypatch.setenv("XDG_CACHE_HOME", str(folder))
    monkeypatch.delenv("CI", raising=False)
    monkeypatch.delenv("GITHUB_ACTIONS", raising=False)
    return folder


def staged(cache):
    """What of a render is left in the cache."""
    return [path for path in cache.rglob("*") if path.name.startswith(".scaffold-")]


def files(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


# --- what is rendered


def test_every_folder_is_a_template():
    assert (
        sorted(template_sources.bundled())
        == TEMPLATES
        == sorted(path.name for path in COOKIECUTTERS.iterdir())
    )


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_renders_a_project_called_like_the_crate(template, tmp_path, cache):
    made = scaffold.new("my_filter-2", template=template, output_dir=tmp_path, no_input=True)
    assert made == Project.load(tmp_path / "my_filter-2")
    assert (made.name, made.version, made.settings.root_id) == ("my_filter-2", "0.1.0", "my_filter-2")
    assert listing(tmp_path)[0] == "my_filter-2"
    assert staged(cache) == []
    for path, content in files(made.root).items():
        if not path.endswith((".rs", ".py")):  # `proxy_wasm::main! {{`
            assert b"{{" not in content, path
        assert b"cookiecutter" not in content.lower(), path
        assert content.endswith(b"\n") and not content.endswith(b"\n\n"), path
        assert not any(line.endswith((b" ", b"\r")) for line in content.split(b"\n")), path


@pytest.mark.parametrize("template", TEMPLATES)
def test_plain_cookiecutter_renders_the_same(template, tmp_path):
    """Templates work without us. Its replay file and settings are kept out of the user's home."""
    ours = scaffold.new("hello_world", template=template, output_dir=tmp_path / "ours", no_input=True)
    (tmp_path / "home").mkdir()
    ran = run(
        *(sys.executable, "-m", "cookiecutter", COOKIECUTTERS / template, "name=hello_world"),
        *("--no-input", "--output-dir", tmp_path / "theirs"),
        env={"HOME": str(tmp_path / "home")},
    )
    assert ran.code == 0, ran.err
    theirs = files(tmp_path / "theirs" / "hello_world")
    theirs["Cargo.toml"] += ours.settings.template.text().encode()
    assert theirs == files(ours.root)


def test_the_files_of_http(tmp_path):
    assert listing(scaffold.new("hello_world", output_dir=tmp_path, no_input=True).root) == sorted(HTTP)


@pytest.mark.parametrize("template", TEMPLATES)
def test_what_all_templates_have_is_the_same_in_all(template):
    folder, http = (COOKIECUTTERS / name / "{{cookiecutter.name}}" for name in (template, "http"))
    for name in ("Makefile", "tasks.py", "pytest.ini", ".gitignore"):
        assert (folder / name).read_bytes() == (http / name).read_bytes(), name
    manifest, plain = (
        tomllib.loads(RAW.sub("x", (each / "Cargo.toml").read_text())) for each in (folder, http)
    )
    for table in ("package", "lib", "profile", "lints"):
        ours, theirs = (dict(each[table]) for each in (manifest, plain))
        for each in (ours, theirs):
            each.pop("metadata", None)
        assert ours == theirs, table
    assert manifest["dependencies"].items() >= plain["dependencies"].items()


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_template_says_in_a_line_what_it_makes(template):
    variables = json.loads((COOKIECUTTERS / template / "cookiecutter.json").read_text())
    assert re.fullmatch(r"\S.{10,85}[^.\s]", variables["_summary"])
    page = (COOKIECUTTERS.parent / "docs" / "how-to" / "templates.md").read_text()
    assert f"| `{template}` | {variables['_summary']} |" in page


@pytest.mark.parametrize("template", CONFIGURED)
def test_a_template_s_schema_is_the_one_of_its_types(template, tmp_path):
    root = scaffold.new("my_filter", template=template, output_dir=tmp_path, no_input=True).root
    assert (root / "examples" / "config_schema.rs").read_bytes() == (
        COOKIECUTTERS / "auth" / "{{cookiecutter.name}}" / "examples" / "config_schema.rs"
    ).read_bytes()
    assert not derive_schema.is_due(Project.load(root))
    content = json.loads((root / "config.schema.json").read_text())
    table = (root / "README.md").read_bytes()
    assert b"<!-- options -->\n| option |" in table
    assert derive_schema.with_table(table, content) == table
    jsonschema.validate(json.loads((root / "config.json").read_text()), content)


def test_code_is_copied_as_it_stands(tmp_path):
    made = scaffold.new("another", output_dir=tmp_path, no_input=True)
    source = COOKIECUTTERS / "http" / "{{cookiecutter.name}}"
    for name in ("src/lib.rs", "tasks.py", "tests/test_plugin.py"):
        assert (made.root / name).read_bytes() == (source / name).read_bytes()


@pytest.mark.parametrize(
    "value",
    [
        "",
        'says "hi"',
        "back\\slash \\n \\",
        "{{ cookiecutter.name }} {% raw %} {# no #}",
        "grüße, 世界, 😀, 👩‍👩‍👧",
        "'; # not a comment",
        "<b>&amp;</b>",
        "a=b=c",
        "${HOME} $(id) `id` %s %(name)s {0}",
        '"""',
    ],
)
def test_any_line_of_text_is_a_description(value, tmp_path):
    made = scaffold.new("a_filter", output_dir=tmp_path, variable=[f"description={value}"], no_input=True)
    manifest = tomllib.loads((made.root / "Cargo.toml").read_text(encoding="utf-8"))
    assert manifest["package"]["description"] == value
    assert value in (made.root / "README.md").read_text(encoding="utf-8")


@given(st.text(st.characters(exclude_categories=["Cc", "Cs", "Zl", "Zp"])))
def test_whatever_the_description_is_the_manifest_is_toml(value):
    from cookiecutter.utils import create_env_with_context

    variables = {"name": "a", "description": value, "license": value}
    manifest = (COOKIECUTTERS / "http" / "{{cookiecutter.name}}" / "Cargo.toml").read_text()
    env = create_env_with_context({"cookiecutter": variables})
    package = tomllib.loads(env.from_string(manifest).render(cookiecutter=variables))["package"]
    assert (package["description"], package["license"]) == (value, value)


@pytest.mark.parametrize("value", ["a\nb", "a\rb", "a\tb", "\0", "\x1b[31m", "\x85", "\u2028", "\udcff"])
def test_what_is_no_line_of_text_is_refused(value, tmp_path):
    with pytest.raises(UsageError) as caught:
        scaffold.new("a_filter", output_dir=tmp_path, variable=[f"description={value}"], no_input=True)
    assert caught.value.message == f"the variable `description` must be one line of plain text, not {value!r}"
    assert listing(tmp_path) == []


@pytest.mark.parametrize("umask", [0o022, 0o077, 0o002])
def test_modes_are_those_of_the_users_umask(umask, tmp_path):
    before = os.umask(umask)
    try:
        made = scaffold.new("a_filter", output_dir=tmp_path, no_input=True)
    finally:
        os.umask(before)
    assert stat.S_IMODE(made.root.stat().st_mode) == 0o777 & ~umask
    for path in made.root.rglob("*"):
        wanted = (0o777 if path.is_dir() else 0o666) & ~umask
        assert stat.S_IMODE(path.stat().st_mode) == wanted, path


# --- names

BAD_NAMES = {
    "Hello": "use lower-case",
    "héllo": "use lower-case",
    "世界": "use lower-case",
    "a/b": "use lower-case",
    "/tmp/a": "use lower-case",
    "..": "use lower-case",
    ".": "use lower-case",
    "../a": "use lower-case",
    "": "use lower-case",
    " ": "use lower-case",
    "a b": "use lower-case",
    "a\n": "use lower-case",
    ".hidden": "use lower-case",
    "-dash": "use lower-case",
    "--no-input": "use lower-case",
    "1st": "use lower-case",
    "a.b": "use lower-case",
    "a$b": "use lower-case",
    "{{cookiecutter.name}}": "use lower-case",
    "_": "it needs a letter",
    "_-_": "it needs a letter",
    "async": "it is a Rust keyword",
    "crate": "it is a Rust keyword",
    "test": "the name is reserved",
    "proxy-wasm": "the name is reserved",
    "core": "the name is reserved",
    "con": "the name is reserved",
    "lpt9": "the name is reserved",
    "a" * 65: "it is longer than 64 characters",
    "log-" * 100: "it is longer than 64 characters",
}


@pytest.mark.parametrize(("name", "why"), BAD_NAMES.items())
def test_a_name_that_makes_no_crate_is_refused_and_another_offered(name, why, tmp_path, cache, capsys):
    ran = entered(capsys, "new", "--output-dir", tmp_path / "out", "--no-input", "--", name)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.startswith(f"error: `{escaped(name)}` isn't a valid crate name: {why}")
    assert (listing(tmp_path), listing(cache)) == ([], [])
    offered = suggested(ran.err, ["hint: try `scaffold", "new"])
    assert entered(capsys, "new", offered, "--output-dir", tmp_path, "--no-input").code == 0


def test_a_name_with_bytes_that_are_no_text_is_refused(tmp_path):
    ran = run(*SCAFFOLD, "new", os.fsdecode(b"caf\xe9"), cwd=tmp_path)
    assert (ran.code, listing(tmp_path)) == (2, [])


@pytest.mark.faults(
    "R20", injected="names of crates: keywords, bytes, any text", seen="taken, or another is offered"
)
@given(st.text(max_size=80))
@example("a" * 57 + "-" * 20)
@example("_1")
@example("test")
@example("_test")
@example("TEST-")
@example("lpt1" + "-" * 70)
def test_whatever_is_typed_is_taken_or_answered_with_a_name_that_would_be(name):
    try:
        templating.check_name(name)
    except UsageError as caught:
        templating.check_name(suggested(caught.hint, ["scaffold", "new"]))


@pytest.mark.parametrize("name", ["a", "a" * 64, "_private", "a-b_c9", "r2d2", "filter", "wasm"])
def test_names_that_cargo_takes_are_taken(name, tmp_path):
    assert scaffold.new(name, output_dir=tmp_path, no_input=True).name == name


# --- where it goes


@pytest.mark.parametrize(
    "make",
    [
        Path.mkdir,
        Path.touch,
        lambda path: path.symlink_to("nowhere"),
        lambda path: path.symlink_to(path.parent),
    ],
    ids=["folder", "file", "dangling link", "link"],
)
def test_what_exists_is_refused_and_left_alone(make, tmp_path, cache, capsys):
    path = tmp_path / "hello_world"
    make(path)
    before = path.lstat()
    ran = entered(capsys, "new", "hello_world", "--output-dir", tmp_path)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err == error(f"{path} already exists", "choose another name, or another --output-dir")
    assert path.lstat() == before
    assert [entry.name for entry in tmp_path.iterdir()] == ["hello_world"]
    assert staged(cache) == []


def test_folders_above_are_made(tmp_path):
    made = scaffold.new("a_filter", output_dir=tmp_path / "b" / "c", no_input=True)
    assert made.root == tmp_path / "b" / "c" / "a_filter"


@pytest.mark.parametrize("where", ["file", "file/folder"])
def test_a_file_is_no_output_folder(where, tmp_path, capsys):
    (tmp_path / "file").touch()
    ran = entered(capsys, "new", "a_filter", "--output-dir", tmp_path / where)
    assert (ran.code, ran.out) == (2, "")
    assert ran.err.endswith(error(f"{tmp_path / where} is not a folder", "choose another --output-dir"))
    assert listing(tmp_path) == ["file"]


def test_a_name_too_long_for_the_system_is_said(tmp_path, capsys):
    ran = entered(capsys, "new", "a_filter", "--output-dir", tmp_path / ("a" * 300))
    assert (ran.code, ran.err.endswith(": File name too long\n")) == (4, True)


@pytest.mark.faults("R6", injected="`new`: an output folder that is read-only", seen="exit code 4, named")
def test_a_folder_that_may_not_be_written_is_the_machines_fault(tmp_path, cache):
    if os.geteuid() == 0:  # whom permissions don't bind
        where = Path("/sys")
        if not where.is_dir():
            pytest.skip("nowhere that root may not write")
    else:
        where = tmp_path
        where.chmod(0o555)
    before = set(where.iterdir())
    ran = run(*SCAFFOLD, "new", "a_filter", "--output-dir", where, "--no-input")
    assert (ran.code, ran.out) == (4, "")
    assert ran.err.splitlines()[-1].startswith((f"error: {where}/", f"error: {where}: "))
    assert (set(where.iterdir()), staged(cache)) == (before, [])


@pytest.mark.faults("R6", injected="`new`: a HOME that isn't there, or a file", seen="not needed")
def test_home_is_neither_needed_nor_heeded_nor_written(tmp_path, monkeypatch):
    """No ~/.cookiecutterrc over our defaults, no replay file, no home at all."""
    monkeypatch.delenv("XDG_CACHE_HOME")
    (tmp_path / "file").touch()
    home = tmp_path / "home"
    home.mkdir()
    (home / ".cookiecutterrc").write_text("default_context:\n  license: MIT\n  name: other\n")
    for folder in (home, tmp_path / "file", tmp_path / "nowhere"):
        out = tmp_path / f"out-{folder.name}"
        env = {"HOME": str(folder), "COOKIECUTTER_CONFIG": str(home / ".cookiecutterrc")}
        ran = run(*SCAFFOLD, "new", "a_filter", "--output-dir", out, "--no-input", env=env)
        assert ran.code == 0, ran.err
        assert 'license = "Apache-2.0"' in (out / "a_filter" / "Cargo.toml").read_text()
        assert [path.name for path in out.iterdir()] == ["a_filter"]
    assert sorted(path.name for path in home.iterdir()) in (
        [".cookiecutterrc"],
        [".cache", ".cookiecutterrc"],
    )
    assert not any("replay" in name or "cookiecutters" in name for name in listing(home))
    assert not (tmp_path / "nowhere" / ".cookiecutters").exists()


# --- interrupted

NEW = (*SCAFFOLD, "new", "hello_world", "--no-input")


def begun(folder):
    """A `new` that has begun to render."""
    child = subprocess.Popen(NEW, cwd=folder, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
    assert child.stderr.readline() == "Rendering http to hello_world\n"
    return child


def whole_or_absent(folder, cache):
    """Whether it is there; then that it is complete, and that nothing else is."""
    there = [path.name for path in folder.iterdir()]
    assert there in ([], ["hello_world"])
    if there:
        assert listing(folder / "hello_world") == sorted(HTTP)
        Project.load(folder / "hello_world")
    return bool(there)


@pytest.mark.faults("R1", injected="`new`: six moments while the files are written", seen="whole or absent")
@pytest.mark.parametrize(("number", "turns"), [(signal.SIGKILL, 8), (signal.SIGINT, 4), (signal.SIGTERM, 2)])
def test_whenever_it_is_ended_the_folder_is_whole_or_absent(number, turns, tmp_path, cache):
    seed = random.randrange(10**6)
    print(f"seed {seed}")
    chance = random.Random(seed)
    # once to its end, for how long there is to hit: most of it is the import of cookiecutter
    (tmp_path / "measured").mkdir()
    child, begin = begun(tmp_path / "measured"), time.monotonic()
    child.communicate()
    length = time.monotonic() - begin
    for turn in range(turns):
        folder = tmp_path / str(turn)
        folder.mkdir()
        child = begun(folder)
        time.sleep(chance.uniform(0.5, 1.05) * length)  # when the files are written
        child.send_signal(number)
        err = child.communicate(timeout=20)[1]
        there = whole_or_absent(folder, cache)
        if number != signal.SIGKILL:
            assert child.returncode in (0, 128 + number, -number), (
                err
            )  # the last: when nothing is left to undo
            assert there or child.returncode != 0
            assert "Traceback" not in err
            assert staged(cache) == []
    ran = run(*NEW, cwd=tmp_path)  # the same again succeeds, and sweeps
    assert (ran.code, staged(cache)) == (0, [])


def test_of_two_at_once_one_wins_and_the_other_is_told(tmp_path, cache):
    both = [
        subprocess.Popen(NEW, cwd=tmp_path, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True)
        for _ in range(2)
    ]
    said = [child.communicate(timeout=20)[1] for child in both]
    assert sorted(child.returncode for child in both) == [0, 2]
    loser = said[[child.returncode for child in both].index(2)]
    assert "error: hello_world already exists\n\nhint: choose another name" in loser
    assert whole_or_absent(tmp_path, cache)
    assert staged(cache) == []
