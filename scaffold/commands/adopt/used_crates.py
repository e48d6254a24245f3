"""The crates that Rust source uses, as they are called there.

Source: the Rust reference, use declarations and paths.
"""

from __future__ import annotations

import re
from collections.abc import Iterable

from scaffold.project import rust_text

_MODULE = re.compile(r"\bmod\s+(\w+)\s*[;{]")
_USE = re.compile(r"\buse\s+([^;]+);")
_EXTERN = re.compile(r"\bextern\s+crate\s+(\w+)(?:\s+as\s+(\w+))?")
_PATH = re.compile(r"(?<![\w:.$])(?:::)?([a-z_]\w*)\s*::(?!<)")
_ROOT = re.compile(r"(?:::)?\s*(\w+)")
_NO_CRATES = frozenset(
    "std core alloc self super crate proc_macro test bool char str"
    " u8 u16 u32 u64 u128 usize i8 i16 i32 i64 i128 isize f32 f64".split()
)


def find(texts: Iterable[str]) -> list[str]:
    """The crates that the files of one crate use."""
    used: set[str] = set()
    local: set[str] = set(_NO_CRATES)
    for code in map(rust_text.code, texts):
        local |= set(_MODULE.findall(code))
        for name, alias in _EXTERN.findall(code):
            used.add(name)
            local.add(alias)
        for tree in _USE.findall(code):
            for part in _parts(tree.strip()):
                if root := _ROOT.match(part):
                    used.add(root[1])
                    local |= set(re.findall(r"\w+", part[root.end() :]))
        used |= set(_PATH.findall(_USE.sub(" ", code)))
    return sorted(each for each in used - local if each.islower())


def _parts(tree: str) -> list[str]:
    """The trees in the outermost braces of a `use`, or the tree itself."""
    if not tree.startswith("{"):
        return [tree]
    return [tree[begin:end] for begin, end in rust_text.arguments(tree, 0)]
