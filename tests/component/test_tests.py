"""The tests themselves: each asserts something, or expects an error. Without that it can't fail."""

from __future__ import annotations

import ast
from pathlib import Path

from support.documents import ROOT

TESTS = ROOT / "tests"
JUDGES = {"raises", "fail", "exit"}  # of pytest's


def functions(*paths: Path) -> dict[str, ast.FunctionDef]:
    """The functions in these files, inner ones too, by their names."""
    nodes = (node for path in paths for node in ast.walk(ast.parse(path.read_text())))
    return {node.name: node for node in nodes if isinstance(node, ast.FunctionDef)}


def judges(test: ast.FunctionDef, helpers: dict[str, ast.FunctionDef], seen: frozenset[str]) -> bool:
    """Whether a function asserts something, or calls a helper that does."""
    for node in ast.walk(test):
        if isinstance(node, ast.Assert):
            return True
        called = node.func if isinstance(node, ast.Call) else None
        name = called.attr if isinstance(called, ast.Attribute) else getattr(called, "id", "")
        if name in JUDGES:
            return True
        if name in helpers and name not in seen and judges(helpers[name], helpers, seen | {name}):
            return True
    return False


def without_assertion(path: Path, helpers: dict[str, ast.FunctionDef]) -> list[str]:
    own = functions(path)
    tests = [each for name, each in own.items() if name.startswith("test_")]
    return [each.name for each in tests if not judges(each, helpers | own, frozenset({each.name}))]


def test_every_test_can_fail():
    helpers = functions(*TESTS.glob("support/*.py"), *TESTS.rglob("conftest.py"))
    found = {path: without_assertion(path, helpers) for path in TESTS.rglob("test_*.py")}
    assert len(found) > 100
    assert {str(path.relative_to(ROOT)): names for path, names in found.items() if names} == {}


def test_a_test_that_asserts_nothing_is_seen(tmp_path):
    path = tmp_path / "test_it.py"
    path.write_text("def one():\n    assert 1\ndef test_a():\n    one()\ndef test_b():\n    print(1)\n")
    assert without_assertion(path, {}) == ["test_b"]
