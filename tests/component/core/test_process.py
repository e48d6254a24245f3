import os
import pty
import signal
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

import psutil
import pytest
from support.processes import FAMILY, GONE_WITHIN, STUBBORN, alive, eventually, gone, heed_hangups, numbers

from scaffold.core import process
from scaffold.errors import MachineError

PREAMBLE = (
    "import os, signal, sys, threading, time\nfrom pathlib import Path\nfrom scaffold.core import process\n"
)


@contextmanager
def tool(body, *arguments, **options):
    """A tool of ours that runs this; whatever happens, its whole session is killed at the end."""
    child = subprocess.Popen(
        [sys.executable, "-c", PREAMBLE + body, *map(str, arguments)],
        start_new_session=True,
        preexec_fn=heed_hangups,
        **options,
    )
    try:
        yield child
    finally:
        with suppress(ProcessLookupError):
            os.killpg(child.pid, signal.SIGKILL)
        child.wait()
        for pipe in (child.stdin, child.stdout, child.stderr):
            if pipe:
                pipe.close()


@pytest.fixture
def stand_in(tmp_path):
    """Writes a program and gives its path."""

    def write(content, name="program", mode=0o755):
        path = tmp_path / name
        path.write_text(content)
        path.chmod(mode)
        return path

    return write


# --- run


@pytest.mark.parametrize("code", [0, 1, 101])
def test_run_tells_the_code_and_what_was_printed(stand_in, code):
    program = stand_in(f"#!/bin/sh\necho out; echo err >&2; exit {code}\n")
    assert process.run([program]) == process.Completed(code, "out\n", "err\n")


def test_run_tells_a_death_by_signal():
    assert process.run(["sh", "-c", "kill -9 $$"]).code == -9


def test_run_passes_arguments_as_they_are():
    odd = ["a b", "", "$HOME", "*", "'", '"', "\n", "ü"]
    assert process.run(["printf", "%s|", *odd]).stdout == "|".join(odd) + "|"


def test_run_has_a_place_and_an_environment(tmp_path):
    ran = process.run(["/bin/sh", "-c", "pwd -P; echo $GREETING"], cwd=tmp_path, env={"GREETING": "hi"})
    assert ran.stdout == f"{tmp_path.resolve()}\nhi\n"


def test_run_gives_a_program_no_standard_input():
    assert process.run(["cat"], timeout=5) == process.Completed(0)


def test_run_gives_a_program_what_it_is_to_read():
    told = "sesame\n" * 50_000  # more than a pipe holds
    assert process.run(["cat"], input=told) == process.Completed(0, told)
    assert process.run(["true"], input=told) == process.Completed(0)  # which reads nothing of it


def test_run_reads_what_is_not_utf8_and_more_than_a_pipe_holds():
    printed = process.run(["sh", "-c", r"printf '\377'; yes | head -c 300000"])
    assert printed.stdout.startswith("\ufffdy\n")
    assert len(printed.stdout) == 300_001


def test_run_ends_what_takes_too_long_with_all_it_started(tmp_path):
    began = time.monotonic()
    with pytest.raises(MachineError) as caught:
        process.run([*FAMILY, tmp_path / "pids"], timeout=0.5)
    assert caught.value.message == "sh didn't answer within 0.5 s"
    assert time.monotonic() - began < 10
    assert gone(*numbers(tmp_path / "pids", 2))


def test_run_ends_what_holds_its_output_beyond_its_end():
    with pytest.raises(MachineError, match="didn't answer within"):
        process.run(["sh", "-c", "sleep 300 &"], timeout=0.3)


@pytest.mark.parametrize("start", [process.run, process.show])
def test_what_cannot_run_is_the_machines_fault(stand_in, tmp_path, start):
    for program, why in (
        ("no-such-program", "No such file or directory"),
        (tmp_path / "none", "No such file or directory"),
        (tmp_path, "Permission denied"),
        (stand_in("#!/bin/sh\n", "plain", 0o644), "Permission denied"),
        (stand_in("\x7fELF?", "garbage"), "Exec format error"),
        (stand_in("#!/no/such/interpreter\n", "script"), "No such file or directory"),
    ):
        with pytest.raises(MachineError) as caught:
            start([program, "x"])
        assert caught.value.message == f"cannot run {program}: {why}"


