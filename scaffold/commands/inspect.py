"""`inspect`: show what a module or image contains, and which hosts load it."""

from __future__ import annotations

import json
import os
import shlex
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from scaffold.core.text import escaped
from scaffold.errors import UsageError
from scaffold.hosts import source as plugins
from scaffold.hosts.docker import image_hint
from scaffold.oci.consumers import Consumer, Packed, consumers
from scaffold.oci.module_layer import OpenBlob, unpack
from scaffold.oci.plugin_info import PluginInfo
from scaffold.oci.reference import Reference
from scaffold.oci.registry import transfer
from scaffold.oci.spec import Descriptor, Manifest
from scaffold.oci.store import Store
from scaffold.project.projects import called, projects_at
from scaffold.toolchain import cargo, relink
from scaffold.toolchain.options import BuildOptions
from scaffold.wasm import size as sizes
from scaffold.wasm import targets
from scaffold.wasm.check import envoys
from scaffold.wasm.module import WasmFile
from scaffold.wasm.report import ModuleReport, report
from scaffold.wasm.size import Saved
from scaffold.wasm.targets import Confirmed, Target

_LONGEST = 300  # characters of an image's text that are shown; `--json` has all


@dataclass(frozen=True)
class ImageReport:
    """What is known about an image. `place` is where it was read; `size` in bytes is that of all blobs."""

    reference: str
    place: str
    variant: str
    reason: str
    media_type: str
    manifest_digest: str
    size: int
    layers: tuple[Descriptor, ...]
    files: tuple[str, ...]
    annotations: dict[str, str]
    plugin: PluginInfo
    consumers: tuple[Consumer, ...]
    module: ModuleReport

    @property
    def exit_code(self) -> int:
        """That of its module's report."""
        return self.module.exit_code

    def summary(self) -> str:
        """A page of text: the image, what loads it, and its module."""
        image = {
            "from": self.place,
            "variant": f"{self.variant}: {self.reason}",
            "size": f"{self.size:,} bytes",
            "layers": ", ".join(f"{layer.media_type} ({layer.size:,} bytes)" for layer in self.layers),
            "type": self.plugin.type,
            "root ids": ", ".join(map(repr, self.plugin.root_ids)) or "none",
            "configuration": _cut(self.plugin.configuration or "none"),
            "manifest digest": self.manifest_digest,
            "module digest": self.module.module.digest,
        }
        lines = [self.reference, *(f"  {name:<15}  {' '.join(text.split())}" for name, text in image.items())]
        lines += [
            "",
            "annotations",
            *(f"  {key}: {' '.join(_cut(value).split())}" for key, value in self.annotations.items()),
        ]
        lines += ["", "loads in"]
        for consumer in self.consumers:
            answer = {True: "yes", False: "no", None: "perhaps"}[consumer.loads]
            lines.append(f"  {consumer.name:<27}{answer}{': ' + consumer.why if consumer.why else ''}")
        return "\n".join([*(escaped(line, len(line)) for line in lines), "", self.module.summary()])


def _cut(text: str) -> str:
    """An image's text, cut to a length that fits on the page."""
    return text if len(text) <= _LONGEST else f"{text[:_LONGEST]}… ({len(text):,} characters)"


@dataclass(frozen=True)
class _Asked:
    """What to say about a module beside what is in it.

    Whether hosts load it, and, if that is to `confirm`, whether real ones do; and where its bytes are.
    """

    targets: Sequence[Target] = ()
    confirm: bool = False
    size: bool = False

    def report(self, module: WasmFile, plugin: PluginInfo | None = None) -> ModuleReport:
        """The report on a module, of a plugin that starts with its default configuration."""
        told = report(module, self.targets, sizes.of(module, _saved(module)) if self.size else None)
        if not self.confirm:
            return told
        pairs = zip(told.targets, self._confirmed(module, plugin), strict=True)
        return replace(told, targets=tuple(replace(verdict, confirmed=each) for verdict, each in pairs))

    def _confirmed(self, module: WasmFile, plugin: PluginInfo | None) -> list[Confirmed]:
        from scaffold.hosts.envoy import confirm

        root_id, configuration = (plugin.root_id, plugin.configuration.encode()) if plugin else ("", b"")
        binaries = [confirm.find(target, module) for target in self.targets]
        did = {each: confirm.load(each, module, root_id, configuration) for each in {*binaries}}
        return [did[binary] for binary in binaries]


