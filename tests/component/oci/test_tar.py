"""Layers that anybody may have made: read as every consumer reads them, or refused in a sentence."""

import gzip
import io
import tracemalloc
from contextlib import suppress

import pytest
from support import layers
from support.layers import header

from scaffold.oci.spec import ImageError
from scaffold.oci.tar import Archive


@pytest.mark.parametrize(
    "blob",
    [
        layers.zeros(257),
        gzip.compress(header("other", 2**27)) + layers.zeros(257),
        gzip.compress(header("pax", 2**27, b"x")) + layers.zeros(257),
        gzip.compress(bytes(40 * 2**20), 9),
    ],
    ids="zeros file header end".split(),
)
def test_memory_doesnt_grow_with_what_a_layer_unpacks_to(blob):
    tracemalloc.start()
    try:
        with suppress(ImageError):
            for _ in Archive(io.BytesIO(blob)).entries():
                pass
        assert tracemalloc.get_traced_memory()[1] < 4 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("size", [None, 2**28 - 512, 2**27], ids=["no header", "almost all", "half"])
def test_a_layer_that_unpacks_to_more_than_any_host_takes_is_refused(size):
    """Here, since it takes a second each."""
    before = b"" if size is None else gzip.compress(header("a", size))
    with pytest.raises(ImageError, match="its last layer unpacks to more than 256 MiB"):
        for _ in Archive(io.BytesIO(before + layers.zeros(257))).entries():
            pass
