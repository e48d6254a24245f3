"""What a person or a pipe sees, and how a command ends: rendered events, errors, signals, terminals."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.commands import SCAFFOLD, entered, error, listing, run, terminal
from support.processes import heed_hangups

pytestmark = pytest.mark.usefixtures("users_folders")


def test_a_path_is_printed_as_the_bytes_it_has(tmp_path):
    """`cd "$(scaffold new ...)"` works in a folder whose name isn't UTF-8."""
    folder = os.fsdecode(b"caf\xe9")
    ran = run(*SCAFFOLD, "new", "a_filter", "--no-input", "--output-dir", folder, cwd=tmp_path,
              env={"PYTHONIOENCODING": "utf-8:strict"})  # fmt: skip
    assert (ran.code, ran.out) == (0, f"{tmp_path}/{folder}/a_filter\n")


def test_only_a_bug_shows_a_traceback(tmp_path):
    for words in (["build"], ["new", "A"], ["run", "--port=0", "nothing.wasm"]):
        ran = run(*SCAFFOLD, *words, cwd=tmp_path)
        assert ran.code in (2, 3, 6)
        assert "Traceback" not in ran.err


def test_a_current_folder_that_is_gone_is_said(tmp_path):
    line = 'mkdir gone && cd gone && rmdir ../gone && exec "$@"'
    for words in (["new", "a_filter", "--no-input"], ["status"]):
        ran = run("sh", "-c", line, "sh", *SCAFFOLD[:1], "-P", *SCAFFOLD[1:], *words, cwd=tmp_path)
        assert (ran.code, ran.err.splitlines()[-3:]) == (
            4,
            ["error: the current folder no longer exists", "", "hint: `cd` to a folder that exists"],
        )
        assert listing(tmp_path) == []


HOSTILE_KEY = r'"\u001b]0;x\u0007\u001b[2J\nerror: forged" = 1'
HOSTILE_GIT = r"""#!/bin/sh
case "$*" in *ls-remote*|*fetch*) ;; *) exec {git} "$@" ;; esac
printf 'remote: \033[2J\033]0;x\007\nerror: forged\n\nhint: run it\n' >&2
exit 1
"""


def foreign_words(tmp_path):
    """Commands that show what others wrote: a key of a Cargo.toml, and what a git server answers."""
    crate = tmp_path / "crate"
    crate.mkdir()
    manifest = (
        '[package]\nname = "crate"\nversion = "0.1.0"\n[lib]\ncrate-type = ["cdylib"]\n'
        "[package.metadata.proxy-wasm]\n"
    )
    (crate / "Cargo.toml").write_text(manifest + HOSTILE_KEY)
    program = tmp_path / "bin" / "git"
    program.parent.mkdir()
    program.write_text(HOSTILE_GIT.replace("{git}", str(shutil.which("git"))))
    program.chmod(0o755)
    return (["build", "--root", crate], 3), (["new", "a", "--template", "https://localhost:9/a.git"], 5)


@pytest.mark.faults("R22", injected="escapes, line ends: Cargo.toml, a git server", seen="shown safely")
def test_what_others_wrote_commands_no_terminal_and_forges_no_line(tmp_path):
    for words, code in foreign_words(tmp_path):
        ran = run(*SCAFFOLD, *words, cwd=tmp_path, env={"PATH": f"{tmp_path}/bin:{os.environ['PATH']}"})
        assert ran.code == code, ran.err
        assert "forged" in ran.err
        assert not re.search(r"[\x00-\x09\x0b-\x1f\x7f-\x9f]", ran.err)
        assert len(re.findall(r"^ ?error:", ran.err, re.MULTILINE)) == 1
        assert not re.search(r"^ ?hint: run it", ran.err, re.MULTILINE)


# --- streams that end or fill up


def in_bash(line, cwd):
    ran = run("bash", "-c", line.replace("scaffold", " ".join(SCAFFOLD)), cwd=cwd)
    return ran.out.split(), ran.err


@pytest.mark.parametrize("line", ["scaffold --help", "scaffold status --all --json", "scaffold new --help"])
def test_a_reader_that_has_seen_enough_ends_it_without_a_word(line, tmp_path):
    """The reader is gone before the first byte: what `| head -0` would be."""
    out, err = in_bash(f"({line}; echo $? >&2) | true", tmp_path)
    assert (out, err.removeprefix("nothing is deployed\n")) == ([], "141\n")


def test_a_reader_of_one_line_gets_it(tmp_path):
    out, err = in_bash("scaffold --help | head -1", tmp_path)
    assert (out, err) == (["Usage:", "scaffold", "[OPTIONS]", "COMMAND", "[ARGS]..."], "")


