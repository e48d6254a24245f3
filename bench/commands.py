"""Commands against the tools they stand on: start-up, `new`, `build`, the whole main job, `test`."""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path

from bench.by_hand import Envoy, await_answer
from bench.measure import BIN, TEMPLATE, TEMPLATES, Row, interleaved, run, timed
from scaffold.hosts.exchange import Headers, Request
from scaffold.hosts.host import player
from scaffold.hosts.options import RunOptions
from scaffold.hosts.plugin import Plugin
from scaffold.wasm.module import WasmModule

RELEASE = ("--release", "--target", "wasm32-wasip1")


def version() -> list[Row]:
    medians = interleaved(
        {
            "ours": lambda _: timed(lambda: run(BIN / "scaffold", "--version")),
            "cookiecutter": lambda _: timed(lambda: run(BIN / "cookiecutter", "--version")),
        },
        15,
    )
    return [Row("`--version`, against cookiecutter's", medians["ours"], medians["cookiecutter"], 0.3)]


def new() -> list[Row]:
    """Every template that comes with us."""
    return [
        _new(template) for template in sorted(path.parent for path in TEMPLATES.glob("*/cookiecutter.json"))
    ]


def _new(template: Path) -> Row:
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)
        ours = (BIN / "scaffold", "new", "--template", template.name, "--no-input", "--output-dir", place)
        theirs = (BIN / "cookiecutter", template, "--no-input", "-o", place)
        medians = interleaved(
            {
                "ours": lambda n: timed(lambda: run(*ours, f"ours{n}")),
                "cookiecutter": lambda n: timed(lambda: run(*theirs, f"name=theirs{n}")),
            },
            9,
        )
    what = f"`new` of {template.name}, against cookiecutter, same template"
    return Row(what, medians["ours"], medians["cookiecutter"], 1.0)


def build() -> list[Row]:
    """The smallest crate that people start from, and one with a configuration, as most filters have."""
    return [*_build("http"), *_build("auth")]


def _build(template: str) -> list[Row]:
    with tempfile.TemporaryDirectory() as name:
        cold, noop = builds(_crate(Path(name), template), ("cargo", "build", *RELEASE), rounds=5)
    return [
        Row(f"cold `build` of {template}, against bare cargo", *cold, 1.02),
        Row(f"`build` of {template} with nothing to do", *noop, 0.15, goal_of="difference"),
    ]


