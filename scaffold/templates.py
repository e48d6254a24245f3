"""Templates, and the projects that are rendered from them."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from scaffold import files, rendering, workflows
from scaffold.errors import UsageError, choose
from scaffold.events import Noted, emit, prompt, step
from scaffold.project import Project

# what rustc and cargo refuse, or what would be a dependency of itself
KEYWORDS = frozenset(
    "abstract as async await become box break const continue crate do dyn else enum extern false final fn for"
    " gen if impl in let loop macro match mod move mut override priv pub ref return self static struct super"
    " trait true try type typeof unsafe unsized use virtual where while yield".split()
)
RESERVED = frozenset(
    "alloc build core deps examples incremental log proc-macro proc_macro proxy-wasm proxy_wasm std test"
    " aux con nul prn cargo".split()
) | {f"{port}{number}" for port in ("com", "lpt") for number in range(1, 10)}  # devices of Windows
LONGEST = 64
# what no line of a UTF-8 file has: control characters, ends of lines, bytes that weren't UTF-8
_UNFIT = re.compile(r"[\x00-\x1f\x7f-\x9f\u2028\u2029\ud800-\udfff]")


def new(
    name: str,
    *,
    template: str = "http",
    output_dir: Path = Path(),
    variable: Sequence[str] = (),
    ci: str | None = None,
    no_input: bool = False,
) -> Project:
    """Make a new project, a folder called like the crate, from a template.

    `variable` sets the template's variables, each as "key=value"; those left are asked for, where
    somebody can answer. `ci` names a CI provider whose workflow it gets. The folder appears whole or
    not at all.
    Raises `UsageError` for a name that makes no crate, or a folder that exists.
    """
    check_name(name)
    folder = choose("template", template, bundled())
    if ci:
        choose("CI provider", ci, workflows.providers())
    target = output_dir / name
    if target.exists() or target.is_symlink():
        raise UsageError(f"{target} exists already", hint="choose another name, or another --output-dir")
    context = _context(folder, variable, no_input)
    with step(f"Rendering {template} to {target}"):
        try:
            with files.tree(target) as made:
                rendering.render(folder, context, made)
                if ci:
                    workflows.render_into(made, ci)
                _set_modes(made)
        except NotADirectoryError as error:
            raise UsageError(f"{output_dir} is not a folder", hint="choose another --output-dir") from error
        except FileExistsError as error:  # another `new` was quicker
            raise UsageError(f"{target} exists already", hint="choose another name") from error
    emit(Noted(f"next: cd {shlex.quote(str(target))} && invoke build deploy test"))
    return Project.load(target)


def bundled() -> Mapping[str, Path]:
    """The templates that come with us: name -> folder."""
    return rendering.bundled("cookiecutters")


def check_name(name: str) -> None:
    """Raise `UsageError`, with the reason, unless a crate (and a folder, and an image) can be called so.

    Source: cargo's rules for `cargo new`; OCI repository names are lower case.
    """
    if not re.fullmatch(r"[a-z_][a-z0-9_-]*", name, re.ASCII):
        why = "it takes lower-case ASCII letters, digits, `_` and `-`, and begins with a letter or `_`"
    elif len(name) > LONGEST:
        why = f"it is longer than {LONGEST} characters"
    elif name in KEYWORDS:
        why = "it is a keyword of Rust"
    elif name in RESERVED:
        why = "the name is reserved"
    elif not name.strip("_-"):
        why = "it needs a letter"
    else:
        return
    near = re.sub(r"[^a-z0-9_-]+", "_", name.lower()).strip("_-")[: LONGEST - 7].lstrip("0123456789-_")
    near = near if near and near not in KEYWORDS | RESERVED else f"{near or 'my'}_filter"
    raise UsageError(f"`{name}` can't name a crate: {why}", hint=f"for example `scaffold new {near}`")


def _context(folder: Path, variable: Sequence[str], no_input: bool) -> dict[str, Any]:
    """The template's variables with our values for them, as cookiecutter wants them."""
    context = rendering.variables(folder)
    prompts = context.pop("__prompts__", {})
    public = {key: value for key, value in context.items() if not key.startswith("_") and key != "name"}
    given: dict[str, str] = {}
    for pair in variable:
        key, equals, value = pair.partition("=")
        if not equals:
            raise UsageError(f"`{pair}` sets no variable", hint="write it as key=value")
        choose("variable", key, public)
        given[key] = value
    for key, default in public.items():
        if key not in given:
            value = default if no_input else prompt(prompts.get(key, key), default)
        else:
            value = given[key]
        if _UNFIT.search(value):
            raise UsageError(f"the variable `{key}` must be one line of plain text, not {value!r}")
        context[key] = value
    return context | {"_template": str(folder)}


def _set_modes(made: Path) -> None:
    """The modes that the user's umask gives: cookiecutter copies the installed template's."""
    allowed = made.stat().st_mode & 0o777  # a folder's, made just now
    for path in made.rglob("*"):
        mode = path.stat().st_mode
        path.chmod(allowed if path.is_dir() or mode & 0o100 else allowed & 0o666)
