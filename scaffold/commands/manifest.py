"""`manifest`: the Kubernetes resource, or Envoy's configuration, that makes a target run the plugin."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scaffold.core import files
from scaffold.core.events import Warned, emit
from scaffold.core.net import is_loopback
from scaffold.errors import choose
from scaffold.hosts import plugin as plugins
from scaffold.kubernetes import documents as kubernetes
from scaffold.kubernetes import pins
from scaffold.kubernetes.documents import Document, render
from scaffold.kubernetes.options import ClusterOptions
from scaffold.kubernetes.pins import LOADABLE, ManifestDigest, ModuleDigest, Pin, PinnedImage
from scaffold.oci.reference import Reference
from scaffold.project.model import Project, read_configuration
from scaffold.wasm import compat as versions
from scaffold.wasm.module import WasmModule

_NO_DIGEST = ModuleDigest("sha256:" + "0" * 64)


@dataclass(frozen=True)
class Build:
    """The options of `build`, for a target that builds the project."""

    profile: str = "release"
    rustc: str | None = None
    yes: bool = False


def manifest(
    target: str,
    image: str | None = None,
    *,
    root: Path = Path(),
    name: str | None = None,
    namespace: str | None = None,
    selector: Sequence[str] = (),
    target_ref: Sequence[str] = (),
    whole_namespace: bool = False,
    phase: str | None = None,
    priority: int | None = None,
    match: Sequence[str] = (),
    failure_policy: str = "fail-closed",
    config: str | None = None,
    root_id: str | None = None,
    pull_secret: str | None = None,
    env: Sequence[str] = (),
    istio: str = versions.ISTIO,
    envoy: str | None = None,
    traffic_extension: bool = False,
    allow_stop_iteration: bool = False,
    url: str | None = None,
    file: str | None = None,
    upstream: str | None = None,
    plain_http: bool = False,
    out: Path = Path("-"),
    profile: str = "release",
    rustc: str | None = None,
    yes: bool = False,
) -> str | Path:
    """The YAML that makes `target` run the plugin of an image, of a module's file, or else of the project.

    It is returned as text, or written to `out`, whose path is returned. Nothing is applied.
    Raises `UsageError` for an option that the target doesn't support, `ImageError` for an image that it can't
    load.
    """
    options = ClusterOptions(
        name=name,
        namespace=namespace,
        selector=tuple(selector),
        target_ref=tuple(target_ref),
        whole_namespace=whole_namespace,
        phase=phase,
        priority=priority,
        match=tuple(match),
        failure_policy=failure_policy,
        configuration=None if config is None else read_configuration(config),
        root_id=root_id,
        pull_secret=pull_secret,
        env=tuple(env),
        istio=istio,
        envoy=envoy,
        traffic_extension=traffic_extension,
        allow_stop_iteration=allow_stop_iteration,
        url=url,
        file=file,
        upstream=upstream,
    )
    files.check_out(out)
    _, documents = prepare(target, image, root, options, Build(profile, rustc, yes), plain_http=plain_http)
    text = render(documents)
    if out == Path("-"):
        return text.removesuffix("\n")
    files.write(out, text)
    return out


def prepare(
    target: str,
    image: str | None,
    root: Path,
    options: ClusterOptions,
    build: Build,
    *,
    pushed: bool = False,
    plain_http: bool = False,
) -> tuple[Pin, list[Document]]:
    """What to run, and the documents for it; warnings about the target are announced.

    Options are checked before anything is built or pulled. With `pushed` an image must be in its registry.
    """
    choose("target", target, kubernetes.MANIFESTS)
    if image is not None and not plugins.is_file(image):
        kubernetes.documents(target, _placeholder(image), options)
        pulling = options.url is None and options.file is None
        configuration = options.configuration
        pin = pins.resolve(
            image, pushed=pushed and pulling, plain_http=plain_http, configuration=configuration
        )
    else:
        root = plugins.check(image, root)
        pin = _unbuilt(image, root)
        kubernetes.documents(target, pin, options)
        module = plugins.load(image, root, profile=build.profile, rustc=build.rustc, yes=build.yes).module
        if (root / "Cargo.toml").exists():
            Project.load(root).configured(options.configuration)  # by the schema that the build wrote
        pin = replace(pin, module_digest=ModuleDigest(module.digest))
    documents = kubernetes.documents(target, pin, options)
    for sentence in kubernetes.warnings(target, options):
        emit(Warned(sentence))
    if target in kubernetes.PULLING and pin.image and options.url is None:
        _warn_about_loopback(pin.image.reference)
    return pin, documents


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
    return Pin("plugin", _NO_DIGEST, image=PinnedImage(reference, ManifestDigest(_NO_DIGEST), LOADABLE[0]))


def _unbuilt(file: str | None, root: Path) -> Pin:
    """The plugin of a project, or of a module's file, before its digest is known."""
    if file is not None and not (root / "Cargo.toml").exists():
        return Pin(WasmModule.read(Path(file)).path.stem, _NO_DIGEST)
    project = Project.load(root)
    settings = project.settings
    pin = Pin(project.name, _NO_DIGEST, settings.type, settings.root_id, project.configuration())
    return replace(pin, source=project.about().get("repository", ""))
