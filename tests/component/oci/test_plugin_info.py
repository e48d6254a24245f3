"""What the process that checks an image's configuration says, and what its end means."""

import json
import sys

import pytest

from scaffold.oci.plugin_info import PluginInfo
from scaffold.oci.spec import ImageError

RULE = {
    "type": "object",
    "properties": {
        "host": {"type": "string"},
        "path": {"type": "string", "pattern": "^/"},
        "limit": {"type": "integer", "minimum": 0},
    },
    "required": ["host"],
    "additionalProperties": False,
}
RULES = {"type": "object", "properties": {"rules": {"type": "array", "items": RULE}}}


def info(schema):
    return PluginInfo("a", schema=json.dumps(schema))


def test_a_large_configuration_has_more_time():
    rules = [{"host": f"example{number}.com", "path": "/a/b", "limit": number} for number in range(140_000)]
    configuration = json.dumps({"rules": rules}).encode()
    assert len(configuration) > 8_000_000
    assert info(RULES).configured(configuration) == configuration


def test_too_little_memory_is_the_schemas_fault():
    with pytest.raises(ImageError, match="takes too much time or memory to check"):
        PluginInfo("a", schema='{"enum": [' + "[], " * 8_000_000 + "[]]}").configured(b"{}")


@pytest.mark.parametrize(("end", "kind"), [("exit 1", RuntimeError), ("kill -9 $$", ImageError)])
def test_only_a_limit_is_the_schemas_fault(tmp_path, monkeypatch, end, kind):
    python = tmp_path / "python"
    python.write_text(f"#!/bin/sh\ncat >/dev/null\necho trouble >&2\n{end}\n")
    python.chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(python))
    with pytest.raises(kind) as caught:
        info(RULES).configured(b"{}")
    assert ("trouble" in str(caught.value)) == (kind is RuntimeError)
