"""A list of problems as text for people, as JSON for programs, as annotations for GitHub."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from meshlib.errors import Problem, Severity

STYLES = ("text", "json", "github")
_GITHUB = {Severity.ERROR: "error", Severity.WARNING: "warning", Severity.NOTICE: "notice"}


def render(problems: Sequence[Problem], style: str = "text", *, resources: int | None = None) -> str:
    """All of them in order of file and line, with a summary. ``style`` is text, json or github."""
    ordered = sorted(problems, key=lambda p: (p.file, p.line, p.column))
    if style == "json":
        data = {"problems": [asdict(p) for p in ordered], "counts": _counts(ordered), "resources": resources}
        return json.dumps(data, indent=2) + "\n"
    if style == "github":
        return "".join(_annotation(p) + "\n" for p in ordered)
    if style != "text":
        raise ValueError(f"unknown style {style!r}; known: {', '.join(STYLES)}")
    sources: dict[str, list[str]] = {}
    text = "".join(f"{problem}\n{_excerpt(problem, sources)}" for problem in ordered)
    return text + summary(ordered, resources) + "\n"


def summary(problems: Sequence[Problem], resources: int | None = None) -> str:
    """``12 resources: 1 error, 2 warnings, 0 notices``."""
    counts = _counts(problems)
    parts = [f"{counts[s]} {s}{'' if counts[s] == 1 else 's'}" for s in ("error", "warning", "notice")]
    head = "" if resources is None else f"{resources} resource{'' if resources == 1 else 's'}: "
    return head + ", ".join(parts)


def _counts(problems: Sequence[Problem]) -> dict[str, int]:
    return {str(s): sum(p.severity is s for p in problems) for s in Severity}


def _excerpt(problem: Problem, sources: dict[str, list[str]]) -> str:
    """The line with a caret below the place, for errors in files that can be read."""
    if problem.severity is not Severity.ERROR or not problem.line:
        return ""
    lines = sources.get(problem.file)
    if lines is None:
        try:
            lines = Path(problem.file).read_text("utf-8", "replace").splitlines()
        except OSError:
            lines = []
        sources[problem.file] = lines
    if problem.line > len(lines):
        return ""
    line = lines[problem.line - 1]
    start = max(0, problem.column - 80)
    shown = line[start : start + 120]
    return f"    | {shown}\n    | {' ' * (problem.column - 1 - start)}^\n"


def _annotation(problem: Problem) -> str:
    message = f"{problem.path}: {problem.message}" if problem.path else problem.message
    if problem.hint:
        message += f" ({problem.hint})"
    place = f"file={_property(problem.file)}"
    if problem.line:
        place += f",line={problem.line},col={problem.column}"
    return f"::{_GITHUB[problem.severity]} {place},title={_property(problem.code)}::{_data(message)}"


def _data(text: str) -> str:
    return text.replace("%", "%25").replace("\r", "%0D").replace("\n", "%0A")


def _property(text: str) -> str:
    return _data(text).replace(":", "%3A").replace(",", "%2C")
