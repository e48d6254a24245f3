"""The files of a running Envoy: its bootstrap, the filters that it reads again, the modules, its logs."""

from __future__ import annotations

import dataclasses
import json
import uuid
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from itertools import count, takewhile
from pathlib import Path
from typing import TYPE_CHECKING

from scaffold.core import files
from scaffold.core.foreign_files import read_bytes
from scaffold.core.versions import Version
from scaffold.hosts.envoy import request_changes
from scaffold.hosts.envoy import resources as envoy_config
from scaffold.hosts.envoy import user_bootstrap as envoy_bootstrap
from scaffold.hosts.envoy.resources import Chain, Config
from scaffold.hosts.envoy.user_filter import FAILURES
from scaffold.hosts.options import HostSettings
from scaffold.hosts.plugin import SERVICE, Plugin
from scaffold.project.envoy_clusters import UPSTREAM, Address
from scaffold.project.vm_environment import parse_variables
from scaffold.wasm.module import WasmModule

if TYPE_CHECKING:
    from scaffold.hosts.upstream.control import Origin

LOGS = "logs"  # the folder of the logs; a deployment's is a link to where they outlive it
LOG, ACCESS_LOG = "envoy.log", "access.log"  # in that folder
KEPT_MODULES = 3  # Envoy may read the file of the last accepted one again
PRIVATE = 0o600  # a plugin's configuration may hold secrets
_MOUNTED = "/scaffold"  # in a container; at its own path, an image's folder such as /root may be closed


class FilterFile:
    """The file from which Envoy reads a filter, while it is being replaced.

    `version` is the version text that Envoy will report once it has taken the new filter. `before` is the
    old filter's, or "" where there was none that can be read.
    """

    def __init__(self, path: Path) -> None:
        self.version = uuid.uuid4().hex
        self.before = ""
        self._path = path
        self._new, self._old = (path.with_suffix(suffix) for suffix in (".new", ".old"))
        self._replaced = False

    def stage(self, content: str, mode: int) -> None:
        """Write the new filter, and a copy of the old one, beside the file."""
        if self._path.exists():
            old = self._path.read_bytes()
            with suppress(ValueError, LookupError, TypeError):  # somebody damaged it
                self.before = str(json.loads(old)["version_info"])
            files.write(self._old, old, mode=mode)
        files.write(self._new, content, mode=mode)

    def take_effect(self) -> None:
        """Replace the file, which Envoy notices."""
        self._replaced = True
        self._new.replace(self._path)

    def restore(self) -> None:
        """Put the old filter back if the file was replaced."""
        if self._replaced and self._old.exists():
            self._old.replace(self._path)

    def keep(self, folder: Path) -> None:
        """Keep the old filter in a folder, for `Folder.revert`."""
        if self._replaced and self._old.exists():
            folder.mkdir(mode=0o700, exist_ok=True)
            self._old.replace(folder / self._path.name)

    def clean_up(self) -> None:
        """Remove what lies beside the file."""
        for path in (self._new, self._old):
            path.unlink(missing_ok=True)


