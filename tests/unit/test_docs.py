"""The documentation against the code and against itself. What it says to type is run in e2e/test_docs.py."""

from __future__ import annotations

import importlib.util
import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import click
import pytest
from support import documents, fault_table

from scaffold.cli.commands import cli
from scaffold.pytest_plugin import pytest_addoption

PAGES = documents.pages()
COMMANDS: dict[str, click.Command] = dict(cli.commands)
# a program, and the words after it as far as they are its own
CALL = re.compile(
    r"""(?<![\w./-])(scaffold|invoke)(?=[ \n]|$)((?:[ ]+(?:'[^']*'|"[^"]*"|[^\s;|&#)`'"]+))*)"""
)


def load(path: Path) -> ModuleType:
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec and spec.loader
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def generate() -> ModuleType:
    return load(documents.ROOT / "docs" / "generate.py")


def identify(path: Path) -> str:
    return str(path.relative_to(documents.ROOT))


def test_the_reference_says_what_the_code_does(generate):
    written = (documents.ROOT / "docs" / "reference.md").read_text()
    assert written == generate.reference(), "it has drifted: run `python docs/generate.py`"


def test_the_map_shows_every_module_with_its_docstring(generate):
    written = (documents.ROOT / "CONTRIBUTING.md").read_text()
    assert written == generate.contributing(), "it has drifted: run `python docs/generate.py`"
    modules = [path for path in generate.SOURCES.rglob("*.py") if path.name != "__init__.py"]
    assert not [path for path in modules if f"{path.stem}`: " not in written]


def test_the_reference_names_no_variable_that_nobody_reads(generate):
    sources = "".join(path.read_text() for path in generate.SOURCES.rglob("*.py")).lower()
    assert not [name for name in generate.ENVIRONMENT if name.lower() not in sources]


@pytest.fixture(scope="module")
def faults_page() -> list[str]:
    """The lines of docs/faults.md."""
    return (documents.ROOT / "docs/faults.md").read_text().splitlines()


def test_the_page_of_faults_shows_the_marks_of_tests_in_other_folders(faults_page):
    marked = fault_table.lines(fault_table.elsewhere())[2:]
    assert len(marked) > 30
    assert sorted(marked) == sorted(line for line in faults_page if "| `tests/" in line)


def test_the_page_of_faults_shows_every_fault(faults_page):
    promised = {1, 2, *range(5, 13), *range(14, 17), *range(18, 22), 24, 25}
    assert {f"R{number}" for number in promised} <= {line.partition(" |")[0][2:] for line in faults_page}


def section(page: str, title: str) -> str:
    """A page's text below one of its headings, up to the next of the same level."""
    _, found, text = (documents.ROOT / page).read_text().partition(f"## {title}\n")
    assert found, f"{page} has no section {title}"
    return text.partition("\n## ")[0]


def test_the_reference_lists_every_exit_code_and_the_readme_links_it():
    codes = re.findall(r"^\| (\d+) \|", section("docs/reference.md", "Exit codes"), re.MULTILINE)
    assert sorted({int(code) for code in codes}) == [*range(10), 70, 130]
    assert "docs/reference.md#exit-codes" in documents.links((documents.ROOT / "README.md").read_text())


def test_the_reference_lists_every_command_and_the_readme_links_it():
    table = section("docs/reference.md", "Commands").partition("\n### ")[0]
    assert not [name for name in COMMANDS if f"| [`scaffold {name}`](#scaffold-{name}) |" not in table]
    assert "docs/reference.md#commands" in documents.links((documents.ROOT / "README.md").read_text())


def test_the_page_of_dependencies_says_why_for_each():
    project = tomllib.loads((documents.ROOT / "pyproject.toml").read_text())["project"]
    required = [re.split("[^a-z0-9-]", line)[0] for line in project["dependencies"]]
    page = (documents.ROOT / "docs/dependencies.md").read_text()
    assert re.findall(r"^\| ([a-z0-9-]+) \|", page, re.MULTILINE)[1:] == required


@pytest.mark.parametrize("page", PAGES, ids=identify)
def test_every_link_leads_somewhere(page):
    broken = []
    for link in documents.links(page.read_text()):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path).resolve() if path else page
        if not target.exists() or (anchor and anchor not in documents.anchors(target.read_text())):
            broken.append(link)
    assert not broken


@pytest.mark.parametrize("page", PAGES, ids=identify)
def test_every_command_and_option_exists(page):
    assert not [wrong for text in code(page) for wrong in faults(text)]


def test_a_command_or_option_that_does_not_exist_is_seen():
    """The check itself: it would be worth nothing if it saw nothing."""
    assert list(faults("scaffold deploi")) == ["scaffold deploi"]
    assert list(faults("scaffold run --porto 1")) == ["scaffold run --porto"]
    assert list(faults("cd x && scaffold test -k a --nope=1 -- --anything")) == ["scaffold test --nope"]
    assert list(faults("invoke build deplo")) == ["invoke deplo"]
    assert list(faults("--nope VALUE")) == ["--nope"]
    assert not list(faults("scaffold run --port 0 --config '{\"--nope\": 1}' | grep --nope"))


def code(page: Path) -> Iterator[str]:
    """What a page shows as code: its spans, and the lines of what isn't in another language."""
    text = page.read_text()
    yield from documents.spans(text)
    for block in documents.blocks(text):
        if block.kind in ("", "text"):
            yield from block.text.splitlines()
        elif block.kind == "console":
            yield from (step.command for step in documents.steps(block))


def faults(text: str) -> Iterator[str]:
    """The commands, tasks and options in a piece of code that don't exist."""
    if re.match("--[a-z]", text):
        name = re.split(r"[ =]", text)[0]
        if name not in every_option():
            yield name
    for program, words in CALL.findall(text):
        check = of_scaffold if program == "scaffold" else of_invoke
        yield from check(words.split())


def of_scaffold(words: list[str]) -> Iterator[str]:
    """What doesn't exist of the words after `scaffold`; a word that can't be a command is taken as prose."""
    if not words or not re.fullmatch(r"-.*|[a-z]+", words[0]):
        return
    command: click.Command = cli
    if not words[0].startswith("-"):
        if words[0] not in COMMANDS:
            yield f"scaffold {words[0]}"
            return
        command = COMMANDS[words.pop(0)]
    name = "scaffold" if command is cli else f"scaffold {command.name}"
    for word in words:
        if word in ("--", "scaffold"):
            return
        option = word.partition("=")[0]
        if re.fullmatch(r"--?[a-z][a-z-]*", option) and option not in options(command):
            yield f"{name} {option}"


def of_invoke(words: list[str]) -> Iterator[str]:
    for word in words:
        if re.fullmatch(r"[a-z]+(\.[a-z]+)?", word) and word not in tasks():
            yield f"invoke {word}"


def options(command: click.Command) -> set[str]:
    context = click.Context(command, info_name="scaffold")
    context.help_option_names = ["-h", "--help"]
    params = command.get_params(context)
    return {word for param in params for word in (*param.opts, *param.secondary_opts)}


def every_option() -> set[str]:
    parser = pytest.Parser(_ispytest=True)
    pytest_addoption(parser)
    ours = {name for option in parser.getgroup("proxy").options for name in option.names()}
    return ours.union(*map(options, COMMANDS.values()), options(cli))


def tasks() -> set[str]:
    return set(load(documents.ROOT / "tasks.py").ns.task_names)
