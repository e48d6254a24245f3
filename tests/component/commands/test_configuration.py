"""At every door a configuration is held against the project's schema, before a host or a cluster sees it."""

import json
import time

import pytest
from support import wasm_asm
from support.commands import entered, error
from support.crates import plugin_of
from support.documents import ROOT

from scaffold.errors import ProjectError, UsageError
from scaffold.oci.plugin_info import PluginInfo
from scaffold.oci.reference import Reference
from scaffold.oci.spec import ImageError
from scaffold.oci.store import Store
from scaffold.oci.variants import compat
from scaffold.project import config_validation as schema
from scaffold.project.config_validation import Schema
from scaffold.project.crate import Project
from scaffold.toolchain import derive_schema
from scaffold.wasm.module import WasmModule

CARGO_TOML = '[package]\nname = "gate"\nversion = "0.1.0"\n[lib]\ncrate-type = ["cdylib"]\n'
SETTING = '[package.metadata.proxy-wasm]\nconfiguration = "config.json"\n'
SCHEMA = {
    "type": "object",
    "properties": {"keys": {"type": "array", "items": {"type": "string"}}},
    "required": ["keys"],
    "additionalProperties": False,
}
DOORS = [
    ["run", "gate.wasm", "--port=0"],
    ["bootstrap", "gate.wasm"],
    ["deploy", "envoy", "gate.wasm", "--port=0"],
    ["manifest", "envoy", "gate.wasm", "--file=/gate.wasm"],
    ["manifest", "istio", "gate.wasm", "--selector=app=web", "--url=https://modules.example/gate.wasm"],
    ["deploy", "istio", "gate.wasm", "--selector=app=web", "--url=https://modules.example/gate.wasm"],
]
IMAGE = "gate:1"
OF_IMAGE = [[IMAGE if word == "gate.wasm" else word for word in door] for door in DOORS]
BAD_FILE = "config.json does not match config.schema.json: keys[0]: 3 is not of type string"


TEMPLATES = [path.parent for path in sorted(ROOT.glob("cookiecutters/*/*/examples"))]


