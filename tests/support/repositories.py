"""Git repositories of tests, which nobody's settings reach."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

AUTHOR = ("-c", "user.name=a", "-c", "user.email=a@example.com", "-c", "commit.gpgSign=false")


def git(root: Path, *words: object) -> str:
    """Run git there; what it printed."""
    env = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    argv = ["git", *AUTHOR, *map(str, words)]
    ran = subprocess.run(argv, cwd=root, env=env, text=True, capture_output=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout


def commit(root: Path) -> str:
    """Commit all there is, in a repository that is made where there is none; the commit's name."""
    if not git_folder(root):
        git(root, "init", "-q", "-b", "main")
    git(root, "add", "-A")
    git(root, "commit", "-q", "--allow-empty", "-m", "state")
    return git(root, "rev-parse", "HEAD").strip()


def git_folder(root: Path) -> Path | None:
    """The repository that a folder is in."""
    return next((path / ".git" for path in (root, *root.parents) if (path / ".git").exists()), None)


def contents(root: Path) -> dict[str, tuple[int, bytes]]:
    """Every file, git's own too: path -> mode and content."""
    return {
        str(path.relative_to(root)): (path.lstat().st_mode, os.fsencode(path.readlink()))
        if path.is_symlink()
        else (path.lstat().st_mode, path.read_bytes())
        for path in root.rglob("*")
        if path.is_symlink() or path.is_file()
    }


def own(root: Path) -> dict[str, tuple[int, bytes]]:
    """The same without git's own."""
    return {path: found for path, found in contents(root).items() if not path.startswith(".git/")}
