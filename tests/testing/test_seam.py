"""Between exchanges and runtimes: races in the time of the plans, and nothing left behind."""

from __future__ import annotations

import asyncio

import httpx
import pytest

from meshlib.engine.exchange import exchange_of
from meshlib.testing import Chaos, FakeClock
from meshlib.testing.seam import Plan, taking_part
from meshlib.transport.core.mesh_core import MeshCore

HEDGED = """
    apiVersion: meshlib.dev/v1
    kind: ResiliencePolicy
    metadata: {name: reviews}
    spec:
      host: reviews
      hedging: {delay: 100ms, maxHedges: 1}
"""
TWO = {"reviews": ["127.0.0.1:9081", "127.0.0.1:9082"]}
URL = "http://reviews/"


@pytest.fixture(params=["threads", "asyncio"])
def get(request, mesh):
    """``get(chaos)`` makes a hedged call; its record."""

    def get(**options):
        made, transport = mesh(HEDGED, endpoints=TWO, **options), httpx.MockTransport(lambda _: httpx.Response(200))
        if request.param == "threads":
            return made.client(transport=transport).get(URL).extensions["mesh"]

        async def go():
            async with made.async_client(transport=transport) as client:
                return (await client.get(URL)).extensions["mesh"]

        return asyncio.run(go())

    return get


def test_without_a_planner_the_seam_is_the_engines_own():
    with taking_part(Chaos(1, FakeClock())):
        assert MeshCore.exchange_of is not exchange_of
        with taking_part(Chaos(2, FakeClock())):
            pass
        assert MeshCore.exchange_of is not exchange_of
    assert MeshCore.exchange_of is exchange_of


def test_a_hedge_begins_when_the_first_try_is_late_and_wins(get, chaos, fake_clock):
    chaos.on("reviews", nth=1).latency(5)
    before = fake_clock.monotonic()
    record = get()
    assert fake_clock.monotonic() == pytest.approx(before + 0.1)
    assert [attempt.failure for attempt in record.attempts] == ["lost to a hedge", ""]
    assert record.attempts[0].endpoint != record.attempts[1].endpoint


def test_a_first_try_that_is_in_time_needs_no_hedge(get, chaos, fake_clock):
    chaos.on("reviews").latency(0.09)
    assert len(get().attempts) == 1
    assert fake_clock.sleeps == [pytest.approx(0.09)]


def test_the_first_try_may_still_win(get, chaos, fake_clock):
    chaos.on("reviews", nth=1).latency(0.15)
    chaos.on("reviews", nth=2).latency(0.2)
    before = fake_clock.monotonic()
    record = get()
    assert fake_clock.monotonic() == pytest.approx(before + 0.15)
    assert [attempt.failure for attempt in record.attempts] == ["lost to a hedge", ""]


def test_a_try_that_fails_leaves_the_race_to_the_other(get, chaos, fake_clock):
    slow = chaos.on("reviews", nth=1)
    slow.latency(0.15)
    slow.reset()
    chaos.on("reviews", nth=2).latency(0.2)
    before = fake_clock.monotonic()
    record = get()
    assert fake_clock.monotonic() == pytest.approx(before + 0.3)
    assert record.status == 200


def test_plans_add_up():
    changed = []
    one = Plan(latency=1, change=lambda outcome: changed.append("one") or outcome)
    two = Plan(latency=2, change=lambda outcome: changed.append("two") or outcome)
    both = one.and_then(two)
    assert both.change is not None
    both.change(None)
    assert (both.latency, changed) == (3, ["two", "one"]), "who is further from the caller changes it first"
    assert one.and_then(None) is one
