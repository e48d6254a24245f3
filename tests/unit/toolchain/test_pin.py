"""Which rustc is of the channel that rust-toolchain.toml names."""

from __future__ import annotations

import pytest

from scaffold.toolchain.pin import _fits


@pytest.mark.parametrize(
    ("channel", "version", "fits"),
    [
        ("stable", "1.90.0", True),
        ("stable", "1.90.0-beta.1", False),
        ("stable", "1.91.0-nightly", False),
        ("beta", "1.90.0-beta.1", True),
        ("beta", "1.90.0", False),
        ("nightly-2026-01-01", "1.91.0-nightly", True),
        ("1.8", "1.80.0", False),
        ("1.80", "1.80.1", True),
        ("1.80.1", "1.80.1", True),
        ("1.80.1", "1.80.10", False),
    ],
)
def test_a_channel_has_its_versions_and_no_others(channel, version, fits):
    assert _fits(channel, version) is fits
