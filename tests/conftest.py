"""What every test begins with."""

import os

# a user's Python buffers what it prints, and what it does with that at its end is ours to get right
os.environ.pop("PYTHONUNBUFFERED", None)
