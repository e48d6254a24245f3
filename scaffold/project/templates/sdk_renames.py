"""Apply the renames of the ecosystem to the text files of a project: the triple, and the SDK's API.

Sources: rust-lang/compiler-team#607 for the triple; proxy-wasm-rust-sdk, CHANGELOG.md and the traits of 0.1.4
and 0.2.0 for the SDK.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

SDK = "0.2.5"  # replaces 0.1; the first that links with Rust 1.96
CONCERNED = "wasm32[-_]wasi|WASM32_WASI|proxy[-_]wasm"  # an extended regular expression: the files to look at
_HISTORY = ("changelog", "changes", "history", "news")  # describe the past
# not clang's triple, in paths such as /usr/lib/wasm32-wasi
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
_TOKENS = re.compile(  # of Rust: comments, strings and braces
    r'//[^\n]*|/\*.*?\*/|\bb?r(?P<hashes>#*)".*?"(?P=hashes)|"(?:\\.|[^"\\])*"|\'(?:\\.[^\']*|[^\\\'])\'|[{}]',
    re.DOTALL,
)


@dataclass(frozen=True)
class Migrated:
    """The changed files, path -> content, and notes on what was done or is left to do."""

    contents: Mapping[str, str]
    notes: tuple[str, ...]


def migrate(contents: Mapping[str, str]) -> Migrated:
    """Migrate a project's text files: path -> content. The result contains only those that change."""
    changed = dict(contents)
    notes: list[str] = []

    def each(applies: Callable[[PurePosixPath], bool], change: Callable[[str], str], note: str) -> bool:
        any_changed = False
        for path, text in changed.items():
            if applies(PurePosixPath(path)) and (new := change(text)) != text:
                changed[path], any_changed = new, True
        if any_changed:
            notes.append(note)
        return any_changed

    each(_names_triples, _triple, "the triple wasm32-wasi is now called wasm32-wasip1")
    each(_is_rust, _main, "`_start` has become `proxy_wasm::main!`")
    if each(_is_manifest, _dependency, f"proxy-wasm 0.1 has become {SDK}"):
        each(_is_rust, _end_of_stream, "header callbacks have the parameter `end_of_stream`")
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
    return re.sub(r"(?<=[A-Z]_)wasm32_wasi(?!\w)", "wasm32_wasip1", text)  # CC_wasm32_wasi: the crate cc


def _main(text: str) -> str:
    """Replace the user's own entry point by the macro that exports the right one."""
    while start := _START.search(text):
        end = _after_block(text, start.end())
        if end == start.end():
            break
        before = _NO_MANGLE.sub("", start["before"])
        block = text[start.end() : end]
        text = f"{text[: start.start()]}{before}proxy_wasm::main! {{{block}}}{text[end:]}"
    return text


def _end_of_stream(text: str) -> str:
    return _ON_HEADERS.sub(r"\1, _end_of_stream: bool)", text)


def _configuration(text: str) -> str:
    """Rename `get_configuration`: it returned the VM's in `on_vm_start`, elsewhere the plugin's."""
    if start := _ON_VM_START.search(text):
        end = _after_block(text, start.end())
        inside = text[start.end() : end].replace(".get_configuration()", ".get_vm_configuration()")
        text = text[: start.end()] + inside + text[end:]
    return text.replace(".get_configuration()", ".get_plugin_configuration()")


def _after_block(text: str, begin: int) -> int:
    """The end of the block whose brace is at `begin`; `begin` if it doesn't end."""
    depth = 0
    for token in _TOKENS.finditer(text, begin):
        if token[0] in "{}":
            depth += 1 if token[0] == "{" else -1
            if depth == 0:
                return token.end()
    return begin


def _dependency(text: str) -> str:
    """Update the dependency on the SDK in a manifest; comments and order stay."""
    import tomlkit

    try:
        manifest = tomlkit.parse(text.removeprefix("\ufeff"))
    except ValueError:
        return text  # not a crate's manifest: for example a template's
    tables: list[Any] = [manifest, manifest.get("workspace"), *_tables(manifest.get("target"))]
    for table in tables:
        for kind in ("dependencies", "dev-dependencies", "build-dependencies"):
            for name, dependency in _items(_items(table).get(kind)).items():
                _update(_items(table)[kind], name, dependency)
    return tomlkit.dumps(manifest)


def _update(table: MutableMapping[str, Any], name: str, dependency: Any) -> None:
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
