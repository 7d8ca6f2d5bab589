"""Problems for people (text with the lines they are about), programs (JSON) and pull requests (GitHub annotations)."""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import replace

from meshlib.problems import Problem, Severity
from meshlib.resources.yaml_reader import MAX_BYTES

STYLES = ("text", "json", "github")

_ORDER = {Severity.ERROR: 0, Severity.WARNING: 1, Severity.NOTICE: 2}
_WIDTH = 120
_SECRET = re.compile(r"""\bkind["']?\s*:\s*["']?Secret\b""")
_SECRET_LINE = re.compile(
    r"""\\?"(?:d|k|p|q|dp|dq|qi)\\?"\s*:|access_?token|authorization|password|api[-_]?key|includeAdditionalHeaders"""
    r"""|//[^\s/"']*@|//[^\s"']*\?.""",
    re.IGNORECASE,
)
"""A line that has a private key (JWK), or what opens a door, in it; or a URL with a password, or with a query."""
_WORD = re.compile(r"""[A-Za-z0-9_.-]+|"[^"]*"|'[^']*'""")


def render(problems: Iterable[Problem], style: str = "text", *, resources: int | None = None) -> str:
    """``problems`` sorted by file and line, in one of ``STYLES``, ending with a line break ("" when there is nothing to
    say). ``resources`` is how many loaded, for the summary. Raises ValueError for another style."""
    ordered = in_order(problems)
    if style == "text":
        return as_text(ordered, resources=resources)
    if style == "json":
        return as_json(ordered, resources=resources)
    if style == "github":
        return as_github(ordered)
    raise ValueError(f"{style!r} is not one of {', '.join(STYLES)}")


def in_order(problems: Iterable[Problem]) -> list[Problem]:
    """By file, line and column; errors first where several are in one place."""
    return sorted(problems, key=lambda p: (p.file, p.line, p.column, _ORDER[p.severity], p.code))


def summary(problems: Sequence[Problem], *, resources: int | None = None) -> str:
    """``2 errors, 1 warning in 2 files; 14 resources loaded``."""
    counts = Counter(p.severity for p in problems)
    parts = [_count(counts[severity], severity.value) for severity in _ORDER if counts[severity]]
    text = ", ".join(parts) or "no problems"
    if problems:
        text += f" in {_count(len({p.file for p in problems}), 'file')}"
    if resources is not None:
        text += f"; {_count(resources, 'resource')} loaded"
    return text


def as_text(problems: Sequence[Problem], *, resources: int | None = None) -> str:
    """For a terminal: each problem with the line it is about and a mark under the place, then the summary. Notices that
    say the same are told once and counted."""
    excerpts = _Excerpts()
    parts = []
    for problem in condensed(problems):
        head = f"{problem.where}: {problem.severity}: {f'{problem.path}: ' if problem.path else ''}{problem.message}"
        lines = [f"{head} [{problem.label}]", *excerpts.of(problem)]
        if problem.hint:
            lines.append(f"    hint: {problem.hint}")
        parts.append("\n".join(_printable(line) for line in lines) + "\n")
    return "\n".join([*parts, summary(problems, resources=resources)]) + "\n"


_COUNTED = frozenset({"IST0002"})
"""Warnings that are counted as notices are: old spellings, which come in numbers."""

SEVERAL = 5
"""Different notices of one code up to which each is shown."""


def condensed(problems: Sequence[Problem]) -> list[Problem]:
    """Notices that say the same as one with a count, and where there are many of one code, one for all of them."""
    same: dict[tuple[str, str], list[Problem]] = {}
    for problem in problems:
        if _is_counted(problem):
            same.setdefault((problem.code, problem.message), []).append(problem)
    by_code: dict[str, list[list[Problem]]] = {}
    for group in same.values():
        by_code.setdefault(group[0].code, []).append(group)
    shown: dict[int, str] = {}
    for groups in by_code.values():
        if len(groups) > SEVERAL:
            everything = [problem for group in groups for problem in group]
            shown[id(everything[0])] = _and_more(everything, "like it")
        else:
            shown |= {id(group[0]): _and_more(group, "") for group in groups}
    return [
        replace(problem, message=problem.message + shown[id(problem)]) if shown.get(id(problem)) else problem
        for problem in problems
        if not _is_counted(problem) or id(problem) in shown
    ]


def _is_counted(problem: Problem) -> bool:
    return problem.severity is Severity.NOTICE or problem.code in _COUNTED