def test_what_could_not_start_leaves_no_process_and_no_descriptor():
    before = len(psutil.Process().children()), psutil.Process().num_fds()
    for _ in range(5):
        with pytest.raises(MachineError):
            process.run(["no-such-program"])
        process.run(["true"])
    assert (len(psutil.Process().children()), psutil.Process().num_fds()) == before


# --- show


def shown(body, **options):
    return subprocess.run([sys.executable, "-c", PREAMBLE + body], capture_output=True, text=True, **options)


def test_no_program_reads_what_was_meant_for_us():
    run = "print(repr(process.run(['cat']).stdout), repr(process.show(['sh', '-c', 'cat >&2'])))"
    ran = shown(run, input="for us")
    assert (ran.stdout, ran.stderr) == ("'' 0\n", "")


SPEAKS = "['sh', '-c', 'echo out; echo err >&2; exit 3']"


def test_show_leaves_standard_output_to_our_result():
    ran = shown(f"print('before', file=sys.stderr); print(process.show({SPEAKS}))")
    assert (ran.stdout, ran.stderr) == ("3\n", "before\nout\nerr\n")


def test_show_hands_over_the_lines_of_standard_output():
    ran = shown(f"lines = []; process.show({SPEAKS}, on_line=lines.append); print(lines)")
    assert (ran.stdout, ran.stderr) == ("['out\\n']\n", "err\n")


def test_show_hands_over_each_line_when_it_comes_and_the_last_without_an_end():
    began, lines = time.monotonic(), []
    program = ["sh", "-c", r"echo one; sleep 0.4; printf '\377two'"]
    assert process.show(program, on_line=lambda line: lines.append((line, time.monotonic() - began))) == 0
    (first, early), (last, late) = lines
    assert (first, last) == ("one\n", "\ufffdtwo")
    assert early < 0.3 < late


def test_show_still_speaks_to_standard_error_when_python_has_another():
    ran = shown(f"sys.stderr = __import__('io').StringIO(); print(process.show({SPEAKS}))")
    assert (ran.stdout, ran.stderr) == ("3\n", "out\nerr\n")


def test_show_runs_with_standard_error_closed():
    ran = subprocess.run(
        [
            "sh",
            "-c",
            'exec "$@" 2>&-',
            "sh",
            sys.executable,
            "-c",
            PREAMBLE + f"print(process.show({SPEAKS}))",
        ],
        capture_output=True,
        text=True,
    )
    assert (ran.stdout, ran.stderr) == ("3\n", "")


def test_show_ends_the_program_when_a_line_is_too_much(tmp_path):
    def objects(line):
        raise RuntimeError(line)

    with pytest.raises(RuntimeError, match="hi"):
        process.show(
            ["sh", "-c", 'echo $$ > "$1"; echo hi; exec sleep 300', "sh", tmp_path / "pid"], on_line=objects
        )
    assert gone(*numbers(tmp_path / "pid", 1))


# --- spawn


def test_spawn_runs_while_the_block_does(tmp_path):
    with process.spawn([*FAMILY, tmp_path / "pids"]) as child:
        pids = numbers(tmp_path / "pids", 2)
        assert child.pid == pids[0]
        assert all(map(alive, pids))
    assert child.returncode == -signal.SIGTERM  # which it heeds
    assert gone(*pids)


def test_spawn_kills_what_ignores_the_request_after_the_grace(tmp_path):
    with process.spawn([*STUBBORN, tmp_path / "pids"], grace=0.3) as child:
        pids = numbers(tmp_path / "pids", 2)
        began = time.monotonic()
    assert time.monotonic() - began >= 0.3
    assert child.returncode == -signal.SIGKILL
    assert gone(*pids)


def test_spawn_lets_a_program_put_its_things_in_order(tmp_path):
    tidy = 'trap "sleep 0.2; touch $1; exit 7" TERM; echo $$ > "$2"; while :; do sleep 0.05; done'
    with process.spawn(["sh", "-c", tidy, "sh", tmp_path / "tidied", tmp_path / "pid"]) as child:
        numbers(tmp_path / "pid", 1)
    assert (child.returncode, (tmp_path / "tidied").exists()) == (7, True)


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt, SystemExit])
def test_spawn_ends_the_program_when_the_block_fails(tmp_path, error):
    with pytest.raises(error), process.spawn([*FAMILY, tmp_path / "pids"]):
        pids = numbers(tmp_path / "pids", 2)
        raise error
    assert gone(*pids)


