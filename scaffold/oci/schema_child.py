"""Check a configuration against the schema of an image in a process of its own. The job is on standard input.

A hostile schema can keep the validator busy for ever: by a pattern such as `^(a+)+$`, or by references that
double at each step. Here that only ends this process, at a limit. The result, on standard output, has either
the violations or an error: its message and hint.
"""

from __future__ import annotations

import json
import resource
import sys
from contextlib import suppress
from typing import Any

from scaffold.core.text import one_line
from scaffold.oci.spec import ImageError
from scaffold.project.config_validation import FILE, Schema

EXHAUSTED = 3  # the exit code when the memory isn't enough; other limits end the process with a signal
_SECONDS = 3  # of the processor's time; an honest check takes some milliseconds
_MEMORY = 512 * 2**20  # bytes of addresses
# more of both for each MB of the configuration: five times what an honest check takes
_SECONDS_PER_MB = 2
_MEMORY_PER_MB = 64 * 2**20
_LONGEST = 1000  # characters of a sentence


def main() -> None:
    """Do the job: {"schema": its text, "configuration": its bytes as Latin-1}."""
    job = json.load(sys.stdin)
    size = len(job["configuration"]) // 1_000_000
    _limit(resource.RLIMIT_CPU, _SECONDS + _SECONDS_PER_MB * size)
    _limit(resource.RLIMIT_AS, _MEMORY + _MEMORY_PER_MB * size)
    _limit(resource.RLIMIT_CORE, 0)
    try:
        json.dump(_checked(job), sys.stdout)
    except MemoryError:
        sys.exit(EXHAUSTED)


def _limit(kind: int, value: int) -> None:
    with suppress(ValueError, OSError):  # macOS has no limit of addresses; another may be lower already
        resource.setrlimit(kind, (value, value))


def _checked(job: dict[str, str]) -> dict[str, Any]:
    try:
        schema = Schema.parsed(job["schema"].encode(), f"the image's {FILE}", ImageError)
        violations = schema.violations(job["configuration"].encode("latin-1"))
        return {"violations": [one_line(violation, _LONGEST) for violation in violations]}
    except ImageError as error:
        return {"error": one_line(error.message, _LONGEST), "hint": error.hint}


if __name__ == "__main__":
    main()