@pytest.fixture
def crate(tmp_path, monkeypatch):
    """A crate with a schema and a configuration that fits, and a module of it that needn't be built."""
    for kind in ("DATA", "CACHE", "STATE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / "xdg" / kind))
    root = tmp_path / "gate"
    root.mkdir()
    (root / "Cargo.toml").write_text(CARGO_TOML + SETTING)
    (root / "config.json").write_text('{"keys": ["a"]}')
    (root / "config.schema.json").write_text(json.dumps(SCHEMA))
    (root / "gate.wasm").write_bytes(wasm_asm.plugin())
    monkeypatch.chdir(root)
    return root


@pytest.fixture(params=OF_IMAGE, ids=lambda door: "-".join(door[:2]))
def of_image(request):
    return request.param


@pytest.fixture
def image(tmp_path, monkeypatch):
    """Makes an image, in the store here, of a plugin with that default configuration and that schema."""
    for kind in ("DATA", "CACHE", "STATE"):
        monkeypatch.setenv(f"XDG_{kind}_HOME", str(tmp_path / "xdg" / kind))
    monkeypatch.chdir(tmp_path)

    def image(configuration, content=json.dumps(SCHEMA)):
        said = "" if configuration is None else json.dumps(configuration)
        metadata = PluginInfo("gate", configuration=said, schema=content)
        Store().add(compat(wasm_asm.plugin(), metadata), Reference.parse(IMAGE))

    return image


@pytest.mark.parametrize("door", [*DOORS, ["package", "gate.wasm"]], ids=lambda door: "-".join(door[:2]))
def test_a_default_that_does_not_fit_is_refused(crate, capsys, door):
    (crate / "config.json").write_text('{"keys": [3]}')
    ran = entered(capsys, *door)
    assert ran.code == ProjectError.exit_code
    assert ran.err.endswith(error(BAD_FILE))


@pytest.mark.parametrize("given", ['{"keys": [3]}', "prod.json"], ids=["JSON", "a file"])
@pytest.mark.parametrize("door", DOORS, ids=lambda door: "-".join(door[:2]))
def test_one_that_is_given_and_does_not_fit_is_refused(crate, capsys, door, given):
    (crate / "prod.json").write_text('{"keys": [3]}')
    ran = entered(capsys, *door, f"--config={given}")
    assert ran.code == UsageError.exit_code
    said = "--config does not match config.schema.json: keys[0]: 3 is not of type string"
    assert ran.err.endswith(error(said))


@pytest.mark.parametrize("content", ["{", '{"type": "strin"}'], ids=["not JSON", "no schema"])
@pytest.mark.parametrize("door", [*DOORS, ["package", "gate.wasm"]], ids=lambda door: "-".join(door[:2]))
def test_a_schema_that_is_none_is_a_fault_of_the_project(crate, capsys, door, content):
    (crate / "config.schema.json").write_text(content)
    ran = entered(capsys, *door)
    assert ran.code == ProjectError.exit_code
    why = "is not JSON" if content == "{" else "isn't a JSON Schema"
    assert f"error: {crate}/config.schema.json {why}" in ran.err


def test_an_images_default_that_does_not_fit_is_refused(image, capsys, of_image):
    image({"keys": [3]})
    ran = entered(capsys, *of_image)
    assert ran.code == ImageError.exit_code
    said = "the image's configuration does not match config.schema.json: keys[0]: 3 is not of type string"
    assert ran.err.endswith(error(said, "pass another with --config"))


def test_one_that_is_given_to_an_image_and_does_not_fit_is_refused(image, capsys, of_image):
    image({"keys": []})
    ran = entered(capsys, *of_image, '--config={"kyes": []}')
    assert ran.code == UsageError.exit_code
    lines = ["--config does not match config.schema.json:", "  'keys' is a required property"]
    lines += ["  kyes: there is no such option; did you mean `keys`?"]
    assert ran.err.endswith(error("\n".join(lines)))


def test_an_image_that_was_not_told_a_configuration_wants_one(image, capsys, of_image):
    image(None)
    ran = entered(capsys, *of_image)
    assert ran.code == ImageError.exit_code
    assert "error: an empty configuration does not match config.schema.json: 'keys' is a req" in ran.err


@pytest.mark.parametrize(
    ("content", "why"), [("{", "is not JSON"), ('{"type": "strin"}', "isn't a JSON Schema")]
)
def test_a_schema_that_is_none_is_a_fault_of_the_image(image, capsys, of_image, content, why):
    image({"keys": []}, content)
    ran = entered(capsys, *of_image)
    assert ran.code == ImageError.exit_code
    assert f"error: the image's config.schema.json {why}" in ran.err


HOSTILE = {
    "a pattern that never ends": {"properties": {"a": {"pattern": "^(a+)+$"}}},
    "references that double": {
        "$defs": {
            "0": {"type": "object"},
            **{f"{at}": {"allOf": [{"$ref": f"#/$defs/{at - 1}"}] * 2} for at in range(1, 40)},
        },
        "$ref": "#/$defs/39",
    },
    "patterns that grow": {"properties": {"a": {"pattern": "|".join(["(a{0,9999}){0,9999}b"] * 2000)}}},
}


@pytest.mark.faults("R22", injected="an image's schema: checking it never ends", seen="exit code 6")
@pytest.mark.parametrize("kind", HOSTILE)
def test_a_hostile_schema_of_an_image_is_given_up(image, capsys, kind):
    image({"a": f"{'a' * 60}!"}, json.dumps(HOSTILE[kind]))
    began = time.monotonic()
    ran = entered(capsys, "deploy", "envoy", IMAGE, "--port=0")
    assert ran.code == ImageError.exit_code, ran.err
    assert "error: the image's config.schema.json takes too much time or memory to check" in ran.err
    assert time.monotonic() - began < 60


def test_what_fits_an_images_schema_passes(image, capsys, monkeypatch, tmp_path):
    image({"keys": [3]})
    door = ["manifest", "envoy", IMAGE, "--file=/gate.wasm"]
    ran = entered(capsys, *door, '--config={"keys": ["given"]}')
    assert (ran.code, "given" in ran.out) == (0, True), ran.err
    image({"keys": ["own"]})
    ran = entered(capsys, *door)
    assert (ran.code, "own" in ran.out) == (0, True), ran.err


def test_the_right_ones_pass(crate, capsys):
    for words in ([], ['--config={"keys": []}']):
        ran = entered(capsys, "manifest", "envoy", "gate.wasm", "--file=/gate.wasm", *words)
        assert ran.code == 0, ran.err
    assert entered(capsys, "package", "gate.wasm").code == 0


def test_one_that_is_given_counts_alone(crate):
    (crate / "config.json").write_text('{"keys": [3]}')
    module = WasmModule.read(crate / "gate.wasm")
    assert plugin_of(crate, module, '{"keys": []}').configuration == b'{"keys": []}'


def test_a_project_without_a_configuration_must_fit_as_if_it_were_an_empty_object(crate):
    (crate / "Cargo.toml").write_text(CARGO_TOML)
    with pytest.raises(ProjectError) as caught:
        Project.load(crate).configured()
    said = "the empty configuration of gate does not match config.schema.json: 'keys' is a required property"
    assert caught.value.message == said
    assert caught.value.hint.endswith('of Cargo.toml: `configuration = "config.json"`')
    (crate / "config.schema.json").write_text(json.dumps(SCHEMA | {"required": []}))
    assert Project.load(crate).configured() == b""


def test_without_a_schema_anything_passes(crate):
    (crate / "config.schema.json").unlink()
    (crate / "config.json").write_bytes(b"\xff")
    assert Project.load(crate).configured() == b"\xff"


def test_a_schema_of_an_older_source_hinders_nobody(crate):
    """Its build has warned; a new option in both source and configuration is no fault."""
    (crate / "src").mkdir()
    (crate / "src/config.rs").write_text("old")
    (crate / "config.schema.json").write_text(json.dumps(SCHEMA | {"$comment": schema.comment(crate)}))
    (crate / "config.json").write_text('{"new": 1}')
    with pytest.raises(ProjectError):
        Project.load(crate).configured()
    (crate / "src/config.rs").write_text("new")
    assert Project.load(crate).configured() == b'{"new": 1}'


def test_what_checks_is_imported_only_where_there_is_a_schema(crate):
    """It takes a tenth of a second."""
    import subprocess
    import sys

    program = (
        "import sys; from pathlib import Path; from scaffold.project.crate import Project;"
        "Project.load(Path()).configured(); print('jsonschema' in sys.modules)"
    )

    def imported():
        return subprocess.run([sys.executable, "-c", program], capture_output=True, text=True).stdout

    assert imported() == "True\n"
    (crate / "config.schema.json").unlink()
    assert imported() == "False\n"


def test_there_are_templates_with_a_configuration():
    assert len(TEMPLATES) > 3


@pytest.mark.parametrize("template", TEMPLATES, ids=lambda folder: folder.parent.name)
def test_a_templates_schema_table_and_configuration_are_of_its_source(template):
    """Else its first build would derive them: for half a minute. What cargo says of them is in e2e."""
    found = Schema.of(template)
    assert found, "derive it anew: remove it, and `scaffold build`"
    assert found.comment == schema.comment(template)
    text = (template / "README.md").read_bytes()
    assert b"<!-- options -->\n|" in text
    assert derive_schema.with_table(text, found.content) == text
    assert found.violations((template / "config.json").read_bytes()) == []


@pytest.mark.parametrize(("key", "what"), [("configuration", "config.json"), ("vm-configuration", "vm.json")])
def test_a_build_names_a_file_of_the_settings_that_is_not_there(key, what, crate, capsys):
    (crate / "Cargo.toml").write_text(CARGO_TOML + SETTING.partition("\n")[0] + f'\n{key} = "{what}"\n')
    (crate / "config.json").unlink()
    ran = entered(capsys, "build")
    assert (ran.code, ran.out) == (3, "")
    assert ran.err == error(f"cannot read the configuration {crate / what}: No such file or directory")


def test_before_the_tests_what_source_and_settings_disagree_about_is_said(crate, capsys, monkeypatch):
    """What pytest's own process would say, nobody would see."""
    (crate / "Cargo.toml").write_text(CARGO_TOML + SETTING + 'type = "service"\n')
    (crate / "src").mkdir()
    (crate / "src/lib.rs").write_text('set_http_context(a); self.dispatch_http_call("authz", x)')
    monkeypatch.setenv("PATH", str(crate))
    monkeypatch.setenv("HOME", str(crate))
    ran = entered(capsys, "test")
    assert ran.code == 4, "there is no toolchain, which is seen later"
    assert 'warning: gate has `type = "service"`, which no traffic passes' in ran.err
    assert "warning: src/lib.rs calls the cluster `authz`, which isn't defined" in ran.err
    (crate / "envoy.yaml").write_text("{}")
    assert "authz" not in entered(capsys, "test", "--bootstrap", "envoy.yaml").err
