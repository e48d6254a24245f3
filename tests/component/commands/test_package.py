"""`package` and what is done with local images, without cargo: modules come from the assembler."""

import json
import re
import subprocess

import pytest
from support import wasm_asm
from support.commands import entered, error
from support.odd_modules import build
from support.repositories import commit

from scaffold.hosts.source import open_image
from scaffold.oci.module_layer import layout_of
from scaffold.oci.plugin_info import PluginInfo
from scaffold.oci.reference import Reference
from scaffold.oci.store import Store
from scaffold.oci.variants import VARIANTS, cncf

SCHEMA = "proxy-wasm.plugin/configuration-schema"

CARGO_TOML = """[package]
name = "Hello_World"
version = "1.2.3+build.4"
description = "Says hello"
license = "MIT"
repository = "https://example.com/hello"

[lib]
crate-type = ["cdylib"]

[package.metadata.proxy-wasm]
root-id = "greeter"
configuration = "config.json"
"""


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    for kind in ("DATA", "CACHE", "STATE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / "xdg" / kind))
    folder = tmp_path / "here"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def module(home):
    path = home / "filter.wasm"
    path.write_bytes(wasm_asm.plugin())
    return path


@pytest.fixture
def crate(home, module):
    """A crate that isn't built: its module is given."""
    (home / "Cargo.toml").write_text(CARGO_TOML)
    (home / "config.json").write_text('{"a": 1}')
    return home


def packaged(capsys, *words):
    ran = entered(capsys, "package", *words, "--json")
    assert ran.code == 0, ran.err
    return json.loads(ran.out)


def annotations(name):
    return Store().find(Reference.parse(name)).annotations


def git(folder, *words):
    env = {"GIT_CONFIG_GLOBAL": "/dev/null", "HOME": str(folder), "PATH": "/usr/local/bin:/usr/bin:/bin"}
    identity = ["-c", "user.name=A", "-c", "user.email=a@example.com"]
    ran = subprocess.run(["git", *identity, *words], cwd=folder, env=env, check=True, capture_output=True)
    return ran.stdout.decode().strip()


def test_a_file_is_packaged_under_its_own_name(module, capsys):
    made = packaged(capsys, "filter.wasm")
    assert made["reference"] == "filter:latest"
    assert made["variant"] == "compat"
    assert annotations("filter") == {
        "module.wasm.image/variant": "compat",
        "module.wasm.runtime/abi_version": "v0.2.1",
        "module.wasm.runtime/type": "envoy_proxy",
        "org.opencontainers.image.title": "filter",
        "proxy-wasm.module/digest": made["module_digest"],
        "proxy-wasm.plugin/type": "http",
    }


def test_a_crate_gives_its_image_name_version_and_facts(crate, capsys):
    made = packaged(capsys, "filter.wasm")
    assert made["reference"] == "hello_world:1.2.3_build.4"
    said = annotations(made["reference"])
    assert said["org.opencontainers.image.title"] == "Hello_World"
    assert said["org.opencontainers.image.version"] == "1.2.3+build.4"
    assert said["org.opencontainers.image.description"] == "Says hello"
    assert said["org.opencontainers.image.licenses"] == "MIT"
    assert said["org.opencontainers.image.source"] == "https://example.com/hello"
    assert said["proxy-wasm.plugin/root-ids"] == "greeter"
    assert said["proxy-wasm.plugin/configuration"] == '{"a": 1}'
    assert "org.opencontainers.image.revision" not in said


def test_a_file_from_elsewhere_is_no_module_of_the_crate_that_one_stands_in(crate, tmp_path, capsys):
    """Unless the crate is named."""
    other = tmp_path / "other.wasm"
    other.write_bytes(wasm_asm.plugin())
    assert packaged(capsys, "../other.wasm")["reference"] == "other:latest"
    said = annotations("other")
    assert said["org.opencontainers.image.title"] == "other"
    assert not {key for key in said if key.endswith(("version", "source", "root-ids", "configuration"))} - {
        "module.wasm.runtime/abi_version"
    }
    assert packaged(capsys, "../other.wasm", "--root", crate)["reference"] == "hello_world:1.2.3_build.4"
    (crate / "src").mkdir()
    assert packaged(capsys, other, "--root", "src")["reference"] == "other:latest"


def test_what_a_workspace_says_counts(home, module, capsys):
    (home / "Cargo.toml").write_text(
        '[workspace]\nmembers = ["a"]\n[workspace.package]\nversion = "7.0.0"\nlicense = "MIT"\n'
    )
    crate = home / "a"
    crate.mkdir()
    (crate / "Cargo.toml").write_text(
        '[package]\nname = "a"\nversion.workspace = true\nlicense = { workspace = true }\n'
        '[lib]\ncrate-type = ["cdylib"]\n'
    )
    made = packaged(capsys, module, "--root", crate)
    assert made["reference"] == "a:7.0.0"
    assert annotations("a:7.0.0")["org.opencontainers.image.licenses"] == "MIT"


def test_the_revision_is_named_when_it_is_the_whole_truth(crate, capsys):
    git(crate, "init", "-q")
    git(crate, "add", ".")
    git(crate, "commit", "-q", "-m", "one")
    made = packaged(capsys, "filter.wasm", "-t", "clean:1")
    assert annotations("clean:1")["org.opencontainers.image.revision"] == git(crate, "rev-parse", "HEAD")
    (crate / "config.json").write_text("{}")
    ran = entered(capsys, "package", "filter.wasm", "-t", "dirty:1")
    assert "uncommitted changes" in ran.err
    assert "org.opencontainers.image.revision" not in annotations("dirty:1")
    assert made["manifest_digest"] != Store().find(Reference.parse("dirty:1")).digest


@pytest.mark.parametrize("variable", ["GIT_DIR", "GIT_INDEX_FILE", "GIT_WORK_TREE"])
def test_the_revision_is_the_crates_when_a_hook_of_another_repository_runs_us(
    crate, tmp_path, capsys, monkeypatch, variable
):
    git(crate, "init", "-q")
    git(crate, "add", ".")
    git(crate, "commit", "-q", "-m", "one")
    other = tmp_path / "other"
    other.mkdir()
    commit(other)
    places = {"GIT_DIR": other / ".git", "GIT_INDEX_FILE": other / ".git/index", "GIT_WORK_TREE": other}
    monkeypatch.setenv(variable, str(places[variable]))
    packaged(capsys, "filter.wasm", "-t", "hooked:1")
    assert annotations("hooked:1")["org.opencontainers.image.revision"] == git(crate, "rev-parse", "HEAD")


def test_no_revision_is_named_that_another_crate_of_the_repository_isnt_at(home, module, capsys):
    (home / "a").mkdir()
    (home / "a/Cargo.toml").write_text(CARGO_TOML.partition("[package.metadata")[0])
    (home / "b.rs").write_text("")
    git(home, "init", "-q")
    git(home, "add", ".")
    git(home, "commit", "-q", "-m", "one")
    (home / "b.rs").write_text("// another")
    packaged(capsys, module, "--root", home / "a", "-t", "a:1")
    assert "org.opencontainers.image.revision" not in annotations("a:1")


def test_wasmes_configuration_file_says_the_root_ids(module, home, capsys):
    (home / "runtime-config.json").write_text(
        '{"type": "envoy_proxy", "abiVersions": ["v0.2.1"], "config": {"rootIds": ["a", "b"]}}'
    )
    packaged(
        capsys, "filter.wasm", "-t", "x:1", "--variant", "oci", "--runtime-config", "runtime-config.json"
    )
    manifest = Store().find(Reference.parse("x:1"))
    layout = layout_of(manifest)
    assert layout.variant == "oci"
    config = Store().blobs.read(layout.runtime_config)
    assert PluginInfo.of_image(manifest, Reference.parse("x:1"), config).root_ids == ("a", "b")
    assert json.loads(config)["config"] == {"rootIds": ["a", "b"]}


def test_a_root_id_that_cannot_be_written_is_refused(crate, capsys):
    (crate / "Cargo.toml").write_text(CARGO_TOML.replace('"greeter"', '"a, b"'))
    ran = entered(capsys, "package", "filter.wasm")
    assert (ran.code, "commas separate root ids" in ran.err) == (6, True)


def test_a_large_or_binary_configuration_stays_out(crate, capsys):
    for content in (b"\xff\xfe", b" " * 100_000):
        (crate / "config.json").write_bytes(content)
        ran = entered(capsys, "package", "filter.wasm")
        assert (ran.code, "the default configuration isn't in the image" in ran.err) == (0, True)
        assert "proxy-wasm.plugin/configuration" not in annotations("hello_world:1.2.3_build.4")


@pytest.mark.parametrize("variant", VARIANTS)
def test_the_configurations_schema_goes_in_and_is_said_again(crate, capsys, variant):
    (crate / "config.schema.json").write_text('{\n  "type": "object",\n  "title": "Grüße"\n}\n')
    made = packaged(capsys, "filter.wasm", "--variant", variant)
    assert annotations(made["reference"])[SCHEMA] == '{"type":"object","title":"Grüße"}'
    assert packaged(capsys, "filter.wasm", "--variant", variant) == made
    assert packaged(capsys, made["reference"], "--variant", variant, "-t", "again:1")
    assert annotations("again:1")[SCHEMA] == annotations(made["reference"])[SCHEMA]


def test_inspect_cuts_what_is_long(crate, capsys):
    (crate / "config.schema.json").write_text(json.dumps({"title": "x" * 1000}))
    packaged(capsys, "filter.wasm", "-t", "long:1")
    ran = entered(capsys, "inspect", "long:1")
    assert f'{SCHEMA}: {{"title":"{"x" * 290}… (1,012 characters)' in ran.out
    assert "x" * 1000 in entered(capsys, "inspect", "long:1", "--json").out


def test_a_large_schema_stays_out(crate, capsys):
    (crate / "config.schema.json").write_text(json.dumps({"title": "x" * 2**16}))
    ran = entered(capsys, "package", "filter.wasm")
    said = "the configuration's schema isn't in the image: it is binary, or larger than 64 kB"
    assert (ran.code, said in ran.err) == (0, True)
    assert SCHEMA not in annotations("hello_world:1.2.3_build.4")


def test_the_schema_of_another_source_stays_out(crate, capsys):
    (crate / "src").mkdir()
    (crate / "src/config.rs").write_text("new")
    (crate / "config.schema.json").write_text('{"$comment": "derived from src/config.rs, digest sha256:0"}')
    packaged(capsys, "filter.wasm")
    assert SCHEMA not in annotations("hello_world:1.2.3_build.4")


@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["-t", "Hello"], 2, "a repository's name must be in lower case"),
        (["-t", "hello:1+2"], 2, "a tag can't hold a `+`"),
        (["-t", f"hello@sha256:{'0' * 64}"], 2, "its digest follows from its content"),
        (["--variant", "docker"], 2, "no variant named `docker`"),
        (["--runtime-config", "nowhere.json"], 2, "cannot read nowhere.json"),
        (["--runtime-config", "filter.wasm"], 6, "runtime-config.json isn't JSON"),
    ],
)
def test_bad_input_is_refused_before_anything_is_stored(module, capsys, words, code, message):
    ran = entered(capsys, "package", "filter.wasm", *words)
    assert (ran.code, message in ran.err, ran.out) == (code, True, ""), ran.err
    assert Store().entries() == []


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"", "is empty"),
        (b"hello", "isn't a wasm module"),
        (b"\0asm\x0d\0\1\0", "is a WebAssembly component"),
        (wasm_asm.plugin("no_marker"), "exports no proxy-wasm ABI marker"),
    ],
)
def test_what_is_no_plugin_is_not_packaged(home, capsys, content, message):
    (home / "bad.wasm").write_bytes(content)
    ran = entered(capsys, "package", "bad.wasm")
    assert (ran.code, message in ran.err) == (6, True), ran.err
    assert Store().entries() == []


