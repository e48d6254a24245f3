"""Versions of Envoy, Istio, Rust and git, as numbers that compare. Pip's own rules are `packaging`'s."""

from __future__ import annotations

import re

_NUMBERS = re.compile(r"\d{1,6}(?:\.\d{1,6})*")
_VERSION = re.compile(rf"v?({_NUMBERS.pattern})(?:[-+][0-9A-Za-z.+-]+)?")


class Version(tuple[int, ...]):
    """A version, such as (1, 36, 2). It compares like a tuple: (1, 36) is less than (1, 36, 2)."""

    __slots__ = ()

    @classmethod
    def parse(cls, text: str) -> Version:
        """The numbers in "1.27" or "v1.27.3-rc.1". Raises `ValueError` for anything else."""
        version = _VERSION.fullmatch(text)
        if not version:
            raise ValueError(f"{text!r} isn't a version")
        return cls(map(int, version[1].split(".")))

    @classmethod
    def find(cls, text: str) -> Version:
        """The first version in a text such as "git version 2.39.5"; an empty one if there is none."""
        numbers = _NUMBERS.search(text)
        return cls(map(int, numbers[0].split("."))) if numbers else cls()

    def __str__(self) -> str:
        return ".".join(map(str, self))
