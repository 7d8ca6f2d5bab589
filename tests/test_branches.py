"""No function decides more than one can follow. What is counted are the places where it may go on in two ways."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path

import pytest

import meshlib

PACKAGE = Path(meshlib.__file__).parent
MOST = 25
ALLOWED = {
    "engine/outbound.py::outbound": 62,  # the life of a call, read from top to bottom: a screen a phase
    "transport/asgi/middleware.py::__call__": 47,
    "transport/wsgi/middleware.py::__call__": 35,
}
"""Functions that have more, and may not get any more than so many."""

FORKS = (ast.If, ast.For, ast.AsyncFor, ast.While, ast.IfExp, ast.ExceptHandler)
Function = ast.FunctionDef | ast.AsyncFunctionDef


def branches(function: ast.AST) -> int:
    found = 0
    for node in ast.walk(function):
        if isinstance(node, FORKS):
            found += 1
        elif isinstance(node, ast.BoolOp):
            found += len(node.values) - 1
        elif isinstance(node, ast.comprehension):
            found += len(node.ifs)
    return found


def functions() -> Iterator[tuple[str, Function]]:
    """Those inside of others are part of these."""
    for file in PACKAGE.rglob("*.py"):
        if "demo" not in file.relative_to(PACKAGE).parts:
            for node in inside(ast.parse(file.read_text())):
                yield f"{file.relative_to(PACKAGE)}::{node.name}", node


def inside(node: ast.Module | ast.stmt) -> Iterator[Function]:
    for child in ast.iter_child_nodes(node):
        if isinstance(child, Function):
            yield child
        elif isinstance(child, ast.stmt):
            yield from inside(child)


@pytest.fixture(scope="module", name="functions")
def functions_of_meshlib() -> list[tuple[str, Function]]:
    return list(functions())


def test_no_function_has_more_branches_than_one_can_follow(functions):
    assert len(functions) > 3000
    counted = [(name, branches(node)) for name, node in functions]
    assert [(name, count) for name, count in counted if count > ALLOWED.get(name, MOST)] == []
    assert set(ALLOWED) <= {name for name, _ in counted}


def test_the_life_of_a_call_stays_in_a_few_screens(functions):
    (outbound,) = [node for name, node in functions if name == "engine/outbound.py::outbound"]
    assert outbound.end_lineno is not None
    assert outbound.end_lineno - outbound.lineno < 180


@pytest.mark.parametrize(
    ("code", "count"),
    [
        ("if a and b or c: d()", 3),
        ("a = b if c else d", 1),
        ("[a for a in b if a if c]", 2),
        ("for a in b:\n while c: pass", 2),
        ("try: a()\nexcept B: pass\nexcept C: pass", 2),
    ],
)
def test_how_branches_are_counted(code, count):
    assert branches(ast.parse(code)) == count