def test_images_are_listed_named_and_removed(module, capsys):
    packaged(capsys, "filter.wasm", "-t", "a:1")
    assert entered(capsys, "tag", "a:1", "localhost:5000/b:2").out == "localhost:5000/b:2\n"
    lines = entered(capsys, "images").out.splitlines()
    assert [line.split()[:3] for line in lines] == [
        ["NAME", "TAG", "VARIANT"],
        ["a", "1", "compat"],
        ["localhost:5000/b", "2", "compat"],
    ]
    assert [row["name"] for row in json.loads(entered(capsys, "images", "--json").out)] == [
        "a",
        "localhost:5000/b",
    ]
    assert entered(capsys, "rmi", "a:1", "localhost:5000/b:2").code == 0
    assert entered(capsys, "images").out == "no images yet: `scaffold package` makes one\n"
    assert entered(capsys, "rmi").code == 2


def test_an_image_is_inspected(crate, capsys):
    packaged(capsys, "filter.wasm", "-t", "x:1")
    ran = entered(capsys, "inspect", "x:1", "--json")
    story = json.loads(ran.out)
    assert story["variant"] == "compat"
    assert story["plugin"]["root_ids"] == ["greeter"]
    assert {one["name"]: one["loads"] for one in story["consumers"]}["wasme"] is False
    text = entered(capsys, "inspect", "x:1").out
    assert "manifest digest" in text
    assert "module digest" in text


