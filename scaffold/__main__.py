"""The command's entry, and `python -m scaffold`."""

import signal

# a Ctrl-C while we are still importing just ends us: `console` takes over once it is there
signal.signal(signal.SIGINT, signal.SIG_DFL)

from scaffold.cli import main  # noqa: E402

__all__ = ["main"]

if __name__ == "__main__":
    main()
