"""DestinationRule loadBalancer through whole exchanges: hashing, localities, warm-up, pass-through, retry budgets."""

from __future__ import annotations

from collections import Counter
from typing import Any

import pytest

from meshlib.engine.outcome import Failure, Outcome
from meshlib.policy.consistent_hash import HashPolicy, combined, hash_of
from meshlib.policy.endpoint import EndpointState
from meshlib.workload import Workload
from tests.support.resources import destination_rule, pod, service, to, virtual_service
from tests.support.scripted import Bench

KEY = "outbound|9080||reviews.default.svc.cluster.local"


def pods(count: int) -> list[dict[str, Any]]:
    return [pod("reviews", "v1", 9000 + n) for n in range(count)]


def placed_pod(port: int, locality: str) -> dict[str, Any]:
    made = pod("reviews", "v1", port)
    made["metadata"]["labels"]["istio-locality"] = locality.replace("/", ".")
    return made


def bench(*endpoints: dict[str, Any], rule: Any = None, workload: Workload | None = None, **policy: Any) -> Bench:
    extra = [destination_rule("reviews", **policy)] if policy else []
    routes = [virtual_service("reviews", {"route": [to("reviews")], **rule})] if rule else []
    return Bench(service("reviews"), *endpoints, *extra, *routes, workload=workload)


def calls(made: Bench, count: int, **headers: str) -> list[str]:
    script = made.script(200)
    for _ in range(count):
        made.call(script, headers=headers)
    return script.tried


# -- consistent hash --------------------------------------------------------------------------------------------------

HASH = {"consistentHash": {"httpHeaderName": "x-user"}}


@pytest.mark.parametrize("table", [{}, {"maglev": {"tableSize": 251}}, {"ringHash": {"minimumRingSize": 64}}])
def test_a_key_always_reaches_the_same_endpoint(table):
    made = bench(*pods(5), loadBalancer={"consistentHash": {"httpHeaderName": "x-user", **table}})
    chosen = {user: set(calls(made, 5, **{"x-user": user})) for user in "abcdefghij"}
    assert all(len(endpoints) == 1 for endpoints in chosen.values())
    assert len(set.union(*chosen.values())) > 2
    again = bench(*pods(5), loadBalancer={"consistentHash": {"httpHeaderName": "x-user", **table}})
    assert {user: set(calls(again, 1, **{"x-user": user})) for user in "abcdefghij"} == chosen


def test_without_the_key_any_endpoint_does():
    assert len(set(calls(bench(*pods(5), loadBalancer=HASH), 60))) == 5


def test_an_ejected_endpoint_hands_its_keys_on_and_gets_them_back():
    detection = {"consecutive5xxErrors": 1, "baseEjectionTime": "30s", "maxEjectionPercent": 100}
    made = bench(*pods(4), loadBalancer=HASH, outlierDetection=detection)
    (first,) = set(calls(made, 1, **{"x-user": "jo"}))
    made.call(made.script(500), headers={"x-user": "jo"})
    (second,) = set(calls(made, 3, **{"x-user": "jo"}))
    assert second != first
    made.clock.advance(60)
    assert set(calls(made, 2, **{"x-user": "jo"})) == {first}


def test_a_retry_stays_with_the_endpoint_of_the_key():
    made = bench(*pods(4), rule={"retries": {"attempts": 2, "retryOn": "5xx"}}, loadBalancer=HASH)
    script = made.script(500)
    made.call(script, headers={"x-user": "jo"})
    assert len(script.tried) == 3
    assert len(set(script.tried)) == 1


@pytest.mark.parametrize("table", [{}, {"maglev": {"tableSize": 251}}])
def test_a_retry_of_a_default_route_goes_on_from_the_endpoint_of_the_key(table):
    """Istio's default route avoids what was tried, hash or not: the table is followed until another endpoint comes."""
    made = bench(*pods(4), loadBalancer={"consistentHash": {"httpHeaderName": "x-user", **table}})
    ways = []
    for _ in range(2):
        script = made.script(Failure.CONNECT_FAILED)
        made.call(script, headers={"x-user": "jo"})
        ways.append(script.tried)
    assert ways[0] == ways[1]
    assert len(set(ways[0])) == 3


