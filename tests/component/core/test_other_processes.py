import errno
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress

import psutil
import pytest
from support.processes import FAMILY, STUBBORN, alive, eventually, gone, numbers
from support.scripts import AS_ANOTHER_USER, finished

from scaffold.core import process

# --- end


@contextmanager
def orphan(tmp_path, family, *more):
    """Two processes that aren't our children: a leader of a group, and what it started."""
    starts = "import subprocess, sys; subprocess.Popen(sys.argv[1:], start_new_session=True)"
    subprocess.run([sys.executable, "-c", starts, *family, tmp_path / "pids", *more], check=True)
    both = numbers(tmp_path / "pids", 2)
    try:
        yield both
    finally:
        with suppress(ProcessLookupError):
            os.killpg(os.getpgid(both[1]), signal.SIGKILL)


def test_end_asks_first(tmp_path):
    with orphan(tmp_path, FAMILY) as (leader, _):
        began = time.monotonic()
        process.end(leader, 60)
        assert time.monotonic() - began < 30
        assert not alive(leader)


def test_end_kills_what_ignores_it_with_its_group(tmp_path):
    with orphan(tmp_path, STUBBORN) as both:
        process.end(both[0], 0.2)
        assert gone(*both)


def test_end_kills_what_ignores_it_and_leads_no_group(tmp_path):
    with orphan(tmp_path, ["sh", "-c", 'sh -c "$2" sh "$1" & wait', *STUBBORN[3:]], STUBBORN[2]) as both:
        assert os.getpgid(both[0]) != both[0]
        process.end(both[0], 0.2)
        assert gone(both[0])


def test_end_of_what_is_gone_is_nothing(tmp_path):
    with orphan(tmp_path, FAMILY) as (leader, _):
        os.killpg(leader, signal.SIGKILL)
        assert gone(leader)
        process.end(leader, 1)


def test_end_leaves_a_later_process_with_the_same_number_alone(tmp_path, monkeypatch):
    """It heeds no SIGTERM, and begins, as far as we can see, when the one that was meant has ended."""
    answers = 'trap "" TERM; trap "touch $2" USR1; sleep 300 & echo $$ $! >> "$1"; while :; do wait; done'
    with orphan(tmp_path, ["sh", "-c", answers, "sh"], tmp_path / "answer") as both:
        starts = iter([process.start_time(both[0])] * 2)
        monkeypatch.setattr(process, "start_time", lambda _: next(starts, 1.0))
        process.end(both[0], 0.2)
        os.kill(both[0], signal.SIGUSR1)
        assert eventually((tmp_path / "answer").exists), "it lives, and so does its child"
        assert alive(both[1])


# --- start_time


def test_another_users_process_has_a_start(tmp_path):
    """Though we may not send it a signal."""
    body = (
        f"from scaffold.core import process\n{AS_ANOTHER_USER}\nprint(process.start_time(int(sys.argv[1])))"
    )
    assert float(finished(body, os.getpid())) == process.start_time(os.getpid())


def test_a_process_started_once():
    with process.spawn(["sleep", "300"]) as child:
        first = process.start_time(child.pid)
        time.sleep(0.05)
        assert first is not None
        assert process.start_time(child.pid) == first
    assert process.start_time(child.pid) is None


def test_a_later_process_started_later():
    with process.spawn(["sleep", "300"]) as early:
        time.sleep(0.05)
        with process.spawn(["sleep", "300"]) as late:
            assert process.start_time(early.pid) < process.start_time(late.pid)
    assert process.start_time(os.getpid()) < time.time()


def test_a_process_that_ended_but_was_not_asked_for_is_none():
    with subprocess.Popen(["true"]) as child:
        assert eventually(lambda: psutil.Process(child.pid).status() == psutil.STATUS_ZOMBIE)
        assert process.start_time(child.pid) is None


def test_a_number_that_no_process_has_is_none():
    assert process.start_time(2**30) is None


@pytest.mark.parametrize("name", ["a) Z 1 (b", "é" * 9, "\n"], ids=["brackets", "cut in a letter", "newline"])
def test_a_process_of_any_name_has_a_start(tmp_path, name):
    """The system keeps 15 bytes of a name: it may end in the middle of a letter."""
    (tmp_path / name).symlink_to(process.run(["sh", "-c", "command -v sleep"]).stdout.strip())
    with process.spawn([tmp_path / name, "300"]) as child:
        assert abs(process.start_time(child.pid) - process.start_time(os.getpid())) < 1e9


def test_a_start_is_told_while_processes_come_and_go():
    """One that ends while we read what it is about is gone, not an error."""
    until = time.monotonic() + 0.2
    while time.monotonic() < until:
        with subprocess.Popen(["cat"], stdin=subprocess.PIPE) as child:
            told = [process.start_time(child.pid)]
            child.stdin.close()
            threading.Thread(target=child.wait).start()
            while told[-1] is not None:
                told.append(process.start_time(child.pid))
        assert len(set(told)) == 2, "one start while it ran, and then none"


# --- find


def test_processes_are_found_by_the_end_of_their_line_and_their_folder(tmp_path):
    (tmp_path / "gone").mkdir()
    with (
        process.spawn(["sleep", "0300", "301"], cwd=tmp_path) as here,
        process.spawn(["sleep", "0300", "301"], cwd=tmp_path / "gone") as gone,
        process.spawn(["sleep", "0300", "302"], cwd=tmp_path) as other,
    ):
        (tmp_path / "gone").rmdir()
        found = process.find("0300", "301")
        assert (found[here.pid], found[gone.pid]) == (tmp_path, tmp_path / "gone")
        assert other.pid not in found
    assert not {here.pid, gone.pid} & process.find("0300", "301").keys()


def test_a_process_in_a_container_is_not_found(tmp_path):
    """There, the same name is another folder."""
    if os.geteuid() != 0:
        pytest.skip("only root can have another root")
    inside = "import os, sys, time; os.chroot('/proc/self/root/usr'); print(1, flush=True); time.sleep(300)"
    argv = [sys.executable, "-c", inside, "0300", "303"]
    with subprocess.Popen(argv, cwd=tmp_path, stdout=subprocess.PIPE) as child:
        try:
            assert child.stdout.readline() == b"1\n"
            assert child.pid not in process.find("0300", "303")
        finally:
            child.kill()
    with process.spawn(["sleep", "0300", "303"], cwd=tmp_path) as child:
        assert child.pid in process.find("0300", "303")


# --- port_owner


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_a_port_is_owned_by_who_listens(host):
    with socket.socket(socket.AF_INET6 if ":" in host else socket.AF_INET) as server:
        try:
            server.bind((host, 0))
        except OSError as error:
            if error.errno == errno.EADDRNOTAVAIL:
                pytest.skip(f"no {host} here")
            raise
        port = server.getsockname()[1]
        assert process.port_owner(port) is None  # bound, not yet listening
        server.listen()
        assert process.port_owner(port) == f"{psutil.Process().name()} (pid {os.getpid()})"
        with socket.create_connection((host, port)) as client:
            assert process.port_owner(client.getsockname()[1]) is None  # talks, doesn't listen
    assert process.port_owner(port) is None