def _and_more(group: Sequence[Problem], what: str) -> str:
    others = group[1:]
    if not others:
        return ""
    places = [f"line {p.line}" if p.file == group[0].file and p.line else p.where for p in others[:3]]
    shown = ", ".join(dict.fromkeys(places)) + (", ..." if len(others) > 3 else "")
    return f" (and {len(others)} more{' ' if what else ''}{what}: {shown})"


def as_json(problems: Sequence[Problem], *, resources: int | None = None) -> str:
    """For programs: ``{"problems": [...], "summary": {"errors": 1, ...}}``. Problems have the fields of ``Problem``;
    line and column are 0 where they are not known."""
    counts = Counter(p.severity for p in problems)
    totals: dict[str, int] = {f"{severity.value}s": counts[severity] for severity in _ORDER}
    if resources is not None:
        totals["resources"] = resources
    found = [
        {
            "code": p.code,
            "severity": p.severity.value,
            "file": p.file,
            "line": p.line,
            "column": p.column,
            "path": p.path,
            "message": p.message,
            "hint": p.hint,
            **({"name": p.name} if p.name else {}),
        }
        for p in problems
    ]
    return json.dumps({"problems": found, "summary": totals}, indent=2) + "\n"


def as_github(problems: Sequence[Problem]) -> str:
    """Workflow commands of GitHub Actions, which it shows beside the lines of a pull request: it shows few of them."""
    lines = []
    for p in condensed(problems):
        where = {"file": p.file} if p.file and not p.file.startswith("<") else {}
        if p.line and where:
            where |= {"line": str(p.line), "col": str(p.column)}
        where["title"] = p.label
        properties = ",".join(f"{name}={_escape(value, ':,')}" for name, value in where.items())
        text = f"{p.path}: {p.message}" if p.path else p.message
        text += f"\nhint: {p.hint}" if p.hint else ""
        lines.append(f"::{p.severity} {properties}::{_escape(text)}\n")
    return "".join(lines)


def _escape(text: str, more: str = "") -> str:
    # as in GitHub's own toolkit: without it a file name could end the command and begin another
    for char in f"%\r\n{more}":
        text = text.replace(char, f"%{ord(char):02X}")
    return text


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _printable(text: str) -> str:
    """Without the control characters by which a file could write to a terminal whatever it likes."""
    return "".join(c if c.isprintable() else f"\\x{ord(c):02x}" if ord(c) < 256 else "\ufffd" for c in text)


class _Excerpts:
    """Lines of the files that problems are about. A file is read when the first of its problems is shown."""

    def __init__(self) -> None:
        self._lines: dict[str, list[str]] = {}

    def of(self, problem: Problem) -> list[str]:
        """The line with a mark under the place; nothing when the file cannot be read (standard input) any more."""
        lines = self._of_file(problem.file) if problem.line else []
        if not 0 < problem.line <= len(lines):
            return []
        if _SECRET_LINE.search(lines[problem.line - 1]):
            return []
        start = max(problem.column - 1, 0)
        line = lines[problem.line - 1].replace("\t", " ")  # one column, as the mark counts
        match = _WORD.match(line, start)
        length = match.end() - start if match else 1
        cut = max(0, start - _WIDTH // 2) if len(line) > _WIDTH else 0
        shown = line[cut : cut + _WIDTH]
        before = sum(_columns(c) for c in line[cut:start])
        under = sum(_columns(c) for c in line[start : start + min(length, _WIDTH - (start - cut))]) or 1
        number = f"{problem.line:>5}"
        return [f"{number} | {shown.rstrip()}", f"{' ' * len(number)} | {' ' * before}{'^' * under}"]

    def _of_file(self, name: str) -> list[str]:
        if name not in self._lines:
            self._lines[name] = self._read(name)
        return self._lines[name]

    def _read(self, name: str) -> list[str]:
        try:
            if not os.path.isfile(name) or os.path.getsize(name) > MAX_BYTES:
                return []
            with open(name, encoding="utf-8-sig", errors="replace", newline=None) as stream:
                text = stream.read()
        except OSError:
            return []  # the problem itself is shown; only its excerpt is missing
        # keys do not belong in a terminal's history or a build log
        return [] if _SECRET.search(text) else text.split("\n")


def _columns(char: str) -> int:
    if not char.isprintable():
        return len(_printable(char))
    if unicodedata.combining(char):
        return 0
    return 2 if unicodedata.east_asian_width(char) in "WF" else 1
