"""The fallback of a ResiliencePolicy: what answers a call that failed for good."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.engine.outcome import Failure, Outcome
from tests.support.mesh_config import config_map
from tests.support.resilience import ANSWER, BREAKER, HOST, bench
from tests.support.resources import pod, service


@pytest.mark.parametrize("outcome", [502, 503, 504, Failure.CONNECT_FAILED, Failure.RESET, Failure.TIMEOUT])
def test_a_call_that_failed_for_good_is_answered_by_the_fallback(outcome):
    made = bench(fallback=ANSWER, rule={"timeout": "1s"})
    answer, call = made.call(made.script(outcome))
    assert (answer.status, answer.whole, (b"x-stale", b"1") in answer.headers) == (200, b"none today", True)
    assert call.record.flags.endswith("FB")
    assert made.state(f"outbound|9080||{HOST}").active == 0


@pytest.mark.parametrize("outcome", [200, 404, 500, Failure.INVALID_REQUEST])
def test_other_answers_are_left_alone(outcome):
    answer, _ = bench(fallback=ANSWER).call(bench().script(outcome))
    assert (answer.status or answer.failure) == outcome


def test_the_fallback_comes_after_the_retries():
    made = bench(fallback=ANSWER, rule={"retries": {"attempts": 2, "retryOn": "5xx"}})
    script = made.script(503)
    made.call(script)
    assert len(script.sends) == 3


def test_refusals_of_other_mechanisms_fall_back_too():
    made = bench(fallback=ANSWER, circuitBreaker={**BREAKER, "failureThreshold": 1})
    made.call(made.script(500))
    script = made.script(200)
    assert made.call(script)[0].whole == b"none today"
    assert script.sends == []


def test_another_destination_may_be_the_fallback():
    made = bench(
        service("cache"), pod("cache", "v1", 77), fallback={"destination": {"host": "cache", "port": {"number": 9080}}}
    )
    script = made.script(503, 200)
    answer, call = made.call(script)
    assert (answer.status, call.record.host) == (200, "cache.default.svc.cluster.local")
    assert [a.status for a in call.record.attempts] == [503, 200]
    assert script.tried[-1].endswith(":77")
    assert call.outcome is answer  # whose bytes metrics and access logs count


def test_a_fallback_destination_is_called_as_often_as_the_mesh_config_says():
    cache = [service("cache"), pod("cache", "v1", 77)]
    policy = {"destination": {"host": "cache", "port": {"number": 9080}}}
    for mesh, tries in (([], 3), ([config_map(defaultHttpRetryPolicy={"attempts": 0})], 1)):
        made = bench(*cache, *mesh, fallback=policy, rule={"retries": {"attempts": 0}})
        script = made.script(*[Outcome(Failure.CONNECT_FAILED)] * 4)
        made.call(script)
        assert [endpoint for endpoint in script.tried if endpoint.endswith(":77")] == ["127.0.0.1:77"] * tries


def test_the_failed_call_is_over_before_the_fallback_begins():
    made = bench(
        service("cache"), pod("cache", "v1", 77), fallback={"destination": {"host": "cache", "port": {"number": 9080}}}
    )
    seen = []

    def behave(effect: Any) -> Any:
        seen.append(made.state(f"outbound|9080||{HOST}").active)
        return made.script(503 if len(seen) == 1 else 200).send(effect)

    made.call(made.script(behave))
    assert seen == [1, 0]


def test_the_body_of_the_failed_answer_is_dropped():
    class Body:
        aborted = False

        def abort(self) -> None:
            self.aborted = True

    body = Body()
    made = bench(fallback=ANSWER)
    assert made.call(made.script(Outcome(status=503, body=body)))[0].status == 200
    assert body.aborted
