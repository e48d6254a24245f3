"""The files of a running Envoy: its bootstrap, the filter that it reads again, the modules, its logs."""

from __future__ import annotations

import dataclasses
import json
import os
import shutil
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scaffold.core import files
from scaffold.core.versions import Version
from scaffold.hosts.envoy import bootstrap as envoy_bootstrap
from scaffold.hosts.envoy import config as envoy_config
from scaffold.hosts.envoy import grpc as envoy_grpc
from scaffold.hosts.envoy.config import Chain, Config
from scaffold.project.clusters import UPSTREAM, Address
from scaffold.project.model import HostSettings, Plugin

if TYPE_CHECKING:
    from scaffold.hosts.upstream.serve import Origin

LARGEST_LOG = 16 << 20  # bytes
KEPT_MODULES = 3  # Envoy may read the file of the last accepted one again
PRIVATE = 0o600  # a plugin's configuration may hold secrets
_MOUNTED = "/scaffold"  # at the same path as here an image's own folder, such as /root, may be closed


class Link:
    """A filter's file in a swap: `version` is the text that Envoy will have once it has taken the new one,
    and `before` that of the old one; "" where there was none that can be read.
    """

    def __init__(self, path: Path) -> None:
        self.version = uuid.uuid4().hex
        self.before = ""
        self._path = path
        self._new, self._old = (path.with_suffix(suffix) for suffix in (".new", ".old"))
        self._taken = False

    def stage(self, content: str, mode: int) -> None:
        """Write the new one, and a copy of the old one, beside it."""
        if self._path.exists():
            old = self._path.read_bytes()
            with suppress(ValueError, LookupError, TypeError):  # somebody damaged it
                self.before = str(json.loads(old)["version_info"])
            files.write(self._old, old, mode=mode)
        files.write(self._new, content, mode=mode)

    def take(self) -> None:
        """Put the new one in the old one's place, where Envoy sees it come."""
        self._taken = True
        self._new.replace(self._path)

    def give_back(self) -> None:
        """Put the old one back, if it was replaced."""
        if self._taken and self._old.exists():
            self._old.replace(self._path)

    def forget(self) -> None:
        """Remove what isn't needed any more."""
        for path in (self._new, self._old):
            path.unlink(missing_ok=True)


