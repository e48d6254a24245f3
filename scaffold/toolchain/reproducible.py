"""Reproducible modules: a wrapper script around rustc removes this machine's paths from them.

Cargo compiles everything again when RUSTFLAGS change, but not when the wrapper does, so a plain
`cargo build` stays fast. The script does what cargo's `trim-paths` will do once that is stable.
Source: RFC 3127.
"""

from __future__ import annotations

import hashlib
import os
import re
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

from scaffold.core import files
from scaffold.core.versions import Version
from scaffold.errors import ProjectError
from scaffold.project.cargo_toml import read_config, table
from scaffold.project.projects import Projects
from scaffold.toolchain.rustc import Toolchain

# Cargo's `metadata` of a path package outside the workspace, and of everything that depends on it, contains
# its path. Symbols are named after the metadata, and functions are ordered by symbol. Name and version
# identify path packages just as well; they are those that cargo compiles without --cap-lints.
_SCRIPT = """#!/bin/sh
record=
case "${CARGO_CRATE_NAME:+ $* }" in
*" --target wasm32-"*)  # a crate of a module, not a query, a build script or a native test
    crate="$CARGO_PKG_NAME-$CARGO_PKG_VERSION"
    [ -z "${CARGO_PRIMARY_PACKAGE-}" ] || record="${SCAFFOLD_RECORD:+$SCAFFOLD_RECORD/$CARGO_PKG_NAME}"
    case "${SCAFFOLD_OUTSIDE:+ $* }" in
    "" | *" --cap-lints "*) ;;
    *)
        for word do
            shift
            case "$word" in metadata=*) word="metadata=$crate" ;; esac
            set -- "$@" "$word"
        done ;;
    esac
    cd -P .  # sets PWD to the folder as rustc sees it
    set -- "$@" --remap-path-prefix "$PWD=/$crate" --remap-path-prefix "$CARGO_MANIFEST_DIR=/$crate"
    [ -z "${OUT_DIR-}" ] || set -- "$@" --remap-path-prefix "$OUT_DIR=/$crate/out"
    [ -z "${SCAFFOLD_RUST_SRC-}" ] || set -- "$@" --remap-path-prefix "$SCAFFOLD_RUST_SRC"
    [ -z "${SCAFFOLD_REMAP_SCOPE-}" ] || set -- "$@" "--remap-path-scope=$SCAFFOLD_REMAP_SCOPE"
    if [ "${SCAFFOLD_LINKER-}" ]; then
        export SCAFFOLD_REAL_LINKER=rust-lld SCAFFOLD_MIR=
        for word do
            case "$word" in
            linker=* | -Clinker=*) SCAFFOLD_REAL_LINKER="${word#*linker=}" ;;
            extra-filename=*) extra="${word#*=}" ;;
            esac
            [ "${before-}" != --out-dir ] || out="$word"
            before="$word"
        done
        case "${SCAFFOLD_REAL_LINKER##*/}" in
        rust-lld | wasm-ld | wasm-ld-[0-9]* | lld | lld-[0-9]*) set -- "$@" -C "linker=$SCAFFOLD_LINKER" ;;
        esac
        case " $* " in
        *" -C debuginfo="*) ;;
        *" -C strip=symbols "*) set -- "$@" -C debuginfo=line-tables-only ;;
        esac
        case "$out" in
        *,*) ;;  # it can't be said to --emit
        *) SCAFFOLD_MIR="$out/$CARGO_CRATE_NAME${extra-}.mir" ;;
        esac
        case "${SCAFFOLD_MIR:+ $* }" in
        *libproxy_wasm-*) set -- "$@" "--emit=mir=$SCAFFOLD_MIR" ;;
        "" | *" --cap-lints "*) ;;
        *) set -- "$@" "--emit=mir=$SCAFFOLD_MIR" ;;
        esac
    fi ;;
esac
if [ "${SCAFFOLD_RUSTC_WRAPPER-}" ]; then
    set -- "$SCAFFOLD_RUSTC_WRAPPER" "$@"
    unset SCAFFOLD_RUSTC_WRAPPER  # it may be such a script itself
fi
[ -z "$record" ] || (
    umask 077
    env -0 >"$record.env" && printf '%s\\0' "$PWD" "$@" >"$record.words"
)
exec "$@"
"""
_SCOPED = (1, 95)  # the first stable rustc with --remap-path-scope
_SOURCE = re.compile(rb"/[^\0-\x1f]{1,200}?\.rs")