def inspect(
    target: str,
    *,
    remote: bool = False,
    plain_http: bool = False,
    hosts: tuple[str, ...] = (),
    confirm: bool = False,
    size: bool = False,
) -> ModuleReport | ImageReport:
    """Show what a module's file or an image contains; an image is the local one, or else the registry's.

    A project's folder stands for its module, which is built. An image from a registry isn't kept. The report
    also says whether each of `hosts`, such as "istio:1.24", loads the module; with `confirm`, it is loaded in
    the Envoy that the host runs, which is installed if need be. With `size`, it says where the bytes are.
    Raises `ImageError` for an image that holds no module, `NotAPlugin` for a file that isn't a wasm module,
    `UsageError` for a host that isn't known, or whose Envoy can't be had.
    """
    if confirm and not hosts:
        raise UsageError("--confirm needs a host to confirm", hint=f"add `--for envoy:{envoys()[-1]}`")
    asked = _Asked([targets.parse(each, "--for", UsageError) for each in hosts], confirm, size)
    # not Path.is_dir, which raises an error for a name that is too long
    if not remote and (plugins.is_file(target) or os.path.isdir(target)):  # noqa: PTH112
        return asked.report(*_module(Path(target)))
    reference, store = Reference.parse(target), Store()
    with image_hint.named(target):
        manifest = None if remote else store.find(reference) if reference.local else store.get(reference)
    if manifest:
        return _report(reference, "the local images", manifest, store.blobs.open, asked)
    remote_image = transfer.fetched(reference, store, plain_http=plain_http)
    with image_hint.named(target), remote_image as (manifest, ingest):
        return _report(reference, reference.registry, manifest, ingest.open, asked)


def _module(path: Path) -> tuple[WasmFile, PluginInfo | None]:
    """The module in a file, or that of the project in a folder, and what is known about its plugin."""
    if path.is_dir() and (path / "Cargo.toml").is_file():
        projects = projects_at(path)
        if len(projects) > 1:
            raise UsageError(
                f"{path} is a workspace with several plugins: {called(projects.all)}",
                hint=f"name the folder of one: `scaffold inspect {shlex.quote(str(projects.first.root))}`",
            )
        (module,) = cargo.build(projects, BuildOptions())
        return module.file, PluginInfo.of_project(projects.first, module)
    if path.is_dir() and not (path / "oci-layout").exists():
        raise UsageError(
            f"{path} is a folder without a plugin", hint="name a .wasm file, an image, or a project's folder"
        )
    plugins.refuse_layout(path)
    return WasmFile.read(path), None


def _saved(module: WasmFile) -> Saved | None:
    """What trimming saved, if it was a build here that made the module's file."""
    made = relink.made(module.path) if module.path.is_absolute() else None
    if made is None or made.made != module.digest or made.before <= module.size:
        return None
    return Saved(made.before, made.dropped, made.optimised, made.undecided)


def _report(
    reference: Reference, place: str, manifest: Manifest, open_blob: OpenBlob, asked: _Asked
) -> ImageReport:
    image = unpack(manifest, reference, open_blob)
    with open_blob(manifest.config) as blob:
        system = _system(blob.read())
    packed = Packed(manifest, image.layout, image.wasm, image.files, system, image.info.type)
    return ImageReport(
        reference=str(reference),
        place=place,
        variant=image.layout.variant,
        reason=image.layout.reason,
        media_type=manifest.media_type,
        manifest_digest=manifest.digest,
        size=manifest.size,
        layers=manifest.layers,
        files=image.files,
        annotations=dict(manifest.annotations),
        plugin=image.info,
        consumers=consumers(packed),
        module=asked.report(replace(image.wasm, path=Path("module")), image.info),
    )


def _system(config: bytes) -> str:
    """The operating system in an image's configuration, or ""."""
    try:
        record = json.loads(config)
    except (ValueError, RecursionError):
        return ""
    system = record.get("os") if isinstance(record, dict) else None
    return system if isinstance(system, str) else ""
