"""What a host can't do, though a test or a plugin asks for it."""

from __future__ import annotations

from typing import ClassVar

from scaffold.errors import HostError


class Unsupported(HostError):
    """A plugin or a test needs what a host doesn't have.

    `raised` are the messages since a test began: it is skipped, even if it expected an error.
    """

    raised: ClassVar[list[str]] = []

    def __init__(self, what: str, *, by: str = "the emulator", instead: str = "--host envoy") -> None:
        super().__init__(f"{by} doesn't support {what}", hint=f"test it with `{instead}`")
        self.raised.append(self.message)
