"""`RunOptions`: how a plugin runs on this machine. `HostSettings`: those of them that configure the host."""

from __future__ import annotations

import dataclasses
import os
import shlex
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from scaffold.core.option_fields import check_target, check_values, chosen, declarations, flag, option
from scaffold.errors import ProjectError, UsageError
from scaffold.project.vm_environment import parse_variables

if TYPE_CHECKING:
    from scaffold.hosts.plugin import Plugin

PORT = 8080
PORT_VARIABLE = "SCAFFOLD_PORT"
LEVELS = ("trace", "debug", "info", "warning", "error", "critical")
# options for a single plugin, not for a chain
OF_ONE = ("config", "id", "root_id", "env", "vm_config", "allow_stop_iteration")
# options for a run of the tests, which finds its own port and listens to everything
OF_TESTS = (
    *("config", "root_id", "env", "vm_config", "allow_stop_iteration"),
    *("keep_host", "tls", "tls_cert", "tls_key", "bootstrap", "envoy", "envoy_image", "docker_args"),
)
# options for a benchmark, which has an Envoy of its own with other listeners
OF_BENCH = (*OF_ONE[:1], *OF_ONE[2:], "envoy", "log_level", "envoy_args")
# options for the emulator, which has no listener
OF_EMULATOR = ("config", "root_id", "env", "vm_config", "allow_stop_iteration", "envoy")
# options for our own listener, which the user's own configuration doesn't have
OF_LISTENER = ("keep_host", "tls", "tls_cert", "tls_key")
_HERE = "With envoy or docker"
_ENVOY = "With envoy"
_DOCKER = "With docker"


