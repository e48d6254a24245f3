import tomllib
from pathlib import Path

import pytest
from support import odd_modules
from support import wasm_asm as asm
from support.odd_modules import ODD, WASI, build, env, of_abi, wasi, without

from scaffold.wasm import check as abi
from scaffold.wasm.module import Extern

DATA = tomllib.loads(Path(abi.__file__).with_suffix(".toml").read_text())
NEWEST = (1, 40)
RUST = asm.custom("data", b"/proxy-wasm-0.2.4/src/hostcalls.rs")


@pytest.fixture
def problems(read):
    """What an Envoy finds wrong with bytes: rules, messages and hints."""

    def judging(content, version=NEWEST):
        return [(each.rule, each.message, each.hint) for each in abi.judge(read(content), version)]

    return judging


@pytest.mark.parametrize("name", ODD)
def test_a_small_module_breaks_its_rule_and_no_other(read, name):
    fatal = {problem.rule for problem in abi.judge(read(ODD[name].content), NEWEST) if problem.fatal}
    assert fatal == ({ODD[name].rule} if ODD[name].rule else set())


def test_a_component_is_refused(problems):
    assert problems(b"\0asm\x0d\0\x01\0") == [
        (
            "component",
            "it is a WebAssembly component, and Envoy loads core modules",
            "compile for wasm32-wasip1, not wasm32-wasip2",
        )
    ]


def test_without_a_marker_nothing_else_is_said(problems):
    content = build([("wbg", "x", ">-")], {})
    assert problems(content) == [
        (
            "abi",
            "it exports no proxy-wasm ABI marker, so it isn't a plugin",
            "does its src/lib.rs have `proxy_wasm::main!`, and does it depend on proxy-wasm 0.2?",
        )
    ]
    message = "its ABI is unknown to Envoy: `proxy_abi_version_0_9_0`"
    assert problems(build(exports=of_abi("0_9_0"))) == [("abi", message, None)]


@pytest.mark.parametrize(
    ("imports", "version", "message", "hint"),
    [
        (
            env("proxy_logg", "iii>i"),
            NEWEST,
            "it imports `env.proxy_logg`, which Envoy doesn't have",
            "did you mean `env.proxy_log`?",
        ),
        (
            env("entirely_else", "iii>i"),
            NEWEST,
            "it imports `env.entirely_else`, which Envoy doesn't have",
            None,
        ),
        (
            env("proxy_get_configuration", "ii>i"),
            NEWEST,
            "it imports `env.proxy_get_configuration`, which Envoy doesn't have",
            "it belongs to ABI 0.1.0, and this module is for 0.2.1",
        ),
        (
            wasi("poll_oneoff", "iiii>i"),
            (1, 32),
            f"it imports `{WASI}.poll_oneoff`, which Envoy doesn't have",
            "Envoy 1.33 and later have it",
        ),
        (
            wasi("path_symlink", "iiiii>i"),
            (1, 38),
            f"it imports `{WASI}.path_symlink`, which Envoy doesn't have",
            "Envoy 1.39 and later have it, as (i32, i32, i32, i32) -> i32",
        ),
        (
            [("__wbindgen_placeholder__", "__wbindgen_throw", "ii>-")],
            NEWEST,
            "it imports `__wbindgen_placeholder__.__wbindgen_throw`, which Envoy doesn't have",
            DATA["foreign"]["__wbindgen"],
        ),
        (
            env("__wbindgen_throw", "ii>-"),
            NEWEST,
            "it imports `env.__wbindgen_throw`, which Envoy doesn't have",
            DATA["foreign"]["__wbindgen"],
        ),
        (
            [("env", "a\x1b[2J", ">-")],
            NEWEST,
            r"it imports `env.a\x1b[2J`, which Envoy doesn't have",
            None,
        ),
    ],
)
def test_an_import_that_is_missing_says_who_has_it(problems, imports, version, message, hint):
    assert problems(build(imports), version) == [("import", message, hint)]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (
            build(env("proxy_log", "ii>i")),
            (
                "import-type",
                "it imports `env.proxy_log` as (i32, i32) -> i32, and Envoy has (i32, i32, i32) -> i32",
                None,
            ),
        ),
        (
            build([("env", "base", b"\x03\x7f\x00")]),
            ("import", "it imports the global `env.base`, and Envoy provides none", None),
        ),
        (
            build(start=b""),
            (
                "start",
                "it has a start section, and Envoy crashes when that calls a hostcall",
                "export what it does as `_initialize`",
            ),
        ),
        (
            build(pages=16385),
            (
                "memory",
                "it starts with 16,385 pages of memory, and Envoy allows at most 16,384 (1 GiB)",
                None,
            ),
        ),
        (
            build(exports=without("malloc")),
            ("allocator", "it exports neither `malloc` nor `proxy_on_memory_allocate`", None),
        ),
        (
            build(exports=without(proxy_on_tick="i>i")),
            (
                "export-type",
                "it exports `proxy_on_tick` as (i32) -> i32, and Envoy calls it as (i32) -> nothing",
                None,
            ),
        ),
        (
            build(customs=[asm.custom("name", b"\x01\x7f")]),
            ("names", "its section `name` is malformed", "strip it, or build the module again"),
        ),
        (
            build(exports=without("_initialize")),
            (
                "setup",
                "it exports neither `_initialize` nor `_start`, so nothing sets it up",
                "does its src/lib.rs have `proxy_wasm::main!`?",
            ),
        ),
        (
            build(exports=without("_initialize", _start=">-"), customs=[RUST]),
            (
                "setup",
                "it exports `_start` but no `_initialize`: then every call sets up the C library again",
                "use `proxy_wasm::main!` instead",
            ),
        ),
    ],
)
def test_a_problem_is_named_for_what_it_is(problems, content, said):
    assert problems(content) == [said]


