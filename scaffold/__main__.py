"""The command's entry, and `python -m scaffold`."""

import atexit
import gc
import signal
import sys
from contextlib import suppress

import scaffold

# a Ctrl-C while we are still importing just ends us, until the console takes over
signal.signal(signal.SIGINT, signal.SIG_DFL)
# imports make many objects and hardly any garbage; and at the end the system takes back all there is
gc.set_threshold(100_000)
atexit.register(gc.freeze)


def main() -> None:
    """Enter the command line. `--version` is answered without it: not even click is imported."""
    if sys.argv[1:] == ["--version"] and sys.stdout:
        with suppress(OSError):  # what can't be written is explained by the command line
            sys.stdout.write(f"scaffold {scaffold.__version__}\n")
            sys.stdout.flush()
            return
    from scaffold.cli.main import main

    main()


if __name__ == "__main__":
    main()
