"""What calls by a plain rule have in common is looked up once for all of them."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.engine import plain_call
from meshlib.engine.effects import Send
from meshlib.engine.plan import INFINITE, MOST_DRAWN, Plan
from tests.support.outbound import PODS, SUBSETS, V1, bench
from tests.support.resources import to, virtual_service
from tests.support.scripted import Bench

ONE = {"route": [to("reviews", "v1")]}
TWO = {"route": [to("reviews", "v1", 100), to("reviews", "v2", 0)]}


def plan_of(b: Bench) -> Plan:
    call, _ = b.begin()
    assert type(plain_call.begun(call)) is Send
    assert call.record.rule_object is not None
    plan = call.live.plain[call.record.rule_object]
    assert plan is not None
    return plan


@pytest.mark.parametrize(
    ("more", "timeout", "within"),
    [
        ({}, None, INFINITE),
        ({"timeout": "3s"}, 3.0, 3.0),
        ({"retries": {"attempts": 1, "perTryTimeout": "2s"}}, None, 2.0),
        ({"timeout": "3s", "retries": {"attempts": 1, "perTryTimeout": "2s"}}, 3.0, 2.0),
        ({"timeout": "1s", "retries": {"attempts": 1, "perTryTimeout": "2s"}}, 1.0, 1.0),
    ],
)
def test_an_attempt_has_the_time_of_its_rule_or_of_a_try(more: Any, timeout: float | None, within: float) -> None:
    plan = plan_of(bench({**ONE, **more}))
    assert (plan.timeout, plan.within) == (timeout, within)


def test_a_sole_destination_is_not_chosen() -> None:
    plan = plan_of(bench(ONE))
    assert plan.only is plan.ways[0]
    assert plan_of(bench(TWO)).only is None


@pytest.mark.parametrize(
    ("weights", "drawn"), [((2, 1), (0, 0, 1)), ((0, 2), (1, 1)), ((MOST_DRAWN, 1), None), ((10**6, 1), None)]
)
def test_each_way_is_there_as_often_as_it_weighs_where_that_is_not_too_often(
    weights: tuple[int, int], drawn: tuple[int, ...] | None
) -> None:
    v1, v2 = weights
    plan = plan_of(bench({"route": [to("reviews", "v1", v1), to("reviews", "v2", v2)]}))
    assert plan.span == v1 + v2
    assert plan.drawn == (None if drawn is None else tuple(plan.ways[at] for at in drawn))


def test_a_cluster_is_bound_when_the_first_call_goes_there() -> None:
    b = bench(TWO)
    plan = plan_of(b)
    assert b.live is not None
    assert plan.ways[0].cluster is b.live.bound[V1]
    assert plan.ways[1].cluster is None
    assert list(b.live.bound) == [V1]


def test_another_snapshot_has_plans_of_its_own() -> None:
    b = bench(ONE)
    plan, live = plan_of(b), b.live
    assert plan_of(b) is plan
    b.apply(*PODS, SUBSETS, virtual_service("reviews", ONE))
    assert b.live is not live
    assert plan_of(b) is not plan