def test_a_key_is_the_routes_to_say_and_a_port_level_one_counts_where_the_route_names_the_port():
    by_port = {"portLevelSettings": [{"port": {"number": 9080}, "loadBalancer": HASH}]}
    for destination, spread in ((to("reviews"), True), (to("reviews", port=9080), False)):
        made = Bench(
            service("reviews"),
            *pods(5),
            destination_rule("reviews", **by_port),
            virtual_service("reviews", {"route": [destination]}),
        )
        assert (len(set(calls(made, 40, **{"x-user": "jo"}))) > 1) is spread


def test_the_keys_of_all_destinations_of_a_split_make_the_hash_as_at_envoy():
    split = virtual_service("reviews", {"route": [to("reviews", "v1", 50), to("reviews", "", 50)]})
    rule = destination_rule("reviews", "v1", loadBalancer=HASH)
    made = Bench(service("reviews"), *pods(5), rule, split)
    endpoints = {user: set(calls(made, 30, **{"x-user": user})) for user in "abcdefgh"}
    assert all(len(found) == 1 for found in endpoints.values())
    table = HashPolicy(header="x-user").table([(EndpointState(f"127.0.0.1:{9000 + n}"), 1) for n in range(5)])
    twice = {user: combined(hash_of(user), hash_of(user)) for user in endpoints}
    assert {user: table.find(value).key for user, value in twice.items()} == {u: e.pop() for u, e in endpoints.items()}


def test_a_cookie_with_ttl_is_made_once_and_leads_back():
    attributes = [{"name": "SameSite", "value": "Strict"}]
    balancer = {
        "consistentHash": {"httpCookie": {"name": "sticky", "ttl": "60s", "path": "/", "attributes": attributes}}
    }
    made = bench(*pods(5), loadBalancer=balancer)
    script = made.script(200)
    outcome, call = made.call(script)
    (cookie,) = [value.decode() for name, value in outcome.headers if name == b"set-cookie"]
    value = cookie.split('"')[1]
    assert cookie == f'sticky="{value}"; Max-Age=60; Path=/; SameSite=Strict; HttpOnly'
    for _ in range(5):
        outcome, _ = made.call(script, headers={"cookie": f"sticky={value}"})
        assert not [name for name, _ in outcome.headers if name == b"set-cookie"]
    assert len(set(script.tried)) == 1


def test_a_cookie_without_ttl_is_only_read():
    made = bench(*pods(5), loadBalancer={"consistentHash": {"httpCookie": {"name": "sticky"}}})
    outcome, _ = made.call(made.script(200))
    assert outcome.headers == []
    assert len(set(calls(made, 5, cookie="sticky=1"))) == 1


def test_the_source_is_the_workload_itself():
    policy = {"loadBalancer": {"consistentHash": {"useSourceIp": True}}}
    one = bench(*pods(8), workload=Workload("a", address="10.0.0.1"), **policy)
    assert len(set(calls(one, 5))) == 1
    others = {calls(bench(*pods(8), workload=Workload("a", address=f"10.0.0.{n}"), **policy), 1)[0] for n in range(9)}
    assert len(others) > 2


@pytest.mark.parametrize(
    ("environ", "address"),
    [
        ({"MESHLIB_ADDRESS": "10.0.0.1", "POD_IP": "10.0.0.9"}, "10.0.0.1"),
        ({"INSTANCE_IP": "10.0.0.2", "POD_IP": "10.0.0.9"}, "10.0.0.2"),
        ({"POD_IP": "10.0.0.3"}, "10.0.0.3"),
        ({}, ""),
    ],
)
def test_the_environment_tells_the_workloads_address(environ, address):
    from meshlib.sources.environment import workload_from_env

    assert workload_from_env(environ).address == address


def test_a_query_parameter_may_be_the_key():
    made = bench(*pods(5), loadBalancer={"consistentHash": {"httpQueryParameterName": "q"}})
    script = made.script(200)
    for _ in range(4):
        made.call(script, "http://reviews:9080/?q=7")
    assert len(set(script.tried)) == 1


