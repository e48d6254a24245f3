"""The same module wherever it is built: rustc runs behind a script of ours that takes the paths out.

In RUSTFLAGS they would make a plain `cargo build` compile everything again, for cargo compares those; a
wrapper it doesn't. What the script does is what cargo's own `trim-paths` will, once that is stable.
Source: RFC 3127.
"""

from __future__ import annotations

import hashlib
import os
import re
import tomllib
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from scaffold.core import files
from scaffold.errors import ProjectError
from scaffold.project.workspace import Workspace
from scaffold.toolchain.rustc import Toolchain, answer

# A path package outside the workspace has its place in cargo's `metadata`, and so has all that depends on it:
# symbols are named after that, and functions ordered after them. Name and version tell path packages apart,
# too; cargo holds back no warnings (--cap-lints) of those.
_SCRIPT = """#!/bin/sh
case "${CARGO_CRATE_NAME:+ $* }" in
*" --target wasm32-"*)  # a crate that goes into a module; not a question, a build script or a native test
    crate="$CARGO_PKG_NAME-$CARGO_PKG_VERSION"
    case "${SCAFFOLD_OUTSIDE:+ $* }" in
    "" | *" --cap-lints "*) ;;
    *)
        for word do
            shift
            case "$word" in metadata=*) word="metadata=$crate" ;; esac
            set -- "$@" "$word"
        done ;;
    esac
    cd -P .  # PWD becomes what rustc takes for it
    set -- "$@" --remap-path-prefix "$PWD=/$crate" --remap-path-prefix "$CARGO_MANIFEST_DIR=/$crate"
    [ -z "${OUT_DIR-}" ] || set -- "$@" --remap-path-prefix "$OUT_DIR=/$crate/out"
    [ -z "${SCAFFOLD_RUST_SRC-}" ] || set -- "$@" --remap-path-prefix "$SCAFFOLD_RUST_SRC"
    [ -z "${SCAFFOLD_REMAP_SCOPE-}" ] || set -- "$@" "--remap-path-scope=$SCAFFOLD_REMAP_SCOPE" ;;
esac
if [ "${SCAFFOLD_RUSTC_WRAPPER-}" ]; then
    set -- "$SCAFFOLD_RUSTC_WRAPPER" "$@"
    unset SCAFFOLD_RUSTC_WRAPPER  # it may be such a script, too
fi
exec "$@"
"""
_SCOPED = (1, 95)  # the first stable rustc with --remap-path-scope
_SOURCE = re.compile(rb"/[^\0-\x1f]{1,200}?\.rs")


def env_for(tools: Toolchain, root: Path) -> dict[str, str]:
    """What to add to cargo's environment in the folder `root`; nothing where no script can be put or run.

    A wrapper that the user has set goes on working, between the script and rustc.
    """
    script = _script()
    if script is None:
        return {}
    env = {"CARGO_BUILD_RUSTC_WRAPPER": str(script)}
    if "RUSTC_WRAPPER" in os.environ:  # it would win; set only then, since build scripts look at it
        env["RUSTC_WRAPPER"] = str(script)
    env["SCAFFOLD_RUSTC_WRAPPER"] = _users_wrapper(root)
    env["SCAFFOLD_OUTSIDE"] = "yes" if _reaches_out(root) else ""
    env["SCAFFOLD_RUST_SRC"] = _library(tools)
    env["SCAFFOLD_REMAP_SCOPE"] = "object" if _scoped(tools.version) else ""  # messages keep the paths
    return env


def hindrance() -> str | None:
    """Why `env_for` adds nothing, where it doesn't."""
    return None if _script() else f"no program in {files.cache_dir()} could take that out"


def left_in(content: bytes, root: Path) -> Path | None:
    """A source file of this machine that a module's bytes name, if there is one."""
    home = os.environ.get("HOME", "/")
    for folder in (str(root), os.environ.get("CARGO_HOME", "/"), home):
        start = os.fsencode(folder.rstrip("/"))
        at = content.find(start + b"/") if start else -1
        while at >= 0:
            named = _SOURCE.match(content, at + len(start))
            found = Path(os.fsdecode(content[at : named.end()])) if named else None
            if found and found.exists():  # strings lie end to end: what looks like a path may be none
                return found
            at = content.find(start + b"/", at + 1)
    return None


def _script() -> Path | None:
    digest = hashlib.sha256(_SCRIPT.encode()).hexdigest()
    path = files.cache_dir() / f"rustc-wrapper-{digest[:12]}"
    with suppress(OSError):
        if not path.exists() or path.read_bytes() != _SCRIPT.encode():  # damaged
            path.parent.mkdir(parents=True, exist_ok=True)
            files.write(path, _SCRIPT, mode=0o755)
    return path if os.access(path, os.X_OK) else None  # which it isn't on a disk mounted noexec


def _scoped(version: str) -> bool:
    numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:2])
    return numbers >= _SCOPED and "-" not in version  # the first nightlies of that number lack it


def _users_wrapper(root: Path) -> str:
    """The rustc wrapper that cargo would take in `root`, or "".

    Source: cargo's reference, configuration; a config file's `include` isn't followed.
    """
    for name in ("RUSTC_WRAPPER", "CARGO_BUILD_RUSTC_WRAPPER"):
        if name in os.environ:  # empty means none, whatever the files say
            return _program(os.environ[name], root)
    for path in _configs(root):
        build = _toml(path).get("build")
        wrapper = build.get("rustc-wrapper") if isinstance(build, dict) else None
        if isinstance(wrapper, str):
            return _program(wrapper, path.parents[1])
    return ""


def _configs(root: Path) -> Iterator[Path]:
    home = os.environ.get("CARGO_HOME") or f"{os.environ.get('HOME', '')}/.cargo"
    for folder in (*(above / ".cargo" for above in (root, *root.parents)), Path(home)):
        for name in ("config", "config.toml"):
            if (folder / name).is_file():
                yield folder / name
                break


def _toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError):  # cargo says it better
        return {}


def _reaches_out(root: Path) -> bool:
    """Whether a crate of the workspace, or the only one, names a package outside of it.

    All of them count: a module is the same, with which others it is built.
    """
    try:
        workspace = Workspace.of(root)
    except ProjectError:  # cargo says it better
        return False
    outermost, members = (workspace.root, workspace.members()) if workspace else (root.resolve(), [])
    return any(
        not _below(folder / path, outermost)
        for folder in dict.fromkeys((outermost, *members))
        for path in (".", *_paths(_toml(folder / "Cargo.toml")))
    )


def _below(path: Path, folder: Path) -> bool:
    return Path(os.path.normpath(path)).is_relative_to(folder)


def _paths(table: dict[str, Any]) -> Iterator[str]:
    """What a manifest, or a table of one, says by `path`."""
    for key, value in table.items():
        if isinstance(value, dict):
            yield from _paths(value)
        elif key == "path" and isinstance(value, str):
            yield value


def _program(name: str, near: Path) -> str:
    """A program as cargo takes it: a bare name is looked up on PATH, a path counts from `near`."""
    return str(near / name) if "/" in name else name


def _library(tools: Toolchain) -> str:
    """Where rustc finds the source of std, and the name it has where that isn't installed, as "from=to"."""
    source = tools.rustc.resolve().parent.parent / "lib/rustlib/src/rust"
    if not (source / "library/std/src/lib.rs").is_file():
        return ""
    said = answer([tools.rustc, "-vV"]) or ""
    commit = re.search(r"^commit-hash: (\S+)", said, re.MULTILINE)
    return f"{source.resolve()}=/rustc/{commit[1]}" if commit else ""
