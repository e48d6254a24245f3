"""How a plugin runs here: what its options may be."""

from __future__ import annotations

import pytest

from scaffold.errors import UsageError
from scaffold.hosts.options import RunOptions


@pytest.mark.parametrize(
    ("options", "message", "hint"),
    [
        ({"port": -1}, "--port can't be -1", "pass a number from 0 to 65535"),
        ({"port": 65536}, "--port can't be 65536", "pass a number from 0 to 65535"),
        ({"log_level": "inof"}, "--log-level can't be `inof`", "did you mean `info`?"),
    ],
)
def test_an_impossible_value_is_refused_in_python_too(options, message, hint):
    """On the command line click refuses it; a caller of the function has no click."""
    with pytest.raises(UsageError) as caught:
        RunOptions(**options)
    assert (caught.value.message, caught.value.hint) == (message, hint)


def test_the_limits_themselves_are_possible():
    assert [RunOptions(port=port).settings.port for port in (0, 65535)] == [0, 65535]
    assert RunOptions(log_level="trace").settings.log_level == "trace"
