"""Several commands at once."""

from __future__ import annotations

import subprocess

from support.places import SCAFFOLD, Place


def at_once(place: Place, *lines: tuple[object, ...]) -> list[tuple[int, str, str]]:
    """Run several command lines at once; how each ended."""
    children = [
        subprocess.Popen(
            [*SCAFFOLD, *map(str, line)],
            env=place.env,
            cwd=place.folder,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        )
        for line in lines
    ]
    ended = [child.communicate(timeout=120) for child in children]
    made = [(child.returncode, *said) for child, said in zip(children, ended, strict=True)]
    for code, _, err in made:
        assert "Traceback" not in err and code in range(10), err
    return made
