"""Differences from Envoy that are known. Each excuses certain fields of certain calls, and nothing more; a test of its own
expects that the difference is still there, so that none stays here after it has been mended."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass

from tests.differential.grpcside.ask import Ask
from tests.differential.grpcside.cases import Case

Covers = Callable[[str, Case, Ask, str], bool]
"""(group, case, call, runtime) -> whether the difference may show there."""
EVERYTHING = ("",)


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
    return lambda group, case, ask, runtime: case.name in names


def steps(pattern: str, kinds: tuple[str, ...] = ()) -> Covers:
    """Scripts one of whose steps is like this."""
    compiled = re.compile(pattern)

    def covers(group: str, case: Case, ask: Ask, runtime: str) -> bool:
        return (not kinds or ask.kind in kinds) and any(compiled.fullmatch(step) for step in ask.script.split(","))

    return covers


def changes_answers(case: Case) -> bool:
    """Whether a rule may change what an answer says."""
    targets = [target for rule in case.rules for target in rule.get("route", ())]
    return any("response" in where.get("headers", {}) for where in (*case.rules, *targets))


_ended_after_head = steps(r"h\d+", ("Expand", "Chat"))


KNOWN: dict[str, Known] = {
    "lost heads": Known(
        "grpcio's asyncio calls may lose the head of an answer that has no message, and then the call is tried again",
        lambda group, case, ask, runtime: runtime == "asyncio" and _ended_after_head(group, case, ask, runtime),
        repeat=20,
    ),
    "broken after the head": Known(
        "a call broken after its head ends with grpcio's own status; with Envoy in between it is always INTERNAL",
        steps(r"[hm](rst\d+|close)"),
        ("code", "details"),
    ),
    "goaway": Known(
        "in scripts with a GOAWAY grpcio loses the head of an HTTP error now and then: 'Stream removed', where Envoy has it",
        steps("goaway"),
        repeat=20,
    ),
    "user agent": Known("grpcio writes the user agent after all policy", named("user-agent")),
    "what grpcio sends": Known(
        "grpcio writes user-agent and grpc-timeout after all policy",
        named("remove what gRPC sends", "set grpc-timeout"),
        ("metadata of attempt", "seconds left"),
    ),
    "route timeout in a stream": Known(
        "with Envoy in between, the caller of a stream that takes too long hears INTERNAL; here why, but the head is lost",
        named("route timeout over a stream"),
        ("code", "initial metadata"),
    ),
    "per try timeout of a stream": Known(
        "Envoy tells the server of a stream the time of one try",
        named("per try timeout over a stream"),
        ("seconds left",),
    ),
}
