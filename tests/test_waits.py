"""No wait of the tests is without an end: one that hangs would stop a whole run, and say nothing of why."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

TESTS = Path(__file__).parent
NOT_HERE = ("soak", "packaging", "fuzz", "guests", "istiod")
"""Run by themselves, not by ``make test``."""
WAITS = frozenset({"join", "wait", "communicate"})
"""Of threads, processes, events, barriers and conditions: each takes a timeout. (``",".join`` has an argument.)"""
OF_LOOPS = frozenset({"create_task", "ensure_future", "gather", "run_until_complete", "wait_for", "run"})
"""What takes a coroutine: that of an ``asyncio.Event`` blocks nobody, and a loop's timeouts are for its tasks."""
ALLOWED = {
    ("support/fake_clock.py", "condition.wait()"): "woken by whoever moves the clock",
    ("support/proxy.py", "self.join()"): "waits for twenty seconds, and says whether it has ended",
    ("transport/grpcio/client/test_aio_requests.py", "asyncio.Event().wait()"): "a coroutine that a task awaits",
    ("transport/runtimes/test_thread_line.py", "line.join()"): "to stand in a line",
    ("transport/runtimes/test_thread_line.py", "threads.line.join()"): "to stand in a line",
    ("transport/upstream/test_environment.py", "self.wait()"): "a barrier's, for thirty seconds",
}
PROXY = "proxy.join()"
"""Of ``tests/support/proxy.py``."""


def endless(tree: ast.AST) -> Iterator[ast.Call]:
    """Calls that wait for as long as it takes."""
    of_loops = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.Await):
            of_loops.update(ast.walk(node))
        elif isinstance(node, ast.Call) and getattr(node.func, "attr", getattr(node.func, "id", "")) in OF_LOOPS:
            of_loops.update(node.args)
        elif isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr in WAITS:
            bare = not node.args and not node.keywords
            if bare and node not in of_loops:
                yield node


def test_every_wait_of_a_test_has_an_end() -> None:
    found, met = [], set()
    for file in sorted(TESTS.rglob("*.py")):
        where = file.relative_to(TESTS).as_posix()
        text = file.read_text()
        if where.startswith(NOT_HERE) or not re.search(rf"\.({'|'.join(WAITS)})\(\)", text):  # nine in ten have none
            continue
        for call in endless(ast.parse(text)):
            what = ast.unparse(call)
            met.add((where, what))
            if (where, what) not in ALLOWED and what != PROXY:
                found.append(f"tests/{where}:{call.lineno}: {what} waits without an end: give it seconds")
    assert not found, "\n".join(found)
    assert met >= ALLOWED.keys(), "an exception that is not needed any more"


@pytest.mark.parametrize("code", ["thread.join()", "process.wait()", "x.stop(None).wait()", "lambda: p.communicate()"])
def test_it_is_found(code: str) -> None:
    assert list(endless(ast.parse(code)))


@pytest.mark.parametrize(
    "code", ["thread.join(5)", "p.wait(timeout=5)", "','.join(x)", "await e.wait()", "asyncio.create_task(e.wait())"]
)
def test_what_ends_is_not(code: str) -> None:
    assert not list(endless(ast.parse(code)))


def unheard(tree: ast.AST) -> Iterator[ast.Expr]:
    """Waits with an end whose word for how that came nobody hears: such a test waits, and passes all the same."""
    waits = {
        name.name
        for node in ast.walk(tree)
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests.support")
        for name in node.names
        if name.name in ("eventually", "soon")
    }
    for node in ast.walk(tree):
        if isinstance(node, ast.Expr):
            call = node.value.value if isinstance(node.value, ast.Await) else node.value
            if isinstance(call, ast.Call) and getattr(call.func, "id", "") in waits:
                yield node


def test_what_a_wait_has_come_to_is_heard() -> None:
    found = []
    for file in sorted(TESTS.rglob("*.py")):
        text = file.read_text()
        if "eventually(" in text or "soon(" in text:
            where = file.relative_to(TESTS).as_posix()
            found += [f"tests/{where}:{each.lineno}: assert it" for each in unheard(ast.parse(text))]
    assert not found, "\n".join(found)


@pytest.mark.parametrize(
    ("source", "heard"),
    [
        ("eventually(there)", False),
        ("async def test(): await soon(there)", False),
        ("assert eventually(there)", True),
        ("_ = eventually(there)", True),
    ],
)
def test_the_look_at_waits_sees(source: str, heard: bool) -> None:
    imported = "from tests.support.eventually import eventually, soon\n"
    assert (not list(unheard(ast.parse(imported + source)))) is heard
