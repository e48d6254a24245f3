"""Headers as the tester keeps them: sorted, each name once whatever its case, values joined.

Source: GoogleCloudPlatform/service-extensions, plugins/test/framework.h, `TestHttpContext::Headers`.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from scaffold.hosts.emulator.wire import Pair


class SortedHeaders:
    """A name is spelled as it came first."""

    def __init__(self, pairs: Iterable[Pair] = ()) -> None:
        self._by_key: dict[bytes, Pair] = {}
        for name, value in pairs:
            self.add(name, value)

    def __iter__(self) -> Iterator[Pair]:
        return iter([self._by_key[key] for key in sorted(self._by_key)])

    def __len__(self) -> int:
        return len(self._by_key)

    def get(self, name: bytes) -> bytes | None:
        """The value of a name; None if it isn't there."""
        found = self._by_key.get(name.upper())
        return None if found is None else found[1]

    def add(self, name: bytes, value: bytes) -> None:
        """Add a value to those of a name; an empty one makes room."""
        before = self.get(name)
        self.replace(name, before + b", " + value if before else value)

    def replace(self, name: bytes, value: bytes) -> None:
        """Let a name have this value only."""
        spelled = self._by_key.get(name.upper(), (name, b""))[0]
        self._by_key[name.upper()] = spelled, value

    def remove(self, name: bytes) -> None:
        """Remove a name."""
        self._by_key.pop(name.upper(), None)

    def clear(self) -> None:
        """Remove everything."""
        self._by_key.clear()

    def lines(self) -> list[bytes]:
        """Each as a line, such as `name: value`."""
        return [name + b": " + value for name, value in self]
