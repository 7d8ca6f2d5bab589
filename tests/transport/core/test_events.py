"""What an operator looks for at night has its line: each ejection and return, each breaker that opens and closes."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import httpx
import pytest

import meshlib
from tests.support.fake_clock import FakeClock
from tests.support.resources import destination_rule, pod, service, to, virtual_service

HOST = "reviews.default.svc.cluster.local"
RULE = virtual_service("reviews", {"route": [to("reviews")], "retries": {"attempts": 0}})
OUTLIERS = destination_rule(
    "reviews",
    outlierDetection={"consecutive5xxErrors": 2, "interval": "10s", "baseEjectionTime": "30s", "maxEjectionPercent": 100},
)  # fmt: skip


def policy(**spec: object) -> dict[str, object]:
    return {
        "apiVersion": "meshlib.dev/v1",
        "kind": "ResiliencePolicy",
        "metadata": {"name": "p", "namespace": "default"},
        "spec": {"targetRefs": [{"kind": "Service", "name": "reviews"}], **spec},
    }


class Calls:
    """A mesh on a fake clock before an upstream that says ``status``."""

    def __init__(self, *resources: object) -> None:
        self.clock = FakeClock()
        self.status = 200
        self.mesh = meshlib.Mesh.from_resources(
            [service("reviews"), pod("reviews", "v1", 1), RULE, *resources],  # type: ignore[list-item]
            clock=self.clock,
        )
        inner = httpx.MockTransport(lambda request: httpx.Response(self.status))
        self.client = httpx.Client(transport=self.mesh.http_transport(inner=inner))

    def call(self, status: int) -> int:
        self.status = status
        return self.client.get("http://reviews:9080/").status_code


@pytest.fixture
def told(caplog) -> Iterator[list[str]]:
    """Lines of level INFO, as they come."""
    caplog.set_level(logging.INFO, "meshlib")
    found: list[str] = []

    class Keep(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            if record.name in ("meshlib.outlier", "meshlib.breaker"):
                found.append(f"{record.levelname} {record.name} {record.getMessage()}")

    handler = Keep()
    logging.getLogger("meshlib").addHandler(handler)
    yield found
    logging.getLogger("meshlib").removeHandler(handler)


def test_each_ejection_and_each_return_is_a_line(told):
    calls = Calls(OUTLIERS)
    with calls.mesh:
        calls.call(503)
        assert told == []
        calls.call(503)
        where = f"127.0.0.1:1 of outbound|9080||{HOST}"
        assert told == [f"INFO meshlib.outlier {where} is ejected for at least 30 s: consecutive 5xx"]
        assert calls.call(200) == 503, "nobody is left"
        calls.clock.advance(29)
        calls.mesh.status()
        assert told[1:] == []
        calls.clock.advance(2)
        assert calls.call(200) == 200
        assert told[1:] == [f"INFO meshlib.outlier {where} is back in use: ejection time is over"]


def test_a_return_that_only_status_notices_is_a_line_too(told):
    calls = Calls(OUTLIERS)
    with calls.mesh:
        calls.call(503)
        calls.call(503)
        calls.clock.advance(41)
        calls.mesh.status()
        assert len(told) == 2


def test_the_lines_go_on_after_a_reload(told):
    calls = Calls(OUTLIERS)
    with calls.mesh:
        calls.call(503)
        calls.mesh.apply([service("reviews"), pod("reviews", "v1", 1), RULE, OUTLIERS, service("other")])
        calls.call(503)
        assert len(told) == 1


def test_nobody_waits_for_the_log_under_the_lock_of_a_cluster(told):
    calls = Calls(OUTLIERS)
    held: list[bool] = []

    class Look(logging.Handler):
        def emit(self, record: logging.LogRecord) -> None:
            (cluster,) = calls.mesh._core.live.bound.values()
            held.append(cluster.state.lock._is_owned())

    logging.getLogger("meshlib.outlier").addHandler(look := Look())
    try:
        with calls.mesh:
            calls.call(503)
            calls.call(503)
            calls.clock.advance(41)
            calls.call(200)
    finally:
        logging.getLogger("meshlib.outlier").removeHandler(look)
    assert held == [False, False]


@pytest.mark.parametrize("mode", ["enforce", "shadow"])
def test_a_breaker_that_opens_and_closes_is_a_line_each(told, mode):
    breaker = {"failureThreshold": 2, "resetTimeout": "10s", "mode": mode}
    calls = Calls(policy(circuitBreaker=breaker))
    shadow = " (mode: shadow, so calls go on)" if mode == "shadow" else ""
    line = f"INFO meshlib.breaker the circuit breaker of {HOST} is"
    opened = f"{line} open: calls are refused until a trial call succeeds{shadow}"
    with calls.mesh:
        calls.call(503)
        calls.call(503)
        assert told == [opened]
        assert calls.call(200) == (503 if mode == "enforce" else 200)
        assert told[1:] == [], "a call that is refused is counted, and no line"
        calls.clock.advance(11)
        calls.call(503)
        assert told[1:] == [opened], "the trial failed"
        calls.clock.advance(11)
        calls.call(200)
        assert told[2:] == [f"{line} closed again{shadow}"]
        counts = calls.mesh.status()["resilience"][0]["counts"]
        assert counts["circuitBreaker: " + ("" if mode == "enforce" else "would have ") + "open"] == 2


def test_other_mechanisms_are_counted_and_give_no_line(told):
    calls = Calls(policy(retryBudget={"percent": 20, "minPerSecond": 1}))
    with calls.mesh:
        calls.call(503)
        assert told == []