@dataclass(frozen=True)
class RunOptions:
    """How a plugin runs on this machine. None is the default; for `deploy`, the deployed value.

    Making one raises `UsageError` for an impossible value.
    """

    config: str | None = option(
        None,
        "Plugin configuration; a .yaml file is sent as JSON.",
        metavar="JSON|FILE",
        standard="the one in Cargo.toml",
    )
    root_id: str | None = option(
        None, "Root id of the plugin.", metavar="NAME", standard="the one in Cargo.toml"
    )
    env: tuple[str, ...] = option(
        (),
        "Set an environment variable; without a value, pass the proxy's.",
        metavar="NAME[=VALUE]",
        standard="those in Cargo.toml",
    )
    vm_config: str | None = option(
        None, "Configuration of the plugin's VM.", metavar="JSON|FILE", standard="the one in Cargo.toml"
    )
    allow_stop_iteration: bool | None = option(
        None, "Set Envoy's allow_on_headers_stop_iteration.", is_switch=True
    )
    port: int | None = option(
        None,
        "Port to listen on; 0 picks a free one.",
        metavar="NUMBER",
        limits=(0, 65535),
        standard=str(PORT),
        heading=_HERE,
    )
    upstream: str | None = option(
        None, "Send the traffic to this URL.", metavar="URL", standard="a built-in origin", heading=_HERE
    )
    keep_host: bool | None = option(
        None,
        "Send the client's Host to an upstream that has a name of its own.",
        is_switch=True,
        heading=_HERE,
    )
    tls: bool | None = option(
        None,
        "Serve HTTPS; the certificate is for localhost, unless --tls-cert has another.",
        is_switch=True,
        heading=_HERE,
    )
    tls_cert: Path | None = option(
        None, "Certificate chain for HTTPS, in PEM.", metavar="FILE", is_path=True, heading=_HERE
    )
    tls_key: Path | None = option(
        None, "Private key of --tls-cert, in PEM.", metavar="FILE", is_path=True, heading=_HERE
    )
    changes: bool | None = option(
        None,
        "Record what the plugin changes in each request.",
        is_switch=True,
        standard="on",
        heading=_HERE,
    )
    envoy: str | None = option(
        None,
        "Envoy to run.",
        metavar="PATH|VERSION",
        standard="the bundled one",
        targets=("envoy",),
        heading=_ENVOY,
    )
    id: str | None = option(
        None, "Name of the plugin in Envoy.", metavar="NAME", standard="the crate's name", heading=_HERE
    )
    log_level: str | None = option(
        None,
        f"Minimum log level: {', '.join(LEVELS)}.",
        metavar="LEVEL",
        choices=LEVELS,
        standard="info",
        heading=_HERE,
    )
    bootstrap: Path | None = option(
        None,
        "Put the plugin into this Envoy configuration.",
        metavar="FILE",
        is_path=True,
        standard="a generated one",
        heading=_HERE,
    )
    envoy_args: str | None = option(None, "More arguments for Envoy.", metavar="ARGUMENTS", heading=_HERE)
    envoy_image: str | None = option(
        None, "Docker image with Envoy.", metavar="IMAGE", targets=("docker",), heading=_DOCKER
    )
    docker_args: str | None = option(
        None, "More arguments for `docker run`.", metavar="ARGUMENTS", targets=("docker",), heading=_DOCKER
    )

    def __post_init__(self) -> None:
        check_values(self)
        parse_variables(self.env)

    def check_for(self, host: str) -> None:
        """Raise `UsageError` for an option that `host` doesn't support, or two that can't be combined."""
        homes = {name: " or ".join(each.targets) for name, each in declarations(type(self)).items()}
        check_target(
            self, host, instead={name: f"leave it out, or choose `{home}`" for name, home in homes.items()}
        )
        self._check_bootstrap()
        if self.bootstrap and self.port:  # 0 is any: the file's, too
            raise UsageError(
                "--port is for our own listener, and --bootstrap has others",
                hint="leave it out, and write it into that file",
            )

    def _check_bootstrap(self) -> None:
        """Raise `UsageError` for an option that says what the user's own Envoy configuration says."""
        if self.bootstrap and self.upstream:
            raise UsageError(
                "--bootstrap and --upstream both set where the traffic goes", hint="pass one of them"
            )
        for name in OF_LISTENER if self.bootstrap else ():
            if getattr(self, name):
                raise UsageError(
                    f"{flag(name)} is for our own listener, and --bootstrap has others",
                    hint="leave it out, and write it into that file",
                )

    def check_for_many(self, count: int) -> None:
        """Raise `UsageError` for an option of a single plugin if `count` plugins run."""
        for name in chosen(self) if count > 1 else ():
            if name in OF_ONE:
                hint = "set it in each plugin's Cargo.toml, or choose a plugin with --root"
                raise UsageError(f"{flag(name)} is for a single plugin, but this is a workspace", hint=hint)

    def over(self, earlier: Mapping[str, Any], *, chain: bool = False) -> Self:
        """Fill in unset options from an earlier deploy's `record`; for a chain, not those of one plugin."""
        from scaffold.core import records  # not for `--help`

        typed = chosen(self)
        kept = {key: value for key, value in earlier.items() if key not in typed}
        if self.bootstrap or self.upstream:  # each replaces the other
            kept = {key: value for key, value in kept.items() if key not in ("bootstrap", "upstream")}
        if self.bootstrap:
            kept = {key: value for key, value in kept.items() if key not in OF_LISTENER}
        if self.tls is False:
            kept = {key: value for key, value in kept.items() if key not in ("tls_cert", "tls_key")}
        if chain:
            kept = {key: value for key, value in kept.items() if key not in OF_ONE}
        return dataclasses.replace(self, **records.fields(type(self), kept))

    def record(self) -> dict[str, Any]:
        """The options as JSON values for a deployment's record, with absolute paths."""
        values = {name: getattr(self, name) for name in chosen(self)}
        for name in ("bootstrap", "tls_cert", "tls_key"):
            if name in values:
                values[name] = str(values[name].resolve())
        if self.envoy and os.sep in self.envoy:
            values["envoy"] = str(Path(self.envoy).resolve())
        for name in ("config", "vm_config"):
            if name in values and Path(values[name]).exists():
                values[name] = str(Path(values[name]).resolve())
        return values

    @cached_property
    def configuration(self) -> bytes | None:
        """The content of `config`, read once; None if it isn't set. Raises `UsageError`."""
        from scaffold.project.config_validation import read_configuration

        return None if self.config is None else read_configuration(self.config)

    @cached_property
    def vm_configuration(self) -> bytes | None:
        """The content of `vm_config`, like `configuration`."""
        from scaffold.project.config_validation import read_configuration

        return None if self.vm_config is None else read_configuration(self.vm_config, "--vm-config")

    @cached_property
    def settings(self) -> HostSettings:
        """The host's settings. Raises `UsageError` for an invalid value."""
        from scaffold.project.envoy_clusters import parse_upstream

        self._check_bootstrap()  # a deployment may have one of them, and the user type the other
        if self.upstream:
            parse_upstream(self.upstream)
        _ = self.configuration, self.vm_configuration  # reports an error before the build, not after
        envoy = self.envoy
        certificates = self._certificates()
        return HostSettings(
            port=0 if self.bootstrap else default_port() if self.port is None else self.port,
            upstream=self.upstream,
            keep_host=bool(self.keep_host),
            tls=tuple(map(str, certificates)),
            tls_digest=_digest(*certificates) if certificates else None,
            envoy=str(Path(envoy).resolve()) if envoy and os.sep in envoy else envoy,
            log_level=self.log_level or "info",
            changes=self.changes is not False,
            bootstrap=str(self.bootstrap.resolve()) if self.bootstrap else None,
            bootstrap_digest=_digest(self.bootstrap) if self.bootstrap else None,
            envoy_args=_words("envoy_args", self.envoy_args),
            envoy_image=self.envoy_image,
            docker_args=_words("docker_args", self.docker_args),
        )

    def _certificates(self) -> tuple[Path, ...]:
        """The files of the certificate and its key, made if need be; empty without TLS."""
        if not (self.tls or self.tls_cert or self.tls_key):
            return ()
        if self.tls is False:
            raise UsageError("--no-tls and a certificate exclude each other", hint="pass one of them")
        from scaffold.hosts import certificates  # ssl is imported only where it is needed

        if self.tls_cert is None and self.tls_key is None:
            return (certificates.of_localhost(),) * 2
        if self.tls_cert is None or self.tls_key is None:
            raise UsageError("a certificate for HTTPS needs its key", hint="pass --tls-cert and --tls-key")
        certificates.check(self.tls_cert, self.tls_key)
        return self.tls_cert.resolve(), self.tls_key.resolve()