@pytest.mark.parametrize("places", [["us/west"] * 4, ["us/west", "us/west", "us/east", "eu/x"]])
def test_explain_names_the_endpoint_that_a_key_leads_to(places):
    import meshlib

    resources = [
        service("reviews"),
        *(placed_pod(n + 1, place) for n, place in enumerate(places)),
        destination_rule("reviews", loadBalancer=HASH, outlierDetection=DETECT),
    ]
    made = Bench(*resources, workload=WEST)
    with meshlib.Mesh.from_resources(resources, workload=WEST) as mesh:
        for user in "abcdef":
            explanation = mesh.explain(url="http://reviews:9080/", headers={"x-user": user})
            (endpoint,) = set(calls(made, 1, **{"x-user": user}))
            assert explanation.to_dict()["destinations"][0]["hash_leads_to"] == endpoint
            assert f"this request's key leads to {endpoint}" in str(explanation)
        assert "leads to" not in str(mesh.explain(url="http://reviews:9080/"))


# -- locality ---------------------------------------------------------------------------------------------------------

WEST = Workload(locality="us/west")
DETECT = {"consecutive5xxErrors": 1, "maxEjectionPercent": 100, "baseEjectionTime": "30s"}
PLACED = [placed_pod(1, "us/west"), placed_pod(2, "us/west"), placed_pod(3, "us/east"), placed_pod(4, "eu/x")]


def by_port(tried: list[str]) -> Counter[int]:
    return Counter(int(key.rpartition(":")[2]) for key in tried)


def test_calls_stay_in_the_zone_while_it_is_healthy():
    made = bench(*PLACED, workload=WEST, outlierDetection=DETECT)
    assert set(by_port(calls(made, 100))) == {1, 2}


def test_without_outlier_detection_locality_has_no_effect():
    made = bench(*PLACED, workload=WEST, loadBalancer={"simple": "ROUND_ROBIN"})
    assert set(by_port(calls(made, 200))) == {1, 2, 3, 4}


def test_load_spills_to_the_next_zone_as_endpoints_are_ejected():
    made = bench(*PLACED, workload=WEST, outlierDetection=DETECT)
    script = made.script(lambda effect: 500 if effect.endpoint.key.endswith(":1") else 200)
    for _ in range(20):
        made.call(script)
    counts = by_port(calls(made, 1000))
    assert counts[1] == 0
    assert 640 < counts[2] < 760  # 140 % of one half
    assert 240 < counts[3] < 360
    assert counts[4] == 0


def test_a_zone_that_is_gone_altogether_hands_over_all_of_its_load():
    made = bench(*PLACED, workload=WEST, outlierDetection=DETECT)
    script = made.script(lambda effect: 500 if effect.endpoint.key[-2:] in (":1", ":2") else 200)
    for _ in range(30):
        made.call(script)
    assert set(by_port(calls(made, 50))) == {3}


def test_distribute_splits_by_weight():
    setting = {"distribute": [{"from": "us/west/*", "to": {"us/west/*": 70, "us/east/*": 30}}]}
    made = bench(*PLACED, workload=WEST, loadBalancer={"localityLbSetting": setting})
    counts = by_port(calls(made, 2000))
    assert counts[4] == 0
    assert 520 < counts[3] < 680


def test_weights_of_endpoints_count_inside_a_zone():
    entry = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "far"},
        "spec": {
            "hosts": ["far.test"],
            "ports": [{"number": 80, "name": "http", "protocol": "HTTP"}],
            "resolution": "STATIC",
            "endpoints": [
                {"address": "10.0.0.1", "weight": 30, "locality": "us/west"},
                {"address": "10.0.0.2", "weight": 10, "locality": "us/west"},
                {"address": "10.0.0.3", "weight": 99, "locality": "us/east"},
            ],
        },
    }
    made = Bench(entry, destination_rule("far.test", outlierDetection=DETECT), workload=WEST)
    script = made.script(200)
    for _ in range(400):
        made.call(script, "http://far.test/")
    assert Counter(script.tried) == {"10.0.0.1:80": 300, "10.0.0.2:80": 100}


