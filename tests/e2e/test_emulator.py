"""The emulator and a real Envoy: plugins made at random play the same requests and connections on both."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from support import random_network
from support.agreement import differences
from support.random_plugins import case

SEEDS = int(os.environ.get("EMULATOR_SEEDS", "12"))  # plugins
FIRST = int(os.environ.get("EMULATOR_FIRST_SEED", "0"))
NETWORK_SEEDS = int(os.environ.get("EMULATOR_NETWORK_SEEDS", "10"))  # network plugins
REQUESTS, CONNECTIONS = 12, 6  # through each
ONCE_APART = () if "EMULATOR_FIRST_SEED" in os.environ else (9031, 9039, 9096, 20019, 20146, 20344)


@pytest.mark.parametrize("seed", [*range(FIRST, FIRST + SEEDS), *ONCE_APART])
def test_does_what_envoy_does(seed: int, tmp_path: Path) -> None:
    found = differences(case(seed, REQUESTS, tmp_path))
    assert not found, "\n\n".join(found)


@pytest.mark.parametrize("seed", range(FIRST, FIRST + NETWORK_SEEDS))
def test_does_what_envoy_does_with_a_connection(seed: int, tmp_path: Path) -> None:
    found = differences(random_network.case(seed, CONNECTIONS, tmp_path))
    assert not found, "\n\n".join(found)