def builds(
    root: Path, by_hand: Sequence[str], *, rounds: int
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Ours and cargo's medians of a cold build, and of one with nothing to do.

    Each side has its own target folder beside `root`, removed before a cold build.
    """
    sides = {"ours": (BIN / "scaffold", "build"), "cargo": by_hand}

    def took(side: str, cold: bool) -> float:
        target = root.parent / f"target-{side}"
        if cold:
            shutil.rmtree(target, ignore_errors=True)
        return timed(lambda: run(*sides[side], cwd=root, CARGO_TARGET_DIR=str(target)))

    def medians(cold: bool, count: int) -> tuple[float, float]:
        found = interleaved({side: lambda _, side=side: took(side, cold) for side in sides}, count)
        return found["ours"], found["cargo"]

    return medians(True, rounds), medians(False, 2 * rounds + 1)


def job() -> list[Row]:
    """From nothing to the first answer: new, build, deploy; against cookiecutter, cargo, envoy."""
    with tempfile.TemporaryDirectory() as name:
        place = Path(name)

        def ours(n: int) -> float:
            begun = time.perf_counter()
            run(BIN / "scaffold", "new", f"ours{n}", "--no-input", "--output-dir", place)
            crate = place / f"ours{n}"
            port = Envoy.free_port()
            run(BIN / "scaffold", "build", "--root", crate)
            run(BIN / "scaffold", "deploy", "--root", crate, "--port", port)
            await_answer(port)
            took = time.perf_counter() - begun
            run(BIN / "scaffold", "undeploy", "--root", crate)
            return took

        def by_hand(n: int) -> float:
            begun = time.perf_counter()
            run(BIN / "cookiecutter", TEMPLATE, "--no-input", "-o", place, f"name=theirs{n}")
            crate = place / f"theirs{n}"
            run("cargo", "build", *RELEASE, cwd=crate)
            module = crate / f"target/wasm32-wasip1/release/theirs{n}.wasm"
            with Envoy(place / f"envoy{n}", module) as envoy:
                await_answer(envoy.port)
                return time.perf_counter() - begun

        medians = interleaved({"ours": ours, "by hand": by_hand}, 3)
    return [
        Row(
            "`new`, `build`, `deploy`, first answer; against by hand",
            medians["ours"],
            medians["by hand"],
            1.1,
        )
    ]


def test() -> list[Row]:
    """50 cases on real Envoy, a built module; beside 50 cases of pytest that do nothing."""
    with tempfile.TemporaryDirectory() as name:
        crate = _crate(Path(name))
        tests = crate / "tests" / "test_plugin.py"
        tests.write_text(
            "import pytest\n\n\n@pytest.mark.parametrize('n', range(50))\ndef test_it(proxy, n):\n"
            "    exchange = proxy.get('/headers', headers={'host': f'h{n}'})\n"
            "    assert exchange.upstream.headers['x-hello'] == f'Hello world from h{n}'\n"
        )
        empty = Path(name) / "test_empty.py"
        empty.write_text(
            "import pytest\n\n\n@pytest.mark.parametrize('n', range(50))\ndef test_it(n):\n    pass\n"
        )
        run(BIN / "scaffold", "test", cwd=crate)
        module = crate / "target/wasm32-wasip1/release/bench.wasm"
        medians = interleaved(
            {
                "ours": lambda _: timed(
                    lambda: run(BIN / "pytest", "-q", f"--proxy-module={module}", cwd=crate)
                ),
                "emulated": lambda _: timed(
                    lambda: run(
                        *(BIN / "pytest", "-q", "--proxy-host=emulator", f"--proxy-module={module}"),
                        cwd=crate,
                    )
                ),
                "whole": lambda _: timed(lambda: run(BIN / "scaffold", "test", cwd=crate)),
                "empty": lambda _: timed(lambda: run(BIN / "pytest", "-q", empty, cwd=name)),
            },
            5,
        )
    return [
        Row(
            "50 cases in Envoy by pytest, beside 50 that do nothing",
            medians["ours"],
            medians["empty"],
            2.0,
            goal_of="ours",
        ),
        Row(
            "the same cases on the emulator, beside 50 that do nothing",
            medians["emulated"],
            medians["empty"],
            0.4,
            goal_of="difference",
        ),
        Row("the same by `scaffold test`, with `cargo test` and a build", medians["whole"], None, None),
    ]


def emulator() -> list[Row]:
    """Requests one after the other through the template's module on the emulator, in this process."""
    with tempfile.TemporaryDirectory() as name:
        crate = _crate(Path(name))
        run(BIN / "scaffold", "build", cwd=crate)
        module = WasmModule.read(crate / "target/wasm32-wasip1/release/bench.wasm")
        settings = RunOptions(port=0).settings
        request = Request("GET", "/status/200", Headers({"host": "bench", "x-request-id": "1"}))
        with player("emulator")(Plugin("bench", "", module), folder=Path(name), settings=settings) as host:

            def thousand(_: int) -> float:
                return timed(lambda: [host.play(request) for _ in range(1000)])

            medians = interleaved({"ours": thousand}, 7)
            cost = host.play(request).cost
    note = f"{cost.crossings} crossings each; {1000 / medians['ours']:,.0f} requests a second"
    return [Row("1,000 requests on the emulator", medians["ours"], None, 0.4, goal_of="ours", note=note)]


def suite() -> list[Row]:
    """100 declarative cases, a built module; beside 100 tests in Python that expect the same."""
    with tempfile.TemporaryDirectory() as name:
        crate = _crate(Path(name))
        run(BIN / "scaffold", "build", cwd=crate)
        module = crate / "target/wasm32-wasip1/release/bench.wasm"
        case = (
            'test {{ name: "{0}" request_headers {{ input {{ header {{ key: ":authority" value: "h{0}" }}'
            ' header {{ key: ":path" value: "/" }} }} result {{ has_header {{ key: "x-hello" value:'
            ' "Hello world from h{0}" }} log {{ regex: "Got 2 HTTP headers in .*" }} }} }} }}\n'
        )
        (crate / "suite.textpb").write_text("".join(map(case.format, range(100))))
        (crate / "tests" / "test_plugin.py").write_text(
            "import pytest\n\n\n@pytest.mark.parametrize('n', range(100))\ndef test_it(proxy, n):\n"
            "    exchange = proxy.get('/', headers={'host': f'h{n}'})\n"
            "    assert exchange.upstream.headers['x-hello'] == f'Hello world from h{n}'\n"
            "    assert 'HTTP headers in' in exchange.logs\n"
        )
        ours = (BIN / "scaffold", "test", "suite.textpb", f"--module={module}")
        theirs = (BIN / "pytest", "-q", "--proxy-host=emulator", f"--proxy-module={module}")
        medians = interleaved(
            {
                "ours": lambda _: timed(lambda: run(*ours, cwd=crate)),
                "pytest": lambda _: timed(lambda: run(*theirs, cwd=crate)),
            },
            9,
        )
    what = "100 cases of a suite, beside 100 tests in Python on the emulator"
    return [Row(what, medians["ours"], medians["pytest"], 1.0, goal_of="ours")]


def _crate(place: Path, template: str = "http") -> Path:
    run(BIN / "scaffold", "new", "bench", "--template", template, "--no-input", "--output-dir", place)
    run("cargo", "fetch", cwd=place / "bench")
    return place / "bench"
