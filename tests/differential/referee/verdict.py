"""Equal, stricter (and listed in docs/parity.md), or laxer: the verdict on two answers."""

from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field

from tests.differential.referee.answers import Answer
from tests.differential.referee.generate import Case, Request
from tests.differential.referee.our_side import OurSide

STRICTER: dict[str, Callable[[Request, Answer, Answer], bool]] = {}
"""Differences in which meshlib refuses what Envoy lets through, by the heading of their row in docs/parity.md. None is
known for routing."""

DRAWS = 3000
"""How often our side may draw again until its weighted choice falls on the destination that Envoy drew. (That the draws
are in proportion is another test.)"""


@dataclass
class Difference:
    """Two answers to one request that should be the same."""

    case: Case
    request: Request
    ours: Answer
    theirs: Answer

    def __str__(self) -> str:
        return "\n".join(
            [
                f"case {self.case.number}, ours | Envoy's:",
                *(f"  {line}" for line in self.ours.differences(self.theirs)),
                f"  request: {self.request.method} {self.request.target} to {self.request.authority}",
                *(f"    {name}: {value}" for name, value in self.request.headers),
                f"  {json.dumps(self.case.service['spec'], indent=1)}",
            ]
        )


@dataclass
class Tally:
    """What a run has found. ``kinds`` counts what the decisions were about, so that a run that only met 404s shows."""

    equal: int = 0
    stricter: Counter[str] = field(default_factory=Counter)
    laxer: list[Difference] = field(default_factory=list)
    kinds: Counter[str] = field(default_factory=Counter)

    @property
    def decisions(self) -> int:
        return self.equal + sum(self.stricter.values()) + len(self.laxer)

    def add(self, other: Tally) -> None:
        self.equal += other.equal
        self.stricter.update(other.stricter)
        self.laxer += other.laxer
        self.kinds.update(other.kinds)


def route_name(answer: Answer) -> str:
    """Envoy names a route rule.block; ours is the rule's."""
    return answer.route.partition(".")[0]


def same(ours: Answer, theirs: Answer) -> bool:
    """Equal in all that policy decides."""
    # without a route, and in answers of its filters, Envoy does not say which route it was
    anonymous = not theirs.route and not theirs.cluster
    return ours == Answer(
        ours.route if anonymous or route_name(theirs) == ours.route else theirs.route,
        *(getattr(theirs, name) for name in list(Answer.__dataclass_fields__)[1:]),
    )


def kind(answer: Answer) -> str:
    """What a decision was about, in a word."""
    if answer.cluster:
        rewritten = any(name == "x-envoy-original-path" for name, _ in answer.request_headers)
        return "rewritten" if rewritten else "forwarded"
    if any(name == "location" for name, _ in answer.response_headers):
        return "redirect"
    return f"local {answer.status}"


def judge(
    cases: Sequence[Case], ours: OurSide, theirs: Iterable[Answer], draws: int = DRAWS, first: bool = False
) -> Tally:
    """Compare; ``theirs`` holds Envoy's answers to all requests of the cases, in order. ``first``: up to the first that is
    laxer."""
    tally = Tally()
    answers = iter(theirs)
    for case in cases:
        for request in case.requests:
            their = next(answers)
            our = ours.ask(request)
            left = draws if any(len(rule.get("route", ())) > 1 for rule in case.service["spec"]["http"]) else 0
            while left and not same(our, their):  # each side draws its own destination
                our = ours.ask(request)
                left -= 1
            tally.kinds[kind(their)] += 1
            if same(our, their):
                tally.equal += 1
                continue
            reason = next((name for name, applies in STRICTER.items() if applies(request, our, their)), None)
            if reason is not None:
                tally.stricter[reason] += 1
            else:
                tally.laxer.append(Difference(case, request, our, their))
                if first:
                    return tally
    return tally
