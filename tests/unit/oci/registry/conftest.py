import pytest


@pytest.fixture(autouse=True)
def _home(home):
    """Every test here has a user of its own."""
