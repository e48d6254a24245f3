"""`package`: make an image of a plugin, in the local store."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path

from scaffold.core import foreign_files, git
from scaffold.core.events import Noted, emit, step
from scaffold.errors import ModuleError, UsageError, choose
from scaffold.hosts.source import choose as choose_plugin
from scaffold.hosts.source import open_image, require_hosts
from scaffold.oci.plugin_info import PluginInfo, read_runtime_config
from scaffold.oci.reference import Reference, default_name
from scaffold.oci.spec import BLOB_LIMIT
from scaffold.oci.store import Store
from scaffold.oci.variants import VARIANTS
from scaffold.project.projects import Projects, projects_at
from scaffold.toolchain import cargo
from scaffold.toolchain.options import BuildOptions
from scaffold.wasm import check
from scaffold.wasm.module import WasmModule

_TAR = 16 * 2**10  # bytes that an archive may add to its content


@dataclass(frozen=True)
class Packaged:
    """A new image; `size` in bytes is that of all its blobs."""

    reference: str
    variant: str
    size: int
    manifest_digest: str
    module_digest: str

    def summary(self) -> str:
        """The name, and a line for each detail."""
        lines = [
            self.reference,
            f"  variant          {self.variant}",
            f"  size             {self.size:,} bytes",
            f"  manifest digest  {self.manifest_digest}",
            f"  module digest    {self.module_digest}",
        ]
        return "\n".join(lines)


def package(
    root: Path = Path(),
    *,
    module: str | None = None,
    tag: str | None = None,
    variant: str = "compat",
    runtime_config: Path | None = None,
    build: BuildOptions = BuildOptions(),
) -> Packaged | list[Packaged]:
    """Build the plugin, make an image of it, and keep that in the local store.

    `module` is a module's file or an image to package instead. A file outside the project's folder doesn't
    belong to the project, unless `root` names it; an image keeps its information about the plugin. The new
    image is named `tag`, or after the crate and its version. `runtime_config` is a file from wasme that
    holds the root ids. In the root of a workspace, every plugin gets an image. Raises `ModuleError` for a
    module that no host would load, or that one in the project's settings doesn't, `BudgetExceeded` for a
    release that the plugin's budget forbids, `UsageError` for an invalid name.
    """
    choose("variant", variant, VARIANTS)
    reference = Reference.parse(tag) if tag else None
    if reference:
        reference.require_no_digest()
    root_ids = _root_ids(runtime_config) if runtime_config else None
    projects = projects_at(root) if module is None else None
    several = projects is not None and projects.workspace is not None
    for option, value in (("--tag", tag), ("--runtime-config", runtime_config)):
        if projects and value:
            projects.refuse_many(option)
    plugins = _build(projects, build) if projects else [_open(module or "", root, build)]
    if root_ids is not None:
        plugins = [(wasm, replace(info, root_ids=root_ids)) for wasm, info in plugins]
    packaged = [_package(wasm, info, variant, reference) for wasm, info in plugins]
    return packaged if several else packaged[0]


def _build(projects: Projects, options: BuildOptions) -> list[tuple[WasmModule, PluginInfo]]:
    """Build plugins, and collect what is known about them."""
    modules = cargo.build(projects, options)
    cargo.hold_budgets(zip(projects, modules, strict=True), options)
    revision = _revision(projects.root)
    pairs = zip(projects, modules, strict=True)
    return [(wasm, PluginInfo.of_project(project, wasm, revision=revision)) for project, wasm in pairs]


def _open(module: str, root: Path, build: BuildOptions) -> tuple[WasmModule, PluginInfo]:
    """Read a module's file, or the module in an image."""
    choice = choose_plugin(module, root)
    choice.check_build(build)
    if choice.image is not None:
        image = open_image(choice.image)
        require_hosts(choice.root, image.info.name, image.module.file)
        check.warn_about(image.module)
        return image.module, replace(image.info, abi_versions=(f"v{image.module.abi_version}",))
    (source,) = choice.load(build)
    wasm, project = source.module, source.project
    check.warn_about(wasm)
    inside = project and (root != Path() or wasm.path.resolve().is_relative_to(project.root))
    if project is None or not inside:
        return wasm, PluginInfo.of_module(wasm)
    return wasm, PluginInfo.of_project(project, wasm, revision=_revision(project.root))


def _package(
    module: WasmModule, info: PluginInfo, variant: str, reference: Reference | None = None
) -> Packaged:
    """Make an image of a module, named `reference` or after its plugin."""
    reference = reference or Reference.parse(f"{default_name(info.name)}:{_tag(info.version)}")
    for root_id in info.root_ids:
        if "," in root_id or root_id != root_id.strip():
            raise ModuleError(
                f"the root id {root_id!r} can't be written into an image, where commas separate root ids"
            )
    with step(f"Packaging {reference}"):
        image = VARIANTS[variant](module.content, info)
        if module.size + _TAR > BLOB_LIMIT or max(blob.size for blob in image.manifest.blobs) > BLOB_LIMIT:
            raise ModuleError(f"{module.path} is too large: consumers take at most 256 MiB, packed or not")
        Store().add(image, reference)
    return Packaged(str(reference), variant, image.manifest.size, image.manifest.digest, module.digest)


def _tag(version: str) -> str:
    """A version as a tag, which can't contain a `+`."""
    return version.replace("+", "_") or "latest"


def _revision(root: Path) -> str:
    """The commit of the crate's repository; "" if there is none, or there are changes since."""
    head = git.head(root)
    if head and head.changed:
        emit(Noted("the image has no revision: the repository has uncommitted changes"))
    return head.commit if head and not head.changed else ""


def _root_ids(path: Path) -> tuple[str, ...]:
    """The root ids in wasme's runtime-config.json."""
    try:
        root_ids, _ = read_runtime_config(foreign_files.read_bytes(path))
    except OSError as error:
        hint = foreign_files.remedy(error)
        raise UsageError(f"cannot read {path}: {error.strerror}", hint=hint) from error
    return tuple(filter(None, root_ids))
