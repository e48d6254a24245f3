"""What to type to install a package of the system's."""

from __future__ import annotations

import re
from pathlib import Path

_OS_RELEASE = Path("/etc/os-release")
_COMMANDS = {  # by os-release(5)'s ID or ID_LIKE
    "debian": "sudo apt install",
    "fedora": "sudo dnf install",
    "alpine": "sudo apk add",
    "arch": "sudo pacman -S",
}
_PACKAGES = {("cc", "debian"): "gcc libc6-dev", ("cc", "alpine"): "gcc musl-dev"}
_NAMES = {"cc": "gcc"}


def install_line(program: str) -> str:
    """The command that installs `cc` or `git` on this machine; a sentence where its system isn't known."""
    try:
        return line_for(program, _OS_RELEASE.read_text())
    except OSError:  # macOS, whose one package has both
        return "xcode-select --install" if Path("/usr/bin/xcode-select").exists() else f"install {program}"


def line_for(program: str, os_release: str) -> str:
    """The same for a system told by its os-release(5)."""
    said = dict(re.findall(r"""^([A-Z_]+)=["']?([^"'\n]*)""", os_release, re.MULTILINE))
    for system in (said.get("ID", ""), *said.get("ID_LIKE", "").split()):
        if system in _COMMANDS:
            package = _PACKAGES.get((program, system)) or _NAMES.get(program, program)
            return f"{_COMMANDS[system]} {package}"
    return f"install {program}"
