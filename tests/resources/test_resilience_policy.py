"""meshlib's own resource: every mechanism loads, wrong ones are refused, and nothing pretends to act yet."""

from __future__ import annotations

import pytest

import meshlib
from meshlib.resources.loader import load_objects


def policy(**spec) -> dict:
    return {
        "apiVersion": "meshlib.dev/v1",
        "kind": "ResiliencePolicy",
        "metadata": {"name": "reviews"},
        "spec": {"targetRefs": [{"kind": "Service", "name": "reviews"}], **spec},
    }


WHOLE = policy(
    circuitBreaker={"failureThreshold": 5, "resetTimeout": "30s", "storage": {"redis": {"url": "redis://localhost"}}},
    bulkhead={"maxConcurrent": 10, "maxWaiting": 5},
    retryBudget={"percent": 20.0, "minPerSecond": 3},
    hedging={"delay": "50ms", "maxHedges": 1},
    adaptiveConcurrency={"algorithm": "gradient", "minLimit": 1, "maxLimit": 100, "mode": "shadow"},
    deadline={"header": "x-deadline", "propagate": True},
    fallback={"response": {"status": 200, "body": "[]"}},
    loadBalancer={"peakEwma": {"decay": "10s"}},
    rateLimit={"requestsPerSecond": 100.0, "burst": 10},
    loadShedding={"maxLag": "100ms"},
)


def test_every_mechanism_loads_with_its_mode():
    result = load_objects([WHOLE])
    assert result.errors == []
    spec = result.resources[0].spec
    assert (spec.circuit_breaker.mode, spec.adaptive_concurrency.mode) == ("enforce", "shadow")
    assert (spec.circuit_breaker.reset_timeout, spec.hedging.delay) == (30.0, 0.05)


@pytest.mark.parametrize(
    ("resource", "code"),
    [
        (policy(bulkhead={}), "missing-field"),
        (policy(hedging={}), "hedging-when"),
        (policy(hedging={"delay": "1s", "percentile": 99.0}), "hedging-when"),
        (policy(fallback={}), "fallback-what"),
        (policy(circuitBreaker={"mode": "maybe"}), "bad-enum"),
        (policy(circutBreaker={}), "unknown-field"),
        (policy(targetRefs=None), "no-target"),
        (policy(host="reviews"), "no-target"),
    ],
)
def test_what_makes_no_sense_is_refused(resource, code):
    assert code in {p.code for p in load_objects([resource]).errors}


def test_it_says_what_does_not_act_yet():
    with meshlib.Mesh.from_resources([WHOLE]) as mesh:
        (notice,) = [p for p in mesh.problems if p.code == "no-effect"]
    assert notice.message.startswith("no effect: rateLimit (it does not say")
    assert "loadShedding (spec.inbound.loadShedding acts)" in notice.message
