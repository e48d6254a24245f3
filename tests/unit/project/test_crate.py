import json
import os
import shutil
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from support import wasm_asm as asm
from support.crates import plugin_of

from scaffold.errors import ProjectError, UsageError
from scaffold.hosts.options import HostSettings
from scaffold.hosts.plugin import Plugin
from scaffold.project.cargo_toml import read_manifest
from scaffold.project.config_validation import read_configuration
from scaffold.project.crate import Project, Settings
from scaffold.wasm.module import WasmModule

CRATE = '[package]\nname = "hello"\nversion = "1.2.3"\n\n[lib]\ncrate-type = ["cdylib"]\n'
TABLE = "\n[package.metadata.proxy-wasm]\n"


@pytest.fixture
def crate(tmp_path):
    """Writes a Cargo.toml and gives its folder."""

    def write(content):
        (tmp_path / "Cargo.toml").write_bytes(content if isinstance(content, bytes) else content.encode())
        return tmp_path

    return write


def refusal(root):
    with pytest.raises(ProjectError) as caught:
        Project.load(root).configuration()
    assert "\n" not in caught.value.message
    return caught.value.message, caught.value.hint


def test_a_crate_without_settings_has_the_defaults(crate):
    project = Project.load(crate(CRATE))
    assert (project.name, project.version) == ("hello", "1.2.3")
    assert project.settings == Settings(
        type="http", root_id="hello", triple="wasm32-wasip1", configuration=None
    )
    assert project.configuration() == b""


def test_every_setting_is_read(crate):
    table = 'type = "network"\nroot-id = "r"\ntriple = "wasm32-unknown-unknown"\nconfiguration = "a/c.json"\n'
    root = crate(CRATE + TABLE + table)
    (root / "a").mkdir()
    (root / "a/c.json").write_bytes(b"\xff\0\r\n")
    project = Project.load(root)
    assert project.settings == Settings("network", "r", "wasm32-unknown-unknown", "a/c.json")
    assert project.configuration() == b"\xff\0\r\n"


def test_clusters_reach_the_host(crate, tmp_path):
    table = 'clusters = { beta = "upstream", "out|80||a.b" = "http://localhost:9000" }\n'
    root = crate(CRATE + TABLE + table)
    module = tmp_path / "m.wasm"
    module.write_bytes(asm.plugin())
    plugin = plugin_of(root, WasmModule.read(module))
    clusters = {"beta": "upstream", "out|80||a.b": "http://localhost:9000"}
    assert plugin.clusters == HostSettings().serving(plugin).clusters == clusters
    assert not HostSettings().serving(plugin).fit(HostSettings(), 0), "so another Envoy is needed"


def test_an_empty_root_id_stays_empty(crate):
    assert Project.load(crate(CRATE + TABLE + 'root-id = ""\n')).settings.root_id == ""


def test_the_root_is_absolute_and_real(crate, tmp_path, monkeypatch):
    crate(CRATE)
    link = tmp_path / "link"
    link.symlink_to(tmp_path)
    assert Project.load(link).root == tmp_path.resolve()
    monkeypatch.chdir(tmp_path)
    assert Project.load(Path()).root == tmp_path.resolve()


@pytest.mark.parametrize(
    "content",
    [
        b"\xef\xbb\xbf" + CRATE.encode(),
        CRATE.replace("\n", "\r\n").encode(),
        b"\xef\xbb\xbf" + CRATE.replace("\n", "\r\n").encode(),
        CRATE.replace("crate-type", "crate_type").encode(),
        CRATE.replace('["cdylib"]', '["rlib", "cdylib"]').encode(),
        CRATE.rstrip().encode(),
    ],
    ids=["BOM", "CRLF", "BOM and CRLF", "crate_type", "rlib too", "no last newline"],
)
def test_what_editors_and_cargo_allow_is_read(crate, content):
    assert Project.load(crate(content)).name == "hello"