def test_errors_to_nowhere_keep_their_exit_code(tmp_path):
    child = subprocess.Popen([*SCAFFOLD, "build"], cwd=tmp_path, stderr=subprocess.PIPE)
    child.stderr.close()
    assert child.wait(30) == 3


@pytest.mark.parametrize("words", ["--help", "status --json"])
@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no /dev/full here")
def test_a_full_disk_behind_standard_output_is_the_machines_fault(words, tmp_path):
    out, err = in_bash(f"scaffold {words} > /dev/full; echo $?", tmp_path)
    assert out == ["4"]
    assert err.endswith("error: No space left on device\n")


@pytest.mark.parametrize("closed", [">&-", "2>&-", "<&-", ">&- 2>&- <&-"])
def test_closed_streams_are_no_bug(closed, tmp_path):
    for words, code in (("build", "3"), ("new a_filter --no-input", "0")):
        out, err = in_bash(f"(scaffold {words} {closed}); echo $?", tmp_path)
        assert (out[-1], "Traceback" in err) == (code, False)
    assert (tmp_path / "a_filter" / "Cargo.toml").exists()


def test_a_full_disk_leaves_nothing(tmp_path):
    """As it looks to a process: no file may grow."""
    line = 'ulimit -f 0; exec "$@"'
    ran = run("bash", "-c", line, "bash", *SCAFFOLD, "new", "a_filter", "--no-input", cwd=tmp_path)
    assert ran.code == 4
    assert re.search(r"^error: .*File too large$", ran.err, re.MULTILINE)
    assert listing(tmp_path) == []


# --- signals

WAITS = """
import sys, time
from scaffold.cli.console import reporting
with reporting():
    try:
        print("ready", flush=True)
        time.sleep(60)
    finally:
        print("undone", flush=True)
"""


@pytest.mark.parametrize(
    ("number", "code", "word"),
    [
        (signal.SIGINT, 130, "interrupted"),
        (signal.SIGTERM, 143, "terminated"),
        (signal.SIGHUP, 129, "terminated"),
    ],
)
def test_a_signal_unwinds_and_has_the_shells_exit_code(number, code, word):
    child = subprocess.Popen(
        [sys.executable, "-c", WAITS],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        preexec_fn=heed_hangups,
    )
    assert child.stdout.readline() == "ready\n"
    child.send_signal(number)
    out, err = child.communicate(timeout=10)
    assert (child.returncode, out, err) == (code, "undone\n", f"error: {word}\n")


def test_nohup_is_respected():
    child = subprocess.Popen(
        ["sh", "-c", 'trap "" HUP; exec "$@"', "sh", sys.executable, "-c", WAITS.replace("60", "0.2")],
        stdout=subprocess.PIPE,
        text=True,
    )
    assert child.stdout.readline() == "ready\n"
    child.send_signal(signal.SIGHUP)
    assert child.communicate(timeout=10)[0] == "undone\n"
    assert child.returncode == 0


# --- a terminal

NEW = (*SCAFFOLD, "new", "a_filter")
COLOUR = "\x1b["


def test_new_asks_in_a_terminal_and_enter_takes_the_default(tmp_path):
    with terminal(*NEW, cwd=tmp_path) as screen:
        screen.until(
            "What the plugin does, in one line "
            "[A proxy-wasm plugin that sets a greeting as a request header]: "
        )
        screen.type('Says "hi"\n')
        screen.asks("Licence (an SPDX expression) [Apache-2.0]: ")
        screen.type("\n")
        assert screen.end() == 0, screen.seen
    manifest = (tmp_path / "a_filter" / "Cargo.toml").read_text()
    assert 'description = "Says \\"hi\\""\nlicense = "Apache-2.0"\n' in manifest


@pytest.mark.parametrize("typed", ["\x03", "\x04"], ids=["Ctrl-C", "Ctrl-D"])
def test_leaving_at_a_question_leaves_nothing(typed, tmp_path):
    with terminal(*NEW, cwd=tmp_path) as screen:
        screen.asks("a greeting as a request header]: ")
        screen.type(typed)
        assert screen.end() == 130
    assert (
        screen.seen.replace("\x1b[31m\x1b[1m", "")
        .replace("\x1b[0m", "")
        .endswith("\r\nerror: interrupted\r\n")
    )
    assert "Traceback" not in screen.seen
    assert listing(tmp_path) == []


def test_a_request_to_end_at_a_question_is_heard(tmp_path):
    with terminal(*NEW, cwd=tmp_path) as screen:
        screen.asks("a greeting as a request header]: ")
        os.kill(screen.child.pid, signal.SIGTERM)
        assert screen.end() == 143
    assert listing(tmp_path) == []


