"""The Debian mirror that this machine's own apt uses, by its source files."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

SUITES = frozenset(
    "buster bullseye bookworm trixie forky duke sid oldoldstable oldstable stable testing unstable".split()
)
_LISTS = ("uris", "suites", "components")
_KEYRING = "debian-archive-"
_SCHEMES = ("http:", "https:", "file:", "copy:", "ftp:", "mirror")
_ONE_LINE = re.compile(r"deb\s+(?:\[(?P<options>[^]]*)\]\s*)?(?P<uri>\S+)\s+(?P<suite>\S+)\s+(?P<parts>.+)")


@dataclass(frozen=True)
class Source:
    """One entry for binary packages. `signed_by` is a path, a key, or empty when apt's own keys do."""

    uris: tuple[str, ...]
    suites: tuple[str, ...]
    components: tuple[str, ...]
    signed_by: str = ""


def mirror(etc: Path = Path("/etc/apt")) -> str | None:
    """The URI of Debian's own archive, or None when no source file names it.

    Other projects' archives lie in the same folder under the same names of suites, so an entry counts
    only when Debian's keyring signs it, or none is named and the URI ends as Debian's does.
    """
    entries = [
        source for source in _sources(etc) if "main" in source.components and SUITES & {*source.suites}
    ]
    for fits in (_signed_by_debian, _looks_like_debian):
        for source in entries:
            for uri in source.uris:
                if uri.startswith(_SCHEMES) and fits(source, uri):
                    return uri.rstrip("/")
    return None


def _signed_by_debian(source: Source, uri: str) -> bool:
    return Path(source.signed_by).name.startswith(_KEYRING)


def _looks_like_debian(source: Source, uri: str) -> bool:
    return not source.signed_by and uri.rstrip("/").endswith("/debian")


def _sources(etc: Path) -> Iterator[Source]:
    files = [etc / "sources.list", *sorted((etc / "sources.list.d").glob("*"))]
    for path in files:
        try:
            text = path.read_text(errors="replace")
        except OSError:
            continue
        if path.suffix == ".list":
            yield from parse_list(text)
        elif path.suffix == ".sources":
            yield from parse_deb822(text)


def parse_list(text: str) -> Iterator[Source]:
    """The entries of a file in the one-line style."""
    for line in text.splitlines():
        found = _ONE_LINE.fullmatch(line.partition("#")[0].strip())
        if found:
            signed = re.search(r"signed-by=(\S+)", found["options"] or "", re.IGNORECASE)
            parts = tuple(found["parts"].split())
            yield Source((found["uri"],), (found["suite"],), parts, signed[1] if signed else "")


def parse_deb822(text: str) -> Iterator[Source]:
    """The entries of a file in the deb822 style, those switched off left out."""
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    for stanza in re.split(r"\n\s*\n", "\n".join(lines)):
        fields: dict[str, str] = {}
        name = ""
        for line in stanza.splitlines():
            if line[:1].isspace():
                fields[name] = f"{fields.get(name, '')} {line.strip()}"
            else:
                name, _, value = line.partition(":")
                name = name.strip().lower()
                fields[name] = value.strip()
        off = fields.get("enabled", "yes").lower() in ("no", "false", "0", "off", "without", "disable")
        if "deb" in fields.get("types", "").split() and not off:
            uris, suites, parts = (tuple(fields.get(key, "").split()) for key in _LISTS)
            yield Source(uris, suites, parts, fields.get("signed-by", "").strip())
