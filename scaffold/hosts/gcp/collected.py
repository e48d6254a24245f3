"""Suites among a project's tests: for pytest, each case is a test."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from scaffold.core.text import indented
from scaffold.errors import ProjectError
from scaffold.hosts.gcp.tester import GcpTester
from scaffold.hosts.plugin import Plugin
from scaffold.project.suites import suite as suites
from scaffold.project.suites.suite import Case, Suite
from scaffold.wasm.module import WasmModule


class SuiteFile(pytest.File):
    """A suite. `plugins` tells which are tested, `refuse` is told why it can't be played."""

    def __init__(
        self,
        *,
        plugins: Callable[[], Sequence[Plugin]],
        refuse: Callable[[ProjectError], None],
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        self._plugins, self._refuse = plugins, refuse
        self._tester: GcpTester | None = None

    def collect(self) -> Iterator[SuiteCase]:
        """Its cases. One that isn't a suite is an error, like a file of Python that isn't one."""
        try:
            suite = suites.read(self.path, suites.folder_of(self.path))
        except ProjectError as error:
            self._refuse(error)
            lines = [error.message, *([f"hint: {error.hint}"] if error.hint else [])]
            raise self.CollectError("\n".join(map(indented, lines))) from error
        for case in suite.cases:
            yield SuiteCase.from_parent(self, name=case.name, case=case, suite=suite)

    def tester(self, suite: Suite) -> GcpTester:
        """What plays it. Skips the test at a chain, which a suite isn't for."""
        if self._tester is None:
            self._tester = GcpTester(self._plugin(suite), suite)
        return self._tester

    def teardown(self) -> None:
        """Let go of the plugin."""
        self._tester = None

    def _plugin(self, suite: Suite) -> Plugin:
        if suite.wasm:
            return Plugin(suite.wasm.stem, "", WasmModule.read(suite.wasm), suite.configuration or b"")
        plugins = self._plugins()
        if len(plugins) > 1:
            pytest.skip("a suite is for one plugin, not for a chain")
        configuration = plugins[0].configuration if suite.configuration is None else suite.configuration
        return replace(plugins[0], root_id="", configuration=configuration)


class SuiteCase(pytest.Item):
    """A case of a suite."""

    parent: SuiteFile

    def __init__(self, *, case: Case, suite: Suite, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        self._case, self._suite = case, suite

    def runtest(self) -> None:
        """Play it."""
        played = self.parent.tester(self._suite).play(self._case)
        if played.logs:
            self.add_report_section("call", "log of the plugin", "\n".join(map(indented, played.logs)))
        if played.failures:
            raise CaseFailed("\n".join(indented(line) for each in played.failures for line in each.lines()))

    def repr_failure(self, excinfo: pytest.ExceptionInfo[BaseException], style: Any = None) -> Any:
        """What doesn't hold, without a traceback."""
        if isinstance(excinfo.value, CaseFailed):
            return str(excinfo.value)
        return super().repr_failure(excinfo, style)

    def reportinfo(self) -> tuple[Path, int | None, str]:
        """Its file and name."""
        return self.path, None, self.name


class CaseFailed(Exception):
    """A case doesn't end as it should: the message says where."""
