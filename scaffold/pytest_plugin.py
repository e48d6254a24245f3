"""The `proxy` fixture: requests through the project's plugin in a real host.

A project enables it with `addopts = -p scaffold.pytest_plugin` in its pytest.ini. One host serves all
tests of a run; every test starts with the default configuration and the built-in answers of the upstream.
"""

from __future__ import annotations

import json
import os
import sys
import warnings
from collections.abc import Callable, Generator, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager, nullcontext
from dataclasses import Field, fields, replace
from pathlib import Path
from typing import Any

import pytest

from scaffold.core import records
from scaffold.core.option_fields import declarations, flag
from scaffold.core.text import indented
from scaffold.errors import (
    UNDER_PYTEST,
    HostError,
    ScaffoldError,
    UsageError,
    choose,
    nearest,
)
from scaffold.hosts import host as hosts
from scaffold.hosts import recording
from scaffold.hosts import source as plugin_sources
from scaffold.hosts.client import Connection
from scaffold.hosts.clock import Clock
from scaffold.hosts.emulator.transcript import Transcript
from scaffold.hosts.exchange import (
    BAD_ARGUMENT,
    PAUSED,
    Exchange,
    HeaderInput,
    Headers,
    Incomplete,
    LogLines,
    Request,
    Response,
)
from scaffold.hosts.faults import scenes
from scaffold.hosts.options import OF_TESTS, RunOptions
from scaffold.hosts.plugin import Plugin
from scaffold.hosts.source import Source
from scaffold.hosts.unsupported import Unsupported
from scaffold.hosts.upstream.control import Origin
from scaffold.project import budget, called_clusters
from scaffold.project.budget import Budget
from scaffold.project.cargo_toml import FILE
from scaffold.project.config_validation import Schema
from scaffold.project.envoy_clusters import UPSTREAM
from scaffold.project.projects import called, projects_if_any
from scaffold.project.suites.text import FOUND
from scaffold.toolchain.options import BuildOptions
from scaffold.wasm.module import WasmModule

Start = Callable[[Sequence[Plugin]], AbstractContextManager[hosts.Played]]

_OWN = f"{Path(__file__).parent}{os.sep}"  # where our frames come from
_NAMES = pytest.StashKey[set[str]]()  # of all tests
_OF_WORKER = "proxy_record"
_RECORDED = pytest.StashKey[list[recording.Test]]()
_PROXY = pytest.StashKey["Proxy"]()  # of a test that has one
_EXIT = pytest.StashKey[int]()  # the exit code of a run with a suite that isn't one
_MOST_LINES = 50  # of the plugin's log that a failed test shows
# ends pytest, which prints the class's name, and its module unless that is built in: "error: …"
_Refused = type("error", (pytest.exit.Exception,), {"__module__": "builtins"})


class Upstream:
    """The upstream behind the host, for one test."""

    def __init__(self, host: hosts.Host) -> None:
        self._host = host
        self._mark = self._origin.mark()
        self.answers: list[scenes.Answer] = []  # that the test has set

    @property
    def requests(self) -> list[Request]:
        """Everything that arrived since the test began, including what the plugin itself sent."""
        return self._origin.requests(since=self._mark)

    def answer(
        self,
        status: int = 200,
        body: bytes | str = b"",
        headers: HeaderInput = None,
        *,
        trailers: HeaderInput = None,
        path: str | None = None,
        after: float = 0,
        cut: bool = False,
    ) -> None:
        """Give this answer until the test ends; with `path`, only to requests for that path.

        It is given `after` seconds. With `cut`, the connection ends one byte too early.
        """
        content = body.encode() if isinstance(body, str) else body
        response = Response(status, Headers(headers or {}), content, Headers(trailers))
        self._origin.answer(response, path=path, after=after, cut=cut)
        self.answers.append(scenes.Answer(response, path, after, cut))

    @property
    def _origin(self) -> Origin:
        if self._host.origin is None:
            pytest.skip("this is your own upstream, which can't be asked what arrived")
        return self._host.origin


