"""Documents as YAML that every reader takes alike: `---` between them, texts quoted where in doubt."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable
from typing import TYPE_CHECKING

from scaffold.kubernetes.common import Document

if TYPE_CHECKING:
    import yaml

# YAML 1.1 and 1.2 disagree on `y`, `1e3`, `0o7` and more: what isn't plainly a word is quoted
_WORD = re.compile(r"[A-Za-z][A-Za-z0-9_./-]*")
_DIGEST = re.compile(r"[0-9a-f]{64}")  # may be read as a number
_NOT_WORDS = frozenset("y n yes no on off true false null inf nan".split())


def render(documents: Iterable[Document]) -> str:
    """The documents as one text, in their order and that of their keys."""
    import yaml

    class Dumper(yaml.SafeDumper):
        """Quotes by our rule, and writes every value out where it stands."""

        def ignore_aliases(self, data: object) -> bool:
            return True

    def write_text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
        plain = _WORD.fullmatch(text) and not _DIGEST.fullmatch(text) and text.lower() not in _NOT_WORDS
        return dumper.represent_scalar("tag:yaml.org,2002:str", text, style=None if plain else '"')

    Dumper.add_representer(str, write_text)
    return "---\n".join(
        yaml.dump(each, Dumper=Dumper, sort_keys=False, allow_unicode=True, width=math.inf)
        for each in documents
    )
