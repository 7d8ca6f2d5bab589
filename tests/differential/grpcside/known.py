"""Differences from Envoy that are known. Each excuses certain fields of certain calls, and nothing more; a test of its own
expects that the difference is still there, so that none stays here after it has been mended."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from tests.differential.grpcside.ask import Ask
from tests.differential.grpcside.cases import Case

Covers = Callable[[str, Case, Ask, str], bool]
"""(group, case, call, world) -> whether the difference may show there."""
EVERYTHING = ("",)
CLIENT_STREAMS = ("Chat", "Collect")


@dataclass(frozen=True)
class Known:
    """``fields``: how the lines of compare.differences begin that it excuses. ``repeat``: how often a call is made before
    the difference counts as gone (it may show in some calls only)."""

    reason: str
    covers: Covers
    fields: tuple[str, ...] = EVERYTHING
    repeat: int = 1

    def excuses(self, line: str) -> bool:
        return line.startswith(self.fields)


def named(*names: str) -> Covers:
    return lambda group, case, ask, world: case.name in names


def steps(pattern: str, kinds: tuple[str, ...] = ()) -> Covers:
    """Scripts one of whose steps is like this."""
    compiled = re.compile(pattern)

    def covers(group: str, case: Case, ask: Ask, world: str) -> bool:
        return (not kinds or ask.kind in kinds) and any(compiled.fullmatch(step) for step in ask.script.split(","))

    return covers


def changes_answers(case: Case) -> bool:
    targets = [target for rule in case.rules for target in rule.get("route", ())]
    return any("response" in where.get("headers", {}) for where in (*case.rules, *targets))


KNOWN: dict[str, Known] = {}
