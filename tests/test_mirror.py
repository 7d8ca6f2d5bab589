"""Where to find the test: tests/ mirrors meshlib/."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import meshlib

PACKAGE = Path(meshlib.__file__).parent
TESTS = Path(__file__).parent
POLICY = sorted(p.stem for p in (PACKAGE / "policy").glob("*.py") if p.stem != "__init__")


@pytest.mark.parametrize("name", POLICY)
def test_every_policy_module_has_a_test_file_of_its_name(name: str) -> None:
    """And it is about that module: imports from it, and calls what it imports in functions that assert."""
    file = TESTS / "policy" / f"test_{name}.py"
    assert file.is_file(), f"meshlib/policy/{name}.py has no tests/policy/test_{name}.py"
    tree = ast.parse(file.read_text())
    module = f"meshlib.policy.{name}"
    imported = {
        alias.asname or alias.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module == module or node.module == "meshlib.policy")
        for alias in node.names
        if node.module == module or alias.name == name
    }
    assert imported, f"{file.name} imports nothing of {module}"
    used = {node.id for node in ast.walk(tree) if isinstance(node, ast.Name)}
    assert imported & used
    tests = [
        n
        for n in ast.walk(tree)
        if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef) and n.name.startswith("test_")
    ]
    assert len(tests) >= 2, f"{file.name} has {len(tests)} tests"


def test_no_policy_test_is_of_a_module_that_is_gone() -> None:
    assert {p.stem.removeprefix("test_") for p in (TESTS / "policy").glob("test_*.py")} <= set(POLICY)
