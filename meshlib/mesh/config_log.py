"""What the log says of configurations: one line for each that is new, with what changed, and what is wrong with it."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING

from meshlib.problems import Problem, Severity

if TYPE_CHECKING:
    from meshlib.changes import Differences
    from meshlib.resources.base import Resource

log = logging.getLogger("meshlib.config")

NAMED = 10
"""Resources, or warnings, that are named; the others are counted."""

TOLD_BEFORE = frozenset(("resources-removed", "removal-waits"))
"""What a reload tells before it takes effect."""


def tell_change(version: str, found: Differences[Resource]) -> None:
    """One line: the version that counts from now on, and the resources that were added, changed and removed. Nothing has
    changed: a line for debugging."""
    if not log.isEnabledFor(logging.INFO):
        return
    gone = {id(resource): resource.id for resource in (found.before[i] for i in found.gone)}
    come = {id(resource): resource.id for resource in (found.now[i] for i in found.come)}
    before = {name for key, name in gone.items() if key not in come}  # what has only moved is on both sides
    now = {name for key, name in come.items() if key not in gone}
    parts = [
        f"{what} {_named(sorted(names))}"
        for what, names in (("added", now - before), ("changed", now & before), ("removed", before - now))
        if names
    ]
    if parts:
        log.info("configuration %s: %s", version, "; ".join(parts))
    else:
        log.debug("configuration %s: nothing has changed", version)


def tell_problems(problems: Sequence[Problem], before: Iterable[Problem]) -> None:
    """Warnings that were not there before, each in a line, and how many notices. Errors are told by who met them."""
    known = {_what(problem) for problem in before}
    news = [problem for problem in problems if problem.code not in TOLD_BEFORE and _what(problem) not in known]
    warnings = [problem for problem in news if problem.severity is Severity.WARNING]
    for problem in warnings[:NAMED]:
        log.warning("%s", problem)
    if len(warnings) > NAMED:
        log.warning("%d more warnings: mesh.problems has them, and meshlib validate", len(warnings) - NAMED)
    notices = sum(problem.severity is Severity.NOTICE for problem in news)
    if notices:
        log.info(
            "%d notice%s about the configuration: mesh.problems, or meshlib validate", notices, "s" * (notices > 1)
        )


def _what(problem: Problem) -> tuple[str, str, str, str]:
    """A problem wherever its line is by now."""
    return problem.code, problem.file, problem.path, problem.message


def _named(names: Sequence[str]) -> str:
    more = len(names) - NAMED
    return ", ".join(names[:NAMED]) + (f" and {more} more" if more > 0 else "")