@pytest.mark.parametrize("words", [["--no-input"], ["-v", "description=d", "-v", "license=MIT"]])
def test_a_terminal_asks_nothing_that_was_said(words, tmp_path):
    with terminal(*NEW, *words, cwd=tmp_path) as screen:
        assert screen.end() == 0
    assert "]: " not in screen.seen
    assert (tmp_path / "a_filter").is_dir()


def test_ci_is_not_asked_even_in_a_terminal(tmp_path):
    with terminal("env", "CI=true", *NEW, cwd=tmp_path) as screen:
        assert screen.end() == 0
    assert "]: " not in screen.seen


def test_colours_are_for_the_terminal_alone(tmp_path):
    """Standard error is the terminal, standard output a pipe."""
    with (
        (tmp_path / "out").open("wb") as out,
        terminal(*NEW, "--no-input", cwd=tmp_path, stdout=out) as screen,
    ):
        assert screen.end() == 0
    assert COLOUR in screen.seen
    assert (tmp_path / "out").read_text() == f"{tmp_path / 'a_filter'}\n"
    assert COLOUR not in run(*NEW, "--no-input", cwd=tmp_path).err


def test_a_bar_goes_and_the_cursor_comes_back_however_it_ends(tmp_path):
    shows = """
from scaffold.cli.console import showing_events, reporting
from scaffold.core.events import Progressed, emit
with reporting(), showing_events():
    emit(Progressed("Loading", 5_000_000, 10_000_000, "B"))
    raise {}
"""
    for end in ("KeyboardInterrupt", "SystemExit(5)", "ValueError"):
        with terminal(sys.executable, "-c", shows.format(end), cwd=tmp_path) as screen:
            code = screen.end()
        assert code == {"KeyboardInterrupt": 130, "SystemExit(5)": 5, "ValueError": 70}[end]
        assert "5.0/10.0 MB" in screen.seen
        assert screen.seen.rfind("\x1b[?25h") > screen.seen.rfind("\x1b[?25l"), screen.seen


HOSTILE = "a\\x1b]0;title\\x07\\x1b[2J[link=http://evil]b\\r\\nerror: forged"
ASKS = f"""
from scaffold.cli.console import showing_events, reporting
from scaffold.core.events import Logged, Progressed, Quoted, ask, emit, prompt, step
hostile = "{HOSTILE}"
with reporting(), showing_events():
    emit(Progressed(hostile, 5, 10))
    with step(hostile):
        emit(Logged("error", hostile))
    emit(Quoted(hostile.replace("\\n", "") + chr(27) + "[31mred"))
    assert ask(hostile)
    assert prompt(hostile, hostile) == hostile
"""


def test_in_a_terminal_nothing_foreign_commands_it_or_forges_a_line(tmp_path):
    with terminal(sys.executable, "-c", ASKS, cwd=tmp_path) as screen:
        screen.asks("[Y/n]: ")
        screen.type("\n")
        screen.asks("error: forged]: ")
        screen.type("\n")
        assert screen.end() == 0, screen.seen
    assert "\x1b[31mred" in screen.seen
    for command in ("\x1b]", "\x07", "\x1b[2J"):
        assert command not in screen.seen
    assert "[link=http://evil]b" in screen.seen  # what rich would follow
    assert not re.search(r"^\W*error: forged", screen.seen.replace("\n  error", ""), re.MULTILINE)


def test_help_in_this_process_is_the_same_as_outside(capsys):
    assert entered(capsys, "--help").out == run(*SCAFFOLD, "--help").out


@pytest.mark.parametrize(
    ("name", "code", "said"), [("SIGINT", 130, "interrupted"), ("SIGTERM", 143, "terminated")]
)
def test_a_signal_that_comes_where_python_can_raise_nothing_comes_again(name, code, said):
    """In a weak reference's callback an exception is dropped, and its traceback printed."""
    program = f"""
import signal, sys, time, weakref
from scaffold.cli.console import reporting
signal.signal(signal.SIGINT, signal.SIG_DFL)
class Thing: pass
with reporting():
    thing = Thing()
    watch = weakref.ref(thing, lambda _: signal.raise_signal(signal.{name}))
    del thing
    time.sleep(20)
    print("was lost")
"""
    ran = run(sys.executable, "-c", program)
    assert (ran.code, ran.out, ran.err) == (code, "", error(said))


def test_ctrl_c_while_an_error_is_explained_changes_nothing():
    program = """
import os, signal
from scaffold.cli import console
signal.signal(signal.SIGINT, signal.SIG_DFL)
report = console._report
console._report = lambda *words: signal.raise_signal(signal.SIGINT) or report(*words)
with console.reporting():
    raise KeyboardInterrupt
"""
    ran = run(sys.executable, "-c", program)
    assert (ran.code, ran.out, ran.err) == (130, "", error("interrupted"))
