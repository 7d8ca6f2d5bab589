"""Where to find the test: ``tests/`` mirrors ``meshlib/``, and a module's test file has its name.

``policy/`` has no exception. What else has no file of its own yet is in ``tests/without_a_file.txt``, with where it is tested
instead; the list may only shrink: a new module comes with its test file, and one that gets a file leaves the list.
"""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

import meshlib

PACKAGE = Path(meshlib.__file__).parent
TESTS = Path(__file__).parent
POLICY = sorted(p.stem for p in (PACKAGE / "policy").glob("*.py") if p.stem != "__init__")
LISTED = TESTS / "without_a_file.txt"


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
    tests = [n for n in ast.walk(tree) if isinstance(n, ast.FunctionDef | ast.AsyncFunctionDef)]
    assert len([n for n in tests if n.name.startswith("test_")]) >= 2, f"{file.name} has hardly a test"


def test_no_policy_test_is_of_a_module_that_is_gone() -> None:
    assert {p.stem.removeprefix("test_") for p in (TESTS / "policy").glob("test_*.py")} <= set(POLICY)


def modules() -> list[str]:
    """Those that are more than a package's docstring, ``policy/`` and the programs under ``demo/`` aside."""
    found = [p.relative_to(PACKAGE) for p in PACKAGE.rglob("*.py") if not p.stem.startswith("__")]
    return sorted(m.as_posix() for m in found if m.parts[0] not in ("policy", "demo"))


def has_a_file(module: str) -> bool:
    path = Path(module)
    return (TESTS / path.parent / f"test_{path.stem}.py").is_file()


def listed() -> dict[str, str]:
    """By module, where it is tested instead: the last line above it that ends in a colon."""
    found: dict[str, str] = {}
    where = ""
    for line in LISTED.read_text().splitlines():
        if line.endswith(":"):
            where = line.removesuffix(":")
        elif line and not line.startswith("#"):
            found[line.strip()] = where
    return found


def test_every_module_has_a_test_file_of_its_name_or_is_listed() -> None:
    missing = {module for module in modules() if not has_a_file(module)} - listed().keys()
    assert not missing, f"give each a test file of its name: {sorted(missing)}"


def test_the_list_only_shrinks() -> None:
    """Whoever gets a file, or is gone, leaves it."""
    there = set(modules())
    assert [module for module in listed() if module not in there or has_a_file(module)] == []


def test_what_is_listed_is_tested_somewhere() -> None:
    for module, where in listed().items():
        files = where.split(", ")
        assert all((TESTS / file).exists() for file in files), f"{module}: {where}"