@pytest.mark.parametrize("given", ["compat", "oci", "cncf"])
def test_an_image_becomes_one_of_another_variant_with_all_that_was_said(crate, capsys, tmp_path, given):
    packaged(capsys, "filter.wasm", "-t", "given:1", "--variant", given)
    wanted = packaged(capsys, "filter.wasm", "-t", "wanted:1")
    (crate / "Cargo.toml").unlink()
    made = packaged(capsys, "given:1")
    assert made["reference"] == "hello_world:1.2.3_build.4"
    assert made["manifest_digest"] == wanted["manifest_digest"]


def test_the_image_of_a_network_plugin_stays_one(crate, capsys):
    (crate / "Cargo.toml").write_text(CARGO_TOML + 'type = "network"\n')
    packaged(capsys, "filter.wasm", "-t", "a:1")
    packaged(capsys, "a:1", "-t", "b:1", "--variant", "oci")
    assert annotations("b:1")["proxy-wasm.plugin/type"] == "network"


def test_what_an_image_says_cant_control_the_terminal(module, capsys):
    evil = "\x1b[31m\n\x07\x9b"
    image = cncf(module.read_bytes(), PluginInfo(name=evil, version=evil, configuration=evil))
    Store().add(image, Reference.parse("evil:1"))
    ran = entered(capsys, "inspect", "evil:1")
    assert (ran.code, "annotations" in ran.out) == (0, True)
    assert all(line.isprintable() for line in ran.out.splitlines())
    assert open_image("evil:1").info.name == "evil"


