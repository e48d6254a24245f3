"""Apply the renames of the ecosystem to the text files of a project: the triple, and the SDK's API.

Sources: rust-lang/compiler-team#607 for the triple; proxy-wasm-rust-sdk, CHANGELOG.md for the SDK.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath

from scaffold.project.templates import sdk_source
from scaffold.project.templates.crates_of_sdk import Crate, Crates
from scaffold.project.templates.sdk_dependency import SDK

# an extended regular expression: the files to look at
# (who inherits dependencies may inherit the SDK, by any name)
CONCERNED = f"workspace *= *true|wasm32[-_]wasi|WASM32_WASI|proxy[-_]wasm|{sdk_source.MENTIONED}"
_HISTORY = ("changelog", "changes", "history", "news")  # describe the past
# not clang's triple, in paths such as /usr/lib/wasm32-wasi
_TRIPLE = re.compile(r"(?<!lib/)(?<!include/)(?<!\w)wasm32-wasi(?![\w-])")
_SDK = re.compile(r"proxy[-_]wasm")
_BAZEL = re.compile(r"BUILD|WORKSPACE|\.bazelrc|.*\.(bazel|bzl|BUILD)|MODULE\.bazel\.lock")
_CARGO_CONFIG = ((".cargo", "config"), (".cargo", "config.toml"))
_RUSTUP = ("rust-toolchain", "rust-toolchain.toml")
_CHECKSUMS = ".cargo-checksum.json"  # beside it, `cargo vendor` has put a crate that nobody may change
_SHOWN = 5  # files in a note


@dataclass(frozen=True)
class Migrated:
    """The changed files, path -> content, and notes on what was done or is left to do.

    `moved` are the folders of the crates that have today's SDK instead of 0.1. `stuck` are the lines, each
    "path:line: why", that keep the SDK at 0.1 until a person changes them.
    """

    contents: Mapping[str, str]
    notes: tuple[str, ...]
    stuck: tuple[str, ...] = ()
    moved: frozenset[str] = frozenset()


def migrate(
    contents: Mapping[str, str], paths: Collection[str] = (), *, crate: str | None = None
) -> Migrated:
    """Migrate text files, path -> content. The result contains only those that change.

    `paths` are all files that there are. `crate` is the folder of the crate that is meant; what it shares
    the SDK with moves too, and nothing else. Without it, every crate is meant.
    The SDK's dependency, the source and its callers move together, or stay.
    """
    every = {*paths, *contents}
    vendored = tuple(path.removesuffix(_CHECKSUMS) for path in every if path.endswith(f"/{_CHECKSUMS}"))
    texts = {path: text for path, text in contents.items() if not path.startswith(vendored or ("\0",))}
    crates = Crates(texts, {path for path in every if not path.startswith(vendored or ("\0",))})
    changed, notes = _triples(texts, crates, crate)
    chosen = crates.all if crate is None else crates.connected(crate)
    moved = _move(chosen, {**texts, **changed}, crates)
    changed |= moved.contents
    for each in chosen:
        if each.is_new or each.folder in moved.crates:
            for path in each.sources:
                text = changed.get(path, texts[path])
                if (new := sdk_source.with_main(text, each.alias)) != text:
                    changed[path] = new
                    notes.append("`_start` has become `proxy_wasm::main!`")
    notes = list(dict.fromkeys([*notes, *moved.notes]))
    pinned = [path for path, text in texts.items() if is_bazels(path) and _SDK.search(text)]
    if moved.crates and pinned:
        notes.append(f"Bazel's own files have proxy-wasm 0.1 until you repin their crates: {_few(pinned)}")
    changed = {path: text for path, text in changed.items() if text != contents[path]}
    return Migrated(changed, tuple(notes), moved.stuck, moved.crates)


@dataclass(frozen=True)
class _Move:
    contents: Mapping[str, str]
    notes: tuple[str, ...]
    stuck: tuple[str, ...]
    crates: frozenset[str] = frozenset()


def _move(chosen: Collection[Crate], texts: Mapping[str, str], crates: Crates) -> _Move:
    """Move the crates of 0.1 among these to today's SDK, each with those that it shares the SDK with."""
    contents: dict[str, str] = {}
    notes: list[str] = []
    stuck: list[str] = []
    moved: set[str] = set()
    for group in crates.groups(chosen):
        old = [each for each in group if each.is_old]
        if not old:
            continue
        if reasons := list(dict.fromkeys(each.stays for each in old if each.stays)):
            notes += [f"proxy-wasm stays as it is: {reason}" for reason in reasons]
            continue
        sources = [sdk_source.moved({path: texts[path] for path in each.sources}) for each in old]
        if lines := [line for source in sources for line in source.stuck]:
            stuck += lines
            continue
        for source in sources:
            contents |= source.texts
        contents |= crates.moved_manifests(old, texts)
        notes += [f"proxy-wasm 0.1 has become {SDK}", *(note for source in sources for note in source.notes)]
        moved |= {each.folder for each in old}
    return _Move(contents, (*notes,), (*stuck,), frozenset(moved))


# --- the triple


def _triples(texts: Mapping[str, str], crates: Crates, crate: str | None) -> tuple[dict[str, str], list[str]]:
    """The files with the triple's new name, and notes.

    Those that belong to `crate`, and those above it that cargo and rustup read for it. Bazel's files name
    the triples of its own rules.
    """
    changed: dict[str, str] = {}
    bazel, left = [], []
    for path, text in texts.items():
        name = PurePosixPath(path)
        new = text if _is_history(name) else _renamed(text)
        if new == text or name.suffix in (".rs", ".lock"):
            continue
        owner = crates.owner(path)
        if is_bazels(path):
            bazel += [path] if crate in (None, owner) else []
        elif crate in (None, owner) or (_is_above(owner, crate) and _is_read_below(name)):
            changed[path] = new
        elif _is_above(owner, crate) and name.suffix != ".md":
            left.append(path)
    notes = ["the triple wasm32-wasi is now called wasm32-wasip1"] if changed else []
    if bazel:
        notes.append(f"wasm32-wasi stays in Bazel's own files: {_few(bazel)}")
    if left:
        notes.append(f"wasm32-wasi stays in files outside the crate: {_few(left)}")
    return changed, notes


def _few(paths: list[str]) -> str:
    return ", ".join(sorted(paths)[:_SHOWN]) + (", …" if len(paths) > _SHOWN else "")


def _is_above(folder: str | None, crate: str | None) -> bool:
    """Whether the crate in a folder, None is no crate, is none or has the other one below it."""
    return not folder or f"{crate}/".startswith(f"{folder}/")


def _is_read_below(path: PurePosixPath) -> bool:
    return path.parts[-2:] in _CARGO_CONFIG or path.name in _RUSTUP


def is_bazels(path: str) -> bool:
    """Whether a file is one of Bazel's own, which name the triples of its rules."""
    return bool(_BAZEL.fullmatch(PurePosixPath(path).name))


def _is_history(path: PurePosixPath) -> bool:
    return path.name.lower().startswith(_HISTORY)


def _renamed(text: str) -> str:
    text = _TRIPLE.sub("wasm32-wasip1", text)
    text = re.sub(r"(?<=CARGO_TARGET_)WASM32_WASI(?=_)", "WASM32_WASIP1", text)
    return re.sub(r"(?<=[A-Z]_)wasm32_wasi(?!\w)", "wasm32_wasip1", text)  # CC_wasm32_wasi: the crate cc
