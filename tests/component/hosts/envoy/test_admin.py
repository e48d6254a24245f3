"""Envoy's admin interface where nobody answers: it may be about to start, or busy."""

from __future__ import annotations

import socket

import pytest

from scaffold.errors import HostError
from scaffold.hosts.envoy.admin import Admin, curl


def test_while_nobody_answers_the_answers_are_empty():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and doesn't listen
        check_empty(Admin(f"127.0.0.1:{taken.getsockname()[1]}"))


def test_while_there_is_no_socket_the_answers_are_empty(tmp_path):
    check_empty(Admin(str(tmp_path / "admin.sock")))


def check_empty(admin: Admin) -> None:
    assert (admin.listener_port(), admin.live(), admin.counter("update_success")) == (0, False, 0)
    assert admin.gone()
    with pytest.raises(HostError, match="Envoy's admin interface doesn't answer: "):
        admin.ask("/stats")


@pytest.mark.parametrize(
    ("address", "line"),
    [
        ("/a folder/admin.sock", "curl --unix-socket '/a folder/admin.sock' http://envoy/stats"),
        ("127.0.0.1:9901", "curl http://127.0.0.1:9901/stats"),
    ],
)
def test_a_user_can_ask_too(address, line):
    assert curl(address) == line