def test_what_is_odd_is_not_fatal(read):
    warned = abi.judge(read(build(exports=without("_initialize"))), NEWEST)
    assert [problem.fatal for problem in warned] == [False]


def test_start_is_odd_in_rust_alone(problems):
    assert problems(build(exports=without("_initialize", _start=">-"))) == []


def test_a_module_with_a_million_faults_is_not_explained_a_million_times(read):
    found = abi.judge(read(build([("env", f"nope{at}", ">-") for at in range(3000)])), NEWEST)
    assert len(found) == 21
    assert (found[-1].rule, found[-1].message, found[-1].fatal) == ("import", "there are more of these", True)


def envoys(read, content):
    return [(verdict.envoys, verdict.loads) for verdict in abi.verdicts(read(content))]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (build(), [("1.17 to 1.40", True)]),
        (asm.module(), [("1.17 to 1.40", False)]),
        (build(wasi("fd_write", "iiii>i")), [("1.17 to 1.40", True)]),
        (build(wasi("fd_prestat_get", "ii>i")), [("1.21 to 1.40", True), ("1.17 to 1.20", False)]),
        (build(wasi("sched_yield", ">i")), [("1.33 to 1.40", True), ("1.17 to 1.32", False)]),
        (build(wasi("fd_sync", "i>i")), [("1.39 to 1.40", True), ("1.17 to 1.38", False)]),
        (build(wasi("path_link", "iiiiiii>i")), [("1.39 to 1.40", False), ("1.17 to 1.38", False)]),
        (
            build(env("emscripten_notify_memory_growth", "i>-")),
            [("1.23 to 1.40", True), ("1.17 to 1.22", False)],
        ),
        (build(pages=16385), [("1.23 to 1.40", False), ("1.17 to 1.22", True)]),
        (build(exports=without(__main_void=">-")), [("1.39 to 1.40", False), ("1.17 to 1.38", True)]),
    ],
)
def test_every_envoy_has_a_verdict(read, content, said):
    assert envoys(read, content) == said


FEATURES = asm.custom("target_features", b"\x01+" + asm.name("reference-types"))
BY_TABLE = asm.const(0) + b"\x11\x00"  # call_indirect, without the table's number


