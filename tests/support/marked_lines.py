"""The text of a resource with a marked line, and the error or warning that is expected on that line."""

from __future__ import annotations

import textwrap

from meshlib.errors import Problem, Severity
from meshlib.resources.loader import load_text

MARK = "# here"
"""Ends the line of a spec that an error is expected on."""


def document(kind: str, spec: str, name: str = "x", metadata: str = "") -> str:
    """The text of a resource; ``spec`` is block YAML."""
    head = f"apiVersion: networking.istio.io/v1\nkind: {kind}\nmetadata:\n  name: {name}\n  namespace: shop\n"
    return head + metadata + "spec:\n" + textwrap.indent(textwrap.dedent(spec).strip("\n"), "  ") + "\n"


def errors(text: str) -> list[Problem]:
    return [p for p in load_text(text, "f.yaml").problems if p.severity is Severity.ERROR]


def assert_refused(text: str, code: str, words: str) -> None:
    """One error of that code, on the marked line, with these words in its message or hint."""
    found = errors(text)
    assert [p.code for p in found] == [code], found
    (problem,) = found
    marked = [number for number, line in enumerate(text.splitlines(), 1) if line.endswith(MARK)]
    assert marked == [problem.line], (problem, text)
    assert words in f"{problem.message} {problem.hint}", problem


def assert_accepted(text: str) -> None:
    assert errors(text) == []


def assert_warned(text: str, code: str, words: str) -> None:
    """It loads, with one warning of that code, on the marked line, with these words in its message or hint."""
    assert_accepted(text)
    found = [p for p in load_text(text, "f.yaml").problems if p.severity is Severity.WARNING]
    assert [p.code for p in found] == [code], found
    (problem,) = found
    marked = [number for number, line in enumerate(text.splitlines(), 1) if line.endswith(MARK)]
    assert marked == [problem.line], (problem, text)
    assert words in f"{problem.message} {problem.hint}", problem
