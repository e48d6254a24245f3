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
from scaffold.core.option_fields import chosen, flag
from scaffold.errors import ProjectError, UsageError
from scaffold.hosts.options import RunOptions
from scaffold.hosts.plugin import Plugin
from scaffold.project import source_warnings
from scaffold.project.cargo_toml import locate
from scaffold.project.crate import Project
from scaffold.project.projects import Projects, called, projects_at, projects_if_any
from scaffold.toolchain.options import BuildOptions
from scaffold.wasm.module import NotAPlugin, WasmFile, WasmModule

_MODULES_LIMIT = 512 * 2**20  # bytes of the cached modules
_UNUSED = 30 * 86400.0  # seconds until an unused module is removed
_IN_USE = 3600.0  # seconds in which a command may still be about to read a module

if TYPE_CHECKING:
    from scaffold.hosts.envoy.user_filter import Slot
    from scaffold.oci.plugin_info import PluginInfo
    from scaffold.oci.reference import Reference
    from scaffold.oci.spec import Manifest
    from scaffold.oci.store import Store
    from scaffold.toolchain.rebuild import Rebuild


@dataclass(frozen=True)
class OpenedImage:
    """A local image, its module unpacked into a file."""

    reference: Reference
    manifest: Manifest
    info: PluginInfo
    module: WasmModule


@dataclass(frozen=True)
class Source:
    """A module, and the project or image that it comes from, if any."""

    module: WasmModule
    project: Project | None = None
    image: OpenedImage | None = None

    def plugin(self, options: RunOptions = RunOptions()) -> Plugin:
        """The plugin; the options override its name, root id, configurations and environment.

        Raises `ProjectError`, `UsageError` or `ImageError` for a configuration that the schema refuses.
        """
        if self.project:
            source_warnings.warn_of_type(self.project)
        if self.project and not options.bootstrap:
            source_warnings.warn_of_clusters(self.project)
        slot = self._slot(options)
        plugin = self._configured(options, slot)
        if slot:
            plugin = _at(slot, plugin)
        return replace(
            plugin,
            name=options.id or plugin.name,
            root_id=plugin.root_id if options.root_id is None else options.root_id,
            ticks=self.module.ticks and (self.project is None or self.project.sets_timer),
            env=options.env or plugin.env,
            vm_configuration=plugin.vm_configuration
            if options.vm_configuration is None
            else options.vm_configuration,
            allow_stop_iteration=bool(options.allow_stop_iteration),
        )

    def _slot(self, options: RunOptions) -> Slot | None:
        """What the user's bootstrap says of this plugin, if it is there already."""
        if options.bootstrap is None:
            return None
        from scaffold.hosts.envoy import user_bootstrap

        known = self.image.info if self.image else self.project
        name = options.id or (known.name if known else self.module.path.stem)
        kind = self.image.info.type if self.image else self.project.settings.type if self.project else "http"
        slot = user_bootstrap.slot_of(user_bootstrap.read(options.bootstrap), kind, name)
        if slot:
            kept = ["environment variables"] * (bool(slot.env) and not options.env)
            kept += ["VM configuration"] * (slot.vm_configuration is not None and options.vm_config is None)
            kept += [*["vm_id"] * bool(slot.vm_id), *slot.more]
            keeps = f", with its {', '.join(kept)}" if kept else ""
            emit(Noted(f"{options.bootstrap} runs {name} already: this one takes its place{keeps}"))
        return slot

    def _configured(self, options: RunOptions, slot: Slot | None) -> Plugin:
        """The plugin with the configuration of the options, or else of its place in a bootstrap."""
        if slot is None or slot.configuration is None or options.configuration is not None:
            return self._plugin(options.configuration)
        try:
            return self._plugin(slot.configuration)
        except UsageError as error:
            message = error.message.replace("--config", f"the configuration in {options.bootstrap}", 1)
            raise ProjectError(message, hint=error.hint) from error

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
        return Plugin(
            self.project.name,
            settings.root_id,
            self.module,
            self.project.configured(configuration),
            settings.clusters,
            settings.type,
            env=settings.env,
            vm_configuration=self.project.vm_configuration(),
        )


