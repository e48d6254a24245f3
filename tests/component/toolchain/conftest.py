"""The machine of stand-ins that all tests of the toolchain begin with."""

from support.machines import debian, machine

__all__ = ["debian", "machine"]