def test_a_pushed_name_needs_a_registry(module, capsys):
    packaged(capsys, "filter.wasm", "-t", "x:1")
    for command in ("push", "pull"):
        ran = entered(capsys, command, "x:1")
        assert (ran.code, "doesn't name a registry" in ran.err) == (2, True)
    ran = entered(capsys, "push", "none:1")  # not to be tagged first
    assert ran.err == error("there is no local image `none:1`", "`scaffold images` lists the local images")


WASME = {
    "image_ref": "webassemblyhub.io/acme/add-header:v0.1",
    "runtime-config.json": '{"type":"envoy_proxy","abiVersions":["v0.2.1"],"config":{"rootIds":["a_b"]}}',
}


def test_wasmes_store_is_taken_over(home, module, capsys, tmp_path):
    from scaffold.wasm.module import WasmModule

    def place(name, digest):
        folder = tmp_path / "store" / name
        folder.mkdir(parents=True)
        for file, text in WASME.items():
            (folder / file).write_text(text)
        (folder / "filter.wasm").write_bytes(module.read_bytes())
        (folder / "descriptor.json").write_text(json.dumps({"digest": digest}))
        return folder

    place("a", WasmModule.read(module).digest)
    broken = place("b", "sha256:" + "0" * 64)
    (broken / "image_ref").write_text("webassemblyhub.io/acme/other:v0.1")
    no_text = place("c", "")
    (no_text / "image_ref").write_bytes(b"\xff\xfe")
    nested = place("d", "")
    (nested / "descriptor.json").write_text("[" * 100_000)
    ran = entered(capsys, "import-wasme", "--store", tmp_path / "store")
    assert (ran.code, ran.out) == (0, "webassemblyhub.io/acme/add-header:v0.1\n")
    assert all(str(each) in ran.err for each in (broken, no_text, nested))
    manifest = Store().find(Reference.parse(WASME["image_ref"]))
    layout = layout_of(manifest)
    assert layout.variant == "oci"
    assert Store().blobs.read(layout.module) == module.read_bytes()
    assert Store().blobs.read(layout.runtime_config).decode() == WASME["runtime-config.json"]