@pytest.mark.parametrize("version", ["version.workspace = true", "", "version = 3"])
def test_a_version_that_is_not_here_is_zero(crate, version):
    assert Project.load(crate(CRATE.replace('version = "1.2.3"', version))).version == "0.0.0"


@pytest.mark.parametrize("metadata", ["metadata = 3", 'metadata = ["x"]', "metadata.docs.rs = true"])
def test_metadata_of_others_is_theirs(crate, metadata):
    manifest = CRATE.replace('version = "1.2.3"', metadata)
    assert Project.load(crate(manifest)).settings == Settings(root_id="hello")


def test_no_manifest(tmp_path):
    hint = "run `scaffold new NAME` first, or pass --root"
    assert refusal(tmp_path) == (f"no Cargo.toml in {tmp_path}", hint)
    assert refusal(tmp_path / "missing") == (f"no Cargo.toml in {tmp_path / 'missing'}", hint)


def test_the_root_is_a_file(tmp_path):
    (tmp_path / "file").touch()
    path = tmp_path / "file/Cargo.toml"
    assert refusal(tmp_path / "file") == (f"cannot read {path}: Not a directory", None)


def test_the_manifest_is_a_folder(tmp_path):
    path = tmp_path / "Cargo.toml"
    path.mkdir()
    assert refusal(tmp_path) == (f"cannot read {path}: Is a directory", None)


@pytest.mark.parametrize(
    ("content", "where"),
    [
        ('[package]\nname "hello"\n', "(at line 2, column 6)"),
        ("[package]\r\nname = 1 2\r\n", "(at line 2, column 10)"),
        ('[package]\nname = "a\0b"\n', "(at line 2, column 10)"),
        ("[package]\n\n[package]\n", "(at line 3, column 9)"),
        ("[package", "(at end of document)"),
    ],
    ids=["no =", "CRLF", "NUL", "twice", "cut short"],
)
def test_broken_toml_is_shown_where(crate, content, where):
    root = crate(content)
    message, hint = refusal(root)
    assert message.startswith(f"{root / 'Cargo.toml'} is not TOML: ")
    assert message.endswith(where)
    assert hint is None


def test_deep_nesting_is_no_bug_of_ours(crate):
    root = crate("a = " + "[" * 50_000)
    assert refusal(root) == (f"{root / 'Cargo.toml'} is not TOML: nested too deeply", None)


def test_a_number_without_end_is_no_bug_of_ours(crate):
    root = crate(CRATE + "a = " + "1" * 5000)
    assert refusal(root)[0].startswith(f"{root / 'Cargo.toml'} is not TOML: ")


def test_not_utf8(crate):
    root = crate(b'[package]\nname = "\xff"\n')
    why = "'utf-8' codec can't decode byte 0xff in position 18: invalid start byte"
    assert refusal(root) == (f"cannot read {root / 'Cargo.toml'}: {why}", None)


@pytest.mark.parametrize(
    "content",
    ["", "[package]\n", "[package]\nname = 3\n", "package = 3\n"],
    ids=["empty", "no name", "name 3", "package 3"],
)
def test_not_a_package(crate, content):
    root = crate(content)
    hint = "pass --root a plugin's crate"
    assert refusal(root) == (f"no [package] with a name in {root / 'Cargo.toml'}", hint)


@pytest.mark.parametrize(
    "lib",
    [
        "",
        "[lib]\n",
        "[lib]\ncrate-type = []\n",
        '[lib]\ncrate-type = ["rlib"]\n',
        '[lib]\ncrate-type = "cdylib"\n',  # cargo wants a list, too
        "[lib]\ncrate-type = 3\n",
        '[[lib]]\ncrate-type = ["cdylib"]\n',
    ],
)
def test_not_a_cdylib(crate, lib):
    root = crate('[package]\nname = "hello"\n' + lib)
    message = f"{root / 'Cargo.toml'} doesn't build a cdylib, the crate type of wasm modules"
    assert refusal(root) == (message, 'add `[lib]` with `crate-type = ["cdylib"]`')


