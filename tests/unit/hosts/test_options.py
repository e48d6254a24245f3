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


@pytest.mark.parametrize(
    ("value", "port"),
    [(None, 8080), ("", 8080), ("8081", 8081), ("0", 0)],
    ids=["unset", "empty", "set", "any"],
)
def test_the_port_without_an_option_is_the_variables(value, port, monkeypatch):
    monkeypatch.delenv("SCAFFOLD_PORT", raising=False)
    if value is not None:
        monkeypatch.setenv("SCAFFOLD_PORT", value)
    assert RunOptions().settings.port == port
    assert RunOptions(port=9000).settings.port == 9000


@pytest.mark.parametrize("value", ["x", "-1", "65536", "1e3", "80 80"])
def test_a_variable_that_has_no_port_is_refused_by_name(value, monkeypatch):
    monkeypatch.setenv("SCAFFOLD_PORT", value)
    with pytest.raises(UsageError) as caught:
        _ = RunOptions().settings
    assert caught.value.message == f"$SCAFFOLD_PORT is `{value}`, which isn't a port"
