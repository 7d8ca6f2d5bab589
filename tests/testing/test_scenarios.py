"""Scenarios are outages that follow each other as they are said to."""

from __future__ import annotations

import httpx

from meshlib.testing import scenarios

ONCE = """
    apiVersion: networking.istio.io/v1
    kind: VirtualService
    metadata: {name: ratings}
    spec:
      hosts: [ratings]
      http: [{route: [{destination: {host: ratings}}], retries: {attempts: 0}}]
"""
ENDPOINTS = ["127.0.0.1:9081", "127.0.0.1:9082"]


def failing(mesh, fake_clock, times: int) -> list[set[str]]:
    """Which endpoints fail, every five seconds."""
    made, found = mesh(ONCE, endpoints={"ratings": ENDPOINTS}), []
    with made.client(transport=httpx.MockTransport(lambda _: httpx.Response(200)), local_replies="respond") as client:
        for _ in range(times):
            calls = [client.get("http://ratings/") for _ in range(12)]
            found.append({call.extensions["mesh"].endpoint for call in calls if call.status_code == 503})
            fake_clock.advance(5)
    return found


def test_in_a_rolling_restart_one_endpoint_after_the_other_is_down(mesh, chaos, fake_clock):
    chaos.play(scenarios.rolling_restart(ENDPOINTS, seconds=5))
    assert failing(mesh, fake_clock, 3) == [{ENDPOINTS[0]}, {ENDPOINTS[1]}, set()]


def test_what_flaps_is_up_and_down_in_turns(mesh, chaos, fake_clock):
    chaos.play(scenarios.flapping("ratings", up=5, down=10, times=2))
    down = [bool(endpoints) for endpoints in failing(mesh, fake_clock, 7)]
    assert down == [False, True, True, False, True, True, False]


def test_a_brownout_is_late_and_now_and_then_broken(mesh, chaos, fake_clock):
    chaos(1).play(scenarios.brownout("ratings", latency=0.5, resets=0.3))
    (endpoints,) = failing(mesh, fake_clock, 1)
    late, reset = chaos.rules
    assert (late.times, 0 < reset.times < 12, fake_clock.sleeps) == (12, True, [0.5] * 12)
    assert endpoints
