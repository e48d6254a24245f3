"""`python -m bench.kills [TIMES]`: kill every command TIMES times (200), each at a random moment of its run.

These are the tests of the fault suite, which kills each ten times. The table at the end says what there was
after the kills, and how often. SCAFFOLD_SEED repeats the moments of one line.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path

import pytest

TESTS = Path(__file__).parent.parent / "tests" / "faults"
FILES = ("test_kills.py", "test_kills_of_edits.py", "test_images.py")
COMMANDS = """
new new_in_a_workspace build deploy_and_undeploy deploy_again run test package push pull rmi update adopt
adopt_a_file
""".split()


def main() -> None:
    os.environ["SCAFFOLD_KILLS"] = sys.argv[1] if len(sys.argv) > 1 else "200"
    chosen = " or ".join(f"test_{name}[" for name in COMMANDS)
    words = ["-q", "-n2", "--dist", "worksteal", "--timeout=0", "-k", chosen]
    sys.exit(pytest.main([*words, *(str(TESTS / name) for name in FILES)]))


if __name__ == "__main__":
    main()
