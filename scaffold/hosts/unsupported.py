"""What a host can't do, though a test or a plugin asks for it."""

from __future__ import annotations

from typing import ClassVar

from scaffold.errors import HostError


class Unsupported(HostError):
    """A plugin or a test needs what the emulator doesn't have.

    `raised` are the messages since a test began: it is skipped, even if it expected an error.
    """

    raised: ClassVar[list[str]] = []

    def __init__(self, what: str) -> None:
        super().__init__(f"the emulator doesn't support {what}", hint="test it with `--host envoy`")
        self.raised.append(self.message)
