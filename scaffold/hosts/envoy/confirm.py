"""Load a module in a real Envoy, to see whether it does what the verdict says.

The Envoy only reads a configuration: the module's code is compiled, linked and started, and no traffic flows.
"""

from __future__ import annotations

import json
import signal
from collections.abc import Sequence
from contextlib import suppress

from scaffold.core import files, process
from scaffold.core.text import escaped
from scaffold.errors import HostError, MachineError, UsageError
from scaffold.hosts.envoy import installed
from scaffold.hosts.envoy import resources as envoy_config
from scaffold.hosts.envoy.binary_info import Binary, smallest_bootstrap
from scaffold.hosts.envoy.running import VALIDATE
from scaffold.wasm import check
from scaffold.wasm.module import WasmFile
from scaffold.wasm.symbols import explained
from scaffold.wasm.targets import Confirmed, Target

SECONDS = 30.0  # and two more for each MB: Envoy compiles about one a second
_LINES = 12  # of what Envoy says
# what Envoy says of every plugin that it doesn't load
_ALWAYS = ("Plugin plugin failed", "Plugin configured to fail", "error initializing configuration")
_NO_PLUGIN = "Unable to create Wasm"
# its code is loaded then, and the plugin has answered "no"
_REFUSED = ("Failed to configure base Wasm plugin", "Failed to start base Wasm")
_TRAPPED = "Function: "


def find(target: Target, module: WasmFile) -> Binary:
    """The Envoy of the version that a target runs, installed if need be.

    Raises `UsageError` if there is none for this machine that would say what the target does.
    """
    if target.host == "gcp":
        raise _unknown(target, "which Envoy it runs isn't published")
    if target.wasi and _loads(module, target, own=True) != _loads(module, target, own=False):
        why = f"it has the WASI functions of Envoy {target.wasi}, which no Envoy {target.envoy} of ours has"
        raise _unknown(target, why)
    version = target.version if target.host == "envoy" else target.envoy
    try:
        return installed.find(str(version))
    except UsageError as error:
        raise _unknown(target, error.message, error.hint) from error


def load(binary: Binary, module: WasmFile, root_id: str = "", configuration: bytes = b"") -> Confirmed:
    """Whether an Envoy loads a module, and its own words if not.

    Raises `HostError` if it refuses something else.
    """
    with files.scratch() as folder:
        path, bootstrap = folder / "plugin.wasm", folder / "bootstrap.json"
        path.write_bytes(module.content)
        vm = envoy_config.wasm_vm(envoy_config.local_file(str(path)))
        plugin = envoy_config.wasm_filter(vm, name="plugin", root_id=root_id, configuration=configuration)
        filters = [envoy_config.static_filter(plugin), envoy_config.router()]
        bootstrap.write_text(json.dumps(smallest_bootstrap(filters)))
        seconds = SECONDS + 2 * module.size / 1e6
        try:
            ran = process.run([binary.path, *VALIDATE, "-c", bootstrap], timeout=seconds, guarded=True)
        except MachineError as error:
            if not isinstance(error.__cause__, process.TimeoutExpired):
                raise
            return Confirmed(binary.version_text, False, f"it hasn't started after {seconds:.0f} s")
    return _answer(binary, ran)


def _answer(binary: Binary, ran: process.Completed) -> Confirmed:
    if ran.code < 0:
        name = str(-ran.code)
        with suppress(ValueError):
            name = signal.Signals(-ran.code).name
        return Confirmed(binary.version_text, False, f"this Envoy crashes ({name})")
    output = ran.stderr + ran.stdout
    words = [line for line in explained(output).splitlines() if line.strip() and not line.startswith(_ALWAYS)]
    if ran.code == 0:
        return Confirmed(binary.version_text, True)
    if _NO_PLUGIN not in output:
        last = f"Envoy {binary.version_text} refuses the smallest configuration"
        raise HostError("\n".join([*words[-_LINES:], last]))
    said = _sentence(words)
    refused = any(each in output for each in _REFUSED) and _TRAPPED not in output
    return Confirmed(binary.version_text, refused, said)


def _sentence(words: Sequence[str]) -> str:
    """Envoy's words, of which some begin each in the same way."""
    said = [escaped(line.removeprefix("Wasm VM failed ").strip()) for line in words[:_LINES]]
    return "; ".join(dict.fromkeys(said))


def _loads(module: WasmFile, target: Target, *, own: bool) -> bool:
    problems = check.judge(module, target.envoy, target.wasi if own else None)
    return not any(each.fatal for each in problems)


def _unknown(target: Target, why: str, hint: str | None = None) -> UsageError:
    message = f"whether {target.title} loads it can't be confirmed here: {why}"
    return UsageError(message, hint=hint or f"leave out --confirm, or `--for {target}`")
