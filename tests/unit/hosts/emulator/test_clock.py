"""The emulator's clock."""

from __future__ import annotations

from scaffold.hosts.emulator.clock import VirtualClock


def test_a_clock_that_hurries_goes_forward_instead_of_waiting():
    """Each would take an hour otherwise."""
    clock, happened = VirtualClock(), []
    clock.hurries = True
    begun = clock.now()
    assert not clock.run(lambda: False, 3600)
    assert clock.now() - begun >= 3600
    clock.after(3600, lambda: happened.append(clock.now()))
    assert clock.run(lambda: bool(happened), 4000)
    assert 7200 <= happened[0] - begun < 7600