class Folder:
    """The folder of one Envoy; it is this user's alone.

    With `enclosed`, of one that runs in a container, as whatever user: there, what it reads may be read
    by all, and what it logs comes out of it; the folder above is then this user's alone.
    """

    def __init__(self, path: Path, *, enclosed: bool = False) -> None:
        self.path = path
        self.enclosed = enclosed
        self.bootstrap = path / "bootstrap.json"
        self.modules = path / "modules"
        self.log = path / "envoy.log"
        self.access_log = path / "access.log"
        self.authorities = path / "authorities.pem"
        self.admin = path / "admin"  # where Envoy says its admin interface's address
        self.sockets = path  # or elsewhere, where its own name is too long for a socket's
        self.control = path / "control"  # where the upstream's control socket is, said when it serves

    def within(self, path: Path) -> str:
        """A path of here as Envoy has it."""
        return mounted(path) if self.enclosed else str(path)

    def filter(self, place: int = 0) -> Path:
        """The filter that Envoy has at a place of the chain, as it reads it."""
        return self.path / (f"ecds-{place + 1}.json" if place else "ecds.json")

    def filters(self) -> list[Path]:
        """Those that were written."""
        return list(takewhile(Path.exists, map(self.filter, count())))

    @property
    def mode(self) -> int:
        """The permissions of the files that Envoy reads."""
        return 0o644 if self.enclosed else PRIVATE

    def make_bootstrap(self, settings: HostSettings, clusters: Mapping[str, Address]) -> Config:
        """Envoy's configuration, its filter read from a file here: our one listener, or the user's own."""
        slots = [
            envoy_config.ecds_filter(self.within(self.filter(place)), place, kind=kind)
            for place, kind in enumerate(settings.types)
        ]
        chain = Chain.of(slots, settings.types)
        seen = {name: self._seen(address) for name, address in clusters.items()}
        log = envoy_config.STDERR if self.enclosed else str(self.access_log)
        if settings.bootstrap:
            source = Path(settings.bootstrap)
            given = envoy_bootstrap.read(source)
            made = envoy_bootstrap.insert(given, chain, access_log=log, source=source)
            return envoy_bootstrap.on_any_port(made) if settings.anywhere else made
        return generated(settings.port, seen, chain, log=log)

    def _seen(self, address: Address) -> Address:
        """An address as Envoy has it: its socket and its authorities' file may lie in folders of ours."""
        if not self.enclosed:
            return address
        pipe, tls = (at and self.within(Path(at)) for at in (address.pipe, address.tls))
        return dataclasses.replace(address, pipe=pipe, tls=tls)

    def write_bootstrap(self, bootstrap: Config) -> None:
        """Put Envoy's configuration where it reads it."""
        files.write(self.bootstrap, json.dumps(bootstrap, indent=2), mode=self.mode)

    def write_filters(self, plugins: Sequence[Plugin], version: Version) -> None:
        """Write the modules and the configurations that name them."""
        with self.staged(plugins, version) as links:
            for link in links:
                link.take()

    @contextmanager
    def staged(
        self, plugins: Sequence[Plugin], version: Version, *, fresh: bool = False
    ) -> Iterator[list[Link]]:
        """All is written that other filters need, and to have the old ones back: no rename fills a disk.

        When the block fails, the filters' files are as they were: a new start of Envoy would read them.
        """
        links: list[Link] = []
        try:
            for place, plugin in enumerate(plugins):
                links.append(Link(self.filter(place)))
                self._stage(links[-1], plugin, version, place, fresh)
            yield links
        except BaseException:
            for link in links:
                link.give_back()
            self.prune()  # or one refused module after the other would stay
            raise
        finally:
            for link in links:
                link.forget()

    def _stage(self, link: Link, plugin: Plugin, version: Version, place: int, fresh: bool) -> None:
        """The module's file is named by its digest: Envoy doesn't read the same name again."""
        self.modules.mkdir(parents=True, exist_ok=True)
        self.modules.chmod(0o755)  # whatever the umask: `path` is what keeps others out
        module = self.modules / f"{plugin.module.digest.removeprefix('sha256:')}.wasm"
        files.write(module, plugin.module.content())
        typed_config = wasm(plugin, self.within(module), version, vm_id=link.version if fresh else "")
        response = envoy_config.ecds_response(typed_config, link.version, place)
        link.stage(json.dumps(response, indent=2), self.mode)

    def prune(self) -> None:
        """Remove the modules that no Envoy will ask for again; never those that the filters name."""
        named = "".join(path.read_text() for path in self.filters())
        others = [path for path in self.modules.glob("*.wasm") if path.name not in named]
        for path in sorted(others, key=lambda path: path.stat().st_mtime_ns)[: 1 - KEPT_MODULES]:
            path.unlink(missing_ok=True)

    def cap_logs(self) -> None:
        """Begin the logs anew when they have grown large; what they held last is kept beside them, once."""
        for path in (self.log, self.access_log):
            with suppress(FileNotFoundError):
                if path.stat().st_size > LARGEST_LOG:
                    shutil.copyfile(path, path.with_suffix(".old"))
                    os.truncate(path, 0)  # Envoy appends, so it goes on at the beginning

    def origin(self) -> Origin | None:
        """The built-in upstream, when it is that which serves."""
        from scaffold.hosts.upstream.serve import Origin

        try:
            return Origin(Path(self.control.read_text()))
        except FileNotFoundError:
            return None

    def admin_port(self) -> int | None:
        """The port of Envoy's admin interface, once it has said it."""
        try:
            return int(self.admin.read_text().rpartition(":")[2])
        except (FileNotFoundError, ValueError):
            return None


def mounted(path: Path) -> str:
    """Where a container has what is at `path` here."""
    return f"{_MOUNTED}{path}"


def generated(
    port: int,
    clusters: Mapping[str, Address],
    chain: Chain,
    *,
    log: str | None = None,
) -> Config:
    """A whole bootstrap: one listener on loopback, `chain` before its last filter, the clusters behind it.

    They are named, `UPSTREAM` among them; where that is nowhere Envoy answers by itself.
    """
    common: dict[str, Any] = {"host": "127.0.0.1", "port": port, "log": log}
    upstream = clusters[UPSTREAM]
    if chain.kind == "network":
        listener = envoy_config.tcp_listener(**common, filters=chain.network, echo=not upstream)
    else:
        answer = None if upstream else "no upstream was given\n"
        others = [name for name, address in clusters.items() if address and name != UPSTREAM]
        common |= {"filters": chain.http, "before": chain.network}
        listener = envoy_config.listener(**common, answer=answer, clusters=others)
    made = envoy_config.bootstrap(listeners=[listener], clusters=[])
    for name, address in clusters.items():
        if address and address.bridged:
            envoy_grpc.add_bridge(made, name, address)
        else:
            made["static_resources"]["clusters"].append(envoy_config.cluster(name, address))
    return made


def wasm(plugin: Plugin, module: str, version: Version, *, vm_id: str = "") -> Config:
    """The filter that runs `plugin` from the file `module`."""
    return envoy_config.wasm_filter(
        name=plugin.name,
        root_id=plugin.root_id,
        vm_id=vm_id,
        module=module,
        configuration=plugin.configuration,
        version=version,
        kind=plugin.type,
    )