def test_spawn_ends_what_a_program_left_that_is_gone_itself(tmp_path):
    leaves = ["sh", "-c", 'sleep 300 & echo $! > "$1"; exit 4', "sh", tmp_path / "pid"]
    with process.spawn(leaves) as child:
        (left,) = numbers(tmp_path / "pid", 1)
        assert child.wait(5) == 4
        assert alive(left)
    assert child.returncode == 4
    assert gone(left)


def test_spawn_wakes_what_was_stopped(tmp_path):
    with process.spawn([*FAMILY, tmp_path / "pids"], grace=0.2) as child:
        pids = numbers(tmp_path / "pids", 2)
        os.killpg(os.getpgid(child.pid), signal.SIGSTOP)
    assert gone(*pids)


def test_spawn_gives_its_output_to_a_file(tmp_path):
    with (tmp_path / "log").open("wb") as log, process.spawn(["sh", "-c", "echo hi"], stdout=log) as child:
        child.wait(5)
    assert (tmp_path / "log").read_text() == "hi\n"


def test_spawn_is_at_home_in_threads():
    codes = []

    def work(code):
        with process.spawn(["sh", "-c", f"exit {code}"]) as child:
            codes.append(child.wait(10))

    threads = [threading.Thread(target=work, args=(code,)) for code in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(codes) == list(range(8))


# --- the tool dies

SPAWNS = """
with process.spawn(sys.argv[1:], grace=60) as child:
    with open(sys.argv[-1], "a") as file:
        print(child.pid, file=file)
    time.sleep(300)
"""


@pytest.mark.faults(
    "R10", injected="SIGKILL of scaffold: children, grandchildren, from threads", seen="all gone within 3 s"
)
@pytest.mark.parametrize(
    ("family", "number"),
    [
        (FAMILY, signal.SIGKILL),
        (FAMILY, signal.SIGTERM),
        (FAMILY, signal.SIGHUP),
        (STUBBORN, signal.SIGKILL),
    ],
    ids=["SIGKILL", "SIGTERM", "SIGHUP", "SIGKILL, and SIGTERM is ignored"],
)
def test_what_we_started_ends_with_us_however_we_end(tmp_path, family, number):
    with tool(SPAWNS, *family, tmp_path / "pids") as parent:
        pids = set(numbers(tmp_path / "pids", 3))
        parent.send_signal(number)
        parent.wait(10)
        assert len(pids) == 2
        assert gone(*pids)


AWAY = {
    "a group of its own": ["timeout", "300", *FAMILY],
    "a session of its own": ["setsid", *FAMILY],
}


WITH_A_GUARD = ["process.run(sys.argv[1:], guarded=True)", "process.show(sys.argv[1:])"]


@pytest.mark.parametrize("family", AWAY.values(), ids=AWAY)
def test_what_leaves_its_group_ends_with_its_block(tmp_path, family):
    with process.spawn([*family, tmp_path / "pids"]) as child:
        pids = numbers(tmp_path / "pids", 2)
        assert all(map(alive, pids))
    assert child.returncode
    assert gone(*pids)


@pytest.mark.parametrize(
    ("family", "guarded"), [*((each, True) for each in AWAY.values()), (AWAY["a group of its own"], False)]
)
def test_what_leaves_its_group_does_not_hold_up_its_end(tmp_path, family, guarded):
    with pytest.raises(MachineError, match="didn't answer within"):
        process.run([*family, tmp_path / "pids"], timeout=0.5, guarded=guarded)
    assert gone(*numbers(tmp_path / "pids", 2))


@pytest.mark.parametrize("family", AWAY.values(), ids=AWAY)
def test_a_kill_ends_what_leaves_its_group(tmp_path, family):
    with tool("process.run(sys.argv[1:], guarded=True)", *family, tmp_path / "pids") as parent:
        pids = numbers(tmp_path / "pids", 2)
        parent.kill()
        assert gone(*pids)


@pytest.mark.parametrize("call", WITH_A_GUARD)
def test_a_kill_ends_what_we_run_to_the_end(tmp_path, call):
    with tool(call, *FAMILY, tmp_path / "pids") as parent:
        pids = numbers(tmp_path / "pids", 2)
        parent.kill()
        parent.wait()
        assert gone(*pids)


@pytest.mark.faults(
    "R10", injected="SIGKILL of scaffold just when a child starts", seen="all gone within 3 s"
)
@pytest.mark.parametrize("call", WITH_A_GUARD)
def test_a_kill_right_when_a_program_begins_leaves_no_orphan(tmp_path, call):
    """It kills its parent by itself, as its first step: nobody could be quicker."""
    for turn in range(20):
        place = tmp_path / str(turn)
        family = ["sh", "-c", f"kill -9 $PPID; {FAMILY[2]}", "sh", place]
        with tool(call, *family) as parent:
            assert parent.wait(10) == -signal.SIGKILL
            assert eventually(lambda: not of_line(str(place))), f"turn {turn}"  # noqa: B023
            assert gone(*map(int, place.read_text().split() if place.exists() else ())), f"turn {turn}"


def test_a_kill_right_when_a_program_at_a_terminal_begins_leaves_no_orphan(tmp_path):
    for turn in range(20):
        place = str(tmp_path / str(turn))
        deaf = 'trap "" HUP; kill -9 $PPID; while :; do sleep 0.1; done'  # to the terminal's end
        argv = ["sh", "-c", deaf, "sh", place]
        pid, terminal = pty.fork()
        if pid == 0:
            os.execv(sys.executable, [sys.executable, "-c", PREAMBLE + "process.show(sys.argv[1:])", *argv])
        try:
            assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == -signal.SIGKILL
            assert eventually(lambda: not of_line(place)), f"turn {turn}"  # noqa: B023
        finally:
            os.close(terminal)


def of_line(word):
    """The processes with that word in their command line."""
    lines = {each: each.info["cmdline"] or () for each in psutil.process_iter(["cmdline"])}
    return [each for each, line in lines.items() if word in line]


def test_a_kill_ends_many_from_many_threads(tmp_path):
    body = """
def work():
    with process.spawn(sys.argv[1:]):
        time.sleep(300)
threads = [threading.Thread(target=work) for _ in range(20)]
for thread in threads: thread.start()
for thread in threads: thread.join()
"""
    with tool(body, *FAMILY, tmp_path / "pids") as parent:
        pids = numbers(tmp_path / "pids", 40)
        parent.kill()
        parent.wait()
        assert gone(*pids)


def test_a_thread_that_ends_takes_nothing_with_it(tmp_path):
    """Linux's parent-death signal would."""
    body = """
held = process.spawn(sys.argv[1:])
thread = threading.Thread(target=held.__enter__)
thread.start(); thread.join()
time.sleep(300)
"""
    with tool(body, *FAMILY, tmp_path / "pids") as parent:
        pids = numbers(tmp_path / "pids", 2)
        assert all(map(alive, pids))
        parent.kill()
        parent.wait()
        assert gone(*pids)


def test_when_we_are_killed_a_program_still_has_a_moment_to_clean_up(tmp_path):
    """A second, which the guard gives it: Envoy removes its sockets meanwhile."""
    trap = 'trap "sleep 0.3; echo $$ >> \\"$1\\"; exit" TERM; echo $$ >> "$1"; while :; do sleep 0.05; done'
    body = "with process.spawn(sys.argv[1:]):\n    time.sleep(300)\n"
    with tool(body, "sh", "-c", trap, "sh", tmp_path / "pids") as parent:
        (pid,) = numbers(tmp_path / "pids", 1)
        parent.kill()
        assert numbers(tmp_path / "pids", 2) == [pid, pid]
        assert gone(pid)


def test_a_fork_of_ours_has_a_guard_of_its_own(tmp_path):
    body = """
process.run(["true"])
if os.fork() == 0:
    with process.spawn(sys.argv[1:]):
        time.sleep(300)
os.wait()
time.sleep(300)
"""
    with tool(body, *FAMILY, tmp_path / "pids") as parent:
        pids = numbers(tmp_path / "pids", 2)
        fork = psutil.Process(pids[0]).parent()
        assert fork.ppid() == parent.pid
        fork.kill()
        assert gone(*pids)
        assert alive(parent.pid)


@pytest.mark.parametrize("guarded", [False, True])
def test_nothing_is_left_beside_us_of_what_has_ended(guarded):
    for _ in range(3):
        process.run(["true"], guarded=guarded)
    assert psutil.Process().children() == []


@pytest.mark.parametrize("guarded", [False, True])
def test_an_interrupt_while_a_program_begins_leaves_none(monkeypatch, guarded):
    starts = subprocess.Popen

    def interrupted(*arguments, **options):
        os.kill(os.getpid(), signal.SIGINT)
        return starts(*arguments, **options)

    monkeypatch.setattr(subprocess, "Popen", interrupted)
    with pytest.raises(KeyboardInterrupt):
        process.run(["sleep", "300"], guarded=guarded)
    assert eventually(lambda: psutil.Process().children() == [])


def test_at_a_terminal_a_program_does_without_its_guard(tmp_path):
    body = """
guard = process._Guard(True)
guard._shell.kill(); guard._shell.wait()
print(process._popen(["sh", "-c", "exit 7"], **guard.options).wait(), flush=True)
"""
    with tool(body, stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"7\n"


@pytest.mark.parametrize("ending", ["pass", "sys.exit(3)", "os._exit(3)", "raise RuntimeError"])
def test_a_guard_ends_with_us(ending):
    body = f"""
with process.spawn(["sleep", "300"]):
    print("ready", flush=True); sys.stdin.readline()
    {ending}
"""
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
    with tool(body, **pipes) as parent:
        parent.stdout.readline()
        family = psutil.Process(parent.pid).children()
        assert sorted(each.name() for each in family) == ["sh", "sleep"]
        parent.communicate(b"\n")
        assert gone(*(each.pid for each in family))


def test_a_short_run_needs_no_guard():
    with tool("process.run(['sleep', '300'])") as parent:
        assert eventually(
            lambda: [each.name() for each in psutil.Process(parent.pid).children()] == ["sleep"]
        )


# --- Ctrl-C


@pytest.mark.parametrize(
    "body",
    [
        "with process.spawn(sys.argv[1:]): time.sleep(300)",
        "process.run(sys.argv[1:])",
        "process.run(sys.argv[1:], guarded=True)",
        "process.show(sys.argv[1:])",
    ],
)
def test_a_ctrl_c_leaves_nothing(tmp_path, body):
    with tool(body, *FAMILY, tmp_path / "pids", stderr=subprocess.DEVNULL) as parent:
        pids = numbers(tmp_path / "pids", 2)
        os.killpg(parent.pid, signal.SIGINT)
        assert parent.wait(GONE_WITHIN) == -signal.SIGINT
        assert gone(*pids)


@pytest.mark.parametrize("call", ["process.run(sys.argv[1:])", *WITH_A_GUARD])
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_signal_that_unwinds_the_stack_leaves_nothing(tmp_path, call, number):
    """As the command line's handler does."""
    body = f"""
def interrupted(*_):
    raise KeyboardInterrupt
signal.signal({number:d}, interrupted)
{call}
"""
    with tool(body, *FAMILY, tmp_path / "pids", stderr=subprocess.DEVNULL) as parent:
        pids = numbers(tmp_path / "pids", 2)
        parent.send_signal(number)
        parent.wait(GONE_WITHIN)
        assert gone(*pids)


def test_a_second_ctrl_c_waits_for_no_grace(tmp_path):
    stays = 'trap "heard=x" TERM; echo $$ >> "$1"; while :; do sleep 0.05; echo "$heard" >> "$1.beats"; done'
    with tool(SPAWNS, "sh", "-c", stays, "sh", tmp_path / "pids", stderr=subprocess.DEVNULL) as parent:
        pids = set(numbers(tmp_path / "pids", 2))
        os.killpg(parent.pid, signal.SIGINT)
        beats = tmp_path / "pids.beats"
        assert eventually(lambda: beats.exists() and beats.read_text().count("x") > 5), "it has a minute"
        assert parent.poll() is None
        os.killpg(parent.pid, signal.SIGINT)
        parent.wait(GONE_WITHIN)
        assert gone(*pids)


def test_an_interrupt_at_any_moment_of_the_end_leaves_nothing(tmp_path):
    """It comes before the program was asked to end."""
    body = """
def interrupted(*_):
    raise KeyboardInterrupt
process._signal = interrupted
with process.spawn(sys.argv[1:]):
    while not Path(sys.argv[-1]).exists() or len(Path(sys.argv[-1]).read_text().split()) < 2:
        time.sleep(0.01)
"""
    with tool(body, *FAMILY, tmp_path / "pids", stderr=subprocess.DEVNULL) as parent:
        parent.wait(10)
        assert gone(*numbers(tmp_path / "pids", 2))


def test_a_ctrl_c_at_a_terminal_reaches_the_program_and_leaves_nothing(tmp_path):
    """A real terminal's: the program shares it, is interrupted with us, and may put its things in order."""
    program = (
        'trap "sleep 0.3; echo interrupted > $2; exit 130" INT; echo $$ > "$1"; while :; do sleep 0.05; done'
    )
    argv = ["sh", "-c", program, "sh", str(tmp_path / "pid"), str(tmp_path / "interrupted")]
    pid, terminal = pty.fork()
    if pid == 0:
        os.execv(sys.executable, [sys.executable, "-c", PREAMBLE + "process.show(sys.argv[1:])", *argv])
    try:
        (child,) = numbers(tmp_path / "pid", 1)
        time.sleep(0.2)
        os.write(terminal, b"\x03")
        assert eventually(lambda: os.waitpid(pid, os.WNOHANG)[0] == pid)
        assert gone(child)
        assert (tmp_path / "interrupted").read_text() == "interrupted\n"
    finally:
        os.close(terminal)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


def test_a_program_at_a_terminal_may_ask(tmp_path):
    """It is in the foreground: a background one that reads the terminal would be stopped."""
    asks = 'read answer; echo "$answer" > "$1"'
    pid, terminal = pty.fork()
    if pid == 0:
        shows = PREAMBLE + "sys.exit(process.show(sys.argv[1:]))"
        os.execv(
            sys.executable, [sys.executable, "-c", shows, "sh", "-c", asks, "sh", str(tmp_path / "said")]
        )
    try:
        os.write(terminal, b"yes\n")
        assert eventually(lambda: (tmp_path / "said").exists() and (tmp_path / "said").read_text() == "yes\n")
    finally:
        os.close(terminal)
        with suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)


# --- detach

OUTLIVES = """
import sys, time
from pathlib import Path
folder = Path(sys.argv[1])
(folder / "pid").write_text(str(__import__("os").getpid()))
print("hello", flush=True)
said = sys.stdin.read()
(folder / "end").write_text(repr(said))
time.sleep(300)
"""


def test_what_is_detached_outlives_us_and_learns_of_our_end(tmp_path):
    body = """
process.run(["true"])
child = process.detach([sys.executable, "-c", sys.argv[1], sys.argv[2]],
                       cwd=Path(sys.argv[2]), env=os.environ, stderr=open(os.devnull, "wb"))
assert child.stdout.readline() == b"hello\\n"
child.stdin.write(b"commit"); child.stdin.flush()
with process.spawn(sys.argv[3:]):
    print("ready", flush=True)
    time.sleep(300)
"""
    with tool(body, OUTLIVES, tmp_path, *STUBBORN, tmp_path / "pids", stdout=subprocess.PIPE) as parent:
        assert parent.stdout.readline() == b"ready\n"
        attached = numbers(tmp_path / "pids", 2)
        (pid,) = numbers(tmp_path / "pid", 1)
        try:
            assert not (tmp_path / "end").exists()
            assert os.getsid(pid) == pid  # no terminal's hang-up reaches it
            parent.kill()
            parent.wait()
            assert eventually((tmp_path / "end").exists)
            assert (tmp_path / "end").read_text() == "'commit'"
            assert gone(*attached), "the guard has killed what it had"
            assert alive(pid)
        finally:
            os.kill(pid, signal.SIGKILL)


def test_what_cannot_be_detached_is_the_machines_fault(tmp_path):
    with pytest.raises(MachineError, match="cannot run no-such-program"):
        process.detach(["no-such-program"], cwd=tmp_path, env={}, stderr=subprocess.DEVNULL)


def test_paths_are_words_too(stand_in):
    echo = Path(process.run(["sh", "-c", "command -v echo"]).stdout.strip() or "/bin/echo")
    assert process.run(["echo", echo]).stdout == f"{echo}\n"


def test_a_program_that_fails_where_nobody_reads_is_no_news(monkeypatch):
    """Its output had nowhere to go, which may be why it failed."""
    assert process.show(["false"]) == 1
    read, write = os.pipe()
    monkeypatch.setattr(process, "standard_error", lambda: write)
    assert process.show(["false"]) == 1
    os.close(read)
    with pytest.raises(BrokenPipeError):
        process.show(["false"])
    assert process.show(["true"]) == 0
    os.close(write)
