"""Requests to end, by signals: made to unwind the stack, so that what was begun is undone."""

from __future__ import annotations

import signal
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Terminated(BaseException):
    """SIGTERM or SIGHUP, made to unwind the stack as Ctrl-C does; click takes it for nothing else."""

    def __init__(self, number: int) -> None:
        super().__init__()
        self.exit_code = 128 + number


def meant(error: BaseException) -> BaseException:
    """The interrupt, where Python wrapped one: while a class is made it becomes a RuntimeError's cause."""
    cause = error.__cause__
    wrapped = isinstance(error, RuntimeError) and isinstance(cause, KeyboardInterrupt | Terminated)
    return cause if wrapped and cause else error


@contextmanager
def unwinding() -> Iterator[None]:
    """Let a polite request to end unwind the stack of the block.

    It is `KeyboardInterrupt` or `Terminated` then; a signal that somebody handles already is left to them.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def handle(number: int, _frame: object) -> None:
        raise KeyboardInterrupt if number == signal.SIGINT else Terminated(number)

    def lost(unraisable: sys.UnraisableHookArgs) -> None:
        """Python drops what is raised in a weak reference's callback or a finaliser: send it once more."""
        error = unraisable.exc_value
        if isinstance(error, KeyboardInterrupt | Terminated):
            number = signal.SIGINT if isinstance(error, KeyboardInterrupt) else error.exit_code - 128
            main = threading.main_thread().ident or 0
            threading.Timer(0.01, signal.pthread_kill, (main, number)).start()
        else:
            hook(unraisable)

    # SIGINT too: see __main__
    numbers = [signal.SIGINT, signal.SIGTERM, *([signal.SIGHUP] if hasattr(signal, "SIGHUP") else [])]
    before = {
        number: signal.signal(number, handle)
        for number in numbers
        if signal.getsignal(number) is signal.SIG_DFL
    }
    hook, sys.unraisablehook = sys.unraisablehook, lost
    try:
        yield
    finally:
        sys.unraisablehook = hook
        for number, old in before.items():
            signal.signal(number, old)