class Proxy:
    """The host that runs the plugin, as a test uses it."""

    def __init__(
        self,
        start: Start,
        plugins: Sequence[Plugin],
        schemas: Sequence[Schema | None] = (),
        undefined: Sequence[str] = (),
        budgets: Sequence[Budget] = (),
    ) -> None:
        self.recorded: list[recording.Played] | None = None  # the requests of this test, if they are kept
        self.scenes: Path | None = None  # the file for its requests, if they are to be played again
        self.remarks: list[str] = []  # what else is to be said of a test if it fails
        self._start = start
        self._schemas = schemas
        self._budgets = budgets
        self._test = ""  # the function's name
        self._undefined = undefined  # a sentence for each cluster that is called and not defined
        self._stack = ExitStack()
        self._host = self._stack.enter_context(start(plugins))
        self._log = 0  # where this test's part of the host's log begins
        self._sent = 0  # where the last request's does
        self._defaults = plugins
        self._services = any(plugin.is_service for plugin in plugins)
        self._changed = False
        self._crashed = False  # the plugin, since it was given to the host
        self._current = plugins
        self._upstream: Upstream | None = None

    @property
    def url(self) -> str:
        """Where the plugin answers, for a client of your own."""
        return self._host.url

    @property
    def clock(self) -> Clock:
        """The time: `clock.advance(seconds=5)` lets the plugin's timers run; a real host takes that long."""
        return self._host.clock

    @property
    def upstream(self) -> Upstream:
        """The upstream: what it should answer, and what arrived there."""
        if self._upstream is None:
            self._upstream = Upstream(self._host)
        return self._upstream

    @property
    def logs(self) -> LogLines:
        """What the plugin has logged since the test began; a service, since it started."""
        self._host.clock.catch_up()
        return self._logged

    @property
    def _logged(self) -> LogLines:
        return LogLines.of(self._host.log.since(self._log))

    @property
    def metrics(self) -> Mapping[str, float]:
        """The host's counters and gauges now, and the plugin's; histograms as in `Exchange.metrics`."""
        return self._host.metrics

    def wait_for_log(self, text: str, *, timeout: float = 10) -> str:
        """Wait until the plugin has logged `text` since the test began, and return that message.

        Raises `HostError` when that doesn't happen within `timeout` seconds.
        """
        __tracebackhide__ = True
        if not self._host.clock.run(lambda: text in self.logs, timeout):
            raise HostError(f"the plugin hasn't logged {text!r} within {timeout:g} s\n{self.logs!r}")
        return next(line for line in self.logs if text in line)

    def request(
        self,
        method: str,
        target: str = "/",
        *,
        headers: HeaderInput = None,
        body: bytes | str = b"",
        trailers: HeaderInput = None,
        timeout: float = 10,
        strict: bool = True,
    ) -> Exchange:
        """Send a request through the plugin. Raises `HostError` without an answer.

        An answer that is cut off, or whose body is longer than its content-length, fails the test, unless it
        isn't `strict`: then `exchange.response` has `complete`, and `surplus`.
        """
        __tracebackhide__ = True
        content = body.encode() if isinstance(body, str) else body
        request = Request(method, target, Headers(headers or {}), content, trailers=Headers(trailers))
        return self.send(request, timeout=timeout, strict=strict)

    def send(self, request: Request, *, timeout: float = 10, strict: bool = True) -> Exchange:
        """The same for a request that is made already, such as one of `scaffold.hosts.strategies`."""
        __tracebackhide__ = True
        changed, self._changed = self._changed, True  # if it fails, the next test needs a fresh plugin
        if self.recorded is not None and "host" not in request.headers:  # it would be the port, which varies
            request = replace(request, headers=Headers([("host", "localhost"), *request.headers.iteritems()]))
        self._host.clock.catch_up()
        mark = self._host.log.size()
        self._keep_scene(request)
        self._watch()
        try:
            exchange = self._host.play(request, timeout=timeout)
        except HostError as error:
            self._record(mark, request, error)
            if isinstance(error, Incomplete) and not strict:
                return error.exchange
            self.remarks += self._undefined if PAUSED in error.message else []
            raise HostError(error.message, hint=error.hint) from None  # without our frames
        self._changed = changed or exchange.trapped
        self._crashed = self._crashed or exchange.trapped
        self._record(mark, request, exchange)
        self._remark(exchange)
        self._hold_budgets(exchange)
        if strict and exchange.response.surplus:
            pytest.fail(_surplus(exchange))
        return exchange

    def _watch(self) -> None:
        """Have the emulator keep the calls of the next request; an Envoy that is ours traces them all."""
        self._sent = self._host.log.size()
        if isinstance(self._host.log, Transcript):
            self._host.log.watch()

    @property
    def explained(self) -> str:
        """The last request call by call, with known traps; "" if nobody has watched it."""
        from scaffold.hosts import timeline
        from scaffold.hosts.explanation import explain_timeline
        from scaffold.wasm.floor import constant_data

        log = self._host.log
        modules = {plugin.module.digest: plugin.module.file for plugin in self._current}
        constants = constant_data(*modules.values()) if len(modules) == 1 else timeline.no_constants

        def traced() -> list[timeline.Timeline]:
            if isinstance(log, Transcript):
                return timeline.read(log.watched)
            found = timeline.read(log.since(self._sent), constants)
            return [each for each in found if timeline.CUT_AT_START not in each.notes]  # an earlier one's end

        self._host.clock.run(lambda: not (found := traced()) or found[-1].is_over, recording.SETTLED)
        found = traced()
        return explain_timeline(found[-1]).brief() if found else ""

    def _keep_scene(self, request: scenes.Sent) -> None:
        """Keep what a client sends, and what it meets, if it is to be played again."""
        if self.scenes and self._current:
            answers = tuple(self._upstream.answers) if self._upstream else ()
            scenes.keep(self.scenes, scenes.Scene(request, self._current[0].configuration, answers))

    def _record(self, mark: int, request: Request, outcome: Exchange | HostError) -> None:
        """Keep what became of a request, if that is to be compared."""
        if self.recorded is None:
            return
        if isinstance(outcome, Exchange):
            self.recorded.append(recording.of_exchange(outcome, self._settled(mark)))
        else:
            self.recorded.append(recording.of_error(request, outcome, self._lines(mark)))

    def _lines(self, mark: int) -> list[str]:
        return [line.text for line in self._host.log.since(mark) if line.logger == "wasm"]

    def _settled(self, mark: int) -> list[str]:
        """The log's lines about the plugin, with the end of a stream, which comes after its answer."""
        log = self._host.log
        wanted = sum(recording.CREATED in line.text for line in log.since(mark))
        self._host.clock.run(
            lambda: sum(recording.DELETED in line.text for line in log.since(mark)) >= wanted,
            recording.SETTLED,
        )
        return self._lines(mark)

    def _hold_budgets(self, exchange: Exchange) -> None:
        """Fail a test with a request that is over the budget of a plugin."""
        __tracebackhide__ = True
        if exchange.trapped:  # which is worse, and may have cost anything
            return
        for plugin, limits, cost in zip(self._defaults, self._budgets, exchange.costs, strict=False):
            if over := budget.of_request(limits.of_test(self._test), **vars(cost)):
                what = f"{exchange.request.method} {exchange.request.target}"
                lines = "\n".join(map(str, over))
                own = f"[package.metadata.proxy-wasm.{budget.KEY}.{budget.TESTS}.{self._test}]"
                pytest.fail(
                    f"{what} is over the budget of {plugin.name} in {FILE}:\n{lines}\n"
                    f"hint: raise the limit, or give this test its own in {own}"
                )

    def _remark(self, exchange: Exchange) -> None:
        """Keep what may explain why a test fails."""
        if exchange.trapped:
            what = f"{exchange.request.method} {exchange.request.target}"
            self.remarks.append(f"the plugin crashed during {what}: {exchange.logs.crash}")
        if BAD_ARGUMENT in exchange.logs:
            known = dict.fromkeys([UPSTREAM, *(name for each in self._defaults for name in each.clusters)])
            asked = f"a call failed with {BAD_ARGUMENT}: is its cluster defined?"
            self.remarks += self._undefined or [f"{asked} There are: {', '.join(known)}"]

    def get(self, target: str = "/", **options: Any) -> Exchange:
        """GET; see `request`."""
        __tracebackhide__ = True
        return self.request("GET", target, **options)

    def post(self, target: str = "/", **options: Any) -> Exchange:
        """POST; see `request`."""
        __tracebackhide__ = True
        return self.request("POST", target, **options)

    @contextmanager
    def connect(self, *, timeout: float = 10) -> Iterator[Connection]:
        """Open a TCP connection through the plugin; after the block it holds what the plugin did."""
        changed, self._changed = self._changed, True
        mark = self._host.log.size()
        with self._host.connect(timeout=timeout) as connection:
            try:
                yield connection
            finally:
                if connection.conversation:
                    self._keep_scene(connection.conversation)
        self._changed = changed or connection.trapped
        if self.recorded is not None:
            self.recorded.append(recording.of_connection(connection, self._settled(mark)))
        if connection.trapped:
            self.remarks.append(f"the plugin crashed during the connection: {connection.logs.crash}")

    def configure(self, configuration: Any, *, plugin: str | None = None, check: bool = True) -> None:
        """Give the plugin another configuration until the test ends; anything but text becomes JSON.

        In a chain, `plugin` says which one. Raises `UsageError` when the configuration doesn't match
        `config.schema.json`, unless `check` is False; `ModuleError` when the plugin refuses it.
        """
        if not self._defaults:
            pytest.skip("a deployment keeps its configuration")
        place = self._place(plugin)
        if isinstance(configuration, str):
            configuration = configuration.encode()
        elif not isinstance(configuration, bytes):
            configuration = json.dumps(configuration).encode()
        schema = self._schemas[place]
        if schema and check:
            hint = "`check=False` lets the plugin decide"
            schema.check(configuration, "the configuration", UsageError, hint=hint)
        self._changed = True
        chain = list(self._defaults)
        chain[place] = replace(chain[place], configuration=configuration)
        self._give(chain)

    def revive(self) -> None:
        """Start the plugin again, with the test's configuration, if a request has crashed it."""
        if self._crashed and self._defaults:
            self._give(self._current)

    def _give(self, plugins: Sequence[Plugin]) -> None:
        """Replace the plugins by others, without state; a service takes another host."""
        if self._services:
            self._restart(plugins)
        else:
            self._host.replace(*plugins, fresh=True)
        self._current, self._crashed = plugins, False

    def _restart(self, plugins: Sequence[Plugin]) -> None:
        self._stack.close()
        self._host = self._stack.enter_context(self._start(plugins))
        self._log, self._upstream = 0, None

    def _place(self, name: str | None) -> int:
        """The place of a plugin in the chain."""
        places = {each.name: place for place, each in enumerate(self._defaults)}
        if name is None and len(places) > 1:
            message = "configure() needs to know which plugin of the chain to configure"
            raise UsageError(message, hint='pass plugin="NAME"')
        return 0 if name is None else choose("plugin", name, places)

    def begin(self, test: str = "") -> None:
        """Undo what the last test changed; start another host if that test ended the host."""
        self._watch()
        self._test = test
        if self.recorded is not None:
            self.recorded = []
        # a record tells what each test did alone: ids and state of earlier ones would be in its logs
        if (self._changed or self.recorded is not None) and self._defaults:
            try:
                self._give(self._defaults)
            except HostError:
                self._restart(self._defaults)
        self.remarks = []
        self._changed = self._services  # it goes on between the tests: each gets a host of its own
        self._log = 0 if self._services else self._host.log.size()
        self._upstream = Upstream(self._host) if self._host.origin else None

    def end(self) -> None:
        """Leave nothing behind in a host that others may use."""
        self._host.end_test()

    def close(self) -> None:
        """End the host, unless it is a deployment."""
        self._stack.close()


