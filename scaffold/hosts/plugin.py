"""What is to be run, by what was typed: the project's own crate, built; a module's file; an image."""

from __future__ import annotations

import os
import time
from collections.abc import Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from scaffold.core import files
from scaffold.core.events import Noted, emit
from scaffold.errors import ModuleError, UsageError
from scaffold.hosts.options import OF_ONE, Options
from scaffold.project.manifest import locate
from scaffold.project.model import RUNNABLE, Plugin, Project, read_configuration
from scaffold.project.plugins import called, chain_at, chain_of, plugins_at
from scaffold.project.workspace import Workspace, top
from scaffold.wasm.module import NotAPlugin, WasmModule

_MODULES_LIMIT = 512 * 2**20  # bytes of the cached modules
_UNUSED = 30 * 86400.0  # seconds after which one goes
_IN_USE = 3600.0  # seconds: a command may be about to read one that is no older

if TYPE_CHECKING:
    from scaffold.oci.plugin_info import PluginInfo
    from scaffold.oci.reference import Reference
    from scaffold.oci.spec import Manifest


@dataclass(frozen=True)
class OpenedImage:
    """A local image, its module unpacked into a file."""

    reference: Reference
    manifest: Manifest
    info: PluginInfo
    module: WasmModule


@dataclass(frozen=True)
class Source:
    """A module, and whose it is where nothing else is said: the project's in `root`, or an image's."""

    module: WasmModule
    root: Path
    image: OpenedImage | None = None

    def plugin(self, options: Options) -> Plugin:
        """The plugin, with what the options say in the place of its own.

        Raises as `Project.configured` and `PluginInfo.configured` do.
        """
        if self.image is None:
            return Plugin.load(
                self.root, self.module, options.config, name=options.id, root_id=options.root_id
            )
        info = self.image.info
        given = None if options.config is None else read_configuration(options.config)
        return Plugin(
            options.id or info.name,
            info.root_id if options.root_id is None else options.root_id,
            self.module,
            info.configured(given),
            type=info.type,
            image=str(self.image.reference.pinned(self.image.manifest.digest)),
        )


def check(given: str | Path | None, root: Path, options: Options = Options()) -> Path:
    """The project's folder; what is to be run is read once before anything else is looked at, or built.

    Raises `UsageError` for options that a chain can't have.
    """
    root = locate(root)
    if given is None:
        _refuse_for_many(len(chain_at(root) or [Project.load(root)]), options)
    elif is_file(given):
        WasmModule.read(Path(given))
    else:
        _reference(str(given))
    return root


def load(given: str | Path | None, root: Path, *, profile: str, rustc: str | None, yes: bool) -> Source:
    """The module in that file or image, which is pulled where it isn't here; or the project's, built.

    Raises `ModuleError` for an image's of a type that no host of ours runs.
    """
    if given is None:
        from scaffold.toolchain import cargo

        return Source(cargo.build_one(root, profile=profile, rustc=rustc, yes=yes), root)
    if is_file(given):
        module = WasmModule.read(Path(given))
        return Source(module, _crate_of(module, root))
    image = open_image(str(given))
    if image.info.type not in RUNNABLE:
        kind = image.info.type
        raise ModuleError(f"{image.reference}: plugins of type {kind!r} can be packaged, not run yet")
    return Source(image.module, root, image)


def load_all(
    given: str | Path | None, root: Path, *, profile: str, rustc: str | None, yes: bool
) -> list[Source]:
    """As `load`; but at a workspace's root its chain, in the order in which traffic meets it."""
    several = plugins_at(root) if given is None else None
    if several is None:
        return [load(given, root, profile=profile, rustc=rustc, yes=yes)]
    from scaffold.toolchain import cargo

    projects = chain_of(several)
    if left := [project for project in several if project not in projects]:
        emit(Noted(f"not in the chain: {called(left)}"))
    modules = cargo.build_all(projects, top(root), profile=profile, rustc=rustc, yes=yes)
    return [Source(module, project.root) for project, module in zip(projects, modules, strict=True)]


def chain(sources: Sequence[Source], options: Options) -> list[Plugin]:
    """The plugins, with what the options say. Raises `UsageError` where one thing is said of several."""
    _refuse_for_many(len(sources), options)
    return [source.plugin(options) for source in sources]


def _refuse_for_many(many: int, options: Options) -> None:
    for name in OF_ONE:
        if getattr(options, name) is not None and many > 1:
            option = f"--{name.replace('_', '-')}"
            hint = "each member's own settings count; or give --root the folder of one"
            raise UsageError(f"{option} is of one plugin, and this is a workspace", hint=hint)


def _crate_of(module: WasmModule, root: Path) -> Path:
    """Whose a module's file is: at a workspace's root the member's that makes one of its name, or none's."""
    workspace = Workspace.meant(root)
    if workspace is None:
        return root
    named = {Project.load(folder).name.replace("-", "_"): folder for folder in workspace.plugins()}
    return named.get(module.path.stem, module.path.parent)


def is_file(given: str | Path) -> bool:
    """Whether a module's file is meant, not an image: by its ending, its first letter, or its being there."""
    text = str(given)
    # not Path's, which raises for a name that is too long for a file
    return text.endswith(".wasm") or text.startswith(("/", ".")) or os.path.isfile(text)  # noqa: PTH113


def _reference(given: str) -> None:
    from scaffold.oci.reference import Reference

    Reference.parse(given)


def open_image(name: str) -> OpenedImage:
    """Open a local image, which is pulled first if it isn't here.

    Raises `UsageError` for an image that isn't here and names no registry.
    """
    from scaffold.oci.layout import unpack
    from scaffold.oci.reference import Reference
    from scaffold.oci.store import Store

    reference, store = Reference.parse(name), Store()
    if not store.holds(reference):
        if reference.local:
            raise UsageError(
                f"there is neither a file nor a local image `{name}`", hint="`scaffold images` lists them"
            )
        from scaffold.oci.registry import transfer

        emit(Noted(f"{reference} isn't here yet"))
        transfer.download(reference, store, plain_http=False)
    manifest = store.find(reference)
    unpacked = unpack(manifest, reference, store.blobs.open)
    return OpenedImage(reference, manifest, unpacked.info, _cached(unpacked.module, unpacked.module_digest))


def _cached(content: bytes, digest: str) -> WasmModule:
    """A module as a file in the user's cache, named after its digest; a damaged file is replaced."""
    path = files.cache_dir() / "modules" / f"{digest.removeprefix('sha256:')}.wasm"
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    with suppress(NotAPlugin):
        module = WasmModule.read(path)
        if module.digest == digest:
            os.utime(path)
            return module
    files.write(path, content, mode=0o600)
    _prune(path.parent)
    return WasmModule.read(path)


def _prune(folder: Path) -> None:
    """Remove modules that nobody has used for long, and the longest unused of too many."""
    found = []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # another command prunes, too
            found.append((path.stat(), path))
    total, now = 0, time.time()
    for stat, path in sorted(found, key=lambda each: -each[0].st_mtime):
        total += stat.st_size
        unused = now - stat.st_mtime
        if unused > _UNUSED or (total > _MODULES_LIMIT and unused > _IN_USE):
            path.unlink(missing_ok=True)
