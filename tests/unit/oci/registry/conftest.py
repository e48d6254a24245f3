import pytest
from support.credentials import docker

__all__ = ["docker"]


@pytest.fixture(autouse=True)
def _home(home):
    """Every test here has a user of its own."""