def pytest_addoption(parser: pytest.Parser) -> None:
    """`scaffold test` passes these; they work with a bare pytest, too."""
    group = parser.getgroup("proxy", "proxy-wasm plugin")
    group.addoption("--proxy-host", default="envoy", metavar="HOST", help="the host that runs the plugin")
    for field in fields(RunOptions):
        if field.name in OF_TESTS:
            _add_option(group, field)
    group.addoption(
        "--proxy-module",
        metavar="FILE",
        action="append",
        help="the module to test, instead of building it; for a chain once per plugin, in its order",
    )
    group.addoption("--proxy-record", metavar="FILE", help="write there what each request did, as JSON")
    group.addoption("--proxy-scenes", metavar="FILE", help="add each request to it, with what it met")
    group.addoption(
        "--proxy-no-budgets", action="store_true", help="let a request cost more than the budget allows"
    )
    group.addoption(
        "--proxy-counters", metavar="FOLDER", help="write there what the counters of the modules say, as JSON"
    )
    group.addoption(
        "--proxy-mutants",
        metavar="PLAN",
        help="try mutants of the modules when the tests have passed; PLAN and its results are JSON",
    )
    group.addoption("--proxy-deployed", action="store_true", help="test the deployment")
    group.addoption(
        "--proxy-counts", metavar="FILE", help="write there how many tests passed, failed and so on, as JSON"
    )


