"""Most calls are noted without a look at anything but what is usual at their endpoint, and told as all others are."""

from __future__ import annotations

import random
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
from prometheus_client import CollectorRegistry, disable_created_metrics, enable_created_metrics, generate_latest

import meshlib
from meshlib.compiler.routes import Destination
from meshlib.engine.outcome import Failure, Outcome
from meshlib.engine.route import route
from meshlib.policy.peer_metadata import PeerMetadata
from meshlib.telemetry.observe import Telemetry
from meshlib.transport.httpx.request import HttpxRequest
from tests.support.fake_clock import FakeClock
from tests.support.resources import pod, service, virtual_service

HOSTS = {"a.default.svc.cluster.local": object(), "b.default.svc.cluster.local": object()}
DESTINATIONS = [Destination(f"{name}.default.svc.cluster.local", "", 80, 1, name) for name in ("a", "b")]
PEER = PeerMetadata("reviews-v1", namespace="shop")
RULES = [SimpleNamespace(has_stat_prefix=False), None]


def telemetry(short: bool, clock: FakeClock) -> tuple[Telemetry, CollectorRegistry]:
    registry = CollectorRegistry()
    made = Telemetry(registry, None, meshlib.Workload("front"), clock.monotonic)
    if not short:
        made._usual = {}  # nobody fills it
    return made, registry


def call(rng: random.Random, now: float) -> Any:
    destination = rng.choice(DESTINATIONS)
    ended: tuple[str, int, None, float] | None = ("", 200, None, now)
    outcome: Outcome | None = Outcome(status=200, headers=[(b"a", b"b")], whole=b"x" * rng.randrange(3))
    assert outcome is not None
    outcome.size = rng.choice([0, 40])
    more = {}
    match rng.randrange(6):
        case 0:
            outcome.whole, more["streamed"] = None, rng.randrange(2000)
        case 1:
            ended = None
        case 2:
            outcome, ended = None, None
        case 3:
            outcome.failure = Failure.RESET
    record = SimpleNamespace(
        destination=rng.choice([destination, destination, destination, None]),
        rule_object=rng.choice(RULES),
        endpoint=rng.choice(["10.0.0.1:80", "10.0.0.2:80"]),
        status=rng.choice([200, 200, 200, 404, 503]),
        flags=rng.choice(["", "", "", "UF,URX"]),
        grpc_status=rng.choice([None, None, None, 0]),
        peer_metadata=rng.choice([None, None, None, PEER]),
        host=destination.host,
        started=now - rng.randrange(1024) / 1024,  # sums are exact, in whatever order
        virtual_host=HOSTS[destination.host],
        attempted=ended,
    )
    live = SimpleNamespace(snapshot=SimpleNamespace(blocked=None), bound={})
    sent = rng.randrange(3000)
    protocol = "http" if record.grpc_status is None else "grpc"
    request = SimpleNamespace(protocol=protocol, sent_bytes=lambda: sent, scheme="http")
    return SimpleNamespace(record=record, outcome=outcome, request=request, live=live, **more)


@pytest.mark.parametrize("seed", range(20))
def test_both_ways_count_the_same(seed: int) -> None:
    disable_created_metrics()
    try:
        rng, clock = random.Random(seed), FakeClock()
        (short, ours), (long, theirs) = telemetry(True, clock), telemetry(False, clock)
        for n in range(200):
            clock.advance(rng.randrange(16) / 1024)
            made = call(rng, clock.monotonic())
            short.ended(made, None)
            long.ended(made, None)
            if n == 100:
                short._metrics.forget_short_cuts()
        assert short.failures == long.failures == 0
        assert generate_latest(ours) == generate_latest(theirs)
    finally:
        enable_created_metrics()


def test_most_calls_go_that_way(monkeypatch: Any) -> None:
    clock = FakeClock()
    made, _ = telemetry(True, clock)
    rng = random.Random(1)
    counted: list[object] = []
    finished = type(made._metrics).finished
    monkeypatch.setattr(
        type(made._metrics), "finished", lambda self, *said: (counted.append(said), finished(self, *said))
    )
    for _ in range(20):
        one = call(rng, 1.0)
        one.request.protocol, one.outcome = "http", Outcome(status=200, headers=[], whole=b"x")
        one.record = SimpleNamespace(
            **{**vars(one.record), "destination": DESTINATIONS[0], "status": 200, "flags": "", "grpc_status": None},
        )
        one.record.endpoint, one.record.peer_metadata = "10.0.0.1:80", None
        one.record.attempted = ("10.0.0.1:80", 200, None, 1.0)
        made.ended(one, None)
    assert len(counted) == 1, "all but the first are noted"


def test_rules_that_count_by_name_and_others_have_destinations_of_their_own() -> None:
    """What is usual goes by the destination: no call of a match with a name is taken for one without."""
    ports = [{"name": f"http-{n}", "port": n, "targetPort": 9081} for n in (80, 81)]
    found = [
        {**service("reviews"), "spec": {**service("reviews")["spec"], "ports": ports}},
        pod("reviews", "v1", 9081),
        virtual_service(
            "reviews",
            {
                "match": [{"port": 80, "statPrefix": "named"}, {"port": 81}],
                "route": [{"destination": {"host": "reviews", "port": {"number": 80}}}],
            },
        ),
    ]
    with meshlib.Mesh.from_resources(found, registry=CollectorRegistry()) as mesh:
        core = mesh._core
        assert core.live is not None
        rules = []
        for port in (80, 81):
            request = HttpxRequest(httpx.Request("GET", f"http://reviews:{port}/"), None)
            rule = route(core.live.snapshot, request).rule_object
            assert rule is not None
            rules.append(rule)
    assert [rule.has_stat_prefix for rule in rules] == [True, False]
    assert rules[0].destinations[0] is not rules[1].destinations[0]


def test_responses_that_two_hosts_make_here_are_each_its_own() -> None:
    registry = CollectorRegistry()
    here = {"directResponse": {"status": 200, "body": {"string": "here"}}}
    found = [made for name in ("a", "b") for made in (service(name), virtual_service(name, here))]
    with meshlib.Mesh.from_resources(found, registry=registry) as mesh, mesh.client() as client:
        for name in ("a", "b", "b"):
            client.get(f"http://{name}/")
    assert {
        sample.labels["destination_service_name"]: sample.value
        for family in registry.collect()
        for sample in family.samples
        if sample.name == "istio_requests_total"
    } == {"a": 1, "b": 2}
