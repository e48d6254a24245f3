"""What a host runs, and where it comes from: the project's own crate, a module's file, or an image."""

from __future__ import annotations

import os
import time
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from scaffold.core import files
from scaffold.core.events import Noted, emit
from scaffold.errors import ModuleError, ProjectError, UsageError
from scaffold.hosts.host import Plugin
from scaffold.hosts.options import RunOptions
from scaffold.project.manifest import FILE, locate
from scaffold.project.model import RUNNABLE, Project
from scaffold.project.plugins import Projects, called, projects_at, projects_if_any
from scaffold.toolchain.options import BuildOptions
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
    """A module and what it belongs to: a project, an image, or neither."""

    module: WasmModule
    project: Project | None = None
    image: OpenedImage | None = None

    def plugin(self, options: RunOptions = RunOptions()) -> Plugin:
        """The plugin, with the options in place of its own name, root id and configuration.

        Raises `ProjectError`, `UsageError` or `ImageError` for a configuration that doesn't fit the schema.
        """
        made = self._plugin(options.configuration)
        return replace(
            made,
            name=options.id or made.name,
            root_id=made.root_id if options.root_id is None else options.root_id,
        )

    def _plugin(self, configuration: bytes | None) -> Plugin:
        if self.image:
            info = self.image.info
            return Plugin(
                info.name,
                info.root_id,
                self.module,
                info.configured(configuration),
                type=info.type,
                image=str(self.image.reference.pinned(self.image.manifest.digest)),
            )
        if self.project is None:
            return Plugin(self.module.path.stem, "", self.module, configuration or b"")
        settings = self.project.settings
        if settings.type not in RUNNABLE:
            path = self.project.root / FILE
            raise ProjectError(f'{path}: plugins of type "{settings.type}" can be built, not run yet')
        return Plugin(
            self.project.name,
            settings.root_id,
            self.module,
            self.project.configured(configuration),
            settings.clusters,
            settings.type,
        )


@dataclass(frozen=True)
class Choice:
    """What a command is about: the projects at `root`, a module's file, or an image, by what was typed.

    `projects` are those at `root`, None where there is no Cargo.toml; `module` is a file's, `image` a name.
    """

    root: Path
    projects: Projects | None = None
    module: WasmModule | None = None
    image: str | None = None

    @property
    def is_built(self) -> bool:
        """Whether it is the project's own, which cargo builds first."""
        return self.module is None and self.image is None

    @property
    def project(self) -> Project | None:
        """The project to which the module belongs; in a workspace the member that builds one of its name."""
        if self.projects is None or self.image is not None:
            return None
        if self.projects.workspace is None:
            return self.projects.first
        stem = self.module.path.stem if self.module else ""
        return next((each for each in self.projects if each.name.replace("-", "_") == stem), None)

    @property
    def count(self) -> int:
        """How many plugins will run."""
        return len(self.projects.chain) if self.is_built and self.projects else 1

    def load(self, build: BuildOptions) -> list[Source]:
        """The modules: built by cargo, read from the file, or from the image, which is pulled if need be.

        At a workspace's root they are its chain's, in the order in which traffic meets them.
        Raises `ModuleError` for an image's plugin of a type that no host runs.
        """
        if self.image is not None:
            return [_from_image(self.image)]
        if self.module:
            return [Source(self.module, self.project)]
        from scaffold.toolchain import cargo

        assert self.projects  # noqa: S101 - `choose` read them
        chain = self.projects.chain
        if left := [project for project in self.projects if project not in chain.all]:
            emit(Noted(f"not in the chain: {called(left)}"))
        modules = cargo.build(chain, build)
        return [Source(module, project) for project, module in zip(chain, modules, strict=True)]

    def load_one(self, build: BuildOptions) -> Source:
        """The only module. Raises `ProjectError` at a workspace's root."""
        if self.is_built and self.projects and self.projects.workspace:
            Project.load(self.root)  # which says what to choose
        return self.load(build)[0]


def choose(given: str | Path | None, root: Path, options: RunOptions = RunOptions()) -> Choice:
    """Read what a command is about, before anything is built: `given` is a file, an image, or nothing.

    Raises `ProjectError` for an impossible chain, `UsageError` for options that a chain can't have.
    """
    root = locate(root)
    if given is not None and not is_file(given):
        from scaffold.oci.reference import Reference

        Reference.parse(str(given))
        return Choice(root, image=str(given))
    if given is not None:
        return Choice(root, projects_if_any(root), WasmModule.read(Path(given)))
    choice = Choice(root, projects_at(root))
    options.check_for_many(choice.count)
    return choice


def _from_image(name: str) -> Source:
    image = open_image(name)
    if image.info.type not in RUNNABLE:
        kind = image.info.type
        raise ModuleError(f"{image.reference}: plugins of type {kind!r} can be packaged, not run yet")
    return Source(image.module, image=image)


def is_file(given: str | Path) -> bool:
    """Whether a module's file is meant, not an image: by its ending, its first letter, or its being there."""
    text = str(given)
    # not Path's, which raises for a name that is too long for a file
    return text.endswith(".wasm") or text.startswith(("/", ".")) or os.path.isfile(text)  # noqa: PTH113


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