def pytest_configure(config: pytest.Config) -> None:
    """Have mutants tried, if they are asked for."""
    if plan := config.getoption("--proxy-mutants"):
        from scaffold.hosts import mutation

        with _reported(config):
            mutation.refuse_workers(config)
        config.pluginmanager.register(mutation.Mutation(Path(plan)))


def pytest_collect_file(file_path: Path, parent: pytest.Collector) -> pytest.Collector | None:
    """A suite among the tests; it is played on neither a deployment nor a changed plugin."""
    config = parent.config
    elsewhere = config.getoption("--proxy-deployed") or config.getoption("--proxy-mutants")
    if elsewhere or not any(file_path.match(pattern) for pattern in FOUND):
        return None
    from scaffold.hosts.gcp.collected import SuiteFile

    def plugins() -> list[Plugin]:
        with _reported(config):
            options = _options(config)
            return [source.plugin(options) for source in _sources(config, options)]

    def refuse(error: ScaffoldError) -> None:
        config.stash[_EXIT] = UNDER_PYTEST + error.exit_code

    return SuiteFile.from_parent(parent, path=file_path, plugins=plugins, refuse=refuse)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Make an error of ours safe before a report shows it: it may quote the plugin, or a server.

    A failed test's report gets what the plugin has logged, and why that may be. One that asked its host for
    what that can't do is skipped, even if it passed.
    """
    _prepare(item, call)
    report = yield
    if Unsupported.raised and call.when == "call":
        path, line, _ = item.location
        report.outcome = "skipped"
        report.longrepr = (path, (line or 0) + 1, f"Skipped: {Unsupported.raised[0]}")
    return report


def _prepare(item: pytest.Item, call: pytest.CallInfo[None]) -> None:
    proxy = item.stash.get(_PROXY, None)
    failed = call.excinfo is not None and not call.excinfo.errisinstance(pytest.skip.Exception)
    if call.excinfo and failed and proxy and call.when == "call":
        for remark in dict.fromkeys(proxy.remarks):
            call.excinfo.value.add_note(indented(remark))
    _keep_record(item, call, proxy)
    error = call.excinfo.value if call.excinfo else None
    seen: set[int] = set()  # a cause may lead back to its effect
    while error and id(error) not in seen:
        seen.add(id(error))
        if isinstance(error, ScaffoldError):
            if call.when == "call":
                _hide_our_frames(error)
            error.args = (indented(error.message),)
            error.__notes__ = [indented(note) for note in getattr(error, "__notes__", ())]
        error = error.__cause__ or error.__context__
    if failed and proxy:
        lines = [f"  {indented(line)}" for line in proxy._logged]
        item.add_report_section(
            call.when, "log of the plugin", "\n".join(lines[-_MOST_LINES:]) or "  (empty)"
        )
        if explained := proxy.explained:
            item.add_report_section(call.when, "last request, call by call", indented(explained))


def _keep_record(item: pytest.Item, call: pytest.CallInfo[None], proxy: Proxy | None) -> None:
    """Keep what a test has recorded, with its outcome, until the run ends."""
    raised = call.excinfo
    unsupported = Unsupported.raised[0] if Unsupported.raised else ""
    skipped = bool(unsupported) or (raised is not None and raised.errisinstance(pytest.skip.Exception))
    tests = item.config.stash.setdefault(_RECORDED, [])
    known = bool(tests) and tests[-1].name == item.nodeid
    if not item.config.getoption("--proxy-record") or not (raised or skipped or call.when == "call"):
        return
    if known:  # what went wrong after the test itself
        tests[-1].outcome = "failed" if raised and not skipped else tests[-1].outcome
        return
    outcome = "skipped" if skipped else "failed" if raised else "passed"
    reason = unsupported or (str(raised.value) if raised and skipped else "")
    played = list(proxy.recorded or ()) if proxy else []
    tests.append(recording.Test(item.nodeid, outcome, reason, played))


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Keep the names of all tests, if the user named none of their files."""
    if config.args_source != pytest.Config.ArgsSource.ARGS:
        config.stash[_NAMES] = {str(getattr(item, "originalname", item.name)) for item in items}


