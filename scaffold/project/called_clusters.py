"""The clusters that a plugin's source names in its calls, and which of them are nowhere.

A call to a cluster that Envoy doesn't know fails without a word in Envoy's log. Names that a plugin takes
from its configuration aren't seen here.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from pathlib import Path

from scaffold.core import foreign_files
from scaffold.project.envoy_clusters import GRPC, NAME, UPSTREAM

_LARGEST = 1_000_000  # bytes of a source file
_CALL = re.compile(
    r'\b(dispatch_http_call|dispatch_grpc_call|open_grpc_stream)\(\s*&?(?:"([^"\\]*)"|(\w+)\s*,)'
)
_CONSTANT = re.compile(r'\b(?:const|static) (\w+): &(?:\'static )?str = "([^"\\]*)";')
_COMMENT = re.compile(r"^\s*//.*$", re.MULTILINE)


def names_in(text: str, names: Iterable[str]) -> set[str]:
    """Those of some names that a source file has as a text, outside comments."""
    code = _COMMENT.sub("", text)
    return {name for name in names if f'"{name}"' in code}


def missing(root: Path, clusters: Mapping[str, str]) -> Iterator[tuple[str, str]]:
    """The clusters that the crate in `root` calls and `clusters` lacks, each once: a sentence, and an entry.

    The entry is what to add to `clusters`, for the upstream to answer.
    """
    known = {UPSTREAM, *clusters}
    for path in sorted((root / "src").glob("**/*.rs")):
        with suppress(OSError, UnicodeDecodeError):
            text = _COMMENT.sub("", foreign_files.read_text(path, _LARGEST))
            constants = dict(_CONSTANT.findall(text))
            for call, literal, constant in _CALL.findall(text):
                name = literal or constants.get(constant, "")
                if NAME.fullmatch(name) and name not in known:
                    known.add(name)
                    place = UPSTREAM if call == "dispatch_http_call" else f"{GRPC}{UPSTREAM}"
                    key = name if re.fullmatch(r"[\w-]+", name, re.ASCII) else json.dumps(name)
                    yield f"{path.relative_to(root)} calls the cluster `{name}`", f'{key} = "{place}"'
