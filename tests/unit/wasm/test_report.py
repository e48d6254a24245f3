import json

import pytest
from support import wasm_asm as asm
from support.odd_modules import BROKEN, ODD, PLUGIN, WASI, build, env, wasi, without

from scaffold.cli import console
from scaffold.wasm.module import NotAPlugin, WasmFile
from scaffold.wasm.report import report

COMPONENT = b"\0asm\x0d\0\x01\0"
RUSTC = asm.custom(
    "producers",
    asm.vector(
        [
            asm.name("language") + asm.vector([asm.name("Rust") + asm.name("")]),
            asm.name("processed-by") + asm.vector([asm.name("rustc") + asm.name("1.95.0 (59807616e 2026)")]),
        ]
    ),
)


@pytest.fixture
def inspect(tmp_path):
    """Tells of bytes, by way of a file."""

    def inspecting(content):
        path = tmp_path / "a.wasm"
        path.write_bytes(content)
        return report(WasmFile.read(path))

    return inspecting


def test_the_whole_report_on_a_plugin(inspect, tmp_path):
    imports = [*env("proxy_log", "iii>i"), *wasi("fd_sync", "i>i")]
    content = build(imports, PLUGIN | {"proxy_on_tick": "i>-"}, customs=[RUSTC])
    story = inspect(content)
    assert (
        story.summary()
        == f"""\
{tmp_path.resolve() / "a.wasm"}
  size           261 bytes
  ABI            0.2.1
  SDK            unknown
  languages      Rust
  made by        rustc 1.95.0
  functions      4
  memory         2 pages (0.1 MiB) at start
  module digest  {story.module.digest}

imports
  hostcalls (1)  proxy_log
  WASI (1)       fd_sync

exports
  callbacks (1)  proxy_on_tick
  others (4)     _initialize, malloc, memory, proxy_abi_version_0_2_1

sections
             77   30%  export
             73   28%  custom "producers"
             52   20%  import
             22    8%  type
             17    7%  code
              7    3%  function
              5    2%  memory

loads in (Istio, Envoy Gateway and Higress run an Envoy)
  Envoy 1.39 to 1.40: yes
  Envoy 1.17 to 1.38: no
    it imports `wasi_snapshot_preview1.fd_sync`, which Envoy doesn't have
      hint: Envoy 1.39 and later have it"""
    )


def test_imports_and_exports_go_in_groups(inspect):
    imports = [*env("proxy_log", "iii>i"), *env("abort", "iiii>-"), *wasi("proc_raise", "i>i")]
    story = inspect(build(imports, PLUGIN | {"proxy_on_tick": "i>-", "a": ">-"}))
    assert story.imports == {
        "hostcalls": ("proxy_log",),
        "WASI": (),
        "others": ("env.abort", f"{WASI}.proc_raise"),
    }
    assert story.callbacks == ("proxy_on_tick",)
    assert story.other_exports == ("_initialize", "a", "malloc", "memory", asm.MARKER)


def test_a_report_on_a_module_that_is_not_a_plugin(inspect):
    said = inspect(ODD["no marker"].content).summary()
    assert "  ABI            none\n" in said
    assert said.endswith(
        "  Envoy 1.17 to 1.40: no\n"
        "    it exports no proxy-wasm ABI marker, so it isn't a plugin\n"
        "      hint: does its src/lib.rs have `proxy_wasm::main!`, and does it depend on\n"
        "      proxy-wasm 0.2?"
    )


def test_a_report_on_an_empty_module(inspect, tmp_path):
    story = inspect(asm.module())
    assert story.summary().startswith(
        f"{tmp_path.resolve() / 'a.wasm'}\n  size           8 bytes\n  ABI            none\n"
    )
    assert "imports" not in story.summary()
    assert "sections" not in story.summary()


def test_a_report_on_a_component(inspect):
    said = inspect(COMPONENT + asm.section(4, b"inner")).summary()
    assert "  ABI            none: a WebAssembly component\n" in said
    assert "  component\n" in said
    assert said.endswith("      hint: compile for wasm32-wasip1, not wasm32-wasip2")


def test_warnings_come_after_what_is_fatal(inspect):
    content = build(env("proxy_nope", ">-"), without("_initialize"), customs=[asm.custom("name", b"\xff")])
    said = inspect(content).summary()
    problems = (
        "its section `name` is malformed",
        "it imports `env.proxy_nope`",
        "warning: it exports neither",
    )
    places = [said.index(problem) for problem in problems]
    assert places == sorted(places)


def test_no_line_is_long_and_none_obeys_the_file(inspect):
    names = {f"\x1b[31m{'x' * 3000}{at}": ">-" for at in range(200)}
    customs = [asm.custom(f"\x07{at}") for at in range(100)]
    said = inspect(build([("\x1b]0;", "\n" * 9, ">-")], PLUGIN | names, customs=customs)).summary()
    assert all(line.isprintable() for line in said.splitlines())
    assert max(map(len, said.splitlines())) < 150
    assert "and 144 more" in said
    assert "  and 46 more\n" in said


def test_the_report_as_json_is_complete(inspect, capsys):
    console.show(inspect(build(env("proxy_nope", "i>-"), customs=[RUSTC])), as_json=True)
    story = json.loads(capsys.readouterr().out)
    assert story["module"]["abi_version"] == "0.2.1"
    assert story["module"]["imports"] == [
        {"module": "env", "name": "proxy_nope", "kind": "function", "signature": "i>-"}
    ]
    assert story["module"]["producers"] == {
        "language": {"Rust": ""},
        "processed-by": {"rustc": "1.95.0 (59807616e 2026)"},
    }
    assert story["imports"]["others"] == ["env.proxy_nope"]
    assert story["envoys"] == [
        {
            "first": "1.17",
            "last": "1.40",
            "loads": False,
            "problems": [
                {
                    "rule": "import",
                    "message": "it imports `env.proxy_nope`, which Envoy doesn't have",
                    "hint": story["envoys"][0]["problems"][0]["hint"],
                    "fatal": True,
                }
            ],
        }
    ]


@pytest.mark.parametrize(
    "content", [b"", b"\x7fELF\x02", b"\0asm", *(content for content, _ in BROKEN.values())]
)
def test_what_is_no_wasm_has_none(inspect, content):
    with pytest.raises(NotAPlugin) as caught:
        inspect(content)
    assert caught.value.exit_code == 6
