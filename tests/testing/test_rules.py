"""What rules of attempts and of served requests have in common."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.testing import FakeClock
from meshlib.testing.rules import Chance, Rule, after_of, matches, path_of, seconds_of


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
        ({"rate": "0.1"}, "the rate '0.1' is not between 0 and 1"),
        ({"rate": float("nan")}, "the rate nan is not between 0 and 1"),
        ({"nth": 0}, "nth=0: the first one is nth=1"),
        ({"nth": 1.5}, "nth=1.5: it is a whole number"),
        ({"nth": True}, "nth=True: it is a number, counted from 1, or several"),
        ({"nth": "3"}, "nth='3': it is a number, counted from 1, or several"),
        ({"nth": set()}, r"nth=set\(\): that is none of them"),
        ({"nth": range(5, 3)}, r"nth=range\(5, 3\): that is none of them"),
        ({"nth": [0, 1]}, r"nth=\[0, 1\]: the first one is 1"),
        ({"between": 3}, r"between=3: it is \(start, end\), in seconds from now"),
        ({"between": ("1", 2)}, r"between=\('1', 2\): it is \(start, end\)"),
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


@pytest.mark.parametrize("wrong", [-1, "1", None, True, float("nan"), float("inf")])
def test_a_while_is_a_number_of_seconds(wrong):
    with pytest.raises(ValueError, match="jitter=.*: it is a number of seconds, 0 or more"):
        seconds_of("jitter", wrong)
    assert seconds_of("jitter", 0.5) == 0.5


@pytest.mark.parametrize("wrong", [-1, "1", None, True, 1.5])
def test_what_is_cut_is_cut_after_a_number_of_bytes(wrong):
    with pytest.raises(ValueError, match="after=.*: it is a number of bytes .*, 0 or more"):
        after_of(wrong)
    assert after_of(0) == 0


@pytest.mark.parametrize("wrong", ["reviews/1", "", 3, "/a/*/b"])
def test_a_path_that_no_request_has_is_refused(wrong):
    with pytest.raises(ValueError, match="path=.*: it begins with /"):
        path_of(wrong)
    assert [path_of(path) for path in ("/", "*", "/a/*")] == ["/", "*", "/a/*"]
