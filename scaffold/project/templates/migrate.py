"""Renames that the field went through, as changes to the text files of a project.

Sources: rust-lang/compiler-team#607 for the triple; proxy-wasm-rust-sdk, CHANGELOG.md and the traits of 0.1.4
and 0.2.0 for the SDK.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

SDK = "0.2.5"  # what a dependency on 0.1 becomes: the first that links with Rust 1.96
CONCERNED = "wasm32[-_]wasi|WASM32_WASI|proxy[-_]wasm"  # an extended regular expression: files to look at
_HISTORY = ("changelog", "changes", "history", "news")  # says what was, and shall go on to
# not clang's triple, which stands in paths such as /usr/lib/wasm32-wasi
_TRIPLE = re.compile(r"(?<!lib/)(?<!include/)(?<!\w)wasm32-wasi(?![\w-])")
_OLD_SDK = re.compile(r"[\^~=\s]*0\.1(\.|$)")
_ATTRIBUTE = r"#\[(?:[^\]\"]|\"[^\"]*\")*\]"
_START = re.compile(
    rf"(?P<before>(?:(?:{_ATTRIBUTE}|//[^\n]*\n)\s*)*)pub\s+(?:unsafe\s+)?"
    r'(?:extern\s+"C"\s+)?fn\s+_start\s*\(\s*\)\s*(?:->\s*\(\)\s*)?(?=\{)'
)
_NO_MANGLE = re.compile(r"#\[[^\]\n]*\bno_mangle\b[^\]\n]*\]\s*")
_ON_HEADERS = re.compile(
    r"(fn\s+on_http_(?:request|response)_headers\s*\(\s*&mut\s+self\s*,\s*\w+\s*:\s*usize)\s*,?\s*\)"
)
_ON_VM_START = re.compile(r"fn\s+on_vm_start\b[^{;]*(?=\{)")
_WORDS = re.compile(  # of Rust, as far as braces are concerned
    r'//[^\n]*|/\*.*?\*/|\bb?r(?P<hashes>#*)".*?"(?P=hashes)|"(?:\\.|[^"\\])*"|\'(?:\\.[^\']*|[^\\\'])\'|[{}]',
    re.DOTALL,
)


@dataclass(frozen=True)
class Migrated:
    """The files that change, by their path, and what was done to them or is left to do."""

    contents: Mapping[str, str]
    notes: tuple[str, ...]


def migrate(contents: Mapping[str, str]) -> Migrated:
    """What becomes of a project's text files: path -> content. Those that need nothing are left out."""
    changed = dict(contents)
    notes: list[str] = []

    def each(applies: Callable[[PurePosixPath], bool], change: Callable[[str], str], note: str) -> bool:
        found = False
        for path, text in changed.items():
            if applies(PurePosixPath(path)) and (new := change(text)) != text:
                changed[path], found = new, True
        if found:
            notes.append(note)
        return found

    each(_names_triples, _triple, "the triple wasm32-wasi is called wasm32-wasip1 now")
    each(_is_rust, _main, "`_start` has become `proxy_wasm::main!`")
    if each(_is_manifest, _dependency, f"proxy-wasm 0.1 has become {SDK}"):
        each(_is_rust, _end_of_stream, "callbacks for headers are told whether a body follows")
        each(_is_rust, _configuration, "`get_configuration` has become one for the VM, one for the plugin")
        gone = [path for path, text in changed.items() if ".clear_http_route_cache(" in text]
        notes += [f"{path}: `clear_http_route_cache` is gone; left to you" for path in gone]
    return Migrated({path: text for path, text in changed.items() if text != contents[path]}, tuple(notes))


def _names_triples(path: PurePosixPath) -> bool:
    history = path.name.lower().startswith(_HISTORY)
    return not history and path.suffix not in (".rs", ".lock")


def _is_rust(path: PurePosixPath) -> bool:
    return path.suffix == ".rs"


def _is_manifest(path: PurePosixPath) -> bool:
    return path.name == "Cargo.toml"


def _triple(text: str) -> str:
    text = _TRIPLE.sub("wasm32-wasip1", text)
    text = re.sub(r"(?<=CARGO_TARGET_)WASM32_WASI(?=_)", "WASM32_WASIP1", text)
    return re.sub(r"(?<=[A-Z]_)wasm32_wasi(?!\w)", "wasm32_wasip1", text)  # CC_wasm32_wasi, of the crate cc


def _main(text: str) -> str:
    """The user's own entry point, by the macro that exports the right one."""
    while found := _START.search(text):
        end = _after_block(text, found.end())
        if end == found.end():
            break
        before = _NO_MANGLE.sub("", found["before"])
        block = text[found.end() : end]
        text = f"{text[: found.start()]}{before}proxy_wasm::main! {{{block}}}{text[end:]}"
    return text


def _end_of_stream(text: str) -> str:
    return _ON_HEADERS.sub(r"\1, _end_of_stream: bool)", text)


def _configuration(text: str) -> str:
    """In `on_vm_start` it was the VM's, elsewhere the plugin's."""
    if found := _ON_VM_START.search(text):
        end = _after_block(text, found.end())
        inside = text[found.end() : end].replace(".get_configuration()", ".get_vm_configuration()")
        text = text[: found.end()] + inside + text[end:]
    return text.replace(".get_configuration()", ".get_plugin_configuration()")


def _after_block(text: str, begin: int) -> int:
    """Where the block ends whose brace is at `begin`; there, when it never does."""
    depth = 0
    for word in _WORDS.finditer(text, begin):
        if word[0] in "{}":
            depth += 1 if word[0] == "{" else -1
            if depth == 0:
                return word.end()
    return begin


def _dependency(text: str) -> str:
    """A manifest whose dependency on the SDK is of its present version; comments and order stay."""
    import tomlkit

    try:
        manifest = tomlkit.parse(text.removeprefix("\ufeff"))
    except ValueError:
        return text  # one that is no crate's: a template's, say
    tables: list[Any] = [manifest, manifest.get("workspace"), *_tables(manifest.get("target"))]
    for table in tables:
        for kind in ("dependencies", "dev-dependencies", "build-dependencies"):
            for name, dependency in _items(_items(table).get(kind)).items():
                _renew(_items(table)[kind], name, dependency)
    return tomlkit.dumps(manifest)


def _renew(table: MutableMapping[str, Any], name: str, dependency: Any) -> None:
    details = _items(dependency)
    if details.get("package", name) not in ("proxy-wasm", "proxy_wasm"):
        return
    if not _OLD_SDK.match(str(details.get("version", "") if details else dependency)):
        return
    if not details:
        table[name] = SDK
        return
    details["version"] = SDK
    if "wee-alloc" in details.get("features", ()):
        details["features"].remove("wee-alloc")


def _items(value: Any) -> MutableMapping[str, Any]:
    return value if isinstance(value, MutableMapping) else {}


def _tables(value: Any) -> list[Any]:
    return list(_items(value).values())