def _at(slot: Slot, plugin: Plugin) -> Plugin:
    """A plugin with what the user's bootstrap says of it, its configuration aside."""
    return replace(
        plugin,
        root_id=plugin.root_id if slot.root_id is None else slot.root_id,
        type=slot.kind,
        env=slot.env or plugin.env,
        vm_configuration=plugin.vm_configuration if slot.vm_configuration is None else slot.vm_configuration,
        vm_id=slot.vm_id,
        more=slot.more,
        in_bootstrap=True,
    )


@dataclass(frozen=True)
class Choice:
    """What a command works on: the projects at `root`, a module's file, or an image.

    `projects` is None if `root` has no Cargo.toml; `module` comes from a file; `image` is a name.
    """

    root: Path
    projects: Projects | None = None
    module: WasmModule | None = None
    image: str | None = None

    @property
    def is_built(self) -> bool:
        """Whether cargo builds it: neither a module nor an image was named."""
        return self.module is None and self.image is None

    @property
    def project(self) -> Project | None:
        """The module's project; in a workspace, the member that builds a module with that file name."""
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

    def load(self, build: BuildOptions, rebuild: Rebuild | None = None) -> list[Source]:
        """The modules: built by cargo, from the file, or from the image, which is pulled if necessary.

        At a workspace's root, the modules of its chain, in the order in which they process requests.
        `rebuild` knows earlier builds.
        Raises `ModuleError` for an image whose plugin type no host can run, or a module that a host in the
        project's settings doesn't load; and like `check_build`.
        """
        self.check_build(build)
        if self.image is not None:
            image = open_image(self.image)
            require_hosts(self.root, image.info.name, image.module.file)
            return [Source(image.module, image=image)]
        if self.module:
            if self.project and self.module.path.is_relative_to(self.project.top):
                self.project.require_hosts(self.module.file)
            return [Source(self.module, self.project)]
        from scaffold.toolchain import cargo

        assert self.projects  # noqa: S101 - `choose` read them
        chain = self.projects.chain
        if others := [project for project in self.projects if project not in chain.all]:
            emit(Noted(f"not in the chain: {called(others)}"))
        modules = cargo.build(chain, build, rebuild=rebuild)
        return [Source(module, project) for project, module in zip(chain, modules, strict=True)]

    def load_within_budget(self, build: BuildOptions) -> list[Source]:
        """The modules, as `load` has them. Raises `BudgetExceeded` for a release that a budget forbids.

        What was built earlier isn't measured: nobody knows whether it is a release.
        """
        sources = self.load(build)
        if self.is_built:
            from scaffold.toolchain import cargo

            cargo.hold_budgets(((each.project, each.module) for each in sources if each.project), build)
        return sources

    def check_build(self, build: BuildOptions) -> None:
        """Raise `UsageError` for an option of the build if nothing is built; agreeing to one does no harm."""
        finished = self.image or (self.module.path.name if self.module else None)
        for name in chosen(build) if finished else ():
            if name != "yes":
                message = f"{flag(name)} is for a build, and `{finished}` is built already"
                raise UsageError(message, hint="leave it out")

    def load_one(self, build: BuildOptions) -> Source:
        """The only module, as `load_within_budget` has it. Raises like `require_one`."""
        self.require_one()
        return self.load_within_budget(build)[0]

    def require_one(self) -> None:
        """Raise `ProjectError` at a workspace's root."""
        if self.is_built and self.projects and self.projects.workspace:
            Project.load(self.root)  # raises the error that lists the choices


