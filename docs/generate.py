"""Write docs/reference.md, and the map in CONTRIBUTING.md, from the code: `python docs/generate.py`.

A test fails when either is out of date.
"""

from __future__ import annotations

import ast
import dataclasses
import inspect
import re
import textwrap
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
from _pytest.config.argparsing import Parser

import scaffold
from scaffold import errors, pytest_plugin
from scaffold.cli.commands import cli
from scaffold.cli.group import Operation
from scaffold.core import option_fields as options
from scaffold.hosts import client, exchange
from scaffold.hosts.upstream import httpbin
from scaffold.project.crate import TABLE, TRIPLES, TYPES, Settings

HERE = Path(__file__).parent
SOURCES = HERE.parent / "scaffold"
CONTRIBUTING = HERE.parent / "CONTRIBUTING.md"

SETTINGS = {  # by the field's name: what it is, and what it may be
    "type": (
        "what kind of plugin it is: for requests, for connections, or beside them",
        ", ".join(f"`{each}`" for each in TYPES),
    ),
    "root_id": ("the name that tells the plugins in a module apart", "any text"),
    "triple": ("what the crate is compiled for", ", ".join(f"`{each}`" for each in TRIPLES)),
    "features": ("cargo features that every build of the plugin has, like `--features`", "a list of names"),
    "default_features": ("if `false`, builds are without the crate's default features", "`true`, `false`"),
    "trim": ("if `false`, a release keeps the callbacks that the plugin doesn't override", "`true`, `false`"),
    "configuration": ("the plugin's default configuration", "the path of a file in the project"),
    "env": (
        "the environment variables of the plugin's VM; images and manifests don't contain them",
        'a list of `"NAME=VALUE"`, or `"NAME"` for the proxy\'s own value',
    ),
    "vm_configuration": (
        "the configuration of the plugin's VM; images and manifests don't contain it",
        "the path of a file in the project",
    ),
    "clusters": (
        "the clusters that the plugin calls or routes to, in addition to the upstream",
        "a table of names; each value is `upstream` or a URL, for gRPC `grpc://upstream` or `grpc://host:port`",
    ),
    "probe": (
        "the request that shows after a deploy whether the plugin works, and the statuses expected of it",
        "a table with `path`, `method`, `headers`, `body`, `statuses`; or `false`, which sends none",
    ),
    "envoy": (
        "the versions of Envoy that have to load the module: a build fails otherwise",
        'a least version, such as `">=1.33"`',
    ),
    "targets": (
        "the hosts that have to load the module, each with its version: a build fails otherwise",
        'a list of `"envoy:1.33"`, `"istio:1.24"`, `"envoy-gateway:1.4"`, `"higress:2.1"` or `"gcp"`',
    ),
    "failure_policies": (
        "the failure policies that suit the plugin: `test --faults` plays it under these, and `manifest` and"
        " `deploy` refuse another",
        "a list of `fail-closed`, `fail-open` and `fail-reload`",
    ),
    "budget": (
        "what the plugin may cost at most: where a release has more bytes or initial memory, `build`,"
        " `check`, `package` and `deploy` fail with exit code 1",
        "a table with `module-bytes`, `initial-memory-bytes`, `peak-memory-bytes`, `cpu-over-native-us`,"
        " `request-fuel`, `request-crossings`, `request-copied-bytes`, and `tests` with their own",
    ),
    "template": ("the template that the project was made from", "a table that `scaffold new` writes"),
}
ENVIRONMENT = {  # in the order of the table; the first group is read by scaffold's own code
    "RUSTC": "the Rust compiler to use, like `--rustc`",
    "SCAFFOLD_PORT": "the port of `run` and `deploy` where `--port` isn't passed; default: 8080",
    "SCAFFOLD_DEBIAN_MIRROR": "the mirror for the private toolchain; default: the one that apt uses",
    "CI": "if set, nothing is asked: a missing toolchain is installed, a template takes its defaults",
    "GITHUB_ACTIONS": "if set, the output is folded for GitHub",
    "NO_COLOR": "if set, the test output of a workspace's plugins has no colours",
    "RUSTUP_AUTO_INSTALL": "if `0`, the toolchain in `rust-toolchain.toml` isn't installed",
    "CARGO_TARGET_DIR": "where cargo builds; `doctor` checks that it is writable",
    "CARGO_HOME": "where cargo keeps its downloads and settings; `doctor` reads them",
    "DOCKER_HOST": "the address of Docker's daemon; default: that of Docker's current context",
    "DOCKER_CONTEXT": "the Docker context to use instead of the current one",
    "DOCKER_CONFIG": "the folder of Docker's `config.json`, with its logins; default: `~/.docker`",
    "REGISTRY_AUTH_FILE": "Podman's file of logins, read after Docker's",
    "XDG_CONFIG_HOME": "another place for Podman's logins: `containers/auth.json` in this folder",
    "SSL_CERT_FILE": "the certificate authorities for registries; default: the system's",
    "REQUESTS_CA_BUNDLE": "the same; it takes precedence",
    "CURL_CA_BUNDLE": "the same; it is tried last",
    "GIT_SSH_COMMAND": "the ssh command for fetching templates; default: git's `core.sshCommand`",
    "HOME": "the user's home folder",
    "TMPDIR": "where temporary files go",
    "XDG_RUNTIME_DIR": "where the upstream's sockets go if the state folder's path is too long for them",
    "PATH": "where cargo, rustc, rustup, a linker, apt-get and docker are looked up",
    "http_proxy": "a proxy for downloads; requests to plugins on this machine never use it",
    "https_proxy": "the same, for https",
    "all_proxy": "the same, for everything else",
    "no_proxy": "hosts that don't need the proxy; `doctor` checks that it contains `localhost`",
    "NO_PROXY": "the same",
}
FOLDERS = {  # read by platformdirs
    "XDG_DATA_HOME": "the folder for toolchains, Envoys, images, trust and the certificate for `--tls`; "
    "default: `~/.local/share`",
    "XDG_CACHE_HOME": "the folder for files that can be made again; default: `~/.cache`",
    "XDG_STATE_HOME": "the folder for deployments; default: `~/.local/state`",
}
CALLED_BY_THE_FIXTURE = ("begin", "end", "close")  # which no test calls
ENDINGS = {  # exit codes that no class of errors.py stands for
    0: "Success.",
    errors.INTERNAL: "A bug in scaffold; please report it.",
    errors.INTERRUPTED: "Interrupted by Ctrl-C; 143: by SIGTERM, 129: by SIGHUP, 141: by a closed pipe.",
}