class Folder:
    """The folder of one Envoy, which only this user may enter.

    With `enclosed`, Envoy runs in a container as another user: the files that it reads are readable by
    everyone (the folder above keeps others out), and its logs come out of the container.

    `watched` has nothing but the filters: Envoy wakes up at each change in a folder that it watches.
    """

    def __init__(self, path: Path, *, enclosed: bool = False) -> None:
        self.path = path
        self.enclosed = enclosed
        self.bootstrap = path / "bootstrap.json"
        self.modules = path / "modules"
        self.logs = path if (path / LOG).exists() else path / LOGS  # it was `path` once
        self.log = self.logs / LOG
        self.access_log = self.logs / ACCESS_LOG
        self.access_pipe = path / "access.pipe"  # by which that comes from an Envoy that isn't enclosed
        self.authorities = path / "authorities.pem"
        self.certificate = path / "certificate.pem"  # exists if the listener speaks TLS
        self.key = path / "key.pem"
        self.watched = path if (path / "ecds.json").exists() else path / "filters"  # it was `path` once
        self.previous = path / "previous"  # the filters before those that Envoy reads
        self.reverted = (
            path / "reverted"
        )  # exists while they are read instead, since the later ones don't work
        self.admin = path / "admin"  # names the socket, or the port, of Envoy's admin interface
        self.sockets = path  # elsewhere if this path is too long for a socket
        self.control = path / "control"  # names the upstream's control socket, while it serves

    def within(self, path: Path) -> str:
        """The path by which Envoy knows a file of this machine."""
        return mounted(path) if self.enclosed else str(path)

    def filter(self, place: int = 0) -> Path:
        """The file from which Envoy reads its filter for a place of the chain."""
        return self.watched / (f"ecds-{place + 1}.json" if place else "ecds.json")

    def filters(self) -> list[Path]:
        """The filters' files that exist."""
        return list(takewhile(Path.exists, map(self.filter, count())))

    @property
    def admin_socket(self) -> Path:
        """The socket of our admin interface, in the only folder that a container may write."""
        return self.sockets / "writable" / "admin.sock"

    @property
    def _socket_mode(self) -> int:
        return 0o666 if self.enclosed else PRIVATE

    def make_folders(self) -> None:
        """Make the folders in which Envoy watches and writes, whatever the umask is, and that of the logs."""
        self.logs.resolve().mkdir(mode=0o700, parents=True, exist_ok=True)
        for folder, enclosed in ((self.watched, 0o755), (self.admin_socket.parent, 0o777)):
            folder.mkdir(exist_ok=True)
            folder.chmod(enclosed if self.enclosed else 0o700)

    @property
    def mode(self) -> int:
        """The permissions of the files that Envoy reads."""
        return 0o644 if self.enclosed else PRIVATE

    def make_bootstrap(self, settings: HostSettings, clusters: Mapping[str, Address]) -> Config:
        """Envoy's configuration: our one listener or the user's own, with filters that it reads from here."""
        chain = Chain.of(map(self._slot, count(), settings.types), settings.types)
        seen = {name: self._within(address) for name, address in clusters.items()}
        log = envoy_config.STDERR if self.enclosed else str(self.access_pipe)
        if settings.bootstrap:
            source = Path(settings.bootstrap)
            own = envoy_bootstrap.read(source)
            made = envoy_bootstrap.insert(own, chain, access_log=log, source=source, names=settings.names)
            if seen:
                envoy_config.add_clusters(made, seen)
            if settings.anywhere:
                made = _elsewhere(made, self)
                envoy_config.flush_when_asked(made)
        else:
            tls = self._certificates(settings)
            made = generated(settings.port, seen, chain, log=log, keep_host=settings.keep_host, tls=tls)
            envoy_config.for_development(made)
        if settings.changes:
            request_changes.record(
                made, {envoy_config.filter_name(place) for place in range(len(settings.types))}
            )
        admin = envoy_bootstrap.admin(made, Path(settings.bootstrap or ""))
        if not admin.get("address"):  # an interface of the user's own stays where they put it
            ours = envoy_config.admin(self.within(self.admin_socket), self._socket_mode)
            made["admin"] = admin | ours
        return made

    def _certificates(self, settings: HostSettings) -> tuple[str, ...]:
        """The paths by which Envoy knows its certificate and its key: copies, which stay as they are."""
        if not settings.tls:
            return ()
        for path, source in zip((self.certificate, self.key), settings.tls, strict=True):
            if not path.exists():
                files.write(path, read_bytes(Path(source)), mode=self.mode)
        return self.within(self.certificate), self.within(self.key)

    def _slot(self, place: int, kind: str) -> Config:
        """A place of the chain; what is in a service's file Envoy reads when it starts, and never again."""
        file = self.filter(place)
        if kind != SERVICE:
            return envoy_config.ecds_filter(self.within(file), place, kind=kind)
        (resource,) = json.loads(file.read_text())["resources"]
        return envoy_config.static_filter(resource["typed_config"], place)

    def _within(self, address: Address) -> Address:
        """An address as Envoy knows it: its socket and its file of authorities may be in our folders."""
        if not self.enclosed:
            return address
        pipe, tls = (path and self.within(Path(path)) for path in (address.pipe, address.tls))
        return dataclasses.replace(address, pipe=pipe, tls=tls)

    def write_bootstrap(self, bootstrap: Config) -> None:
        """Write Envoy's configuration."""
        files.write(self.bootstrap, json.dumps(bootstrap, indent=2), mode=self.mode)

    def write_filters(self, plugins: Sequence[Plugin], version: Version) -> None:
        """Write the modules, and the filters that name them."""
        with self.staged(plugins, version) as staged:
            for file in staged:
                file.take_effect()

    @contextmanager
    def staged(
        self, plugins: Sequence[Plugin], version: Version, *, fresh: bool = False
    ) -> Iterator[list[FilterFile]]:
        """Write everything that the new filters need, and copies of the old ones.

        After that only renames are left, which a full disk can't stop. When the block fails, the old
        filters are restored, since Envoy would read the files again if it was restarted.
        """
        staged: list[FilterFile] = []
        try:
            for place, plugin in enumerate(plugins):
                staged.append(FilterFile(self.filter(place)))
                self._stage(staged[-1], plugin, version, place, fresh)
            yield staged
            for file in staged:
                file.keep(self.previous)
            self.reverted.unlink(missing_ok=True)
        except BaseException:
            for file in staged:
                file.restore()
            self.prune()  # otherwise refused modules would pile up
            raise
        finally:
            for file in staged:
                file.clean_up()

    def _stage(self, file: FilterFile, plugin: Plugin, version: Version, place: int, fresh: bool) -> None:
        module = self.within(self._stored(plugin.module))
        typed_config = wasm(plugin, module, version, vm_id=file.version if fresh else "")
        response = envoy_config.ecds_response(typed_config, file.version, place)
        file.stage(json.dumps(response, indent=2), self.mode)

    def _stored(self, module: WasmModule) -> Path:
        """A copy of the module, named by its digest: Envoy doesn't read a file of the same name again."""
        self.modules.mkdir(parents=True, exist_ok=True)
        self.modules.chmod(0o755)  # whatever the umask is: `path` keeps others out
        path = self.modules / f"{module.digest.removeprefix('sha256:')}.wasm"
        if path.exists() and files.digest(path.read_bytes()) == module.digest:
            path.touch()  # for `prune`
        else:
            files.write(path, module.content)
        return path

    def revert(self) -> bool:
        """Put the previous filters in place of those that Envoy reads; False if there are none."""
        kept = [self.previous / path.name for path in self.filters()]
        if not kept or not all(path.exists() for path in kept):
            return False
        self.reverted.touch()
        for path in kept:
            path.replace(self.watched / path.name)
        return True

    def prune(self) -> None:
        """Remove old modules, but never those that the filters name."""
        named = "".join(path.read_text() for path in [*self.filters(), *self.previous.glob("*.json")])
        modules = list(self.modules.glob("*.wasm"))
        others = sorted(
            (path for path in modules if path.name not in named), key=lambda path: path.stat().st_mtime_ns
        )
        room = max(0, KEPT_MODULES - len(modules) + len(others))
        for path in others[: max(0, len(others) - room)]:
            path.unlink(missing_ok=True)

    def origin(self) -> Origin | None:
        """The built-in upstream, if it serves."""
        from scaffold.hosts.upstream.control import Origin

        try:
            return Origin(Path(self.control.read_text()))
        except FileNotFoundError:
            return None

    def admin_address(self) -> str:
        """The address of Envoy's admin interface as `Admin` takes it, once Envoy has one; "" before."""
        try:
            address = self.admin.read_text(errors="replace").strip()
        except FileNotFoundError:
            return ""
        host, colon, port = address.rpartition(":")
        if colon and port.isdecimal() and "/" not in host:
            return f"127.0.0.1:{port}"
        return str(self.path / address) if address else ""  # Envoy runs in this folder


