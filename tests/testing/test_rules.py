"""What rules of attempts and of served requests have in common."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.testing import FakeClock
from meshlib.testing.rules import Chance, Rule, matches


class Odd(Chance):
    """About odd numbers."""

    def _about(self, event: int) -> bool:
        return event % 2 == 1

    def __str__(self) -> str:
        return ", ".join(["odd", *self._chances()])


def rule(clock: FakeClock, **chance: Any) -> Rule[int]:
    where = Odd(**{"nth": None, "rate": 1.0, "between": None, **chance}, made=clock.monotonic())
    return Rule(7, clock, where, "reset", 0)


def hit(made: Rule[int], events: range) -> list[int]:
    return [event for event in events if made._happens(event) is not None]


@pytest.mark.parametrize(("nth", "wanted"), [(None, [1, 3, 5, 7]), (2, [3]), ({1, 4}, [1, 7]), (range(2, 4), [3, 5])])
def test_the_nth_is_counted_among_the_events_that_it_is_about(nth, wanted):
    made = rule(FakeClock(), nth=nth)
    assert hit(made, range(9)) == wanted
    assert made.seen == 4


def test_chance_goes_by_the_number_of_the_event_and_not_by_what_came_between():
    whole = rule(FakeClock(), rate=0.5)
    other = rule(FakeClock(), rate=0.5)
    assert hit(whole, range(100)) == [n * 2 + 1 for n in range(50) if other._happens(1) is not None]


def test_it_ends_with_its_block_and_says_so():
    clock = FakeClock()
    with rule(clock, between=(0, 5)) as made:
        assert hit(made, range(3)) == [1]
        clock.advance(5)
        assert hit(made, range(3)) == []
    assert (repr(made), made.ended) == ("<chaos: odd, between=(0, 5).reset(): 0 of 1 attempts, ended>", True)


@pytest.mark.parametrize(
    ("path", "wanted", "fits"), [("/a", "/a", True), ("/a/b", "/a", False), ("/a/b", "/a/*", True), ("/", "*", True)]
)
def test_a_star_makes_a_prefix(path, wanted, fits):
    assert matches(path, wanted) is fits


@pytest.mark.parametrize(
    ("chance", "why"),
    [
        ({"rate": 10}, "the rate 10 is not between 0 and 1"),
        ({"nth": 0}, "nth=0: the first one is nth=1"),
        ({"between": (20, 10)}, r"between=\(20, 10\) ends before it begins"),
    ],
)
def test_what_can_never_happen_is_refused(chance, why):
    with pytest.raises(ValueError, match=why):
        rule(FakeClock(), **chance)


def test_a_rule_whose_nth_has_not_come_has_missed():
    made = rule(FakeClock(), nth={2, 9})
    assert not made.missed
    hit(made, range(2))
    assert made.missed
    hit(made, range(4))
    assert not made.missed
