"""The emulator's clock."""

from __future__ import annotations

import threading

import pytest

from scaffold.hosts.emulator.clock import VirtualClock


@pytest.mark.parametrize("others", [0, 1])
def test_a_wait_takes_no_time_if_nobody_could_do_anything_meanwhile(others: int):
    """Each would take an hour otherwise."""
    clock, happened = VirtualClock(), []
    clock.hurries = bool(others)
    ended = threading.Event()
    threads = [threading.Thread(target=ended.wait) for _ in range(others)]
    for each in threads:
        each.start()
    try:
        begun = clock.now()
        assert not clock.run(lambda: False, 3600)
        assert clock.now() - begun >= 3600
        clock.after(3600, lambda: happened.append(clock.now()))
        assert clock.run(lambda: bool(happened), 4000)
        assert 7200 <= happened[0] - begun < 7600
    finally:
        ended.set()


def test_a_wait_lasts_while_another_thread_may_end_it():
    clock, happened = VirtualClock(), threading.Event()
    other = threading.Timer(0.05, happened.set)
    other.start()
    assert clock.run(happened.is_set, 60), "it gave up before the other thread could do anything"
    other.join()
