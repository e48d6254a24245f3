"""From a module to an image in the local store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from scaffold.core import git
from scaffold.core.events import Noted, emit, step
from scaffold.errors import MachineError, ModuleError, UsageError, choose
from scaffold.hosts import plugin as plugins
from scaffold.oci import metadata as facts
from scaffold.oci.reference import Reference, default_name
from scaffold.oci.spec import BLOB_LIMIT, dump
from scaffold.oci.store import Store
from scaffold.oci.variants import VARIANTS, Metadata
from scaffold.project import workspace
from scaffold.project.model import Project
from scaffold.project.plugins import plugins_at
from scaffold.project.schema import Schema
from scaffold.wasm.module import WasmModule

_TAR = 16 * 2**10  # bytes, which an archive may have more than what is in it
_TEXT_LIMIT = 64 * 2**10  # bytes: a manifest travels with every request for the image
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
) -> Packaged | list[Packaged]:
    """Make an image of the plugin, built first, or of the module in a file, and keep it in the local store.

    A file outside of the current project's folder is none of its, unless `root` names that. With an image
    for `module`, what that says of its plugin is said again. It is called `tag`, or after the crate and its
    version. `runtime_config` names a file of wasme's that says the root ids. At a workspace's root an image
    is made of each plugin in it. Raises `ModuleError` for what no host would load, `UsageError` for a name
    that can't be one.
    """
    choose("variant", variant, VARIANTS)
    given = Reference.parse(tag) if tag else None
    if given and given.digest:
        raise UsageError(f"`{tag}` can't be given: a digest is the image's own", hint="name it by a tag")
    said = _runtime_config(runtime_config) if runtime_config else None
    several = plugins_at(root) if module is None else None
    if several:
        for option, value in (("--tag", tag), ("--runtime-config", runtime_config)):
            if value:
                hint = "give --root the folder of one"
                raise UsageError(f"{option} is of one plugin, and this is a workspace", hint=hint)
        return _of_all(several, variant, profile=profile, rustc=rustc, yes=yes)
    named, root = root != Path(), plugins.check(module, root)
    if module is None or plugins.is_file(module):
        built = plugins.load(module, root, profile=profile, rustc=rustc, yes=yes).module
        project = _project_of(built, root, named=module is None or named)
        metadata = _metadata(project, built, said, _revision(project.root) if project else "")
    else:
        held = plugins.held(module)
        built, metadata = held.module, _said_again(held, said)
    return _image(built, metadata, variant, given)


def _of_all(projects: Sequence[Project], variant: str, **build: Any) -> list[Packaged]:
    """An image of each plugin of a workspace; what is to be said of all is known before the first is made."""
    from scaffold.toolchain import cargo

    modules = cargo.build_all(projects, workspace.top(projects[0].root), **build)
    revision = _revision(projects[0].root)
    of_each = zip(projects, modules, strict=True)
    about = [_metadata(project, module, None, revision) for project, module in of_each]
    return [_image(module, metadata, variant) for module, metadata in zip(modules, about, strict=True)]


def _image(module: WasmModule, metadata: Metadata, variant: str, given: Reference | None = None) -> Packaged:
    """Make an image of a module, in the local store, called as `given` or as its plugin."""
    reference = given or Reference.parse(f"{default_name(metadata.title)}:{_tag(metadata.version)}")
    for root_id in metadata.root_ids:
        if "," in root_id or root_id != root_id.strip():
            raise ModuleError(
                f"the root id {root_id!r} can't be written into an image, where commas stand between them"
            )
    with step(f"Packaging {reference}"):
        image = VARIANTS[variant](module.content(), metadata)
        if module.size + _TAR > BLOB_LIMIT or max(blob.size for blob in image.manifest.blobs) > BLOB_LIMIT:
            raise ModuleError(
                f"{module.path} is too large: no consumer takes more than 256 MiB, packed or not"
            )
        Store().add(image, reference)
    return Packaged(str(reference), variant, image.manifest.size, image.manifest.digest, module.digest)


def _project_of(module: WasmModule, root: Path, *, named: bool) -> Project | None:
    """The project in `root`, where a module is its own: as it lies in that folder, or `root` was named."""
    project = Project.load(root) if (root / "Cargo.toml").exists() else None
    return project if project and (named or module.path.resolve().is_relative_to(project.root)) else None


def _metadata(
    project: Project | None, module: WasmModule, said: facts.PluginFacts | None, revision: str
) -> Metadata:
    about = project.about() if project else {}
    root_ids = said.root_ids if said else (project.settings.root_id,) if project else ()
    return Metadata(
        title=project.name if project else module.path.stem,
        version=about.get("version", ""),
        description=about.get("description", ""),
        source=about.get("repository", ""),
        revision=revision,
        licenses=about.get("license", ""),
        abi_version=module.abi_version,
        plugin_type=project.settings.type if project else "http",
        root_ids=tuple(filter(None, root_ids)),
        configuration=_text("default configuration", project.configured()) if project else "",
        schema=_schema(project) if project else "",
    )


def _said_again(image: plugins.Held, said: facts.PluginFacts | None) -> Metadata:
    """What an image says of its plugin, for another image of the same module."""
    told = image.manifest.annotations
    return Metadata(
        title=image.title,
        **{name: told.get(f"org.opencontainers.image.{name}", "") for name in _ABOUT},
        abi_version=image.module.abi_version,
        plugin_type=image.facts.type,
        root_ids=(said or image.facts).root_ids,
        configuration=image.facts.configuration or "",
        schema=image.facts.schema or "",
    )


def _tag(version: str) -> str:
    """A version as a tag, which can't hold a `+`."""
    return version.replace("+", "_") or "latest"


def _schema(project: Project) -> str:
    """The configuration's schema, where there is one of the present source."""
    schema = Schema.of(project.root)
    return _text("configuration's schema", dump(schema.content)) if schema else ""


def _text(what: str, content: bytes) -> str:
    """What an annotation is to hold; "", which is announced, where it can't."""
    try:
        text = content.decode()
    except UnicodeDecodeError:
        text = ""
    if len(content) > _TEXT_LIMIT or (content and not text):
        emit(Noted(f"the image says nothing of the {what}: it is binary, or above 64 kB"))
        return ""
    return text


def _revision(root: Path) -> str:
    """The commit that the crate is at; "" where there is none, or it isn't the whole truth.

    All of the repository counts: the crate may be built with others in it, and by its workspace's lock file.
    """
    env = {"GIT_OPTIONAL_LOCKS": "0"}
    try:
        head = git.run("rev-parse", "--verify", "HEAD", cwd=root, env=env)
        if head.code:
            return ""
        changed = git.run("status", "--porcelain", cwd=root, env=env)
    except MachineError:  # no git here
        return ""
    if changed.code or changed.stdout:
        emit(Noted("the image names no revision: its repository has changes that aren't committed"))
        return ""
    return head.stdout.strip()


def _runtime_config(path: Path) -> facts.PluginFacts:
    """wasme's runtime-config.json, which says what the module itself doesn't."""
    try:
        return facts.read_runtime_config(path.read_bytes())
    except OSError as error:
        raise UsageError(f"cannot read {path}: {error.strerror}") from error
