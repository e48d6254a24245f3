"""The command line: each command's arguments, options and help. The functions only call the operation."""

from __future__ import annotations

import os
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import click

import scaffold
from scaffold.cli import console
from scaffold.cli.group import Commands
from scaffold.cli.options import (
    FILE,
    Between,
    OneOf,
    json_option,
    out_option,
    plain_http_option,
    root_option,
    takes,
)

_COMPLETE = "_SCAFFOLD_COMPLETE"  # the environment variable with which a shell asks for completions
_LOOKING_ON = 10  # how much less urgent than what it shows a live view is, as `nice` has it
_WIDTH = 100  # columns of help at most
_HEADINGS = {
    "Start": "new templates adopt setup doctor",
    "Build and test": "build test diff check bench clean",
    "Run and deploy": "dev run deploy status requests explain record logs history rollback undeploy envoys",
    "Ship": "package push pull manifest ci login logout",
    "Look inside": "metrics admin inspect bootstrap images tags",
    "Maintain": "update tag rmi import-wasme completion",
}


@click.group(cls=Commands, headings=_HEADINGS, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(scaffold.__version__, message="%(prog)s %(version)s", prog_name="scaffold")
def cli() -> None:
    """Write, build, run, test and deploy proxy-wasm plugins in Rust.

    Start with `scaffold new hello_world`. Then, in that folder, run `scaffold build`, `scaffold run` and
    `scaffold test`.
    """


# --- start


@cli.command()
@click.argument("name")
@click.option(
    "--template",
    metavar="NAME|FOLDER|ZIP|URL",
    default="http",
    show_default=True,
    help="Template to start from: a name from `scaffold templates`, ./folder, a .zip, or a git URL.",
)
@click.option("--checkout", metavar="REF", help="Branch, tag or commit of that template.")
@click.option("--directory", metavar="FOLDER", help="Folder of the template within that source.")
@click.option("--trust", is_flag=True, help="Trust this version of the template, which can run any code.")
@click.option(
    "--output-dir",
    metavar="FOLDER",
    type=FILE,
    default=Path(),
    help="Parent folder of the new crate; created if missing.  [default: the current folder]",
)
@click.option("-v", "--variable", multiple=True, metavar="KEY=VALUE", help="Set a template variable.")
@click.option("--ci", metavar="PROVIDER", help="Add a CI workflow: github or gitlab.")
@click.option("--no-input", is_flag=True, help="Don't ask for values; use the defaults.")
@json_option
def new(**options: Any) -> object:
    """Create a new plugin from a template."""
    return scaffold.new(**options)


@cli.command()
@click.option("--forget", metavar="COMMIT", help="Stop trusting this commit or digest (or a prefix of it).")
@json_option
def templates(**options: Any) -> object:
    """List bundled templates and other templates that you trust."""
    return scaffold.templates(**options)


@cli.command()
@click.argument("file", type=FILE, required=False)
@root_option
@click.option("--dry-run", is_flag=True, help="Print the patch without writing anything.")
@click.option("--no-check", is_flag=True, help="Write the changes without compiling them first.")
@takes(build="BuildOptions", only=("rustc", "yes"))
@json_option
def adopt(**options: Any) -> object:
    """Turn an existing plugin crate, or a Rust file, into a scaffold project.

    FILE is a plugin's source that has no crate: it gets one, in a folder of its name.

    Adds settings, tasks and a first test, and updates renamed dependencies, functions and targets. Nothing
    else that exists is changed, and nothing is written if the crate would no longer compile.
    """
    return scaffold.adopt(**options)


@cli.command()
@root_option
@takes(options="BuildOptions", only=("rustc", "yes"))
@click.option("--wasm-opt", is_flag=True, help="Find binaryen's wasm-opt, too, or install it.")
@click.option("--remove", is_flag=True, help="Remove what scaffold installed: toolchains and wasm-opt.")
@json_option
def setup(**options: Any) -> object:
    """Find a Rust toolchain that compiles to wasm, or install one."""
    return scaffold.setup(**options)


@cli.command()
@root_option
@click.option(
    "--fix", is_flag=True, help="Install a toolchain, create missing folders, forget dead deployments."
)
@takes(
    build="BuildOptions",
    run="RunOptions",
    only=("rustc", "envoy"),
    helps={
        "rustc": "Rust compiler to check.  [default: $RUSTC, or the first that works]",
        "envoy": "Envoy to check.  [default: the bundled one]",
    },
    headings=False,
)
@json_option
def doctor(**options: Any) -> object:
    """Check this machine and show how to fix problems."""
    return scaffold.doctor(**options)


# --- build and test


@cli.command()
@root_option
@takes(options="BuildOptions")
@click.option("-v", "--verbose", is_flag=True, help="Say which callbacks a release has, and why.")
@json_option
def build(**options: Any) -> object:
    """Compile the plugin to a wasm module.

    At the root of a workspace, compile all its plugins with one call of cargo.
    """
    return scaffold.build(**options)


@cli.command()
@click.argument("tests", nargs=-1, type=click.UNPROCESSED)
@root_option
@click.option(
    "--host",
    metavar="NAME",
    help="Where the tests run the plugin: `envoy` (a local process), `docker` (a container), `emulator` (in"
    " pytest's own process), or `all` (emulator and Envoy, compared)."
    "  [default: envoy; with --faults, emulator; for a suite, gcp]",
)
@click.option("--fast", is_flag=True, help="Test on the emulator, which needs no Envoy.")
@click.option("--faults", is_flag=True, help="Then play the tests' requests while something goes wrong.")
@click.option("--deployed", is_flag=True, help="Test the deployed plugin.")
@click.option("--module", metavar="FILE", type=FILE, help="Test this .wasm file instead of building.")
@click.option("-k", "--keyword", metavar="EXPRESSION", help="Run only the tests that match, as in pytest.")
@click.option("-x", "--exitfirst", is_flag=True, help="Stop at the first failure.")
@click.option("--junitxml", type=FILE, metavar="FILE", help="Write a JUnit report.")
@takes(
    run="RunOptions",
    only=(
        *("config", "root_id", "env", "vm_config", "allow_stop_iteration"),
        *("keep_host", "tls", "tls_cert", "tls_key", "bootstrap", "envoy", "envoy_image", "docker_args"),
    ),
    helps={
        "bootstrap": "Test in this Envoy configuration, whose cluster `upstream` becomes the built-in one.",
        "envoy": "Envoy to run, or several separated by commas.  [default: the bundled one]",
        "envoy_image": "Docker image with Envoy, for --host docker.",
        "docker_args": "More arguments for `docker run`, for --host docker.",
    },
    headings=False,
)
@takes(measure="MeasureOptions")
@takes(build="BuildOptions")
@json_option
def test(**options: Any) -> object:
    """Run the plugin's Rust tests, then its pytest tests in Envoy.

    TESTS are passed to pytest; its options go after `--`. At the root of a workspace, test all its plugins,
    and their chain.

    TESTS may also be suites in the format of Google's tester, .textpb or .yaml files. They are played
    instead, as that tester does, or on the host that --host names as far as a proxy can play them.
    """
    return scaffold.test(**options)


@cli.command()
@click.argument("left", default="emulator")
@click.argument("right", required=False)
@root_option
@click.option(
    "--against",
    metavar="COMMIT|FILE|IMAGE",
    help="Compare with the plugin of a commit, which is built, a .wasm file, or an image, on the first host.",
)
@click.option("-k", "--keyword", metavar="EXPRESSION", help="Run only the tests that match, as in pytest.")
@takes(
    run="RunOptions", only=("config", "root_id", "env", "vm_config", "allow_stop_iteration"), headings=False
)
@takes(build="BuildOptions")
@json_option
def diff(**options: Any) -> object:
    """Play the tests on two hosts, or with two modules, and show where they differ.

    LEFT and RIGHT are `emulator`, `envoy` or `docker`, with a version or an image if need be:
    `envoy:1.36`, `emulator:1.36`, `docker:IMAGE`. Without any, the emulator is compared with Envoy. The exit
    code is 1 where they differ, or where no test could be compared.
    """
    return scaffold.diff(**options)


@cli.command()
@root_option
@takes(options="BuildOptions")
@json_option
def check(**options: Any) -> object:
    """Check format, lints, native tests, configuration and module, and play the tests in process, as CI does.

    Every part is tried; the exit code is that of the first that failed. Cargo.lock must be there and up to
    date.
    """
    return scaffold.check(**options)


@cli.command()
@click.argument("module", required=False)
@root_option
@click.option(
    "--against",
    metavar="COMMIT|FILE|IMAGE",
    help="Compare with the plugin of a commit, which is built, a .wasm file, or an image.",
)
@click.option(
    "--rounds", type=Between((2, 1000)), metavar="NUMBER", help="Rounds on each side.  [default: 12]"
)
@click.option("--duration", metavar="DURATION", help="Length of a round, such as 500ms.  [default: 1s]")
@click.option(
    "--rate", type=Between((1, 10_000)), metavar="NUMBER", help="Requests a second.  [default: 1000]"
)
@click.option("--html", metavar="FILE", type=FILE, help="Write a page with the figures drawn.")
@click.option("--check", is_flag=True, help="Fail if the plugin is over the budget in its Cargo.toml.")
@click.option("--soak", is_flag=True, help="See instead whether Envoy's memory grows.")
@click.option(
    "--requests",
    type=Between((500, None)),
    metavar="NUMBER",
    help="With --soak, requests to send.  [default: 20000]",
)
@click.option(
    "--swaps",
    type=Between((40, None)),
    metavar="NUMBER",
    help="With --soak, times to replace the plugin.  [default: 60]",
)
@takes(
    run="RunOptions",
    only=(
        *("config", "root_id", "env", "vm_config", "allow_stop_iteration"),
        *("envoy", "log_level", "envoy_args"),
    ),
    helps={"log_level": "Minimum log level of Envoy: what it writes costs, too.  [default: warning]"},
    headings=False,
)
@takes(build="BuildOptions")
@json_option
def bench(**options: Any) -> object:
    """Measure what the plugin costs: CPU per request, latency, memory and time to load.

    In one Envoy, in turn with no filter, a native filter, Lua, and the floor: a module that makes the same
    hostcalls and nothing else. The requests are those in bench/*.toml.

    MODULE is a .wasm file or an image to measure instead of building.
    """
    return scaffold.bench(**options)


@cli.command()
@root_option
@click.option("--logs", is_flag=True, help="Remove the logs of what was deployed instead.")
@click.option("--history", is_flag=True, help="Remove the history of what was deployed instead.")
def clean(**options: Any) -> None:
    """Remove what cargo has built."""
    scaffold.clean(**options)


# --- run and deploy


@cli.command()
@root_option
@click.option("--profile", default="dev", show_default=True, metavar="NAME", help="Cargo profile.")
@click.option(
    "--test",
    default="failed",
    show_default=True,
    metavar="WHICH",
    help="Tests to play again: failed, or all; those in a file that is saved always.",
)
@click.option("--no-tests", is_flag=True, help="Play no tests.")
@click.option("--once", is_flag=True, help="End after the first round, with the tests' exit code.")
@takes(options="RunOptions", without=("envoy_image", "docker_args"), headings=False)
@takes(build="BuildOptions", without=("profile",))
def dev(**options: Any) -> None:
    """Build the plugin, run it in Envoy and play its tests; and again whenever you save a file.

    Envoy takes the new plugin without losing a request. While a build fails, or
    if Envoy refuses the plugin, the last one serves on. The tests play on the
    emulator. Requests, and what the plugin logs, are shown as by `run`.
    """
    scaffold.dev(**options)


@cli.command()
@click.argument("module", required=False)
@root_option
@takes(options="RunOptions", build="BuildOptions", without=("envoy_image", "docker_args"), headings=False)
def run(**options: Any) -> None:
    """Build the plugin and run it in Envoy until Ctrl-C.

    MODULE is a .wasm file or an image to run instead of building. At the root of a workspace, run the
    chain of its plugins.
    """
    scaffold.run(**options)


@cli.command()
@click.argument("target", default="envoy")
@click.argument("module", required=False)
@root_option
@click.option(
    "--probe",
    metavar="PATH",
    help="Path to request from --upstream to verify the deployment; for a control plane, a whole URL.",
)
@click.option("--no-probe", is_flag=True, help="Deploy without sending a request through the plugin.")
@click.option("--reset", is_flag=True, help="Forget the options of earlier deploys.")
@takes(
    run="RunOptions",
    cluster="ClusterOptions",
    build="BuildOptions",
    kept="run",
    helps={
        "envoy": "Envoy to run; for istio-envoyfilter, the version to support.  "
        "[default: as deployed, or the bundled one]",
    },
)
@json_option
def deploy(**options: Any) -> object:
    """Run the plugin in the background, or replace a running version.

    A replacement loses no request. If Envoy rejects the new version, the previous one keeps serving.

    TARGET is `envoy`, a local process (the default), or `docker`, a container of --envoy-image. MODULE is a
    .wasm file or an image to deploy instead of building. At the root of a workspace, deploy the chain of
    its plugins, in the order of `members`, or of `chain` in [workspace.metadata.proxy-wasm].

    TARGET may also be a control plane: `istio`, `higress`, `envoy-gateway` or `istio-envoyfilter`. Then
    MODULE is a pushed image, and kubectl applies what `scaffold manifest` prints.
    """
    return scaffold.deploy(**options)


@cli.command()
@root_option
@click.option("--all", "everything", is_flag=True, help="Include all projects.")
@json_option
def status(**options: Any) -> object:
    """Show what is deployed: address, module and age."""
    return scaffold.status(**options)


@cli.command()
@root_option
@click.option("-f", "--follow", is_flag=True, help="Follow the log until Ctrl-C.")
@click.option(
    "--since", metavar="TIME", help="Start at a time (14:30, 2026-01-31) or that long ago (10m, 2d)."
)
@click.option("--tail", type=Between((0, None)), metavar="NUMBER", help="Show only the last NUMBER lines.")
@click.option("--level", metavar="LEVEL", help="Lowest level to show, such as warning.")
@click.option("--grep", metavar="REGEX", help="Show only lines that match.")
@json_option
def logs(**options: Any) -> object:
    """Print the log of the deployed plugin, or of the last deployment.

    With --json each line is an object, with the time in UTC.
    """
    return scaffold.logs(**options)


@cli.command()
@root_option
@click.option("-f", "--follow", is_flag=True, help="Show new requests until Ctrl-C, with metrics that move.")
@click.option("--path", metavar="PATH", help="Show only paths that begin like this; * stands for anything.")
@click.option("--status", metavar="STATUS", help="Show only these, such as 404, 5xx, or 401,403.")
@click.option("--failed", is_flag=True, help="Show only requests with a 5xx, or without a whole answer.")
@click.option("--slow", metavar="DURATION", help="Show only requests that took at least this long: 100ms.")
@click.option(
    "--since", metavar="TIME", help="Start at a time (14:30, 2026-01-31) or that long ago (10m, 2d)."
)
@click.option("--tail", type=Between((0, None)), metavar="NUMBER", help="Show only the last NUMBER requests.")
@json_option
def requests(**options: Any) -> object:
    """Show each request: what the plugin changed in it and in its answer, and what it logged.

    With --json each line is an object, with the time in UTC. Of headers that
    look secret, such as authorization and cookies, only the length is recorded.
    """
    if options["follow"]:
        os.nice(_LOOKING_ON)
    return scaffold.requests(**options)


@cli.command()
@click.argument("what", nargs=-1, type=click.UNPROCESSED)
@root_option
@click.option("--request", type=Between((1, None)), metavar="NUMBER", help="Which request of a trace.")
@click.option(
    "--module", type=FILE, metavar="FILE", help="The .wasm that ran, whose constants a trace then shows."
)
@click.option("--html", type=FILE, metavar="FILE", help="Write it as a page, too, which needs no other file.")
@json_option
def explain(**options: Any) -> object:
    """Show what the plugin did with one request, call by call, and name known traps with their cures.

    WHAT is one of these:

    \b
    -- curl URL  A curl command: its request is sent to the deployed plugin.
    ID           A request's id in `scaffold requests`: what the logs have.
    FILE         A log of Envoy's at the level `wasm:trace`; - is standard input.

    Tracing is on while the request of a curl command is served, and then off again.
    """
    return scaffold.explain(**options)


@cli.command()
@click.argument("what", nargs=-1, type=click.UNPROCESSED)
@root_option
@click.option("--request", type=Between((1, None)), metavar="NUMBER", help="Which request of a file.")
@click.option("--name", metavar="NAME", help="The test's name.  [default: from the request]")
@click.option(
    "--output",
    type=FILE,
    metavar="FILE",
    help="Add the test to this file.  [default: tests/test_recorded.py]",
)
@click.option(
    "--host", default="emulator", show_default=True, metavar="HOST", help="Play it on emulator, or on envoy."
)
@click.option("--keep-secrets", is_flag=True, help="Write secrets into the test, not placeholders.")
@takes(build="BuildOptions")
@json_option
def record(**options: Any) -> object:
    """Write a test that plays a request again, and holds what the plugin does with it.

    WHAT is one of these:

    \b
    -- curl URL  A curl command, as browsers copy it.
    ID           A request's id in `scaffold requests`.
    FILE         A HAR file, or an access log of Envoy's; - is standard input.

    The test is played before it is kept. Its upstream gives the status that was
    seen, or 200. Values of headers that look secret, such as authorization and
    cookies, become placeholders.
    """
    return scaffold.record(**options)


@cli.command()
@root_option
@json_option
def history(**options: Any) -> object:
    """List what was deployed, the last one first."""
    return scaffold.history(**options)


@cli.command()
@click.argument("number", type=Between((1, None)), required=False)
@root_option
@click.option(
    "--port",
    type=Between((0, 65535)),
    metavar="NUMBER",
    help="Port to listen on; 0 picks a free one.  [default: as deployed]",
)
@json_option
def rollback(**options: Any) -> object:
    """Deploy again what was deployed before: module, configuration and options.

    NUMBER is one of those that `scaffold history` lists. Without it, scaffold goes back to the last deploy
    that worked.
    """
    return scaffold.rollback(**options)


@cli.command()
@root_option
@click.option("-f", "--follow", is_flag=True, help="Show what changes until Ctrl-C.")
@click.option("--all", "everything", is_flag=True, help="Include Envoy's own metrics about wasm.")
@click.option("--prometheus", is_flag=True, help="Print them in Prometheus's format.")
@json_option
def metrics(**options: Any) -> object:
    """Show the counters, gauges and histograms of the deployed plugin."""
    return scaffold.metrics(**options)


@cli.command()
@click.argument("path", default="/help")
@root_option
@click.option("--post", is_flag=True, help="Send a POST request, which may change something.")
@json_option
def admin(**options: Any) -> object:
    """Ask the deployed Envoy, for example for /stats.

    PATH is one of Envoy's admin interface. Without it, all paths are listed.
    """
    return scaffold.admin(**options)


@cli.command()
@root_option
@click.option("--all", "everything", is_flag=True, help="Include all projects.")
@json_option
def undeploy(**options: Any) -> object:
    """Stop the deployed plugin."""
    return scaffold.undeploy(**options)


@cli.command()
@click.option("--install", metavar="VERSION", help="Install this version.")
@click.option("--remove", metavar="VERSION", help="Remove this version; `all` removes every installed one.")
@json_option
def envoys(**options: Any) -> object:
    """List, install or remove Envoy versions.

    `scaffold run --envoy 1.36.4` installs a missing version automatically.
    """
    return scaffold.envoys(**options)


# --- ship


@cli.command()
@click.argument("module", required=False)
@root_option
@click.option(
    "-t", "--tag", metavar="NAME:TAG", help="Name of the image.  [default: the crate's name and version]"
)
@click.option(
    "--variant",
    metavar="NAME",
    default="compat",
    show_default=True,
    help="Format of the image: compat for most consumers, oci for wasme, cncf for wkg.",
)
@click.option(
    "--runtime-config", type=FILE, metavar="FILE", help="Read the root ids from wasme's runtime-config.json."
)
@takes(build="BuildOptions")
@json_option
def package(**options: Any) -> object:
    """Package the plugin as an OCI image in the local store.

    MODULE is a .wasm file or an image to package instead of building. At the root of a workspace, package
    all its plugins.
    """
    return scaffold.package(**options)


@cli.command()
@click.argument("image")
@plain_http_option
@json_option
def push(**options: Any) -> object:
    """Push a local image to its registry.

    Prints its reference with the digest, which is the one to deploy.
    """
    return scaffold.push(**options)


@cli.command()
@click.argument("image")
@plain_http_option
@json_option
def pull(**options: Any) -> object:
    """Pull an image from its registry into the local store.

    Prints its reference with the digest.
    """
    return scaffold.pull(**options)


@cli.command()
@click.argument("target")
@click.argument("image", required=False)
@root_option
@takes(options="ClusterOptions", build="BuildOptions", without=("context", "dry_run", "wait"))
@out_option
@json_option
def manifest(**options: Any) -> object:
    """Print the Kubernetes resource that runs the plugin.

    TARGET is a control plane, `istio`, `higress`, `envoy-gateway` or `istio-envoyfilter`, or `envoy` for
    Envoys without one. IMAGE is pinned to its digest in the registry; without IMAGE, the project's own
    module is built. Nothing is applied: `scaffold deploy` does that.
    """
    return scaffold.manifest(**options)


@cli.command()
@click.argument("provider")
@root_option
@click.option("--force", is_flag=True, help="Overwrite a workflow that has changed.")
@json_option
def ci(**options: Any) -> object:
    """Write a CI workflow to build, test and publish the plugin.

    PROVIDER is `github` or `gitlab`.
    """
    return scaffold.ci(**options)


@cli.command()
@click.argument("registry")
@click.option("-u", "--username", metavar="NAME", help="Username.  [default: ask]")
@click.option("--password-stdin", is_flag=True, help="Read the password from standard input.")
@plain_http_option
@json_option
def login(**options: Any) -> object:
    """Log in to a registry.

    Credentials are stored where Docker stores them.
    """
    return scaffold.login(**options)


@cli.command()
@click.argument("registry")
@json_option
def logout(**options: Any) -> object:
    """Delete a registry's credentials."""
    return scaffold.logout(**options)


# --- look inside


@cli.command()
@click.argument("target")
@click.option(
    "--for",
    "hosts",
    multiple=True,
    metavar="HOST:VERSION",
    help="Say whether this host loads it: envoy:1.33, istio:1.24, envoy-gateway:1.4, higress:2.1, gcp.",
)
@click.option("--confirm", is_flag=True, help="Load it in the Envoy that the host runs, to be sure.")
@click.option("--size", is_flag=True, help="Show the bytes by crate, and the largest functions.")
@click.option("--remote", is_flag=True, help="Ask the registry, even if the image is in the local store.")
@plain_http_option
@json_option
def inspect(**options: Any) -> object:
    """Show what a module or image contains and which hosts load it.

    TARGET is a .wasm file, an image in the local store or a registry, or a project's folder, such as `.`,
    whose plugin is built. The exit code is 6 if a host that `--for` names doesn't load it. With `--confirm`,
    the Envoy is installed if need be, and runs what the plugin does when it starts.
    """
    return scaffold.inspect(**options)


@cli.command()
@click.argument("module", required=False)
@root_option
@takes(
    options="RunOptions",
    build="BuildOptions",
    without=("changes", "log_level", "envoy_args", "envoy_image", "docker_args"),
    helps={
        "upstream": "Send the traffic to this URL.  [default: Envoy itself answers]",
        "envoy": "Envoy that validates the configuration.  [default: the bundled one]",
    },
    headings=False,
)
@out_option
@json_option
def bootstrap(**options: Any) -> object:
    """Print a configuration for running the plugin in your own Envoy.

    MODULE is a .wasm file or an image to use instead of building. At the root of a workspace, the
    configuration runs the chain of its plugins.
    """
    return scaffold.bootstrap(**options)


@cli.command()
@click.option("--all", "every", is_flag=True, help="Include untagged images.")
@click.option("--verify", is_flag=True, help="Check the digest of every blob and report damaged images.")
@json_option
def images(**options: Any) -> object:
    """List the local images."""
    return scaffold.images(**options)


@cli.command()
@click.argument("repository")
@plain_http_option
@json_option
def tags(**options: Any) -> object:
    """List the tags of a repository in a registry."""
    return scaffold.tags(**options)


# --- maintain


@cli.command()
@root_option
@click.option("--check", is_flag=True, help="Write nothing; exit with 3 if there is an update.")
@click.option("--dry-run", is_flag=True, help="Print the patch without writing anything.")
@click.option(
    "--to", metavar="VERSION|COMMIT", help="Version of the template to update to.  [default: the newest]"
)
@click.option("--trust", is_flag=True, help="Trust this version of the template, which can run any code.")
@click.option("-v", "--variable", multiple=True, metavar="KEY=VALUE", help="Set a template variable.")
@json_option
def update(**options: Any) -> object:
    """Merge changes in the project's template into the project.

    The merge is git's: conflicts are marked in the files, and the exit code is 3. Uncommitted work is
    never overwritten.
    """
    return scaffold.update(**options)


@cli.command()
@click.argument("source")
@click.argument("target")
@json_option
def tag(**options: Any) -> object:
    """Give a local image another name."""
    return scaffold.tag(**options)


@cli.command()
@click.argument("names", nargs=-1)
@click.option("--untagged", is_flag=True, help="Remove all untagged images.")
@json_option
def rmi(**options: Any) -> object:
    """Remove local images.

    NAMES are names as in `scaffold images`, or NAME@DIGEST. An image is deleted with its last name.
    """
    return scaffold.rmi(**options)


@cli.command()
@click.option(
    "--store",
    type=FILE,
    metavar="FOLDER",
    default=Path("~/.wasme/store"),
    show_default=True,
    help="Folder of wasme's local images.",
)
@json_option
def import_wasme(**options: Any) -> object:
    """Copy wasme's local images into the local store."""
    return scaffold.import_wasme(**options)


@cli.command()
@click.argument("shell", metavar="SHELL", type=OneOf(["bash", "zsh", "fish"]))
def completion(shell: str) -> None:
    """Print a shell's completion script.

    SHELL is `bash`, `zsh` or `fish`. For example, put `eval "$(scaffold completion bash)"` in ~/.bashrc.
    """
    from click.shell_completion import get_completion_class

    script = get_completion_class(shell)
    assert script  # noqa: S101 - click knows the three
    console.show(script(cli, {}, "scaffold", _COMPLETE).source())


def enter(command: click.Command, words: Sequence[str], name: str) -> None:
    """Run a command, called `name` in its messages. Raises only `SystemExit`.

    click's own `main` would handle interrupts and broken pipes differently.
    """
    with (
        console.reporting(),
        command.make_context(name, list(words), max_content_width=_WIDTH) as context,
    ):
        command.invoke(context)


def main() -> None:
    """Run the command line, or answer a shell that asks for completions."""
    instruction = os.environ.get(_COMPLETE)
    if instruction:
        from click.shell_completion import shell_complete

        raise SystemExit(shell_complete(cli, {}, "scaffold", _COMPLETE, instruction))
    enter(cli, sys.argv[1:], "scaffold")
