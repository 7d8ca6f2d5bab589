"""Which served requests something happens to, and what is told of it."""

from __future__ import annotations

import warnings

import pytest

from meshlib.testing import Chaos, ChaosUnused, FakeClock
from meshlib.testing.served import CUT, Plan, Request

WEB = Request("web", "/a/b")


def planned(chaos: Chaos, *requests: Request) -> list[Plan | None]:
    return [chaos.plan_served(request) for request in requests]


def test_the_third_alone_counted_among_those_that_the_rule_is_about():
    chaos = Chaos(1, FakeClock())
    rule = chaos.served("/a/*", nth=3).reset()
    found = planned(chaos, WEB, Request("web", "/c"), WEB, WEB, WEB)
    assert found == [None, None, None, Plan(reset=True), None]
    assert (rule.seen, rule.times) == (4, 1)


def test_one_path_one_workload_or_all():
    chaos = Chaos(1, FakeClock())
    chaos.served("/a/b", workload="web").latency(1)
    assert planned(chaos, WEB, Request("api", "/a/b"), Request("web", "/a/b/c")) == [Plan(1), None, None]
    chaos(2).served().latency(2)
    assert planned(chaos, WEB, Request("", "/")) == [Plan(2), Plan(2)]


def test_for_a_while_and_until_its_end():
    clock = FakeClock()
    chaos = Chaos(1, clock)
    got = []
    with chaos.served(between=(10, 20)).reset():
        for _ in range(3):
            got.append(chaos.plan_served(WEB) is not None)
            clock.advance(10)
    assert got == [False, True, False]
    with chaos.served().reset():
        assert chaos.plan_served(WEB) == Plan(reset=True)
    assert chaos.plan_served(WEB) is None


def test_what_happens_to_one_adds_up_and_the_first_cut_counts():
    chaos = Chaos(1, FakeClock())
    chaos.served().latency(1)
    chaos.served().partial_body(3)
    chaos.served().latency(2)
    chaos.served().lost_response()
    chaos.served().partial_request(5)
    assert planned(chaos, WEB) == [Plan(latency=3, request=5, response=3, why=CUT)]


def test_the_same_seed_hits_the_same_and_calls_have_nothing_to_do_with_it():
    def hit(seed: int) -> list[bool]:
        chaos = Chaos(seed, FakeClock())
        chaos.served(rate=0.3).latency(1, jitter=0.5)
        return [plan is not None for plan in planned(chaos, *[WEB] * 60)]

    assert hit(7) == hit(7)
    assert hit(7) != hit(8)
    assert 5 < sum(hit(7)) < 30
    assert Chaos(1, FakeClock()).plan_served(WEB) is None


def test_it_says_what_it_did_and_what_it_was_never_asked():
    chaos = Chaos(1, FakeClock())
    chaos.served("/a/*", workload="web", nth=2, rate=0.9999).reset()
    planned(chaos, WEB, WEB)
    assert str(chaos).splitlines() == [
        "chaos.served('/a/*', workload='web', nth=2, rate=0.9999).reset(): 1 of 2 served requests",
        "  reset: no. 2 to /a/b, served by web",
    ]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        chaos.warn_of_unused()
    chaos.served("/raitings").reset()
    with pytest.warns(ChaosUnused, match="no such request was served; is its path written as it should be"):
        chaos.warn_of_unused()


def test_a_rate_is_a_probability():
    with pytest.raises(ValueError, match=r"not between 0 and 1"):
        Chaos(1, FakeClock()).served(rate=10)