def reference() -> str:
    """The whole page."""
    parts = [
        _HEAD,
        *_commands(),
        *_exit_codes(),
        *_settings(),
        *_environment(),
        *_fixture(),
        *_upstream(),
        *_api(),
    ]
    return "\n".join(parts).strip() + "\n"


_HEAD = """\
# Reference

<!-- generated by docs/generate.py: change the code, then run `python docs/generate.py` -->

[Commands](#commands) · [Exit codes](#exit-codes) · [Settings](#settings) · [Environment](#environment) ·
[The fixture `proxy`](#the-fixture-proxy) · [The built-in upstream](#the-built-in-upstream) ·
[Python API](#python-api)
"""


def _commands() -> Iterator[str]:
    yield "## Commands\n"
    for heading, names in cli.sections().items():
        yield f"{heading}:\n"
        summaries = (
            [f"[`scaffold {name}`](#scaffold-{name})", cli.commands[name].get_short_help_str()]
            for name in names
        )
        yield from _table("command | what it does", summaries)
    yield "In a project every command except `scaffold completion` is an `invoke` task too:"
    yield "`invoke build deploy`. A task takes an optional argument as an option, such as `--module=FILE`.\n"
    for name, command in cli.commands.items():
        context = click.Context(command, info_name=f"scaffold {name}")
        yield f"### scaffold {name}\n"
        yield f"```text\n{' '.join(command.get_usage(context).removeprefix('Usage: ').split())}\n```\n"
        yield f"{inspect.cleandoc(command.help or '')}\n"
        assert isinstance(command, Operation)  # noqa: S101 - so the group makes them
        for heading, listed_options in command.sections(command.params).items():
            if listed_options:
                if heading != "Options":
                    yield f"{heading}:\n"
                yield from _table(
                    "option | what it does | default", (_option(each) for each in listed_options)
                )


def _option(option: click.Option) -> list[str]:
    help_text, default = option.help or "", ""
    if found := re.search(r"\s*\[default: (.*)\]$", help_text):
        help_text, default = help_text[: found.start()], found[1]
    elif option.show_default:
        default = f"`{option.default}`"
    metavar = "" if option.is_flag else " " + (option.metavar or str(option.type.name).upper())
    spelled = ", ".join(f"`{word}`" for word in option.opts[:-1]) + (", " if option.opts[1:] else "")
    off = "".join(f", `{word}`" for word in option.secondary_opts)
    return [f"{spelled}`{option.opts[-1]}{metavar}`{off}", help_text, default]


def _exit_codes() -> Iterator[str]:
    rows = [[str(code), "", text] for code, text in ENDINGS.items()]
    for kind in errors.ScaffoldError.__subclasses__():
        if kind.__module__ == errors.__name__:
            rows.append([str(kind.exit_code), f"`{kind.__name__}`", _sentence(kind)])
    yield "## Exit codes\n"
    yield "They are stable. Standard error ends with what went wrong, often followed by a hint.\n"
    yield from _table(
        "code | class in `scaffold.errors` | what it means", sorted(rows, key=lambda row: int(row[0]))
    )


