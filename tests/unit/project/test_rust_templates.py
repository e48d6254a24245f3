"""What no run of a Rust template shows: its source has to say it."""

from __future__ import annotations

from scaffold.project.templates.source import bundled

INSIDE = "{{cookiecutter.name}}"


def test_a_bucket_is_only_written_as_it_was_read():
    """Workers that meet at one bucket do so too seldom on a machine with few cores for a run to show it."""
    source = (bundled()["ratelimit"] / INSIDE / "src/lib.rs").read_text()
    take = source.partition("fn take")[2].partition("\n    }\n")[0]
    assert "const NOT_THERE_YET: u32 = u32::MAX;" in source, "0 would let any write pass"
    assert "let (value, cas) = self.get_shared_data(name);" in take
    assert "let cas = cas.unwrap_or(NOT_THERE_YET);" in take
    assert ".set_shared_data(name, Some(&full.to_le_bytes()), Some(cas))\n" in take


def test_every_key_is_compared_in_constant_time():
    """No timing that a test could take is steady enough."""
    source = (bundled()["auth"] / INSIDE / "src/credential.rs").read_text()
    judge = source.partition("pub fn judge")[2].partition("\n}\n")[0]
    assert "ct_eq(&digest.0)" in judge
    assert "==" not in judge
    assert "return Verdict::Missing" in judge
    assert judge.count("return") == 1, "a key that fits doesn't end the search"