@pytest.mark.parametrize("customs", [[], [FEATURES]], ids=["stripped", "with the feature section"])
@pytest.mark.parametrize(
    ("instructions", "since"),
    [
        (BY_TABLE + b"\x00", "1.17"),
        (BY_TABLE + b"\x80\x80\x80\x80\x00", "1.21"),  # as LLVM writes it since 19
        (b"\x41\xc0\x01\xc0\x1a", "1.17"),  # i32.extend8_s
        (asm.const(0) * 3 + b"\xfc\x0a\x00\x00", "1.17"),  # memory.copy
        (b"\xd0\x70\x1a", "1.21"),  # ref.null
        (asm.const(0) + b"\xfd\x0f\x1a", "1.19"),  # i8x16.splat
        (b"\x12\x00", "1.35"),  # return_call
    ],
)
def test_what_the_code_uses_decides_whether_it_is_stripped_or_not(read, instructions, since, customs):
    plugin = asm.plugin(callbacks={"helper": (asm.signature(), instructions)})
    newest, *older = abi.verdicts(read(plugin + b"".join(customs)))
    assert (newest.first, newest.loads, newest.problems) == (since, True, ())
    assert {each.loads for each in older} <= {False}
    assert all(f"Envoy {since} and later have it" == older[0].problems[0].hint for _ in older)


def test_an_envoy_of_tomorrow_is_taken_for_the_newest(problems):
    content = build(wasi("fd_sync", "i>i"))
    assert problems(content, (1, 40, 0)) == problems(content, (1, 99, 3)) == []


@pytest.mark.parametrize(
    ("version", "count"),
    [((1, 17), 12), ((1, 20), 12), ((1, 21), 15), ((1, 33), 18), ((1, 38), 18), ((1, 39), 45)],
)
def test_wasi_grew_with_envoy(version, count):
    """As counted in proxy-wasm-cpp-host at the commit of each Envoy."""
    imports = abi.offered(version, "0.2.1").imports
    assert sum(name.startswith("wasi_snapshot_preview1.") for name in imports) == count
    assert sum(name.startswith("wasi_unstable.") for name in imports) == count


def test_the_three_abis_differ_in_their_hostcalls():
    old, new, newest = (
        abi.offered(NEWEST, version).imports.keys() for version in ("0.1.0", "0.2.0", "0.2.1")
    )
    assert newest - new == {"env.proxy_get_log_level"}
    assert new - old == {"env.proxy_continue_stream", "env.proxy_close_stream"}
    assert {name.removeprefix("env.proxy_") for name in old - newest} == {
        *"get_configuration continue_request continue_response clear_route_cache".split()
    }


def test_the_data_hold_nothing_that_no_rule_reads():
    letters = set("iIfF")
    for table in ("hostcalls", "wasi", "setup", "callbacks"):
        for name, entry in DATA[table].items():
            assert entry.keys() <= {"signature", "abi", "since", "with", "without", "0.1.0"}, name
            given, sign, returned = entry["signature"].partition(">")
            assert set(given) <= letters and sign and (returned == "-" or set(returned) <= letters), name


@pytest.mark.parametrize(
    ("extern", "group"),
    [
        (Extern("env", "proxy_log", "function"), "hostcalls"),
        (Extern("env", "proxy_nope", "function"), "others"),
        (Extern(WASI, "fd_write", "function"), "WASI"),
        (Extern("wasi_unstable", "fd_write", "function"), "WASI"),
        (Extern(WASI, "proc_raise", "function"), "others"),
        (Extern("fd", "fd_write", "function"), "others"),
    ],
)
def test_imports_go_in_groups(extern, group):
    assert abi.group(extern) == group


def test_callbacks_are_told_from_other_exports():
    assert abi.is_callback("proxy_on_request_headers") and abi.is_callback("proxy_on_tick")
    assert not any(map(abi.is_callback, (*odd_modules.PLUGIN, "memory", "proxy_on_memory_allocate")))