def _settings() -> Iterator[str]:
    defaults = {"root_id": "the package's name", "default_features": "`true`"}
    rows = []
    for field in dataclasses.fields(Settings):
        what, values = SETTINGS[field.name]
        value = None if field.default is dataclasses.MISSING else field.default
        default = defaults.get(field.name) or (f"`{value}`" if value else "none")
        rows.append([f"`{field.name.replace('_', '-')}`", what, values, default])
    yield "## Settings\n"
    yield f"In the project's `Cargo.toml`, in the table `[{TABLE}]`. Any other key is an error.\n"
    yield from _table("key | meaning | values | default", rows)
    yield "In a workspace's `Cargo.toml`, in the table `[workspace.metadata.proxy-wasm]`:\n"
    order = "the names of plugins, in the order in which a request passes through them"
    row = ["`chain`", "the plugins that `run`, `deploy`, `bootstrap` and `test` put into one Envoy", order]
    yield from _table("key | meaning | values | default", [[*row, "all, in the order of `members`"]])


def _environment() -> Iterator[str]:
    yield "## Environment\n"
    unknown = read_from_environment() - ENVIRONMENT.keys()
    if unknown:
        raise KeyError(f"docs/generate.py has no description for {', '.join(sorted(unknown))}")
    rows = ([f"`{name}`", what] for name, what in (ENVIRONMENT | FOLDERS).items())
    yield from _table("variable | what it does", rows)
    yield "cargo, rustup, pip and apt also read their own variables.\n"


def read_from_environment() -> set[str]:
    """The names of the variables that scaffold's code reads, where it reads them by name."""
    reads = re.compile(r"""environ(?:\.get\(|\[|\.pop\()\s*["']([A-Za-z_]+)["']""")
    texts = [path.read_text() for path in SOURCES.rglob("*.py")]
    found = {name for text in texts for name in reads.findall(text)}
    return {name for name in found if not name.startswith("_")}


def _fixture() -> Iterator[str]:
    yield "## The fixture `proxy`\n"
    yield textwrap.dedent("""\
        A test with the argument `proxy` gets the plugin, running in a host. The fixture needs
        `addopts = -p scaffold.pytest_plugin` in `pytest.ini`, as in every project from a template.
        """)
    for kind, called in (
        (pytest_plugin.Proxy, "proxy"),
        (pytest_plugin.Upstream, "proxy.upstream"),
        (client.Connection, "connection"),
    ):
        yield f"### {called}\n"
        yield f"{_sentence(kind)}\n"
        yield from _table("member | what it does", _members(kind, called))
    for kind, called in (
        (exchange.Exchange, "Exchange"),
        (exchange.Request, "Request"),
        (exchange.Response, "Response"),
    ):
        yield f"### {called}\n"
        yield f"{inspect.getdoc(kind)}\n"
        yield from _table("member | what it is", _members(kind, ""))
    yield "### Options of pytest\n"
    yield "`scaffold test` passes them on; a bare `pytest` has them too.\n"
    parser = Parser(_ispytest=True)
    pytest_plugin.pytest_addoption(parser)
    rows = []
    for option in parser.getgroup("proxy").options:
        attributes = option.attrs()
        metavar = f" {attributes['metavar']}" if attributes.get("metavar") else ""
        rows.append([f"`{option.names()[0]}{metavar}`", str(attributes.get("help", ""))])
    yield from _table("option | what it does", rows)


def _members(kind: type, called: str) -> Iterator[list[str]]:
    """The public members in the order of the code, each with its sentence; fields without one have a type."""
    prefix = f"{called}." if called else ""
    if dataclasses.is_dataclass(kind):
        for field in dataclasses.fields(kind):
            yield [f"`{prefix}{field.name}`", f"`{field.type}`"]
    for name, member in vars(kind).items():
        if name.startswith("_") or name in CALLED_BY_THE_FIXTURE:
            continue
        if isinstance(member, property):
            yield [f"`{prefix}{name}`", _sentence(member.fget)]
        elif inspect.isfunction(member):
            yield [f"`{prefix}{name}({_parameters(member)})`", _sentence(member)]


def _parameters(function: Any) -> str:
    parameters = inspect.signature(function).parameters.values()
    shown = (each.replace(annotation=inspect.Parameter.empty) for each in parameters if each.name != "self")
    return str(inspect.Signature(list(shown)))[1:-1]


def _sentence(thing: object) -> str:
    return " ".join((inspect.getdoc(thing) or "").split())


