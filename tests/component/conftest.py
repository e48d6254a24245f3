"""The users, registries and clusters that these tests share."""

from __future__ import annotations

import pytest
from support.clusters import cluster, kubeconfig
from support.faulty_registry import authority, other, server, tls_server, trusted
from support.scripts import open_folder
from support.users import home, said, users_folders

__all__ = [
    "authority",
    "home",
    "open_folder",
    "other",
    "said",
    "server",
    "tls_server",
    "trusted",
    "users_folders",
]


@pytest.fixture
def here(home):
    """A cluster with the namespaces `default` and `shop`, in the current context `here`."""
    with cluster("default", "shop", "higress-system") as running:
        kubeconfig(home / "config", {"here": running.url}, "here")
        yield running
