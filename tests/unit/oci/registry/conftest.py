import pytest
from support.users import authority, home, other, said, server, tls_server, trusted

__all__ = ["authority", "home", "other", "said", "server", "tls_server", "trusted"]


@pytest.fixture(autouse=True)
def _home(home):
    """Every test here has a user of its own."""
