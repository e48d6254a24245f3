"""`manifest`: the Kubernetes resource, or Envoy's configuration, that makes a target run the plugin."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from scaffold.core import files
from scaffold.core.events import Noted, Warned, emit
from scaffold.core.host_names import is_loopback
from scaffold.core.option_fields import chosen, flag
from scaffold.errors import RegistryError, UsageError, choose
from scaffold.hosts import source as plugins
from scaffold.hosts.source import Choice
from scaffold.kubernetes import documents as kubernetes
from scaffold.kubernetes.documents import Document, render
from scaffold.kubernetes.options import DEPLOY_ONLY, PULLING, ClusterOptions
from scaffold.kubernetes.pinned_plugin import LOADABLE, ManifestDigest, ModuleDigest, Pin, PinnedImage
from scaffold.oci.module_layer import Layout, unpack
from scaffold.oci.plugin_info import PluginInfo
from scaffold.oci.reference import Reference
from scaffold.oci.spec import DOCKER_MANIFEST, DOCKER_TAR_GZIP, Manifest
from scaffold.oci.store import Blobs, Ingest, Store
from scaffold.project.crate import Project
from scaffold.toolchain.options import BuildOptions

_NO_DIGEST = ModuleDigest("sha256:" + "0" * 64)


def manifest(
    target: str,
    image: str | None = None,
    options: ClusterOptions = ClusterOptions(),
    *,
    root: Path = Path(),
    out: Path = Path("-"),
    build: BuildOptions = BuildOptions(),
) -> str | Path:
    """The YAML that makes `target` run the plugin of an image, of a module's file, or else of the project.

    It is returned as text, or written to `out`, whose path is returned. Nothing is applied.
    Raises `UsageError` for an option that the target doesn't support, `ImageError` for an image that it can't
    load.
    """
    if deploying := [name for name in chosen(options) if name in DEPLOY_ONLY]:
        raise UsageError(f"{flag(deploying[0])} isn't supported for `manifest`", hint="leave it out")
    files.check_out(out)
    _, documents = prepare(target, image, root, options, build)
    return files.write_out(render(documents), out)


def prepare(
    target: str,
    image: str | None,
    root: Path,
    options: ClusterOptions,
    build: BuildOptions,
    *,
    pushed: bool = False,
) -> tuple[Pin, list[Document]]:
    """What to run, and the documents for it; warnings about the target are announced.

    Options are checked before anything is built or pulled. With `pushed` an image must be in its registry.
    """
    choose("target", target, kubernetes.MANIFESTS)
    choice = plugins.choose(image, root)
    choice.check_build(build)
    if choice.image is not None:
        kubernetes.documents(target, _placeholder(choice.image), options)
        pin = resolve(
            choice.image,
            pushed=pushed and options.url is None and options.file is None,
            plain_http=options.plain_http,
            configuration=options.configuration,
        )
        for project in plugins.projects_of(choice.root, pin.info.name):
            project.require_policy(options.failure_policy)
            if pin.module:
                project.require_hosts(pin.module)
    else:
        pin = _unbuilt(choice)
        if choice.project:
            choice.project.require_policy(options.failure_policy)
        kubernetes.documents(target, pin, options)
        source = choice.load_one(build)
        if source.project:
            source.project.configured(options.configuration)  # by the schema that the build wrote
            _note_what_is_missing(source.project, options)
        pin = replace(pin, module_digest=ModuleDigest(source.module.digest))
    documents = kubernetes.documents(target, pin, options)
    for sentence in kubernetes.warnings(target, options):
        emit(Warned(sentence))
    if target in PULLING and pin.image and options.url is None:
        _warn_about_loopback(pin.image.reference)
    return pin, documents


def _note_what_is_missing(project: Project, options: ClusterOptions) -> None:
    """Name the settings of the VM that apply on this machine alone, unless an option replaces them."""
    for key, setting in (("env", project.settings.env), ("vm_config", project.settings.vm_configuration)):
        if setting and not getattr(options, key):
            emit(Noted(f"what the VM gets on this machine isn't in the manifest: pass {flag(key)}"))


def _warn_about_loopback(reference: Reference) -> None:
    """Warn about a registry on this machine, which a cluster can't pull from."""
    from scaffold.oci.registry import address

    if is_loopback(address.split(f"https://{reference.registry}").hostname):
        emit(
            Warned(
                f"{reference.registry} is a registry on this machine: in a cluster that name means another"
                " machine, so the image can't be pulled"
            )
        )


