"""Where a template's zip file may be redirected to."""

from __future__ import annotations

import pytest

from scaffold.errors import UsageError
from scaffold.project.templates.zip_download import _target

FAR = "https://templates.example/mine.zip"
NEAR = "http://127.0.0.1:8000/mine.zip"


@pytest.mark.parametrize(
    ("first", "url", "location", "target"),
    [
        (FAR, FAR, "https://cdn.example/1", "https://cdn.example/1"),
        (FAR, "https://cdn.example/1", "/2", "https://cdn.example/2"),
        (NEAR, NEAR, "/other", "http://127.0.0.1:8000/other"),
        (NEAR, NEAR, "https://cdn.example/1", "https://cdn.example/1"),
    ],
)
def test_a_redirect_to_where_nobody_listens_in_is_followed(first, url, location, target):
    assert _target(first, url, location) == target


@pytest.mark.parametrize(
    ("first", "url", "location"),
    [
        (FAR, FAR, "http://cdn.example/1"),
        (FAR, FAR, "http://127.0.0.1:8000/1"),
        (NEAR, "https://127.0.0.1:8443/1", "http://127.0.0.1:8000/1"),
        (NEAR, NEAR, "http://cdn.example/1"),
        (FAR, FAR, "ftp://cdn.example/1"),
    ],
)
def test_a_redirect_to_plain_text_is_refused(first, url, location):
    with pytest.raises(UsageError, match="redirects to plain text, which anybody on the way can change"):
        _target(first, url, location)


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost:8443", "169.254.169.254", "0.0.0.0", "[::1]"])
def test_a_redirect_from_elsewhere_to_this_machine_is_refused(host):
    with pytest.raises(UsageError, match="which is this machine"):
        _target(FAR, FAR, f"https://{host}/1")