def choose(argument: str | Path | None, root: Path, options: RunOptions = RunOptions()) -> Choice:
    """Resolve and read a command's argument, a file, an image or None, before anything is built.

    Raises `ProjectError` for an invalid chain, `UsageError` for options that a chain can't have.
    """
    root = locate(root)
    if argument is not None and not is_file(argument):
        from scaffold.oci.reference import Reference

        Reference.parse(str(argument))
        return Choice(root, image=str(argument))
    if argument is not None:
        return Choice(root, projects_if_any(root), read_module(Path(argument)))
    choice = Choice(root, projects_at(root))
    options.check_for_many(choice.count)
    return choice


def projects_of(root: Path, name: str) -> list[Project]:
    """The projects in `root` that an image with a plugin of that name may be of."""
    with suppress(ProjectError):  # the image is what counts: another command tells of the project
        return [project for project in projects_if_any(root) or () if project.name == name]
    return []


def require_hosts(root: Path, name: str, module: WasmFile) -> None:
    """Raise `ModuleError` if an image's plugin is that of a project in `root` whose hosts don't load it."""
    for project in projects_of(root, name):
        project.require_hosts(module)


def is_file(argument: str | Path) -> bool:
    """Whether it names a file, not an image: it ends with .wasm, starts with / or ., or exists.

    The folder of an image layout counts as a file: it has no name among the images.
    """
    text = str(argument)
    # not Path.is_file, which raises an error for a name that is too long
    exists = os.path.isfile(text) or os.path.isfile(f"{text}/oci-layout")  # noqa: PTH113
    return text.endswith(".wasm") or text.startswith(("/", ".")) or exists


def read_module(path: Path) -> WasmModule:
    """The module in a file that the user named; an image layout is refused by name."""
    refuse_layout(path)
    return WasmModule.read(path)


def refuse_layout(path: Path) -> None:
    """Raise `UsageError` for an image layout."""
    if path.is_dir() or path.suffix in ("", ".json"):
        from scaffold.oci import saved_layout

        saved_layout.refuse(path)


def open_image(name: str) -> OpenedImage:
    """Open an image, pulling it first unless it is in the local store.

    Raises `UsageError` for an image that is missing and doesn't name a registry.
    """
    from scaffold.hosts.docker import image_hint
    from scaffold.oci.module_layer import unpack
    from scaffold.oci.reference import Reference
    from scaffold.oci.store import Store

    reference, store = Reference.parse(name), Store()
    with image_hint.named(name):
        manifest = store.get(reference) or _downloaded(name, reference, store)
    unpacked = unpack(manifest, reference, store.blobs.open)
    return OpenedImage(reference, manifest, unpacked.info, _cached(unpacked.module, unpacked.wasm.digest))


def _downloaded(name: str, reference: Reference, store: Store) -> Manifest:
    if reference.local:
        raise UsageError(
            f"there is neither a file nor a local image `{name}`",
            hint="list images with `scaffold images`",
        )
    from scaffold.oci.registry import transfer

    emit(Noted(f"{reference} isn't in the local store"))
    return transfer.download(reference, store, plain_http=False)


def _cached(content: bytes, digest: str) -> WasmModule:
    """Write a module to the user's cache, named after its digest, unless it is there and undamaged."""
    path = files.cache_dir() / "modules" / f"{digest.removeprefix('sha256:')}.wasm"
    files.private(path.parent)
    with suppress(NotAPlugin):
        module = WasmModule.read(path)
        if module.digest == digest:
            os.utime(path)
            return module
    files.write(path, content, mode=0o600)
    _prune(path.parent)
    return WasmModule.read(path)


def _prune(folder: Path) -> None:
    """Remove modules that haven't been used for long, and the least recently used of too many."""
    modules = []
    for path in folder.iterdir():
        with suppress(FileNotFoundError):  # another command may prune at the same time
            modules.append((path.stat(), path))
    total, now = 0, time.time()
    for stat, path in sorted(modules, key=lambda each: -each[0].st_mtime):
        total += stat.st_size
        unused = now - stat.st_mtime
        if unused > _UNUSED or (total > _MODULES_LIMIT and unused > _IN_USE):
            path.unlink(missing_ok=True)
