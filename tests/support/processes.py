"""Signs of processes that run, or have gone, to wait for; and small families of them."""

import signal
import time

import psutil

GONE_WITHIN = 3.0


def heed_hangups():
    """Let a child end by SIGHUP, be it that whoever started the tests (nohup) said otherwise."""
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def alive(pid):
    """Whether a process runs: one that ended and waits for its parent to ask doesn't."""
    try:
        return psutil.Process(pid).status() not in (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)
    except psutil.NoSuchProcess:
        return False


def eventually(condition, within=GONE_WITHIN):
    until = time.monotonic() + within
    while not condition():
        if time.monotonic() > until:
            return False
        time.sleep(0.01)
    return True


def gone(*pids, within=GONE_WITHIN):
    return eventually(lambda: not any(map(alive, pids)), within)


def numbers(path, count):
    """The process ids that a child and what it starts have written, once all are there."""
    assert eventually(lambda: path.exists() and len(path.read_text().split()) == count, 10)
    return [int(word) for word in path.read_text().split()]


# writes its own process id and its child's; where it says so, neither heeds a SIGTERM
FAMILY = ["sh", "-c", 'sleep 300 & echo $$ $! >> "$1"; wait', "sh"]
STUBBORN = ["sh", "-c", 'trap "" TERM; sleep 300 & echo $$ $! >> "$1"; wait; wait', "sh"]