def env_for(tools: Toolchain, projects: Projects) -> dict[str, str]:
    """What to add to cargo's environment for these projects; nothing where no script can be written or run.

    A wrapper that the user has set keeps working, between the script and rustc. If SCAFFOLD_LINKER is set,
    too, it links modules in place of a linker for wasm, and is told which one in SCAFFOLD_REAL_LINKER; and
    rustc writes the MIR of crates that may have callbacks, for `trim`. If SCAFFOLD_RECORD is set, the
    commands for the projects' own crates are written into that folder, for `rebuild`.
    """
    wrapper = _script()
    if wrapper is None:
        return {}
    env = {"CARGO_BUILD_RUSTC_WRAPPER": str(wrapper)}
    if "RUSTC_WRAPPER" in os.environ:  # it takes precedence; otherwise unset, as build scripts read it
        env["RUSTC_WRAPPER"] = str(wrapper)
    env["SCAFFOLD_RUSTC_WRAPPER"] = _users_wrapper(projects.root)
    env["SCAFFOLD_OUTSIDE"] = "yes" if _reaches_out(projects) else ""
    env["SCAFFOLD_RUST_SRC"] = _library(tools)
    env["SCAFFOLD_REMAP_SCOPE"] = "object" if _scoped(tools.version) else ""  # messages keep the paths
    return env


def hindrance() -> str | None:
    """Why `env_for` adds nothing, or None when it does."""
    return None if _script() else f"the script that removes such paths can't be run in {files.cache_dir()}"


def left_in(content: bytes, root: Path) -> Path | None:
    """A source file of this machine whose path is in a module's bytes, if any."""
    home = os.environ.get("HOME", "/")
    for folder in (str(root), os.environ.get("CARGO_HOME", "/"), home):
        start = os.fsencode(folder.rstrip("/"))
        at = content.find(start + b"/") if start else -1
        while at >= 0:
            match = _SOURCE.match(content, at + len(start))
            path = Path(os.fsdecode(content[at : match.end()])) if match else None
            if path and path.exists():  # strings aren't separated: what looks like a path may not be one
                return path
            at = content.find(start + b"/", at + 1)
    return None


def script(text: str, name: str) -> Path | None:
    """A script in the user's cache, with its digest for the `{}` of its name; None where it can't be run."""
    path = files.cache_dir() / name.format(hashlib.sha256(text.encode()).hexdigest()[:12])
    with suppress(OSError):
        if not path.exists() or path.read_bytes() != text.encode():  # damaged
            files.private(path.parent)
            files.write(path, text, mode=0o755)
    return path if os.access(path, os.X_OK) else None  # not on a disk mounted noexec


def _script() -> Path | None:
    return script(_SCRIPT, "rustc-wrapper-{}")


def _scoped(version: str) -> bool:
    return (
        Version.find(version) >= _SCOPED and "-" not in version
    )  # the first nightlies with that number lack it


def _users_wrapper(root: Path) -> str:
    """The rustc wrapper that cargo would use in `root`, or "".

    Source: cargo's reference, configuration; the `include` of a config file isn't followed.
    """
    for name in ("RUSTC_WRAPPER", "CARGO_BUILD_RUSTC_WRAPPER"):
        if name in os.environ:  # empty means none, whatever the files say
            return _program(os.environ[name], root)
    for path in _configs(root):
        wrapper = table(read_config(path), "build").get("rustc-wrapper")
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


def _reaches_out(projects: Projects) -> bool:
    """Whether a crate of the workspace, or the single crate, depends on a path package outside of it.

    All crates count, so that a module doesn't depend on which others are built with it.
    """
    try:
        workspace = projects.first.workspace
        manifests = {projects.root: projects.first.manifest}
        if workspace:
            manifests = {workspace.root: workspace.manifest} | workspace.manifests
    except ProjectError:  # cargo has the better message
        return False
    return any(
        not _below(folder / path, projects.top)
        for folder, manifest in manifests.items()
        for path in (".", *_paths(manifest))
    )


def _below(path: Path, folder: Path) -> bool:
    return Path(os.path.normpath(path)).is_relative_to(folder)


def _paths(record: dict[str, Any]) -> Iterator[str]:
    """The values of all `path` keys in a manifest, or in a table of one."""
    for key, value in record.items():
        if isinstance(value, dict):
            yield from _paths(value)
        elif key == "path" and isinstance(value, str):
            yield value


def _program(name: str, folder: Path) -> str:
    """A program as cargo finds it: a bare name on PATH, a path relative to `folder`."""
    return str(folder / name) if "/" in name else name


def _library(tools: Toolchain) -> str:
    """The path of std's source, and the name that rustc gives it without that source, as "from=to"."""
    source = tools.rustc.resolve().parent.parent / "lib/rustlib/src/rust"
    if not (source / "library/std/src/lib.rs").is_file():
        return ""
    return f"{source.resolve()}=/rustc/{tools.commit}" if tools.commit else ""