def _upstream() -> Iterator[str]:
    yield "## The built-in upstream\n"
    yield "Unless you name another upstream, this one responds behind the plugin, like httpbin.\n"
    told = {"this page": "a page that lists these"}
    rows = (
        [f"`{path}{route.rest}`", told.get(route.about, route.about)]
        for path, route in httpbin._ROUTES.items()
    )
    yield from _table("path | answer", rows)


_API = """\
## Python API

These names are public, and so is everything else on this page. The rest of the package is private and may
change in any release. The package ships `py.typed`, so type checkers use its annotations.

- `scaffold.<command>()`: a function for each command except `completion`. It takes plain values and options
  objects, returns a typed value, and raises one of the [classes in `scaffold.errors`](#exit-codes). They
  derive from `ScaffoldError`, which has `message`, `hint` and `exit_code`.
- `scaffold.BuildOptions`, `scaffold.RunOptions`, `scaffold.ClusterOptions`, `scaffold.MeasureOptions`: the
  options objects, frozen dataclasses. Their fields are the options of the command line.
- `scaffold.tasks.ns`: the commands as invoke tasks, for a project's `tasks.py`.
- `-p scaffold.pytest_plugin`: the fixture `proxy` and its options. `scaffold.pytest_plugin.Proxy` is the
  fixture's type.

```python
from pathlib import Path

import scaffold

project = Path("hello_world")
scaffold.build(project, scaffold.BuildOptions(profile="dev"))
scaffold.deploy(project, run=scaffold.RunOptions(port=0))
```
"""


def _api() -> Iterator[str]:
    yield _API
    rows = []
    for name in scaffold.OPERATIONS:
        operation = getattr(scaffold, name)
        names = ", ".join(inspect.signature(operation).parameters)
        summary = (inspect.getdoc(operation) or "").partition("\n\n")[0]
        rows.append([f"`scaffold.{name}({names})`", summary])
    yield from _table("function | what it does", rows)
    for name in sorted(scaffold.OPTIONS):
        kind = getattr(scaffold, name)
        types = {field.name: str(field.type) for field in dataclasses.fields(kind)}
        declared = options.declarations(kind).items()
        yield f"### scaffold.{name}\n"
        yield f"{_sentence(kind)}\n"
        yield from _table(
            "field | type | what it says",
            ([f"`{key}`", f"`{types[key]}`", each.help] for key, each in declared),
        )


def _table(head: str, rows: Any) -> Iterator[str]:
    titles = head.split(" | ")
    yield f"| {' | '.join(titles)} |"
    yield "|" + "---|" * len(titles)
    for row in rows:
        cells = (cell.replace("\n", " ").replace("|", "\\|") for cell in row)
        yield f"| {' | '.join(cells)} |"
    yield ""


def contributing() -> str:
    """CONTRIBUTING.md with the map between its markers made from the docstrings."""
    before, begin, rest = CONTRIBUTING.read_text().partition("<!-- map: generated by docs/generate.py -->\n")
    _, end, after = rest.partition("<!-- /map -->\n")
    assert begin and end, "the markers of the map are gone"  # noqa: S101
    modules = {_dotted(path): _summary(path) for path in sorted(SOURCES.rglob("*.py"))}
    tops = sorted({name.split(".")[1] for name in modules if name.count(".")}, key=_layer)
    lines = "\n".join(line for top in tops for line in _mapped(f"scaffold.{top}", modules))
    return f"{before}{begin}\n{lines}\n{end}{after}"


def _mapped(top: str, modules: dict[str, str]) -> Iterator[str]:
    """A module of the top as one line; a package as one that unfolds into its modules."""
    inside = [name for name in modules if name.startswith(f"{top}.")]
    if not inside:
        yield f"- `{top.removeprefix('scaffold.')}`: {modules[top]}\n"
        return
    about = re.sub("`([^`]*)`", r"<code>\1</code>", modules[top])  # a summary is HTML
    yield f"<details><summary><code>{top.removeprefix('scaffold.')}/</code>: {about}</summary>\n"
    for name in inside:
        yield f"- `{name.removeprefix(f'{top}.')}`: {modules[name]}"
    yield "\n</details>\n"


def _layer(name: str) -> int:
    """Where a module or package of the top stands in the import order that import-linter holds."""
    contracts = tomllib.loads((HERE.parent / "pyproject.toml").read_text())["tool"]["importlinter"][
        "contracts"
    ]
    order: list[str] = next(contract["layers"] for contract in contracts if contract["type"] == "layers")
    return order.index(name)


def _dotted(path: Path) -> str:
    parts = path.relative_to(SOURCES.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _summary(path: Path) -> str:
    return (ast.get_docstring(ast.parse(path.read_text())) or "").partition("\n\n")[0].replace("\n", " ")


if __name__ == "__main__":
    (HERE / "reference.md").write_text(reference())
    CONTRIBUTING.write_text(contributing())
