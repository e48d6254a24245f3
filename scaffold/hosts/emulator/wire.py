"""Header maps as they cross between host and module.

Source: proxy-wasm-cpp-host, src/pairs_util.cc and include/proxy-wasm/limits.h.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable

Pair = tuple[bytes, bytes]

_MOST_BYTES = 1 << 20
_MOST_PAIRS = 1024


def packed(pairs: Iterable[Pair]) -> bytes:
    """A map for the module; empty for an empty one."""
    each = list(pairs)
    if not each:
        return b""
    sizes = [size for name, value in each for size in (len(name), len(value))]
    texts = [text for name, value in each for text in (name, b"\0", value, b"\0")]
    return struct.pack(f"<I{len(sizes)}I", len(each), *sizes) + b"".join(texts)


def unpacked(content: bytes) -> list[Pair]:
    """A map from the module; empty if it is malformed or too large, as in Envoy."""
    if not 4 <= len(content) <= _MOST_BYTES:
        return []
    (count,) = struct.unpack_from("<I", content)
    if count > _MOST_PAIRS or len(content) < 4 + 8 * count:
        return []
    sizes = struct.unpack_from(f"<{2 * count}I", content, 4)
    at, texts = 4 + 8 * count, []
    for size in sizes:
        end = at + size
        if end >= len(content) or content[end]:
            return []
        texts.append(content[at:end])
        at = end + 1
    return list(zip(texts[::2], texts[1::2], strict=True)) if at == len(content) else []
