"""The command's entry, and `python -m scaffold`."""

import atexit
import gc
import signal

# a Ctrl-C while we are still importing just ends us: `console` takes over once it is there
signal.signal(signal.SIGINT, signal.SIG_DFL)
# imports make many objects and hardly any garbage; and at the end the system takes back all there is
gc.set_threshold(100_000)
atexit.register(gc.freeze)

from scaffold.cli.main import main  # noqa: E402

__all__ = ["main"]

if __name__ == "__main__":
    main()
