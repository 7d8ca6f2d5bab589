"""``spec.inbound`` of ResiliencePolicies, from YAML to the verdict on a request, by a clock that is moved by hand."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlib.engine.drivers import finish
from meshlib.engine.effects import Ended
from meshlib.engine.inbound import EXPIRED
from meshlib.engine.inbound_request import InboundRequest
from meshlib.workload import Workload
from tests.support.protection import Door, protection
from tests.support.resources import service

TEN = {"requests": 10, "per": "1s"}


def limited(**limit):
    return Door(protection(rateLimits=[{"requests": 1, "per": "1m", **limit}]))


# -- rate limits ------------------------------------------------------------------------------------------------------


def test_requests_beyond_the_limit_get_429_until_there_are_tokens_again():
    with Door(protection(rateLimits=[TEN])) as door:
        assert door.statuses(12) == [0] * 10 + [429] * 2
        door.clock.advance(0.11)
        assert door.statuses(2) == [0, 429]


def test_a_refusal_is_told_as_envoy_tells_it_and_when_to_come_back():
    with limited() as door:
        door.ask()
        call, _, refusal = door.begin()
        assert refusal is not None
        assert (refusal.status, refusal.text, refusal.grpc) == (429, "local_rate_limited", 14)
        assert refusal.headers == ((b"retry-after", b"60"), (b"x-envoy-ratelimited", b"true"))
        assert (call.flags, call.status) == ("RL", 429)
        assert "rateLimits[0]" in refusal.detail


def test_grpc_gets_resource_exhausted_where_that_is_configured():
    with Door(protection(rateLimits=[TEN | {"requests": 1}], rateLimitedAsResourceExhausted=True)) as door:
        door.ask(protocol="grpc")
        refusal = door.ask(protocol="grpc")
        assert refusal is not None
        assert refusal.grpc == 8


@pytest.mark.parametrize(
    ("key", "one", "other"),
    [
        ("principal", {"principal": "spiffe://a/ns/b/sa/c"}, {"principal": "spiffe://a/ns/b/sa/d"}),
        ("remoteIp", {"peer": "10.0.0.1:1"}, {"peer": "10.0.0.2:1"}),
        ("route", {"protocol": "grpc", "path": "/a.S/One"}, {"protocol": "grpc", "path": "/a.S/Two"}),
        ({"by": "remoteIp"}, {"peer": "10.0.0.1:1"}, {"peer": "10.0.0.2:1"}),
        ({"header": "X-Api-Key"}, {"headers": [("x-api-key", "a")]}, {"headers": [("x-api-key", "b")]}),
        ({"claim": "tenant.id"}, {"claims": {"tenant": {"id": 1}}}, {"claims": {"tenant": {"id": 2}}}),
    ],
)
def test_each_key_has_its_own_bucket_and_those_without_share_one(key, one, other):
    with limited(key=key) as door:
        assert door.statuses(2, **one) == [0, 429]
        assert door.statuses(2, **other) == [0, 429]
        assert door.statuses(2) == [0, 429]


def test_what_matches_nothing_is_not_limited_and_no_spelling_gets_around_it():
    match = [{"path": {"prefix": "/api"}, "method": "GET", "headers": {"x-tier": "free"}}]
    free = [("x-tier", "free")]
    with limited(match=match) as door:
        assert door.statuses(3, "/other", headers=free) == [0] * 3
        assert door.statuses(3, "/api", headers=free, method="POST") == [0] * 3
        assert door.statuses(3, "/api") == [0] * 3
        assert [door.statuses(1, path, headers=free) for path in ("/api", "/%61pi", "//api")] == [[0], [429], [429]]


def test_burst_is_what_may_come_at_once():
    with limited(requests=60, burst=2) as door:
        assert door.statuses(3) == [0, 0, 429]


def test_callers_are_told_what_is_left_when_that_is_asked_for():
    limits = [
        {"requests": 5, "per": "1m"},
        {"requests": 3, "per": "1s"},
        {"requests": 9, "per": "1s", "mode": "shadow"},
    ]
    with Door(protection(rateLimits=limits, xRateLimitHeaders=True)) as door:
        call, exchange, _ = door.begin()
        finish(exchange, Ended(200))
        assert call.request.for_caller == [
            (b"x-ratelimit-limit", b"3, 3;w=1"),
            (b"x-ratelimit-remaining", b"2"),
            (b"x-ratelimit-reset", b"0"),
        ], "of the one that is nearest"
        door.statuses(2)
        call, _, refusal = door.begin()
        assert refusal is not None
        assert (b"x-ratelimit-remaining", b"0") in refusal.headers
        assert call.request.for_caller == [], "of the one that refuses, and once"
    with Door(protection(rateLimits=limits)) as door:
        call, exchange, _ = door.begin()
        finish(exchange, Ended(200))
        assert call.request.for_caller == []


def test_buckets_survive_a_reload_as_long_as_their_limit_is_the_same():
    with Door(protection(rateLimits=[TEN])) as door:
        door.statuses(10)
        door.apply(protection(rateLimits=[TEN], maxConcurrent=5))
        assert door.statuses(1) == [429]
        door.apply(protection(rateLimits=[TEN | {"requests": 11}]))
        assert door.statuses(12) == [0] * 11 + [429]
        door.apply()
        assert door.statuses(20) == [0] * 20


# -- whom it is about -------------------------------------------------------------------------------------------------

ONE = {"rateLimits": [{"requests": 1, "per": "1m"}]}


@pytest.mark.parametrize(
    ("policy", "acts"),
    [
        (protection(**ONE), True),
        (protection(spec={"selector": {"matchLabels": {"app": "reviews"}}}, **ONE), True),
        (protection(spec={"selector": {"matchLabels": {"app": "ratings"}}}, **ONE), False),
        (protection(spec={"targetRefs": [{"kind": "Service", "name": "reviews"}]}, **ONE), True),
        (protection(spec={"host": "reviews"}, **ONE), True),
        (protection(spec={"host": "ratings"}, **ONE), False),
        (protection(namespace="elsewhere", **ONE), False),
        (protection(namespace="istio-system", **ONE), True),
    ],
)
def test_it_is_about_the_workloads_of_its_services_its_selector_or_its_namespace(policy, acts):
    with Door(policy, service("reviews"), service("ratings")) as door:
        assert door.statuses(2) == [0, 429 if acts else 0]


def test_a_service_that_comes_later_brings_its_policy():
    policy = protection(spec={"host": "reviews"}, **ONE)
    with Door(policy) as door:
        assert door.statuses(2) == [0, 0]
        door.apply(policy, service("reviews"))
        assert door.statuses(2) == [0, 429]
        door.apply(policy)
        assert door.statuses(2) == [0, 0]


# -- too much to do ---------------------------------------------------------------------------------------------------


def test_one_request_too_many_gets_503_until_another_ends():
    with Door(protection(maxConcurrent=2)) as door:
        running = [door.begin() for _ in range(2)]
        call, _, refusal = door.begin()
        assert refusal is not None
        assert (refusal.status, refusal.grpc, call.flags) == (503, 14, "UO")
        assert refusal.headers == ((b"x-envoy-overloaded", b"true"), (b"retry-after", b"1"))
        finish(running[0][1], Ended(200))
        assert door.ask() is None
        finish(running[1][1], Ended(200))
        assert door.state.status()["active"] == 0


@pytest.mark.parametrize("how", ["finish", "close", "twice", "dropped"])
def test_a_request_leaves_once_however_it_ends(how):
    with Door(protection(maxConcurrent=2)) as door:
        for _ in range(5):
            _call, exchange, refusal = door.begin()
            assert refusal is None
            assert door.state.status()["active"] == 1
            if how == "finish":
                finish(exchange)
            elif how == "close":
                exchange.close()
            elif how == "twice":
                finish(exchange, Ended(500))
                exchange.close()
                finish(exchange)
            del exchange
            assert door.state.status()["active"] == 0


def test_requests_of_before_a_reload_leave_the_count_of_after_it():
    with Door(protection(maxConcurrent=1)) as door:
        _, exchange, _ = door.begin()
        door.apply(protection(maxConcurrent=2))
        assert door.state.status()["active"] == 1
        _, second, refusal = door.begin()
        assert refusal is None
        assert door.ask() is not None
        finish(exchange, Ended(200))
        finish(second, Ended(200))
        assert door.state.status()["active"] == 0


def test_what_is_refused_later_does_not_stay():
    with Door(protection(maxConcurrent=1, **ONE)) as door:
        assert door.statuses(3) == [0, 429, 429]
        assert door.state.status()["active"] == 0


@pytest.mark.parametrize(
    ("late", "queued", "shed"), [(0.19, 0, False), (0.2, 0, True), (0, 0.99, False), (0, 1.0, True)]
)
def test_late_loops_and_long_lines_for_a_thread_shed_load(late, queued, shed):
    with Door(protection(loadShedding={"maxLag": "200ms", "maxQueueTime": "1s"})) as door:
        refusal = door.ask(late=late, queued=queued)
        assert (refusal is not None) is shed
        if refusal is not None:
            assert (refusal.status, refusal.flag) == (503, "UO")


def test_health_checks_are_never_shed():
    shedding = {"loadShedding": {"maxLag": "200ms"}, "maxConcurrent": 1}
    with Door(protection(**shedding)) as door:
        running = door.begin()
        assert door.ask("/", late=1.0) is not None
        assert door.ask("/healthz", late=1.0) is None
        assert door.ask("/grpc.health.v1.Health/Check", late=1.0, protocol="grpc") is None
    with Door(protection(healthChecks=["/up", {"prefix": "/probe/"}], **shedding)) as door:
        running = door.begin()
        assert running[2] is None
        assert [door.ask(path, late=1.0) is None for path in ("/up", "/probe/x", "/healthz")] == [True, True, False]


def test_priorities_say_who_is_turned_away_first():
    priorities = [
        {"match": [{"path": "/pay"}], "priority": "critical"},
        {"match": [{"path": "/buy"}], "priority": "high"},
        {"match": [{"headers": {"user-agent": {"prefix": "bot"}}}, {"path": "/export"}], "priority": "low"},
    ]
    with Door(protection(maxConcurrent=10, loadShedding={"maxLag": "1s"}, priorities=priorities)) as door:

        def let_in(late: float = 0.0) -> list[str]:
            return [path for path in ("/pay", "/buy", "/", "/export") if door.ask(path, late=late) is None]

        running = []
        for more, wanted in ((5, ["/pay", "/buy", "/"]), (3, ["/pay", "/buy"]), (2, ["/pay"])):
            running += [door.begin("/pay") for _ in range(more)]
            assert let_in() == wanted
    with Door(protection(loadShedding={"maxLag": "1s"}, priorities=priorities)) as door:
        for late, wanted in ((0.5, 3), (0.8, 2), (1.0, 1)):
            assert len(let_in(late)) == wanted


def test_an_adaptive_limit_shrinks_when_requests_take_longer_and_never_below_its_least():
    with Door(protection(adaptiveConcurrency={"algorithm": "gradient", "minLimit": 2, "maxLimit": 20})) as door:
        for seconds in [0.01] * 20 + [1.0] * 60:
            running = [begun for _ in range(30) if (begun := door.begin())[2] is None]
            door.clock.advance(seconds)
            for _, exchange, _ in running:
                finish(exchange, Ended(200))
        assert 2 <= door.state.status()["concurrency_limit"] < 10
        assert len(running) >= 2


def test_a_request_that_took_longer_than_its_deadline_shrinks_the_limit():
    with Door(protection(adaptiveConcurrency={}, deadline={"default": "1s"})) as door:
        before = door.state._adaptive.limit
        _, exchange, _ = door.begin()
        door.clock.advance(2.0)
        exchange.close()
        assert door.state._adaptive.limit < before


def test_what_checks_refuse_says_nothing_of_how_long_serving_takes():
    with Door(protection(adaptiveConcurrency={"minLimit": 1, "maxLimit": 20}, **ONE)) as door:
        door.ask()
        before = door.state._adaptive._base, door.state._adaptive.limit
        assert door.statuses(50) == [429] * 50
        assert (door.state._adaptive._base, door.state._adaptive.limit) == before


# -- sizes and time ---------------------------------------------------------------------------------------------------


def test_a_body_that_says_it_is_too_large_gets_413():
    with Door(protection(maxBodyBytes=100)) as door:
        assert door.ask(headers=[("content-length", "100")]) is None
        refusal = door.ask(headers=[("content-length", "101")])
        assert refusal is not None
        assert refusal.status == 413
        assert door.ask(headers=[("content-length", "9" * 5000)]) is not None


def test_a_body_that_becomes_too_large_as_it_streams_gets_413():
    with Door(protection(maxBodyBytes=100)) as door:
        call, exchange, _ = door.begin()
        assert call.received(60) is None
        assert call.received(40) is None
        refusal = call.received(1)
        assert refusal is not None
        assert refusal.status == 413
        assert call.request_bytes == 101
        finish(exchange, Ended(413))
    with Door() as door:
        call, exchange, _ = door.begin()
        assert call.received(10**9) is None
        finish(exchange, Ended(200))


def test_no_body_at_all_may_be_what_is_allowed():
    with Door(protection(maxBodyBytes=0)) as door:
        assert door.ask(headers=[("content-length", "0")]) is None
        assert door.ask(headers=[("content-length", "1")]) is not None


def test_a_header_that_is_too_large_gets_431():
    with Door(protection(maxHeaderBytes=1000)) as door:
        assert door.ask(headers=[("x", "y" * 900)]) is None
        for view in ({"headers": [("x", "y" * 1000)]}, {"path": "/" + "y" * 1000}, {"query": "y" * 1000}):
            refusal = door.ask(**view)
            assert refusal is not None
            assert refusal.status == 431


@pytest.mark.parametrize(
    ("deadline", "header", "left"),
    [
        ({}, None, None),
        ({}, "1500", 1.5),
        ({"default": "5s"}, None, 5.0),
        ({"default": "5s"}, "1500", 1.5),
        ({"default": "5s"}, "60000", 5.0),
        ({"default": "5s"}, "soon", 5.0),
        ({"header": "grpc-timeout", "default": "9s"}, "2S", 2.0),
        ({"default": "5s", "mode": "shadow"}, "1", None),
    ],
)
def test_a_request_has_as_long_as_its_header_says_and_at_most_the_default(deadline, header, left):
    name = deadline.get("header", "x-request-deadline")
    with Door(protection(deadline=deadline)) as door:
        call, exchange, _ = door.begin(headers=[] if header is None else [(name, header)])
        assert call.deadline == (None if left is None else pytest.approx(door.clock.now + left))
        finish(exchange, Ended(200))


def test_a_deadline_that_has_passed_is_refused_as_grpc_timeout_is():
    with Door(protection(deadline={})) as door:
        assert door.ask(headers=[("x-request-deadline", "0")]) is EXPIRED


# -- shadow -----------------------------------------------------------------------------------------------------------

SHADOWED = protection(
    rateLimits=[{"requests": 1, "per": "1h", "mode": "shadow"}, {"requests": 1, "key": "remoteIp", "mode": "shadow"}],
    loadShedding={"maxLag": "10ms", "maxQueueTime": "10ms", "mode": "shadow"},
    adaptiveConcurrency={"minLimit": 1, "maxLimit": 1, "mode": "shadow"},
    deadline={"default": "1s", "mode": "shadow"},
    xRateLimitHeaders=True,
)
REQUESTS = st.lists(
    st.tuples(
        st.sampled_from(["/", "/api", "/healthz"]),
        st.floats(0, 1),
        st.floats(0, 1),
        st.sampled_from(["10.0.0.1:1", "10.0.0.2:1", ""]),
        st.floats(0, 3),
        st.booleans(),
    ),
    max_size=12,
)


@settings(max_examples=25, deadline=None)
@given(REQUESTS)
def test_mechanisms_in_shadow_change_nothing(requests):
    def seen(*resources):
        with Door(*resources) as door:
            found, running = [], []
            for path, late, queued, peer, seconds, stays in requests:
                call, exchange, refusal = door.begin(path, late=late, queued=queued, peer=peer)
                running.append(exchange)
                if not stays:
                    finish(exchange, Ended(200))
                door.clock.advance(seconds)
                found.append((refusal, call.deadline, list(call.request.for_caller), call.flags, call.status))
            for exchange in running:
                exchange.close()
            return found

    assert seen(SHADOWED) == seen()


def test_mechanisms_in_shadow_are_counted():
    with Door(SHADOWED) as door:
        _, running, _ = door.begin(late=1.0)
        door.ask(late=1.0)
        door.clock.advance(2.0)
        finish(running, Ended(200))
        assert door.counts == {
            "adaptiveConcurrency: would have refused": 1,
            "deadline: would have refused": 1,
            "loadShedding: would have refused": 2,
            "rateLimits: would have refused": 2,
        }


def test_metrics_have_few_labels_and_never_a_key():
    from prometheus_client import CollectorRegistry, generate_latest

    registry = CollectorRegistry()
    limit = {"requests": 1, "per": "1h", "key": {"header": "x-api-key"}}
    with Door(protection(rateLimits=[limit]), service("reviews"), registry=registry) as door:
        for number in range(50):
            door.statuses(2, headers=[("x-api-key", f"canary{number}")])
        text = generate_latest(registry).decode()
    lines = [line for line in text.splitlines() if line.startswith("meshlib_resilience_total")]
    assert lines == [
        'meshlib_resilience_total{mechanism="rateLimits",mode="enforce",'
        'service="reviews.default.svc.cluster.local",verdict="refused"} 50.0'
    ]
    assert "canary" not in text


# -- what people read -------------------------------------------------------------------------------------------------


def test_the_status_of_a_mesh_says_what_is_being_served_and_what_was_decided():
    limits = [{"requests": 1, "per": "1m", "key": {"header": "x-api-key"}}]
    with Door(protection(rateLimits=limits, maxConcurrent=5)) as door:
        running = door.begin(headers=[("x-api-key", "canary")])
        door.ask(headers=[("x-api-key", "canary")])
        status = door.mesh.status()["protection"]
        assert status["active"] == 1
        assert status["counts"] == {"rateLimits: refused": 1}
        assert list(status["keys"].values()) == [1]
        assert "canary" not in repr(status)
        finish(running[1], Ended(200))


def test_the_sample_of_the_documentation_loads_and_acts():
    import re
    from pathlib import Path

    import yaml

    text = (Path(__file__).parents[2] / "docs" / "servers.md").read_text()
    (block,) = [b for b in re.findall(r"```yaml\n(.*?)```", text, re.S) if "kind: ResiliencePolicy" in b]
    shop = Workload("shop", labels={"app": "shop"})
    with Door(yaml.safe_load(block), workload=shop) as door:
        assert [p for p in door.mesh.problems if "ResiliencePolicy" in p.path] == []
        running = [door.begin("/export") for _ in range(100)]
        assert [refusal for _, _, refusal in running if refusal is not None] == []
        refusal = door.ask("/export")
        assert refusal is not None
        assert refusal.status == 503
        assert door.ask("/checkout/1") is None


def test_a_web_socket_is_bound_by_no_deadline():
    with Door(protection(deadline={"default": "5s"})) as door:
        assert door.server.call(InboundRequest("GET", "/"), lasts=True).deadline is None
        assert door.server.call(InboundRequest("GET", "/")).deadline == door.clock.now + 5.0