def _hide_our_frames(error: ScaffoldError) -> None:
    """End an error's traceback where a test calls us, and leave out what caused it in there."""
    entry = error.__traceback__
    while entry and entry.tb_next:
        if entry.tb_next.tb_frame.f_code.co_filename.startswith(_OWN):
            entry.tb_next = error.__cause__ = None
            error.__suppress_context__ = True
        entry = entry.tb_next


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup() -> None:
    """Forget what earlier tests asked for that their host can't do."""
    Unsupported.raised.clear()


@pytest.hookimpl(tryfirst=True)
def pytest_sessionfinish(session: pytest.Session) -> None:
    """Keep Hypothesis's plugin from importing all of it where no test has; hand over a worker's record.

    A bad suite is told from a test that fails by the exit code.
    """
    session.exitstatus = session.config.stash.get(_EXIT, session.exitstatus)
    manager = session.config.pluginmanager
    if folder := session.config.getoption("--proxy-counters"):
        _write_counters(Path(folder))
    if "hypothesis" not in sys.modules and manager.hasplugin("hypothesispytest"):
        manager.unregister(name="hypothesispytest")
    if hasattr(session.config, "workeroutput"):  # of pytest-xdist
        session.config.workeroutput[_OF_WORKER] = recording.packed(session.config.stash.get(_RECORDED, []))


