"""A configuration against a schema: what is refused, in which words, and what a schema can't be."""

import json
import socket
import threading
from contextlib import suppress

import pytest
from support.serde_schema import CONTENT

from scaffold.errors import ProjectError
from scaffold.project.config_validation import Schema


def faults(configuration, content=CONTENT):
    given = configuration if isinstance(configuration, bytes) else json.dumps(configuration).encode()
    return Schema("config.schema.json", content).violations(given)


def test_nothing_is_fetched_whatever_the_schema_refers_to():
    asked = []
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.settimeout(0.5)

        def accept():
            with suppress(TimeoutError):
                asked.append(server.accept())

        waiting = threading.Thread(target=accept)
        waiting.start()
        ref = f"http://127.0.0.1:{server.getsockname()[1]}/schema.json"
        with pytest.raises(ProjectError) as caught:
            faults({"a": 1}, {"properties": {"a": {"$ref": ref}}})
        waiting.join()
    assert (caught.value.message, asked) == (f"config.schema.json refers to {ref!r}, which isn't in it", [])