def test_a_lib_that_is_no_table(crate):
    root = crate('lib = 3\n[package]\nname = "hello"\n')
    assert "doesn't build a cdylib" in refusal(root)[0]


CLUSTERS = 'write `clusters = { authz = "http://host:port", beta = "upstream", users = "grpc://host:port" }`'
KNOWN = (
    "known: type, root-id, triple, configuration, env, vm-configuration, features, default-features,"
    " trim, clusters, probe, envoy, targets, failure-policies, budget, template"
)
ENV = 'write `env = ["NAME=VALUE", "NAME"]`; without a value, a variable has the proxy\'s own'


@pytest.mark.parametrize(
    ("line", "message", "hint"),
    [
        ('typ = "http"', "unknown key `typ` in {where}", "did you mean `type`?"),
        ('root_id = "x"', "unknown key `root_id` in {where}", "did you mean `root-id`?"),
        ('zzz = "x"', "unknown key `zzz` in {where}", KNOWN),
        ("type = 3", "`type` in {where} is not a string", None),
        ('root-id = ["x"]', "`root-id` in {where} is not a string", None),
        ("configuration = {a = 1}", "`configuration` in {where} is not a string", None),
        ('features = "a"', "`features` in {where} is not a list of strings", 'write `features = ["a", "b"]`'),
        (
            'failure-policies = "fail-open"',
            "`failure-policies` in {where} is not a list of strings",
            'write `failure-policies = ["fail-closed", "fail-reload"]`',
        ),
        (
            "failure-policies = []",
            "`failure-policies` in {where} is empty",
            "known: fail-closed, fail-open, fail-reload",
        ),
        (
            'failure-policies = ["open"]',
            "`failure-policies` in {where} has 'open'",
            "known: fail-closed, fail-open, fail-reload",
        ),
        ('default-features = "no"', "`default-features` in {where} is neither true nor false", None),
        ("envoy = 1.33", "`envoy` in {where} is not a string", None),
        (
            'envoy = "1.33"',
            "`envoy` in {where}: `1.33` isn't a version with `>=`",
            'write `envoy = ">=1.33"`',
        ),
        (
            'envoy = ">=1.99"',
            "`envoy` in {where}: which Envoy Envoy 1.99 runs isn't known",
            "known: 1.17 to 1.40",
        ),
        (
            'targets = "gcp"',
            "`targets` in {where} is not a list of strings",
            'write `targets = ["istio:1.24", "gcp"]`',
        ),
        (
            'targets = ["gcp", "isto:1.24"]',
            "`targets` in {where}: no host named `isto`",
            "did you mean `istio`?",
        ),
        ('target = ["gcp"]', "unknown key `target` in {where}", "did you mean `targets`?"),
        ('trim = "no"', "`trim` in {where} is neither true nor false", None),
        ('env = "A=b"', "`env` in {where} is not a list of strings", ENV),
        ("env = [1]", "`env` in {where} is not a list of strings", ENV),
        ('env = ["A=b", "A"]', "`env` in {where} isn't valid: it sets a variable twice", ENV),
        ('env = ["=b"]', "`env` in {where} isn't valid: `` isn't a valid variable name", ENV),
        ('type = "https"', "`type` in {where} is 'https'", "known: http, network, service"),
        ('type = ""', "`type` in {where} is ''", "known: http, network, service"),
        ('clusters = "x"', "`clusters` in {where} is not a table", CLUSTERS),
        (
            'clusters.upstream = "http://a"',
            "`clusters` in {where} can't contain 'upstream'",
            CLUSTERS,
        ),
        ('clusters."a b" = "upstream"', "`clusters` in {where} can't contain 'a b'", CLUSTERS),
        ('clusters.a = "b"', "the cluster `a` in {where} can't be at 'b'", CLUSTERS),
        (
            'clusters.a = "http://b/c"',
            "the cluster `a` in {where} can't be at 'http://b/c'",
            CLUSTERS,
        ),
        ("clusters.a = 3", "the cluster `a` in {where} can't be at 3", CLUSTERS),
        (
            'triple = "wasm32-wasi"',
            "`triple` in {where} is 'wasm32-wasi'",
            'write `triple = "wasm32-wasip1"`, its new name',
        ),
        (
            'triple = "wasm32-wasip2"',
            "`triple` in {where} is 'wasm32-wasip2'",
            "known: wasm32-wasip1, wasm32-unknown-unknown",
        ),
    ],
)
def test_a_setting_that_cannot_be(crate, line, message, hint):
    root = crate(CRATE + TABLE + line + "\n")
    where = f"[package.metadata.proxy-wasm] of {root / 'Cargo.toml'}"
    assert refusal(root) == (message.format(where=where), hint)


