"""The entry point of the command `scaffold` and of `python -m scaffold`."""

import atexit
import gc
import signal
import sys
from contextlib import suppress

import scaffold

# until the console handles signals, Ctrl-C ends the process without a traceback
signal.signal(signal.SIGINT, signal.SIG_DFL)
# faster start and end: imports create hardly any garbage, and the system frees all memory at the end
gc.set_threshold(100_000)
atexit.register(gc.freeze)


def main() -> None:
    """Run the command line, or answer `--version` without importing it or click."""
    if sys.argv[1:] == ["--version"] and sys.stdout:
        with suppress(OSError):  # the command line reports an error of writing
            sys.stdout.write(f"scaffold {scaffold.__version__}\n")
            sys.stdout.flush()
            return
    from scaffold.cli.commands import main

    main()


if __name__ == "__main__":
    main()
