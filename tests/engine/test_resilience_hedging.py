"""Hedging of a ResiliencePolicy: a slow try gets company, and the first answer wins."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.engine.outcome import Failure
from tests.support.resilience import HOST, bench
from tests.support.resources import destination_rule
from tests.support.scripted import Bench


def by_turn(*steps: tuple[Any, float]) -> Any:
    """A script's outcomes with their own duration each."""
    left = list(steps)

    def behave(made: Bench) -> Any:
        def one(effect: Any) -> Any:
            what, took = left.pop(0)
            return made.script(what, took=took).send(effect)

        return made.script(one, took=0.0)

    return behave


def test_a_slow_try_gets_company_and_the_first_answer_wins():
    made = bench(hedging={"delay": "100ms"})
    script = by_turn((200, 5.0), (201, 0.05))(made)
    outcome, call = made.call(script)
    assert (outcome.status, made.clock.now) == (201, pytest.approx(made.clock.now))
    assert len(set(script.tried)) == 2
    assert [a.failure or a.status for a in call.record.attempts] == ["lost to a hedge", 201]
    state = made.state(f"outbound|9080||{HOST}")
    assert (state.active, [e.active for e in state.endpoints.values()]) == (0, [0, 0, 0])


@pytest.mark.parametrize(
    ("first", "second", "status"),
    [
        ((200, 0.05), (201, 0.0), 200),  # no hedge at all
        ((200, 0.3), (201, 5.0), 200),  # the first wins after all
        ((500, 0.3), (201, 0.5), 201),  # an error does not win while another try runs
        ((Failure.RESET, 0.3), (201, 0.5), 201),
        ((200, 0.3), (503, 0.1), 200),
        ((500, 0.3), (503, 0.5), 503),  # all failed: the last
    ],
)
def test_who_wins(first, second, status):
    made = bench(hedging={"delay": "100ms"})
    outcome, _ = made.call(by_turn(first, second)(made))
    assert outcome.status == status


@pytest.mark.parametrize(
    ("method", "more", "sends"), [("POST", {}, 1), ("POST", {"unsafeMethods": True}, 2), ("GET", {}, 2)]
)
def test_unsafe_methods_are_hedged_only_when_asked(method, more, sends):
    made = bench(hedging={"delay": "100ms", **more})
    script = by_turn((200, 1.0), (200, 1.0))(made)
    made.call(script, method=method)
    assert len(script.sends) == sends


def test_a_hedge_takes_a_connection_slot_or_does_not_happen():
    made = bench(destination_rule("reviews", connectionPool={"tcp": {"maxConnections": 1}}), hedging={"delay": "100ms"})
    script = by_turn((200, 1.0), (200, 1.0))(made)
    made.call(script)
    assert len(script.sends) == 1
    assert made.state(f"outbound|9080||{HOST}").slots.in_use == 0


def test_a_hedge_that_lost_gives_its_connection_slot_back():
    made = bench(destination_rule("reviews", connectionPool={"tcp": {"maxConnections": 2}}), hedging={"delay": "100ms"})
    script = by_turn((200, 5.0), (201, 0.05))(made)
    assert made.call(script)[0].status == 201
    assert made.state(f"outbound|9080||{HOST}").slots.in_use == 0


def test_a_cancelled_race_gives_everything_back():
    made = bench(hedging={"delay": "100ms"})
    _, exchange = made.begin()
    race = next(exchange)
    race.tries.another()
    state = made.state(f"outbound|9080||{HOST}")
    assert state.active == 2
    exchange.close()
    assert state.active == 0


def test_a_percentile_needs_experience():
    made = bench(hedging={"percentile": 90})
    for _ in range(30):
        made.call(made.script(200, took=0.01))
    script = by_turn((200, 1.0), (201, 0.01))(made)
    assert made.call(script)[0].status == 201
