"""A suite, checked: its cases, what each sends and expects, and the contents of the files that it names."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from scaffold.core.foreign_files import LIMIT, read_bytes, remedy
from scaffold.errors import ProjectError
from scaffold.project.cargo_toml import FILE
from scaffold.project.config_validation import content_of
from scaffold.project.suites import http1, text
from scaffold.project.suites.matcher import Matcher, compiled, shown
from scaffold.project.suites.messages import LEVELS

Field = tuple[bytes, bytes]
REQUEST_HEADERS, RESPONSE_HEADERS = "request_headers", "response_headers"
REQUEST_BODY, RESPONSE_BODY = "request_body", "response_body"
_DEFAULT_LEVEL = LEVELS.index("INFO")
_MOST_SECONDS = 2**63 // 10**9
_MOST_STREAMS = 10_000  # that a benchmark has open, or moves on in a round
_MOST_CHUNKS = 100_000  # of a body
_ONLY_LOG = ("has_header", "no_header", "headers", "body", "immediate")


@dataclass(frozen=True)
class Immediate:
    """The answer that a plugin gives itself; None is anything."""

    http_status: int | None = None
    grpc_status: int | None = None
    details: bytes | None = None


@dataclass(frozen=True)
class Expectation:
    """What is expected of a callback; `present` and `absent` are headers."""

    present: tuple[Field, ...] = ()
    absent: tuple[bytes, ...] = ()
    headers: tuple[Matcher, ...] = ()
    body: tuple[Matcher, ...] = ()
    immediate: Immediate | None = None
    log: tuple[Matcher, ...] = ()


@dataclass(frozen=True)
class Phase:
    """What is sent to a plugin at a time: headers, or a piece of a body that comes in `chunks`."""

    name: str
    expected: Expectation
    headers: tuple[Field, ...] = ()
    chunks: tuple[bytes, ...] = ()

    @property
    def body(self) -> bytes:
        """The chunks as one."""
        return b"".join(self.chunks)


@dataclass(frozen=True)
class Case:
    """A test: its phases in their order, and what is expected before and after them.

    `chunked` is the field that says how bodies are cut; "" if they aren't.
    """

    name: str
    phases: tuple[Phase, ...]
    plugin_init: Expectation = Expectation()
    stream_init: Expectation = Expectation()
    stream_destroy: Expectation = Expectation()
    properties: Mapping[bytes, bytes] = field(default_factory=dict)
    chunked: str = ""
    benchmark: bool = False

    def phase(self, name: str) -> Phase | None:
        """The phase, or the first of those of a body."""
        return next((each for each in self.phases if each.name == name), None)


@dataclass(frozen=True)
class Suite:
    """A file of cases. `wasm` and `log_file` are paths, `configuration` is a file's content.

    `seconds` is the time that the plugin sees, since 1970; None is a millisecond. `streams` are others that
    benchmarks have open, of which `advanced` go on before each round. With `shows_log`, the log is printed.
    """

    path: Path
    cases: tuple[Case, ...]
    wasm: Path | None = None
    configuration: bytes | None = None
    log_level: int = 2  # the ABI's number
    log_file: Path | None = None
    shows_log: bool = False
    seconds: int | None = None
    streams: int = 0
    advanced: int = 3


def read(path: Path, folder: Path, *, overridden: tuple[str, ...] = ()) -> Suite:
    """Read a suite, whose files lie in `folder`. Raises `ProjectError` for what can't be played.

    What is `overridden`, "wasm_path" or "config_path", isn't read.
    """
    message = text.read(path)
    return _Reader(path, folder.resolve()).suite(message, overridden)


def folder_of(path: Path) -> Path:
    """The folder in which a suite's files lie: that of its crate, or its own."""
    here = path.absolute().parent
    return next((folder for folder in (here, *here.parents) if (folder / FILE).exists()), here)