def test_no_store_of_wasmes_is_said(tmp_path, capsys):
    ran = entered(capsys, "import-wasme", "--store", tmp_path / "nowhere")
    assert (ran.code, "there is no wasme store" in ran.err) == (2, True)


WBINDGEN = ("__wbindgen_placeholder__", "__wbindgen_describe", "i>-")


@pytest.mark.parametrize("from_image", [False, True], ids=["a file", "an image"])
def test_of_a_module_that_envoy_does_not_load_it_says_why(from_image, home, capsys):
    (home / "flt.wasm").write_bytes(build([WBINDGEN, ("env", "proxy_lgo", "i>i")]))
    argument = "flt.wasm"
    if from_image:
        entered(capsys, "package", "flt.wasm", "--tag", "flt:1")
        argument = "flt:1"
    ran = entered(capsys, "package", argument, "--tag", "again:1")
    assert ran.code == 0
    (warning,) = [line for line in ran.err.splitlines() if line.startswith("warning: ")]
    assert "wasm: it imports `__wbindgen_placeholder__.__wbindgen_describe`, which Envoy doesn't" in warning
    assert "have; a dependency wants JavaScript (wasm-bindgen)" in " ".join(ran.err.split())


def test_of_one_that_envoy_loads_it_says_nothing(home, capsys):
    (home / "flt.wasm").write_bytes(build())
    ran = entered(capsys, "package", "flt.wasm", "--tag", "flt:1")
    assert (ran.code, "warning" in ran.err) == (0, False)


@pytest.mark.parametrize("command", ["run", "deploy", "test", "inspect", "package"])
@pytest.mark.parametrize("name", ["layout", "./layout", "layout/index.json"])
def test_an_image_layout_is_refused_by_name_and_its_module_can_be_got(
    command, name, tmp_path, monkeypatch, capsys
):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "Cargo.toml").write_text(CARGO_TOML)
    info = PluginInfo("hello")
    for variant in ("compat", "cncf"):
        Store(tmp_path / "layout").add(
            VARIANTS[variant](wasm_asm.plugin(), info), Reference.parse(f"x/{variant}:1")
        )
    words = {"test": ["--module", name], "deploy": ["envoy", name]}.get(command, [name])
    ran = entered(capsys, command, *words)
    assert ran.code == 2
    assert f"error: {name.removeprefix('./').removesuffix('/index.json')} is an image layout" in ran.err
    tar = re.search(r"x/compat:1: `(tar .*?)`, and pass plugin\.wasm", ran.err)
    subprocess.run(tar[1], shell=True, check=True)
    assert (tmp_path / "plugin.wasm").read_bytes() == wasm_asm.plugin()
    file = re.search(r"x/cncf:1 is the file (\S+)", ran.err)
    assert entered(capsys, "inspect", file[1]).code == 0


def test_a_damaged_layout_is_refused_too(tmp_path, capsys):
    (tmp_path / "oci-layout").write_text("{")
    ran = entered(capsys, "inspect", tmp_path)
    assert (ran.code, "is an image layout" in ran.err) == (2, True)