def _elsewhere(bootstrap: Config, folder: Folder) -> Config:
    return envoy_bootstrap.elsewhere(bootstrap, Path(folder.within(folder.admin_socket.parent)))


def mounted(path: Path) -> str:
    """Where a container has the file that is at `path` on this machine."""
    return f"{_MOUNTED}{path}"


def generated(
    port: int,
    clusters: Mapping[str, Address],
    chain: Chain,
    *,
    log: str | None = None,
    keep_host: bool = False,
    tls: Sequence[str] = (),
) -> Config:
    """A complete bootstrap: one listener on loopback with `chain`, and the clusters behind it.

    The cluster `UPSTREAM` must be among them; if its address is empty, Envoy answers by itself. A cluster
    whose host has a name gets that as the `host` of requests, unless `keep_host` is set. `tls` are the paths
    of a certificate and its key.
    """
    others = [name for name, address in clusters.items() if address and name != UPSTREAM]
    hosts = {} if keep_host else {name: each.hosted_as for name, each in clusters.items() if each.hosted_as}
    listener = envoy_config.listener_of(
        chain,
        host="127.0.0.1",
        port=port,
        upstream=bool(clusters[UPSTREAM]),
        log=log,
        clusters=others,
        hosts=hosts,
    )
    if tls:
        envoy_config.add_tls(listener, *tls, http=chain.kind == "http")
    made = envoy_config.bootstrap(listeners=[listener], clusters=[])
    envoy_config.add_clusters(made, clusters)
    chain.add_services(made)
    return made


def wasm(plugin: Plugin, module: str, version: Version, *, vm_id: str = "") -> Config:
    """The filter, or the service, that runs `plugin` from the file `module`.

    Raises `UsageError` for what this version of Envoy, or the plugin's type, doesn't support.
    """
    more = dict(plugin.more)
    if not plugin.is_service and not more.keys() & FAILURES:  # Envoy reloads no service
        more |= envoy_config.reloading(version)
    if plugin.allow_stop_iteration:
        more |= envoy_config.stop_iteration(plugin.type, version)
    vm = envoy_config.wasm_vm(
        envoy_config.local_file(module),
        vm_id=vm_id or plugin.vm_id,
        environment=envoy_config.environment(parse_variables(plugin.env), version),
        configuration=plugin.vm_configuration,
    )
    return envoy_config.wasm_filter(
        vm,
        name=plugin.name,
        root_id=plugin.root_id,
        configuration=plugin.configuration,
        more=more,
        kind=plugin.type,
    )