class _Reader:
    """Reads a suite's messages; errors say where it is."""

    def __init__(self, path: Path, folder: Path) -> None:
        self._path, self._folder = path, folder
        self._where = "env"

    def suite(self, message: Any, overridden: tuple[str, ...]) -> Suite:
        env = message.env
        if not message.test:
            raise ProjectError(f"{self._path} has no test", hint="add `test { name: … }`")
        wasm = self._inside("wasm_path", env.wasm_path) if _has(env, "wasm_path", overridden) else None
        configuration = None
        if _has(env, "config_path", overridden):
            configuration = content_of(self._inside("config_path", env.config_path), ProjectError)
        shows = env.log_path in ("/dev/stdout", "/dev/stderr")
        log = None if shows or not env.log_path else self._inside("log_path", env.log_path, exists=False)
        if env.time_secs > _MOST_SECONDS:
            raise self._wrong("time_secs is later than a plugin's clock can say")
        for name in ("num_additional_streams", "additional_stream_advance_rate"):
            if getattr(env, name) > _MOST_STREAMS:
                raise self._wrong(f"{name} is more than {_MOST_STREAMS:,}", "a benchmark needs fewer")
        return Suite(
            self._path,
            tuple(self._cases(message.test)),
            wasm,
            configuration,
            (env.log_level or _DEFAULT_LEVEL) - 1,
            log,
            shows,
            env.time_secs or None,
            env.num_additional_streams,
            env.additional_stream_advance_rate or 3,
        )

    def _cases(self, tests: Any) -> Iterator[Case]:
        for number, test in enumerate(tests, 1):
            yield self._case(test, test.name or f"test {number}")

    def _case(self, test: Any, called: str) -> Case:
        whole = f"test `{called}`"
        chunked = test.WhichOneof("body_chunking_plan") or ""
        phases: list[Phase] = []
        for name in (REQUEST_HEADERS, REQUEST_BODY, RESPONSE_HEADERS, RESPONSE_BODY):
            found = getattr(test, name)
            single = name in (REQUEST_HEADERS, RESPONSE_HEADERS)
            each = [found] * test.HasField(name) if single else list(found)
            self._where = f"{whole}, {name}"
            if chunked and len(each) > 1:
                raise self._wrong(f"{chunked} cuts one body, and there are {len(each)}", "keep one of them")
            cut = _cutter(chunked, getattr(test, chunked) if chunked else 0)
            phases += [self._headers(name, one) if single else self._body(name, one, cut) for one in each]
        before_and_after = {}
        for name in ("plugin_init", "stream_init", "stream_destroy"):
            self._where = f"{whole}, {name}"
            found = getattr(test, name)
            if other := next((each for each in _ONLY_LOG if _is_set(found, each)), None):
                raise self._wrong(f"only `log` can be expected here, not `{other}`", "leave it out")
            before_and_after[name] = self._expectation(found)
        properties: dict[bytes, bytes] = {}
        for each in test.properties:
            properties.setdefault(each.path.encode(), each.value)
        return Case(
            called,
            tuple(phases),
            properties=properties,
            chunked=chunked,
            benchmark=test.benchmark,
            **before_and_after,
        )

    def _headers(self, name: str, invocation: Any) -> Phase:
        given = invocation.input
        self._refuse_two(given)
        headers: list[Field] = [(each.key.encode(), each.value) for each in given.header]
        if content := self._content(given):
            try:
                headers = http1.fields(content, request=name == REQUEST_HEADERS)
            except ValueError as error:
                raise self._wrong(f"the input isn't HTTP/1: {error}") from error
        return Phase(name, self._expectation(invocation.result), tuple(headers))

    def _body(self, name: str, invocation: Any, cut: Callable[[bytes], list[bytes]]) -> Phase:
        given = invocation.input
        if given.header:
            raise self._wrong("the input of a body has no `header`", "write `content` or `file`")
        self._refuse_two(given)
        try:
            chunks = cut(self._content(given))
        except ValueError as error:
            raise self._wrong(str(error)) from error
        return Phase(name, self._expectation(invocation.result), chunks=tuple(chunks))

    def _refuse_two(self, given: Any) -> None:
        found = [name for name in ("header", "content", "file") if getattr(given, name)]
        if len(found) > 1:
            raise self._wrong(f"the input has `{found[0]}` and `{found[1]}`", "keep one of them")

    def _content(self, given: Any) -> bytes:
        content: bytes = self._file("file", given.file) if given.file else given.content
        return content

    def _expectation(self, result: Any) -> Expectation:
        immediate = result.immediate
        return Expectation(
            tuple((self._key("has_header", each), each.value) for each in result.has_header),
            tuple(self._key("no_header", each) for each in result.no_header),
            tuple(self._matcher("headers", each) for each in result.headers),
            tuple(self._matcher("body", each) for each in result.body),
            Immediate(
                immediate.http_status if immediate.HasField("http_status") else None,
                immediate.grpc_status if immediate.HasField("grpc_status") else None,
                immediate.details.encode() if immediate.HasField("details") else None,
            )
            if result.HasField("immediate")
            else None,
            tuple(self._matcher("log", each) for each in result.log),
        )

    def _key(self, what: str, header: Any) -> bytes:
        if not header.key:
            raise self._wrong(f"{what} has no key")
        name: bytes = header.key.encode()
        return name

    def _matcher(self, what: str, matcher: Any) -> Matcher:
        kind = matcher.WhichOneof("matcher")
        if kind is None:
            raise self._wrong(f"a matcher of `{what}` says nothing", "write `exact`, `regex` or `file`")
        if kind != "regex":
            exact = self._file(f"{what}: file", matcher.file) if kind == "file" else matcher.exact
            named = matcher.file if kind == "file" else shown(exact)
            return Matcher(exact, None, matcher.invert, f"{kind} {named}")
        try:
            regex = compiled(matcher.regex)
        except ValueError as error:
            raise self._wrong(
                f"the regex `{matcher.regex}` of `{what}` isn't RE2: {error}",
                "https://github.com/google/re2/wiki/Syntax has what RE2 knows",
            ) from error
        return Matcher(b"", regex, matcher.invert, f"regex {matcher.regex!r}")

    def _file(self, what: str, name: str) -> bytes:
        path = self._inside(what, name)
        try:
            return read_bytes(path, LIMIT)
        except OSError as error:
            raise self._wrong(f"cannot read the {what} {path}: {error.strerror}", remedy(error)) from error

    def _inside(self, what: str, name: str, *, exists: bool = True) -> Path:
        """The path that a suite names, relative to it. Raises `ProjectError` for one outside the folder."""
        try:
            path = (self._path.parent / name).resolve()
            found = path.exists()
        except (OSError, ValueError, RuntimeError) as error:  # a NUL in the name, a link to itself
            raise self._wrong(f"cannot read the {what} {name!r}: {error}") from error
        instead = {"wasm_path": "or pass `--module FILE`", "config_path": "or pass `--config FILE`"}
        if not path.is_relative_to(self._folder):
            hint = f"name one in {self._folder}"
            more = instead.get(what)
            raise self._wrong(
                f"the {what} {name!r} is outside the suite's folder", f"{hint}, {more}" if more else hint
            )
        if not exists and not path.parent.is_dir():
            raise self._wrong(f"there is no folder {path.parent} for the {what}")
        if exists and not found:
            raise self._wrong(f"there is no {what} {path}", instead.get(what, "").removeprefix("or ") or None)
        return path

    def _wrong(self, why: str, hint: str | None = None) -> ProjectError:
        return ProjectError(f"{self._path}: {self._where}: {why}", hint=hint)


def _has(env: Any, name: str, overridden: tuple[str, ...]) -> bool:
    return bool(getattr(env, name)) and name not in overridden


def _is_set(message: Any, name: str) -> bool:
    """Whether a list has something, or a message is there."""
    return message.HasField(name) if name == "immediate" else len(getattr(message, name)) > 0


def _cutter(plan: str, number: int) -> Callable[[bytes], list[bytes]]:
    """How a suite wants bodies to be cut. It raises `ValueError` for one that can't be."""

    def cut(body: bytes) -> list[bytes]:
        if not plan:
            return [body]
        if number < 1 or (plan == "num_chunks" and number > len(body)):
            raise ValueError(f"{plan}: {number} can't cut a body of {len(body):,} bytes")
        if (number if plan == "num_chunks" else len(body) // number) > _MOST_CHUNKS:
            raise ValueError(
                f"{plan}: {number} makes more than {_MOST_CHUNKS:,} chunks of {len(body):,} bytes"
            )
        size = number if plan == "chunk_size" else len(body) // number
        last = size * (number - 1) if plan == "num_chunks" else max(0, len(body) - 1) // size * size
        return [*(body[at : at + size] for at in range(0, last, size)), body[last:]]

    return cut
