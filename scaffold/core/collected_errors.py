"""Collect the errors of several independent pieces of work, so that one failure doesn't stop the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from scaffold.core.events import Warned, emit
from scaffold.errors import ScaffoldError, of_os_error


class Failures:
    """The errors of several blocks of code."""

    def __init__(self) -> None:
        self.errors: list[ScaffoldError] = []

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep an error of the block instead of raising it."""
        try:
            yield
        except ScaffoldError as error:
            self.errors.append(error)
        except OSError as error:
            known = of_os_error(error)
            if known is None:
                raise
            self.errors.append(known)

    def end(self) -> None:
        """Raise the first error, if there is one, after warnings about the others."""
        for other in self.errors[1:]:
            emit(Warned(other.message))
        if self.errors:
            raise self.errors[0]
