"""From a module to an image in the local store."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

from scaffold import contents, plugins, process
from scaffold.errors import MachineError, ModuleError, UsageError, choose
from scaffold.events import Noted, emit, step
from scaffold.oci import BLOB_LIMIT
from scaffold.project import Project
from scaffold.reference import Reference, default_name
from scaffold.store import Store
from scaffold.variants import VARIANTS, Metadata
from scaffold.wasm import WasmModule

_TAR = 16 * 2**10  # bytes, which an archive may have more than what is in it
_CONFIGURATION_LIMIT = 64 * 2**10  # bytes: a manifest travels with every request for the image
_ABOUT = ("version", "description", "source", "revision", "licenses")  # OCI's annotations of that name


@dataclass(frozen=True)
class Packaged:
    """An image that was made: `size` in bytes, all blobs together."""

    reference: str
    variant: str
    size: int
    manifest_digest: str
    module_digest: str

    def summary(self) -> str:
        """Its name, and a line for each detail."""
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
    profile: str = "release",
    rustc: str | None = None,
    yes: bool = False,
) -> Packaged:
    """Make an image of the plugin, built first, or of the module in a file, and keep it in the local store.

    A file outside of the current project's folder is none of its, unless `root` names that. With an image
    for `module`, what that says of its plugin is said again. It is called `tag`, or after the crate and its
    version. `runtime_config` names a file of wasme's that says the root ids. Raises `ModuleError` for what
    no host would load, `UsageError` for a name that can't be one.
    """
    make = choose("variant", variant, VARIANTS)
    given = Reference.parse(tag) if tag else None
    if given and given.digest:
        raise UsageError(f"`{tag}` can't be given: a digest is the image's own", hint="name it by a tag")
    said = _runtime_config(runtime_config) if runtime_config else None
    named, root = root != Path(), plugins.check(module, root)
    if module is None or plugins.is_file(module):
        built = plugins.load(module, root, profile=profile, rustc=rustc, yes=yes).module
        metadata = _metadata(_project_of(built, root, named=module is None or named), built, said)
    else:
        held = plugins.held(module)
        built, metadata = held.module, _said_again(held, said)
    reference = given or Reference.parse(f"{default_name(metadata.title)}:{_tag(metadata.version)}")
    for root_id in metadata.root_ids:
        if "," in root_id or root_id != root_id.strip():
            raise ModuleError(
                f"the root id {root_id!r} can't be written into an image, where commas stand between them"
            )
    with step(f"Packaging {reference}"):
        image = make(built.content(), metadata)
        if built.size + _TAR > BLOB_LIMIT or max(blob.size for blob in image.manifest.blobs) > BLOB_LIMIT:
            raise ModuleError(
                f"{built.path} is too large: no consumer takes more than 256 MiB, packed or not"
            )
        Store().add(image, reference)
    return Packaged(str(reference), variant, image.manifest.size, image.manifest.digest, built.digest)


def _project_of(module: WasmModule, root: Path, *, named: bool) -> Project | None:
    """The project in `root`, where a module is its own: as it lies in that folder, or `root` was named."""
    project = Project.load(root) if (root / "Cargo.toml").exists() else None
    return project if project and (named or module.path.resolve().is_relative_to(project.root)) else None


def _metadata(project: Project | None, module: WasmModule, said: contents.PluginFacts | None) -> Metadata:
    about = project.about() if project else {}
    root_ids = said.root_ids if said else (project.settings.root_id,) if project else ()
    return Metadata(
        title=project.name if project else module.path.stem,
        version=about.get("version", ""),
        description=about.get("description", ""),
        source=about.get("repository", ""),
        revision=_revision(project.root) if project else "",
        licenses=about.get("license", ""),
        abi_version=module.abi_version,
        plugin_type=project.settings.type if project else "http",
        root_ids=tuple(filter(None, root_ids)),
        configuration=_configuration(project) if project else "",
    )


def _said_again(image: plugins.Held, said: contents.PluginFacts | None) -> Metadata:
    """What an image says of its plugin, for another image of the same module."""
    told = image.manifest.annotations
    return Metadata(
        title=image.title,
        **{name: told.get(f"org.opencontainers.image.{name}", "") for name in _ABOUT},
        abi_version=image.module.abi_version,
        plugin_type=image.facts.type,
        root_ids=(said or image.facts).root_ids,
        configuration=image.facts.configuration or "",
    )


def _tag(version: str) -> str:
    """A version as a tag, which can't hold a `+`."""
    return version.replace("+", "_") or "latest"


def _configuration(project: Project) -> str:
    """The default configuration, where an annotation can hold it."""
    content = project.configuration()
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = ""
    if len(content) > _CONFIGURATION_LIMIT or (content and not text):
        emit(Noted("the image says nothing of the default configuration: it is binary, or above 64 kB"))
        return ""
    return text


def _revision(root: Path) -> str:
    """The commit that the crate is at; "" where there is none, or it isn't the whole truth.

    All of the repository counts: the crate may be built with others in it, and by its workspace's lock file.
    """
    env = os.environ | {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        head = process.run(["git", "rev-parse", "--verify", "HEAD"], cwd=root, env=env)
        if head.code:
            return ""
        changed = process.run(["git", "status", "--porcelain"], cwd=root, env=env)
    except MachineError:  # no git here
        return ""
    if changed.code or changed.stdout:
        emit(Noted("the image names no revision: its repository has changes that aren't committed"))
        return ""
    return head.stdout.strip()


def _runtime_config(path: Path) -> contents.PluginFacts:
    """wasme's runtime-config.json, which says what the module itself doesn't."""
    try:
        return contents.read_runtime_config(path.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