def _write_counters(folder: Path) -> None:
    """Write what has been counted in this process, which may be one of several."""
    from scaffold.hosts.emulator.probe import PROBE

    (folder / f"{os.getpid()}.json").write_text(json.dumps(PROBE.counts()))


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Gather what a worker of pytest-xdist has recorded."""
    tests = recording.unpacked(getattr(node, "workeroutput", {}).get(_OF_WORKER, "[]"))
    node.config.stash.setdefault(_RECORDED, []).extend(tests)


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter, config: pytest.Config) -> None:
    """Write how many tests passed, failed and so on, for the table of `scaffold test`."""
    record = config.getoption("--proxy-record")
    if record and not hasattr(config, "workerinput"):
        recording.write(Path(record), config.stash.get(_RECORDED, []))
    file = config.getoption("--proxy-counts")
    if file:
        kinds = ("passed", "failed", "error", "skipped")
        counts = {kind: len(terminalreporter.stats.get(kind, ())) for kind in kinds}
        Path(file).write_text(json.dumps(counts))


@pytest.fixture(scope="session")
def _proxy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    config = request.config
    with _reported(config):
        if config.getoption("--proxy-deployed"):
            deployed = _deployed(config.rootpath)
            made = Proxy(lambda _: nullcontext(deployed), [])
        else:
            options = _options(config)
            sources = _sources(config, options)
            plugins = [source.plugin(options) for source in sources]
            start = hosts.player(config.getoption("--proxy-host"))
            # in the user's own bootstrap too, the upstream is the one that tests ask what arrived
            settings = replace(options.settings, anywhere=True, adds_clusters=True, changes=False)
            made = Proxy(
                lambda chain: start(*chain, folder=tmp_path_factory.mktemp("proxy"), settings=settings),
                plugins,
                [Schema.of(source.project.root) if source.project else None for source in sources],
                [] if options.bootstrap else list(_undefined(sources)),
                []
                if config.getoption("--proxy-no-budgets")
                else [_budget(source, config) for source in sources],
            )
    if config.getoption("--proxy-record"):
        made.recorded = []
    if scenes_file := config.getoption("--proxy-scenes"):
        made.scenes = Path(scenes_file)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def proxy(_proxy: Proxy, request: pytest.FixtureRequest) -> Iterator[Proxy]:
    """The plugin in its host: `proxy.get("/headers")` returns an `Exchange`."""
    with _reported(request.config):
        _proxy.begin(getattr(request.node, "originalname", ""))
    request.node.stash[_PROXY] = _proxy
    yield _proxy
    _proxy.end()


def _surplus(exchange: Exchange) -> str:
    """Why a test fails whose answer is longer than it says."""
    response, request = exchange.response, exchange.request
    size, announced = len(response.body) + response.surplus, response.headers["content-length"]
    return (
        f"the answer to {request.method} {request.target} says content-length: {announced}, but its body has"
        f" {size} bytes; a plugin that changes the body has to remove that header before (a test of just this"
        " passes `strict=False`)"
    )


def _add_option(group: pytest.OptionGroup, field: Field[Any]) -> None:
    declared = declarations(RunOptions)[field.name]
    if declared.is_switch:
        group.addoption(_flag(field.name), action="store_true", default=None, help=declared.help)
        return
    action = "append" if isinstance(field.default, tuple) else "store"
    group.addoption(_flag(field.name), action=action, metavar=declared.metavar, help=declared.help)


def _flag(name: str) -> str:
    return flag(f"proxy_{name}")


def _options(config: pytest.Config) -> RunOptions:
    passed = {name: config.getoption(_flag(name)) for name in OF_TESTS}
    values = records.fields(RunOptions, {name: value for name, value in passed.items() if value is not None})
    # the emulator keeps the calls of one request anyway: in its log they would cost too much
    is_traced = config.getoption("--proxy-record") or config.getoption("--proxy-host") != hosts.EMULATOR
    level = "trace" if is_traced else "debug"
    return RunOptions(**values, port=0, log_level=level)


def _sources(config: pytest.Config, options: RunOptions) -> list[Source]:
    """The modules on the command line, each with its crate; otherwise the project's, built."""
    root, files = config.rootpath, config.getoption("--proxy-module")
    if not files:
        return plugin_sources.choose(None, root, options).load(BuildOptions())
    projects = projects_if_any(root)
    owners = projects.chain.all if projects else (None,)
    files = files if projects and projects.workspace else files[-1:]
    if len(files) != len(owners):
        links = called(projects.chain.all if projects else ())
        raise UsageError(f"--proxy-module occurs {len(files)} times, but the chain is {links}")
    return [Source(WasmModule.read(Path(file)), owner) for file, owner in zip(files, owners, strict=True)]