def test_a_retry_may_be_asked_to_leave_the_zone():
    retries = {"attempts": 3, "retryOn": "5xx", "retryRemoteLocalities": True}
    made = bench(
        *PLACED, rule={"retries": retries}, workload=WEST, outlierDetection={**DETECT, "consecutive5xxErrors": 0}
    )
    script = made.script(500)
    made.call(script)
    assert [int(k[-1]) in (1, 2) for k in script.tried] == [True, True, False, False]


def test_endpoints_tried_are_avoided_only_while_the_route_says_so():
    def distinct(**more: Any) -> float:
        retries = {"attempts": 1, "retryOn": "5xx", "retryRemoteLocalities": True, **more}
        made = bench(*pods(2), rule={"retries": retries}, loadBalancer={"simple": "RANDOM"})
        same = 0
        for _ in range(200):
            script = made.script(500)
            made.call(script)
            same += script.tried[0] == script.tried[1]
        return same / 200

    assert distinct() < 0.1
    assert 0.35 < distinct(retryIgnorePreviousHosts=False) < 0.65


def test_hashing_works_inside_the_best_zone():
    made = bench(*PLACED, workload=WEST, outlierDetection=DETECT, loadBalancer=HASH)
    users = {user: set(by_port(calls(made, 3, **{"x-user": user}))) for user in "abcdefgh"}
    assert set.union(*users.values()) == {1, 2}
    assert all(len(endpoints) == 1 for endpoints in users.values())


def test_no_healthy_endpoint_in_any_zone_is_flag_uh():
    unready = [placed_pod(n, f"us/{n}") for n in (1, 2)]
    for one in unready:
        one["status"]["phase"] = "Pending"
    _, call = bench(*unready, workload=WEST, outlierDetection=DETECT).call(bench(*PLACED).script(200))
    assert call.record.flags == "UH"


# -- warm-up ----------------------------------------------------------------------------------------------------------


def test_a_new_endpoint_gets_its_share_little_by_little():
    policy = {"loadBalancer": {"simple": "ROUND_ROBIN", "warmup": {"duration": "100s", "minimumPercent": 10}}}
    made = bench(pod("reviews", "v1", 1), **policy)
    calls(made, 1)
    made.clock.advance(200)
    old, new = pod("reviews", "v1", 1), pod("reviews", "v1", 2)
    made.apply(service("reviews"), old, new, destination_rule("reviews", **policy))

    def share() -> float:
        made.clock.now = round(made.clock.now)
        script = made.script(200, took=0.0)
        for _ in range(1000):
            made.call(script)
        return by_port(script.tried)[2] / 1000

    assert 0.08 < share() < 0.10  # 0.1 / 1.1
    made.clock.advance(50)
    assert 0.32 < share() < 0.35  # 0.5 / 1.5
    made.clock.advance(60)
    assert 0.49 < share() < 0.51


# -- pass-through -----------------------------------------------------------------------------------------------------


def test_passthrough_dials_the_address_that_the_caller_named():
    made = bench(*pods(2), loadBalancer={"simple": "PASSTHROUGH"})
    assert calls(made, 2) == ["reviews:9080", "reviews:9080"]


# -- retry budget -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("budget", "active", "retried"),
    [
        ({"percent": 20, "minRetryConcurrency": 0}, 3, False),
        ({"percent": 50, "minRetryConcurrency": 0}, 3, True),
        ({"percent": 0, "minRetryConcurrency": 1}, 0, True),
        ({}, 0, True),
    ],
)
def test_retries_are_bounded_by_their_share_of_active_requests(budget, active, retried):
    made = bench(*pods(2), rule={"retries": {"attempts": 1, "retryOn": "5xx"}}, retryBudget=budget)
    made.state(KEY).requests = active
    script = made.script(500)
    made.call(script)
    assert len(script.sends) == (2 if retried else 1)


def test_error_codes_may_replace_5xx():
    detection = {**DETECT, "outlierDetectionHttpErrorCodes": [429]}
    made = bench(*pods(2), outlierDetection=detection)
    made.call(made.script(500))
    assert len(set(calls(made, 30))) == 2
    made.call(made.script(429))
    assert len(set(calls(made, 30))) == 1