def test_settings_that_are_no_table(crate):
    root = crate(CRATE.replace('version = "1.2.3"', "metadata.proxy-wasm = 3"))
    assert refusal(root) == (f"package.metadata.proxy-wasm in {root / 'Cargo.toml'} is not a table", None)


def test_what_the_vm_gets_is_in_the_settings(crate):
    root = crate(CRATE + TABLE + 'env = ["A=b c", "HOME"]\nvm-configuration = "vm.json"\n')
    (root / "vm.json").write_text("{}")
    project = Project.load(root)
    assert (project.settings.env, project.vm_configuration()) == (("A=b c", "HOME"), b"{}")
    (root / "vm.json").unlink()
    with pytest.raises(ProjectError, match=r"vm\.json"):
        project.vm_configuration()


@pytest.mark.parametrize("leads", ["../secret", "a/../../secret", "/etc/passwd", "link", "folder/secret"])
def test_a_configuration_that_leads_out_of_the_project(tmp_path, leads):
    root = tmp_path / "crate"
    root.mkdir()
    (tmp_path / "secret").write_text("s3cret")
    (root / "link").symlink_to(tmp_path / "secret")
    (root / "folder").symlink_to(tmp_path)
    (root / "Cargo.toml").write_text(f"{CRATE}{TABLE}configuration = '{leads}'\n")
    message = f"configuration = '{leads}' is outside the project"
    assert refusal(root) == (message, f"name a file in {root.resolve()}")


def test_a_configuration_may_be_a_link_within_the_project(crate):
    root = crate(CRATE + TABLE + 'configuration = "link"\n')
    (root / "real").write_text("{}")
    (root / "link").symlink_to("real")
    assert Project.load(root).configuration() == b"{}"


@pytest.mark.parametrize(
    ("path", "why", "hint"),
    [("none.json", "No such file or directory", None), ("", "Is a directory", "name a file in it")],
)
def test_a_configuration_that_cannot_be_read(crate, path, why, hint):
    root = crate(f'{CRATE}{TABLE}configuration = "{path}"\n')
    assert refusal(root) == (f"cannot read the configuration {root.resolve() / path}: {why}", hint)


def test_a_configuration_that_is_no_path_at_all(crate):
    root = crate(CRATE + TABLE + r'configuration = "a\u0000b"' + "\n")
    assert refusal(root) == (r"cannot read the configuration 'a\x00b': embedded null byte", None)


def test_a_configuration_that_links_to_itself(crate):
    root = crate(CRATE + TABLE + 'configuration = "loop"\n')
    (root / "loop").symlink_to("loop")
    message, _ = refusal(root)
    assert message.startswith("cannot read the configuration ")