def _budget(source: Source, config: pytest.Config) -> Budget:
    """The budget of a plugin; warns of limits for a test that there isn't."""
    if source.project is None:
        return Budget()
    found = source.project.settings.budget
    names = config.stash.get(_NAMES, set())
    for name in found.tests if names else ():
        if name not in names:
            where = f"`{budget.KEY}.{budget.TESTS}` in {source.project.root / FILE}"
            hint = nearest(name, [*names])
            text = f"no test is called `{name}`, as {where} says; {hint}"
            warnings.warn(pytest.PytestWarning(text), stacklevel=1)
    return found


def _undefined(sources: Sequence[Source]) -> Iterator[str]:
    """A sentence for each cluster that is called, as far as the source shows it, and not defined."""
    for project in [source.project for source in sources if source.project]:
        for calls, entry in called_clusters.missing(project.root, project.settings.clusters):
            yield f"{calls}, which isn't defined: in {FILE}, add `clusters = {{ {entry} }}`"


def _deployed(root: Path) -> hosts.Played:
    from scaffold.errors import TargetError
    from scaffold.hosts.background import deployments
    from scaffold.hosts.background.target import attach

    deployment = deployments.load(root)
    if deployment is None or not deployment.alive:
        raise TargetError(f"nothing is deployed from {root}", hint="run `scaffold deploy` first")
    return attach(deployment)


@contextmanager
def _reported(config: pytest.Config) -> Iterator[None]:
    """End the run with our message and exit code, instead of a traceback for every test."""
    try:
        yield
    except ScaffoldError as error:
        text = "\nhint: ".join(indented(each) for each in (error.message, error.hint) if each)
        if hasattr(config, "workerinput"):  # a worker of pytest-xdist's can't end the run
            pytest.fail(f"error: {text}", pytrace=False)
        raise _Refused(text, UNDER_PYTEST + error.exit_code) from None
