"""Other processes that use our modules for a moment: as other users, in other namespaces."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

import pytest

BEGIN = "import sys\nfrom pathlib import Path\nfrom scaffold.core import files, locks\n"
AS_ANOTHER_USER = """
import os, tempfile, errno
if os.getuid() == 0:  # permissions don't bind root
    os.setgid(65534); os.setuid(65534)
"""

OTHER_PIDS = ("unshare", "--pid", "--fork", "--kill-child", "--mount-proc")


@pytest.fixture
def open_folder() -> Iterator[Path]:
    """A folder that every user can reach, which those of tmp_path are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)


def script(body: str, *arguments: object) -> list[str]:
    return [sys.executable, "-c", BEGIN + body, *map(str, arguments)]


@contextmanager
def running(body: str, *arguments: object, wrapper: Sequence[str] = ()) -> Iterator[subprocess.Popen[bytes]]:
    """A process of ours that has said a first word; killed when the block ends."""
    argv = [*wrapper, *script(body, *arguments)]
    pipe = subprocess.PIPE
    with subprocess.Popen(argv, stdin=pipe, stdout=pipe, stderr=pipe) as child:
        assert child.stdout and child.stderr
        try:
            assert child.stdout.readline(), child.stderr.read().decode()
            yield child
        finally:
            child.kill()


def finished(body: str, *arguments: object, wrapper: Sequence[str] = ()) -> str:
    """What a process of ours prints to its end."""
    ran = subprocess.run([*wrapper, *script(body, *arguments)], capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()


def in_other_pids() -> tuple[str, ...]:
    """What starts a program that sees no process but its own, as in a container; skips where it can't."""
    if subprocess.run([*OTHER_PIDS, "true"], capture_output=True).returncode:
        pytest.skip("PID namespaces aren't allowed here")
    return OTHER_PIDS


def mounted(folder: Path, argv: list[str], options: str = "bind") -> str:
    """Run a process of ours that sees `folder` as a mount of its own; skips where that isn't allowed."""
    if not shutil.which("unshare") or os.getuid() != 0:
        pytest.skip("mounts are root's")
    mount = 'mount -o bind "$1" "$1"; mount -o "remount,$2" "$1"; shift 2; exec "$@"'
    ran = subprocess.run(
        ["unshare", "--mount", "sh", "-ec", mount, "sh", folder, options, *argv],
        capture_output=True,
        text=True,
    )
    if "permission denied" in ran.stderr or "not permitted" in ran.stderr:
        pytest.skip("mounts aren't allowed here")
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.strip()