# -- a call under way while its cluster is replaced -------------------------------------------------------------------

RETRIED = {"retries": {"attempts": 2, "retryOn": "5xx"}}
PATIENT = {"consecutive5xxErrors": 5}


def tried_across(made: Bench, *then: dict[str, Any], count: int = 1) -> list[str]:
    """Whom a call's attempts went to after the configuration was replaced during its first one."""

    def reload(_: Any) -> Outcome:
        made.apply(*then)
        return Outcome(status=503, whole=b"")

    script = made.script(reload, *[503] * (count - 1), 200)
    outcome, _ = made.call(script)
    assert outcome.status == 200
    return script.tried[1:]


def resources(*endpoints: dict[str, Any], rule: Any = RETRIED, **policy: Any) -> list[dict[str, Any]]:
    routes = virtual_service("reviews", {"route": [to("reviews")], **rule})
    return [service("reviews"), *endpoints, routes, *([destination_rule("reviews", **policy)] if policy else [])]


def test_a_retry_goes_by_the_localities_that_its_call_began_with_although_there_are_more_by_now():
    now = [placed_pod(4, "eu/x"), placed_pod(3, "us/east"), placed_pod(9, "ap/c"), placed_pod(8, "us/b")]
    now += [placed_pod(7, "us/a"), placed_pod(1, "us/west")]
    made = bench(
        placed_pod(1, "us/west"), placed_pod(3, "us/east"), rule=RETRIED, workload=WEST, outlierDetection=PATIENT
    )
    assert set(by_port(tried_across(made, *resources(*now, outlierDetection=PATIENT)))) == {1}
    assert set(by_port(calls(made, 20))) == {1}


def test_and_by_its_priorities_where_the_numbers_of_the_new_ones_would_fit():
    made = bench(
        placed_pod(1, "us/west"), placed_pod(3, "us/east"), rule=RETRIED, workload=WEST, outlierDetection=PATIENT
    )
    turned = resources(placed_pod(1, "us/east"), placed_pod(3, "us/west"), outlierDetection=PATIENT)
    assert set(by_port(tried_across(made, *turned))) == {1}
    assert set(by_port(calls(made, 20))) == {3}


def test_and_leaves_the_priorities_that_those_tried_have_for_it():
    leaving = {"retries": {"attempts": 3, "retryOn": "5xx", "retryRemoteLocalities": True}}
    detection = {"consecutive5xxErrors": 9}
    made = bench(
        placed_pod(1, "us/west"), placed_pod(3, "us/east"), rule=leaving, workload=WEST, outlierDetection=detection
    )
    turned = resources(placed_pod(1, "us/east"), placed_pod(3, "us/west"), rule=leaving, outlierDetection=detection)
    assert [int(key[-1]) for key in tried_across(made, *turned, count=2)] == [1, 3]


@pytest.mark.parametrize("places", [["", ""], ["us/west", "us/west"]])
@pytest.mark.parametrize("now", [HASH, {"simple": "PASSTHROUGH"}])
def test_a_retry_is_balanced_as_when_its_call_began_although_its_keys_say_where_calls_go_by_now(places, now):
    there = [placed_pod(n + 1, place) if place else pod("reviews", "v1", n + 1) for n, place in enumerate(places)]
    made = bench(*there, rule=RETRIED, workload=WEST, outlierDetection=PATIENT)
    more = resources(*there, placed_pod(3, "eu/x"), loadBalancer=now, outlierDetection=PATIENT)
    assert set(by_port(tried_across(made, *more))) <= {1, 2}


def test_a_retry_leaves_the_weights_of_those_alone_who_are_not_warmed_up_any_more():
    warm = {"loadBalancer": {"simple": "ROUND_ROBIN", "warmup": {"duration": "100s", "minimumPercent": 10}}}
    even = {"loadBalancer": {"simple": "ROUND_ROBIN"}}
    made = bench(*pods(1), rule=RETRIED, **warm)
    made.clock.advance(200)
    made.apply(*resources(*pods(2), **warm))
    tried_across(made, *resources(*pods(2), **even))
    assert [endpoint.weight for endpoint in made.state(KEY).endpoints.values()] == [1, 1]
