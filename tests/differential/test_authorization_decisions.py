"""Who may come in, decided by a real Envoy with the RBAC filters that istiod would write, and by meshlib through every way in:
the same, or stricter for a listed reason. And a referee that would notice if it were not: known mistakes, put into meshlib on
purpose, are all caught.

``make differential N=1000000`` decides as many as you like.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

import pytest

from tests.differential.authorization import doors, generate, grpc_door
from tests.differential.authorization.cases import Case, Decision
from tests.differential.authorization.envoy_side import envoy_for
from tests.differential.authorization.known import KNOWN
from tests.differential.authorization.mistakes import MISTAKES
from tests.differential.authorization.verdict import STRICTER, Applies, judge
from tests.differential.envoy_process import require_envoy

pytestmark = pytest.mark.differential

CASES, REQUESTS, SEED = 75, 40, 20261126
OF_DOORS, OF_GRPC = 25, 24
Heard = tuple[list[Case], list[Decision]]


def heard_by_envoy(cases: list[Case]) -> Heard:
    require_envoy()
    with envoy_for(cases) as envoy:
        return cases, envoy.ask(cases)


# -- what is known of Istio ------------------------------------------------------------------------------------------


def known_cases() -> list[Case]:
    return [known.case(number) for number, known in enumerate(KNOWN.values())]


@pytest.fixture(scope="module")
def known_to_envoy() -> dict[str, list[Decision]]:
    """By name, the decisions of Envoy about the known cases."""
    cases, decisions = heard_by_envoy(known_cases())
    left = iter(decisions)
    return {name: [next(left) for _ in case.requests] for name, case in zip(KNOWN, cases, strict=True)}


@pytest.mark.parametrize("name", KNOWN)
def test_envoy_decides_what_is_known_of_istio(name, known_to_envoy):
    assert [decision.status for decision in known_to_envoy[name]] == KNOWN[name].statuses()


@pytest.mark.parametrize("name", KNOWN)
def test_and_so_does_meshlib_or_is_stricter_for_a_listed_reason(name, known_to_envoy):
    case = KNOWN[name].case(0)
    tally = judge([case], doors.explained([case]), known_to_envoy[name])
    assert not tally.wrong, "\n".join(map(str, tally.wrong))


# -- random ones -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def heard() -> Heard:
    """The cases and Envoy's decisions."""
    return heard_by_envoy(generate.cases(SEED, CASES, REQUESTS))


@pytest.fixture(scope="module")
def heard_of_doors() -> Heard:
    return heard_by_envoy(doors.cases(SEED, OF_DOORS, REQUESTS))


def agree(heard: Heard, decide: Callable[[Sequence[Case]], Iterable[Decision]], more: dict[str, Applies]) -> None:
    cases, theirs = heard
    tally = judge(cases, decide(cases), theirs, more)
    assert not tally.wrong, f"{tally}\n" + "\n".join(map(str, tally.wrong[:3]))
    # mostly equal, and about something: each kind of decision, often
    assert tally.equal > 0.9 * tally.decisions, tally.stricter
    for kind in ("let in", "denied", "not allowed"):
        assert tally.kinds[kind] > 0.05 * tally.decisions, tally.kinds


def test_3_000_decisions_explained_are_envoys_or_stricter(heard):
    agree(heard, doors.explained, {})


def test_1_000_decisions_through_asgi_are_envoys_or_stricter(heard_of_doors):
    agree(heard_of_doors, doors.through_asgi, doors.OF_SERVERS)


def test_1_000_decisions_through_wsgi_are_envoys_or_stricter(heard_of_doors):
    agree(heard_of_doors, doors.through_wsgi, doors.OF_WSGI)


def test_240_decisions_through_grpc_are_envoys_or_stricter():
    heard = heard_by_envoy(grpc_door.cases(SEED, OF_GRPC, 10))
    agree(heard, grpc_door.through_grpc, grpc_door.OF_GRPC)


def test_each_reason_to_be_stricter_is_listed():
    rows = [line.removeprefix("| ") for line in (Path(__file__).parents[2] / "docs/parity.md").read_text().splitlines()]
    for reason in {**STRICTER, **doors.OF_SERVERS, **grpc_door.OF_GRPC}:
        assert any(row.startswith((reason, reason.rpartition(": ")[0] or reason)) for row in rows), reason


# -- the referee is awake --------------------------------------------------------------------------------------------

OF_MISTAKES = 20


@pytest.fixture(scope="module")
def heard_of_all(heard, known_to_envoy) -> Heard:
    """Known cases and random ones, in which mistakes have to betray themselves."""
    cases, theirs = heard
    known = [decision for decisions in known_to_envoy.values() for decision in decisions]
    return [*known_cases(), *cases[:OF_MISTAKES]], [*known, *theirs[: OF_MISTAKES * REQUESTS]]


def test_the_decisions_of_the_engine_are_those_that_are_explained(heard_of_all):
    cases, _ = heard_of_all
    assert list(doors.decided(cases)) == list(doors.explained(cases))


@pytest.mark.parametrize("name", MISTAKES)
def test_a_mistake_is_noticed(name, heard_of_all, monkeypatch):
    cases, theirs = heard_of_all
    where, attribute, mistake = MISTAKES[name]
    monkeypatch.setattr(where, attribute, mistake)
    left = iter(theirs)
    assert any(judge([case], doors.decided([case]), [next(left) for _ in case.requests]).wrong for case in cases)
