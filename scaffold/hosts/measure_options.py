"""`MeasureOptions`: what tests are to say about themselves."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from scaffold.core.option_fields import check_values, option
from scaffold.errors import UsageError

_SECONDS = 120  # for the mutants of a plugin


@dataclass(frozen=True)
class MeasureOptions:
    """What to say about the tests of a plugin, beside whether they pass. All of it is for the emulator."""

    coverage: bool = option(
        False, "Show which functions and lines of the plugin the tests reach, on the emulator."
    )
    lcov: Path | None = option(
        None, "Write that to a file, in lcov's format, too.", metavar="FILE", is_path=True
    )
    mutants: bool = option(False, "Show which small changes to the plugin no test notices, on the emulator.")
    mutants_for: int = option(
        _SECONDS, "Stop trying changes after so many seconds.", metavar="SECONDS", limits=(1, 86_400)
    )

    @property
    def wanted(self) -> bool:
        """Whether anything is asked for."""
        return self.covers or self.mutants

    @property
    def covers(self) -> bool:
        """Whether coverage is asked for."""
        return self.coverage or self.lcov is not None

    def check(self) -> None:
        """Raise `UsageError` for values that don't fit."""
        check_values(self)
        if self.mutants_for != _SECONDS and not self.mutants:
            raise UsageError("--mutants-for is for --mutants", hint="add --mutants, or leave it out")
        if self.lcov and (self.lcov.is_dir() or not self.lcov.absolute().parent.is_dir()):
            what = "is a folder" if self.lcov.is_dir() else "is in a folder that isn't there"
            raise UsageError(f"--lcov {self.lcov} {what}", hint="name a file in a folder that is there")
