"""What no run of a Rust template shows: its source has to say it."""

from __future__ import annotations

from scaffold.project.templates.source import bundled

INSIDE = "{{cookiecutter.name}}"


def test_every_key_is_compared_in_constant_time():
    """No timing that a test could take is steady enough."""
    source = (bundled()["auth"] / INSIDE / "src/credential.rs").read_text()
    judge = source.partition("pub fn judge")[2].partition("\n}\n")[0]
    assert "ct_eq(&digest.0)" in judge
    assert "==" not in judge
    assert "return Verdict::Missing" in judge
    assert judge.count("return") == 1, "a key that fits doesn't end the search"
