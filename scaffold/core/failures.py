"""What goes wrong with one of several things, and keeps nothing from being done to the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from scaffold.core.events import Warned, emit
from scaffold.errors import ScaffoldError, of_os_error


class Failures:
    """The errors of several blocks, each of which was to go its own way."""

    def __init__(self) -> None:
        self.found: list[ScaffoldError] = []

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Keep an error of the block for the end."""
        try:
            yield
        except ScaffoldError as error:
            self.found.append(error)
        except OSError as error:
            refused = of_os_error(error)
            if refused is None:
                raise
            self.found.append(refused)

    def end(self) -> None:
        """Raise the first that was kept, once the others are said; none, and nothing happens."""
        for other in self.found[1:]:
            emit(Warned(other.message))
        if self.found:
            raise self.found[0]
