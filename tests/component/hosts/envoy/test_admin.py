"""Envoy's admin interface where nobody answers: it may be about to start, or busy."""

from __future__ import annotations

import socket

from scaffold.hosts.envoy.admin import Admin


def test_while_nobody_answers_the_answers_are_empty():
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))  # and doesn't listen
        admin = Admin(taken.getsockname()[1])
        assert (admin.listener_port(), admin.live(), admin.counter("update_success")) == (0, False, 0)