@dataclass(frozen=True)
class HostSettings:
    """How a host runs its plugins: the settings that can't change while it runs.

    `port` 0 is any free port; `upstream` is a URL, or None for the built-in origin; `keep_host` sends it the
    client's Host even if it has a name. `changes` records what plugins change in each request. `tls` are the
    files of a certificate and its key. `envoy` is a path or a version. `bootstrap` is the path of the user's
    Envoy configuration, which sets port and upstream itself; `bootstrap_digest` detects edits to it.
    `envoy_image` is the container's image, `docker_args` are arguments for its `docker run`. `anywhere`
    replaces the ports in the bootstrap by free ones; `adds_clusters` puts `clusters` and the upstream into
    it, in place of those of the same names. `internal` names a listener of the same Envoy that is the
    upstream, in place of the built-in origin. `types` are the plugins' types, in the order in which they
    process requests; `clusters` are those of all plugins. `names` are the plugins' if the bootstrap has them
    already, or else "".
    """

    port: int = 0
    upstream: str | None = None
    keep_host: bool = False
    tls: tuple[str, ...] = ()
    tls_digest: str | None = None
    envoy: str | None = None
    log_level: str = "info"
    changes: bool = False
    bootstrap: str | None = None
    bootstrap_digest: str | None = None
    envoy_args: tuple[str, ...] = ()
    envoy_image: str | None = None
    docker_args: tuple[str, ...] = ()
    anywhere: bool = False
    adds_clusters: bool = False
    internal: str = ""
    clusters: Mapping[str, str] = field(default_factory=dict)
    types: tuple[str, ...] = ("http",)
    names: tuple[str, ...] = ()

    @property
    def authority(self) -> str:
        """The file of the certificate that clients have to trust; "" without TLS, or if it is the user's."""
        if not self.tls:
            return ""
        from scaffold.hosts import certificates

        ours = str(certificates.authority())
        return ours if Path(self.tls[0]).parent == Path(ours).parent else ""

    @property
    def has_service(self) -> bool:
        """Whether one of the plugins is a service."""
        return "service" in self.types

    def serving(self, *plugins: Plugin) -> HostSettings:
        """These settings, with the clusters and types of a chain of plugins.

        Raises `ProjectError` if two plugins use one cluster name for different addresses.
        """
        clusters: dict[str, str] = {}
        for plugin in plugins:
            for name, address in plugin.clusters.items():
                if clusters.setdefault(name, address) != address:
                    earlier = f"an earlier plugin of the chain uses it for {clusters[name]}"
                    raise ProjectError(
                        f"{plugin.name} uses the cluster `{name}` for {address}, but {earlier}",
                        hint="use the same address in both, or rename one",
                    )
        types = tuple(plugin.type for plugin in plugins)
        names = tuple(each.name if each.in_bootstrap else "" for each in plugins) if self.bootstrap else ()
        return dataclasses.replace(self, clusters=clusters, types=types, names=names)

    def fit(self, running: HostSettings, port: int) -> bool:
        """Whether a host that runs with the settings `running`, on `port`, satisfies these."""
        return self.port in (0, port) and dataclasses.replace(self, port=0) == dataclasses.replace(
            running, port=0
        )


def url_at(port: int, *, tls: bool) -> str:
    """Where a host answers."""
    return f"http{'s' if tls else ''}://localhost:{port}"


def default_port() -> int:
    """The port where `--port` isn't passed. Raises `UsageError` if the variable has no valid one."""
    text = os.environ.get(PORT_VARIABLE) or str(PORT)
    if text.isdecimal() and len(text) < 6 and int(text) < 65536:
        return int(text)
    raise UsageError(f"${PORT_VARIABLE} is `{text}`, which isn't a port", hint=f"unset {PORT_VARIABLE}")


def _words(name: str, line: str | None) -> tuple[str, ...]:
    try:
        return tuple(shlex.split(line or ""))
    except ValueError as error:
        raise UsageError(f"cannot read {flag(name)}: {error}") from error


def _digest(*paths: Path) -> str | None:
    from scaffold.core.files import digest
    from scaffold.core.foreign_files import read_bytes

    try:
        return digest(b"".join(map(read_bytes, paths)))
    except OSError:  # reported when the file is read
        return None