VALUES = st.recursive(
    st.one_of(st.integers(), st.booleans(), st.text("ab-_", max_size=4).map(repr)).map(str),
    lambda inner: st.one_of(
        st.lists(inner, max_size=2).map(lambda items: f"[{', '.join(items)}]"),
        inner.map(lambda value: f"{{a = {value}}}"),
    ),
    max_leaves=4,
)
KEYS = st.sampled_from(
    [
        "package.name",
        "package.version",
        "package.metadata",
        "package.metadata.proxy-wasm",
        "package.metadata.proxy-wasm.type",
        "package.metadata.proxy-wasm.configuration",
        "lib",
        "lib.crate-type",
        "lib.crate_type",
        "workspace",
    ]
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.dictionaries(KEYS, VALUES | st.sampled_from(["'hello'", "['cdylib']"])))
def test_whatever_the_values_are_it_is_a_project_or_a_project_error(tmp_path, values):
    path = tmp_path / "Cargo.toml"
    path.write_text("\n".join(f"{key} = {value}" for key, value in values.items()))
    try:
        Project.load(tmp_path)
    except ProjectError as error:
        assert str(path) in error.message


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.binary(max_size=200))
def test_whatever_the_bytes_are_it_is_a_manifest_or_a_project_error(tmp_path, content):
    path = tmp_path / "Cargo.toml"
    path.write_bytes(content)
    try:
        read_manifest(path)
    except ProjectError as error:
        assert str(path) in error.message


def test_a_project_that_moves_takes_its_settings_along(crate, tmp_path_factory):
    root = crate(CRATE + TABLE + 'configuration = "c.json"\n')
    (root / "c.json").write_text("{}")
    moved = tmp_path_factory.mktemp("elsewhere") / "crate"
    shutil.copytree(root, moved)
    assert Project.load(moved).configuration() == b"{}"


@pytest.fixture
def module(tmp_path_factory):
    path = tmp_path_factory.mktemp("target") / "hello_world.wasm"
    path.write_bytes(asm.plugin())
    return WasmModule.read(path)


def test_a_plugin_is_named_and_configured_by_its_project(crate, module):
    root = crate(CRATE + TABLE + 'root-id = "greeter"\nconfiguration = "c.json"\n')
    (root / "c.json").write_bytes(b"\xff")
    assert plugin_of(root, module) == Plugin("hello", "greeter", module, b"\xff")


def test_a_configuration_that_is_given_counts_though_the_projects_own_is_missing(crate, module):
    root = crate(CRATE + TABLE + 'configuration = "none.json"\n')
    assert plugin_of(root, module, '{"a": 1}').configuration == b'{"a": 1}'
    with pytest.raises(ProjectError, match="cannot read the configuration"):
        plugin_of(root, module)


def test_a_plugin_of_no_project_is_named_by_its_file(tmp_path, module):
    assert plugin_of(tmp_path, module) == Plugin("hello_world", "", module, b"")


def test_a_project_that_is_broken_is_not_passed_over(crate, module):
    with pytest.raises(ProjectError, match="is not TOML"):
        plugin_of(crate("["), module)


