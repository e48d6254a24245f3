"""The names of images: registry, repository, tag and digest.

Source: opencontainers/distribution-spec, spec.md; distribution/reference for names without a registry.
"""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass, replace
from typing import Self

from scaffold.core.host_names import DOCKER_HUB
from scaffold.errors import UsageError
from scaffold.oci.spec import is_digest

_TAG = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,127}")
_COMPONENT = re.compile(r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*")
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[([0-9a-fA-F:.]+)\])(?::([0-9]{{1,5}}))?")
_NAME_LIMIT = 255


@dataclass(frozen=True)
class Reference:
    """The name of an image: `localhost:5000/acme/hello:0.1.0`, `hello`, `acme/hello@sha256:...`.

    A first part without a dot or a colon isn't a registry: the registry is Docker Hub, "docker.io", then.
    A `digest` takes precedence over the tag.
    """

    registry: str
    repository: str
    tag: str | None = None
    digest: str | None = None

    @classmethod
    def parse(cls, text: str) -> Self:
        """Read a reference, with or without `oci://` or `docker://` in front of it.

        Without tag and digest, the tag is `latest`. Raises `UsageError`, which names the part that is wrong.
        """
        name, at, pin = text.removeprefix("oci://").removeprefix("docker://").partition("@")
        if at and not is_digest(pin):
            raise UsageError(
                f"`{text}`: `{pin}` isn't a digest", hint="write @sha256: and 64 hexadecimal digits"
            )
        tag: str | None = None
        if ":" in name.rpartition("/")[2]:
            name, _, tag = name.rpartition(":")
            _check_tag(text, tag)
        registry, repository = _split(name)
        _check_name(text, registry, repository)
        return cls(registry, repository, tag if tag or pin else "latest", pin or None)

    @property
    def name(self) -> str:
        """Registry and repository, as people write them: without `docker.io/library/`."""
        short = self.repository.removeprefix("library/")
        if (self.registry, self.repository) == _split(short):
            return short
        return f"{self.registry}/{self.repository}"

    @property
    def local(self) -> bool:
        """Whether it names no registry, so that the image can't be pushed."""
        return "/" not in self.name

    def __str__(self) -> str:
        tag = f":{self.tag}" if self.tag else ""
        return f"{self.name}{tag}{'@' + self.digest if self.digest else ''}"

    def pinned(self, digest: str) -> Self:
        """The reference with a manifest's digest."""
        return replace(self, digest=digest)

    def require_no_digest(self) -> None:
        """Raise `UsageError` if it has a digest, which can't be part of an image's new name."""
        if self.digest:
            raise UsageError(
                f"`{self}` can't be an image's new name: its digest follows from its content",
                hint="use a tag",
            )


def _split(name: str) -> tuple[str, str]:
    first, slash, rest = name.partition("/")
    if slash and ("." in first or ":" in first or first == "localhost"):
        if first not in (DOCKER_HUB, "index.docker.io"):
            return first.lower(), rest
        name = rest
    return DOCKER_HUB, name if "/" in name else f"library/{name}"


def _check_tag(text: str, tag: str) -> None:
    if _TAG.fullmatch(tag):
        return
    if "+" in tag:
        raise UsageError(
            f"`{text}`: a tag can't hold a `+`", hint=f"the usual replacement is `{tag.replace('+', '_')}`"
        )
    if len(tag) > 128:
        raise UsageError(f"`{text}`: a tag has at most 128 characters, but this one has {len(tag)}")
    raise UsageError(
        f"`{text}`: `{tag}` isn't a valid tag",
        hint="use letters, digits, `_`, `.` and `-`, and don't begin with `.` or `-`",
    )


def _check_name(text: str, registry: str, repository: str) -> None:
    if not _is_registry(registry):
        raise UsageError(f"`{text}`: `{registry}` isn't a valid registry", hint="write host or host:port")
    if len(registry) + len(repository) + 1 > _NAME_LIMIT:
        raise UsageError(f"`{text}`: a name has at most {_NAME_LIMIT} characters")
    if repository != repository.lower():
        name = repository.removeprefix("library/")
        before, _, after = text.partition(name)  # a tag may have capital letters
        hint = f"did you mean `{before}{name.lower()}{after}`?"
        raise UsageError(f"`{text}`: a repository's name must be in lower case", hint=hint)
    for part in repository.split("/"):
        if not _COMPONENT.fullmatch(part):
            raise UsageError(
                f"`{text}`: `{part}` can't be part of a repository's name",
                hint="lower-case letters and digits, with `.`, `_`, `__` or `-` between them",
            )


def _is_registry(text: str) -> bool:
    match = _REGISTRY.fullmatch(text)
    if not match or int(match[2] or 1) not in range(1, 2**16):
        return False
    try:
        return not match[1] or bool(ipaddress.IPv6Address(match[1]))
    except ValueError:
        return False


def default_name(crate_name: str) -> str:
    """The name of a crate's image: the crate's name, with what a repository's name can't have replaced.

    "A_B" gives "a_b", "_a___b-" gives "a-b"; "plugin" replaces a name of which nothing is left.
    """
    parts = re.split(r"([^a-z0-9]+)", crate_name.lower()[:128])
    legal = [at % 2 == 0 or re.fullmatch(r"[._]|__|-+", part) for at, part in enumerate(parts)]
    name = "".join(part if ok else "-" for part, ok in zip(parts, legal, strict=True))
    return name.strip("-_.") or "plugin"