def _placeholder(image: str) -> Pin:
    """The plugin of an image that hasn't been read yet: one that any target can load."""
    reference = Reference.parse(image)
    pinned = PinnedImage(reference, ManifestDigest(_NO_DIGEST), LOADABLE[0])
    return Pin(PluginInfo("plugin"), _NO_DIGEST, image=pinned)


def _unbuilt(choice: Choice) -> Pin:
    """The plugin of a project, or of a module's file, before its digest is known."""
    if choice.project is None and choice.module:
        return Pin(PluginInfo.of_module(choice.module), _NO_DIGEST)
    project = choice.project or Project.load(choice.root)  # which says what to choose in a workspace
    return Pin(PluginInfo.described(project), _NO_DIGEST, project.configuration())


def resolve(name: str, *, pushed: bool, plain_http: bool = False, configuration: bytes | None = None) -> Pin:
    """Read and verify the image of that name: the registry's, or else, unless `pushed`, the local one.

    Which one is announced. `configuration` replaces the image's own. Raises `UsageError` when the tag no
    longer has the digest beside it, `ImageError` for an image without a plugin; and as
    `PluginInfo.configured` does.
    """
    reference, store = Reference.parse(name), Store()
    if reference.local:
        return _local(reference, store.find(reference), store, configuration)
    try:
        pin = _remote(reference, store, plain_http, configuration)
    except RegistryError as error:
        local = store.get(reference)
        if local is None:
            raise
        if pushed:
            if getattr(error, "status", None) == 404:
                error.hint = f"`scaffold push {replace(reference, digest=None)}`"
            raise
        emit(
            Warned(
                f"{error.message}; the manifest has the local image's digest: push it before you apply this"
            )
        )
        return _local(reference, local, store, configuration)
    _warn_if_stale(reference, store, pin)
    return pin


def _remote(reference: Reference, store: Store, plain_http: bool, configuration: bytes | None) -> Pin:
    from scaffold.oci.registry import transfer

    tagged = replace(reference, digest=None) if reference.tag else reference
    with transfer.fetched(tagged, store, plain_http=plain_http) as (manifest, blobs):
        if reference.digest and reference.digest != manifest.digest:
            raise UsageError(
                f"`{tagged}` has moved since it was pinned: it is {manifest.digest} now",
                hint=f"`{tagged.name}@{reference.digest}` is the pinned image, `{tagged}` the current one",
            )
        pin = _read(tagged, manifest, blobs, configuration)
    emit(Noted(f"{tagged} is {manifest.digest} in the registry"))
    return pin


def _local(reference: Reference, manifest: Manifest, store: Store, configuration: bytes | None) -> Pin:
    emit(Noted(f"{reference} is {manifest.digest} in the local store"))
    return _read(replace(reference, digest=None), manifest, store.blobs, configuration)


def _warn_if_stale(reference: Reference, store: Store, pin: Pin) -> None:
    """Warn when the local image of that name is another than the registry's: a push may be missing."""
    named = replace(reference, digest=None)
    local = None if reference.digest else store.get(named)
    if local and pin.image and local.digest != pin.image.manifest_digest:
        emit(
            Warned(f"the local {named} is another image ({local.digest}) than the registry's: was it pushed?")
        )


def _read(
    reference: Reference, manifest: Manifest, blobs: Blobs | Ingest, configuration: bytes | None
) -> Pin:
    unpacked = unpack(manifest, reference, blobs.open)
    unpacked.wasm.require_plugin()
    image = PinnedImage(reference, ManifestDigest(manifest.digest), _variant(unpacked.layout, manifest))
    content = unpacked.info.configured(configuration)
    return Pin(unpacked.info, ModuleDigest(unpacked.wasm.digest), content, image, unpacked.wasm)


def _variant(layout: Layout, manifest: Manifest) -> str:
    """The image's variant, with what keeps the loaders of Istio and Envoy Gateway from accepting it.

    Source: istio/istio, pkg/wasm/imagefetcher.go.
    """
    if layout.packed and (layout.module.media_type == DOCKER_TAR_GZIP) != (
        manifest.media_type == DOCKER_MANIFEST
    ):
        return f"{layout.variant}, mixing Docker's and OCI's media types"
    if layout.variant == "oci" and len(manifest.layers) != 2:
        return f"oci, with {len(manifest.layers)} layers"
    return layout.variant