def test_a_configuration_names_a_file_whose_bytes_go_as_they_are(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    Path("3").write_bytes(b"\xff\0\r\n")
    assert read_configuration("3") == b"\xff\0\r\n"
    assert read_configuration(str(tmp_path / "3")) == b"\xff\0\r\n"


@pytest.mark.parametrize("value", ["{}", "3", '"ü"', ' {"a": [1, null]}\n', f'{{"a": "{"x" * 5000}"}}'])
def test_a_configuration_is_json_to_the_letter(tmp_path, monkeypatch, value):
    monkeypatch.chdir(tmp_path)
    assert read_configuration(value) == value.encode()


@pytest.mark.parametrize(
    "value",
    ["", "{a: 1}", "a\0b", '"\udcff"', "." * 5000, "[" * 100_000],
    ids=["empty", "not quite", "NUL", "not UTF-8", "too long a name", "too deep"],
)
def test_a_configuration_that_is_neither(value):
    with pytest.raises(UsageError) as caught:
        read_configuration(value)
    assert caught.value.message.startswith("--config is neither a file nor JSON: ")
    assert caught.value.hint == """for example --config '{"key": "value"}', or a .yaml file"""


def test_a_folder_is_no_configuration_unless_its_name_is_one(tmp_path, monkeypatch):
    with pytest.raises(UsageError, match=r"cannot read the configuration .*: Is a directory") as caught:
        read_configuration(str(tmp_path))
    assert caught.value.hint == "name a file in it"
    (tmp_path / "{}").mkdir()
    monkeypatch.chdir(tmp_path)
    assert read_configuration("{}") == b"{}"


def test_a_configuration_comes_through_no_pipe(tmp_path):
    with pytest.raises(UsageError) as caught:
        read_configuration("-")
    assert caught.value.message == "--config doesn't read standard input"
    assert caught.value.hint == "save what comes there in a file, and pass --config FILE"
    os.mkfifo(tmp_path / "pipe")  # as <(…) makes it
    with pytest.raises(UsageError, match="it is a pipe, not a regular file") as caught:
        read_configuration(str(tmp_path / "pipe"))
    assert caught.value.hint == "save what comes out of it in a file, and name that"


def test_a_configuration_that_is_a_files_name_says_that_there_is_none():
    with pytest.raises(UsageError, match=r"there is no file none\.json, which --config names"):
        read_configuration("none.json")


@pytest.mark.parametrize("path", ["src/lib.rs", "src/deep/er.rs"])
def test_a_timer_is_known_by_the_sources(crate, path):
    root = crate('[package]\nname = "a"\n[lib]\ncrate-type = ["cdylib"]\n')
    source = root / path
    source.parent.mkdir(parents=True)
    source.write_text("fn on_vm_start() {}\n")
    assert not Project.load(root).sets_timer
    source.write_text("fn on_vm_start(&mut self) { self.set_tick_period(Duration::from_secs(1)); }\n")
    assert Project.load(root).sets_timer


YAML = """\
realm: shop  # a comment
keys: [a, "1"]
since: 2024-01-01
limits: &limits {rate: 1.5}
other: *limits
"""
AS_JSON = {
    "realm": "shop",
    "keys": ["a", "1"],
    "since": "2024-01-01",
    "limits": {"rate": 1.5},
    "other": {"rate": 1.5},
}


@pytest.mark.parametrize("name", ["c.yaml", "c.yml"])
def test_a_configuration_in_yaml_is_sent_as_json(tmp_path, crate, name):
    (tmp_path / name).write_text(YAML)
    assert json.loads(read_configuration(str(tmp_path / name))) == AS_JSON
    root = crate(CRATE + TABLE + f'configuration = "{name}"\n')
    (root / name).write_text(YAML)
    assert json.loads(Project.load(root).configuration()) == AS_JSON


def test_an_empty_yaml_file_is_an_empty_configuration(tmp_path):
    (tmp_path / "c.yaml").write_text("# nothing yet\n")
    assert read_configuration(str(tmp_path / "c.yaml")) == b""


@pytest.mark.parametrize(
    ("content", "why"),
    [
        (b"a: [", "line 1, column 5"),
        (b"a: 1\na: 2\n", "the key a appears twice"),
        (b"a: .nan", "Out of range float"),
        (b"? [a, b]\n: 1", "unhashable key"),
        (b"a: !!binary aGk=", "JSON can't express it"),
        (b"a: &a [*a]", "grows without end"),
        (b"[" * 100_000, "nested too deeply"),
        (b"\xff", "can't decode"),
    ],
)
def test_yaml_that_json_cannot_express_is_refused_by_name(tmp_path, content, why):
    path = tmp_path / "c.yaml"
    path.write_bytes(content)
    with pytest.raises(UsageError) as caught:
        read_configuration(str(path))
    assert caught.value.message.startswith(f"the configuration {path} isn't YAML that can be sent as JSON: ")
    assert why in caught.value.message
