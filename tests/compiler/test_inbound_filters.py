"""Rate limits of EnvoyFilters on the way in: which patches act, at which ports, and what is said of the others. (Faults:
test_inbound_faults.py.)"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from meshlib.compiler.compile import compile_snapshot
from meshlib.compiler.inbound_filters import PortFilters, merge
from meshlib.policy.rate_limit_actions import GenericKey
from meshlib.policy.token_bucket import Rate
from meshlib.resources.loader import load, load_objects
from meshlib.workload import Workload
from tests.support.inbound import envoy_filter
from tests.support.rate_limits import LOCAL, bucket, insert, local, route
from tests.support.resources import service

RATINGS = Workload("ratings-v1", labels={"app": "ratings"})
SAMPLES = Path(__file__).parents[2].parent / "shared" / "corpus" / "istio-samples" / "ratelimit"
FIVE = local(bucket(5))


def compiled(*resources: dict[str, Any], workload: Workload = RATINGS) -> Any:
    loaded = load_objects(resources)
    assert loaded.errors == []
    return compile_snapshot(loaded.resources, workload)


def limits(*resources: dict[str, Any], workload: Workload = RATINGS) -> PortFilters:
    return compiled(*resources, workload=workload).inbound.default.limits


def said(*resources: dict[str, Any]) -> list[str]:
    return [p.message for p in compiled(*resources).problems if p.code == "no-effect"]


@pytest.mark.parametrize("operation", ["ADD", "INSERT_BEFORE", "INSERT_AFTER", "INSERT_FIRST"])
def test_a_filter_that_is_inserted_limits(operation):
    (found,) = limits(envoy_filter("f", insert(FIVE, operation))).local
    assert found.limits.default == Rate(1, 60.0, 5)
    assert said(envoy_filter("f", insert(FIVE, operation))) == []


@pytest.mark.parametrize(
    ("operation", "neighbour", "first"),
    [
        ("INSERT_BEFORE", None, True),
        ("INSERT_FIRST", None, True),
        ("INSERT_BEFORE", "envoy.filters.http.rbac", True),
        ("INSERT_AFTER", "envoy.filters.http.jwt_authn", True),
        ("INSERT_BEFORE", "envoy.filters.http.router", False),
        ("INSERT_AFTER", "envoy.filters.http.rbac", False),
        ("ADD", None, False),
    ],
)
def test_it_stands_where_it_is_inserted_before_or_after_who_may_come_in(operation, neighbour, first):
    (found,) = limits(envoy_filter("f", insert(FIVE, operation, neighbour))).local
    assert found.first is first


def test_a_later_merge_changes_it_and_one_without_a_filter_does_nothing():
    more = insert({"token_bucket": {"max_tokens": 9}}, "MERGE", LOCAL)
    assert limits(envoy_filter("f", insert(FIVE), more)).local[0].limits.default == Rate(1, 60.0, 9)
    assert limits(envoy_filter("f", more)).local == ()


def test_filters_are_for_the_workloads_that_they_select():
    assert limits(envoy_filter("f", insert(FIVE), labels={"app": "reviews"})).local == ()
    assert limits(envoy_filter("f", insert(FIVE), namespace="other")).local == ()
    assert len(limits(envoy_filter("f", insert(FIVE), namespace="istio-system")).local) == 1


def test_a_filter_that_enables_nothing_limits_nothing():
    assert limits(envoy_filter("f", insert({"stat_prefix": "x", "token_bucket": bucket(5)}))).local == ()
    assert limits(envoy_filter("f", insert({"stat_prefix": "x"}))).local == ()


G = {"entries": [{"key": "generic_key", "value": "g"}], "token_bucket": bucket(1)}
GENERIC = [{"actions": [{"generic_key": {"descriptor_value": "g"}}]}]


def test_what_a_route_says_counts_as_a_whole_and_its_actions_make_the_descriptors():
    patch = route(local(bucket(2), descriptors=[G]), GENERIC)
    (found,) = limits(envoy_filter("f", insert({"stat_prefix": "x"}), patch)).local
    assert found.limits.default == Rate(1, 60.0, 2)
    assert [limit.actions for limit in found.actions] == [(GenericKey("g"),)]
    assert [bucket.entries for bucket in found.limits.descriptors] == [(("generic_key", "g"),)]


def test_a_virtual_host_is_asked_where_the_route_says_nothing():
    descriptors = [{"entries": [{"key": "generic_key", "value": "g"}], "token_bucket": bucket(1)}]
    base = local(bucket(2), descriptors=descriptors)
    of_host = route(None, [{"actions": [{"generic_key": {"descriptor_value": "g"}}]}], apply_to="VIRTUAL_HOST")
    of_route = route(None, [{"actions": [{"remote_address": {}}]}])
    assert len(limits(envoy_filter("f", insert(base), of_host)).local[0].actions) == 1
    assert len(limits(envoy_filter("f", insert(base), of_host, of_route)).local[0].actions) == 1
    included = insert(base | {"vh_rate_limits": "INCLUDE"})
    assert len(limits(envoy_filter("f", included, of_host, of_route)).local[0].actions) == 2


@pytest.mark.parametrize(
    ("vhost", "services", "acts_at"),
    [
        ("inbound|http|9080", [service("ratings", 9080, ports=[{"port": 9080, "targetPort": 8000}])], {8000, 0}),
        ("inbound|http|9080", [service("ratings", 9080)], {8000, 80, 0}),
        ("inbound|http|8000", [service("ratings", 9080, ports=[{"port": 9080, "targetPort": 80}])], {8000, 80, 0}),
        ("inbound|http|8000", [], {8000, 80, 0}),
        (None, [], {8000, 80, 0}),
    ],
)
def test_a_routes_port_is_one_of_the_workloads_services_or_narrows_nothing(vhost, services, acts_at):
    """A port that no Service has may be that of this server all the same; one whose targetPort is a name, any of them."""
    patch = route(local(bucket(1)), [], vhost=vhost)
    ports = compiled(envoy_filter("f", insert({"stat_prefix": "x"}), patch), *services).inbound
    assert {port for port in (8000, 80, 0) if ports.of(port).limits.local} == acts_at


@pytest.mark.skipif(not SAMPLES.is_dir(), reason="Istio's samples are not beside this repository")
def test_istios_sample_acts():
    loaded = load(SAMPLES / "local-rate-limit-service.yaml")
    assert loaded.errors == []
    snapshot = compile_snapshot(loaded.resources, Workload("productpage-v1", labels={"app": "productpage"}))
    assert [p for p in snapshot.problems if p.code == "no-effect"] == []
    (limit,) = snapshot.inbound.default.limits.local
    assert limit.first
    assert limit.limits.default == Rate(100, 60.0, 100)
    assert [d.rate for d in limit.limits.descriptors] == [Rate(10, 60.0, 10)]
    assert limit.x_headers
    assert limit.response_headers == ((b"x-local-rate-limit", b"true"),)


@pytest.mark.parametrize(
    ("patch", "words"),
    [
        (insert(FIVE, context="GATEWAY"), "context GATEWAY"),
        (insert(FIVE, "REMOVE"), "operation REMOVE"),
        (insert(FIVE, "INSERT_AFTER", "envoy.filters.http.wasm"), "no filter envoy.filters.http.wasm"),
        (insert(FIVE | {"token_bucket": {"max_tokens": 5, "fill_interval": "10ms"}}), "at least 50ms"),
        (insert(FIVE | {"local_cluster_rate_limit": {}}), "local_cluster_rate_limit"),
        (route(FIVE, [], vhost="outbound|http|80"), "inbound|http|PORT"),
        (route(FIVE, [], operation="REMOVE"), "operation REMOVE of a route"),
        (route(FIVE, [], name="other"), "named default"),
        (route(None, []), "only rate_limits and typed_per_filter_config"),
        (route(FIVE, [], extra={"response_headers_to_add": []}) | {}, ""),
    ],
)
def test_what_does_not_act_is_told_of(patch, words):
    messages = said(envoy_filter("f", insert({"stat_prefix": "x"}), patch))
    assert all(words in message for message in messages)
    assert len(messages) == bool(words)


def test_what_acts_but_for_a_part_says_which():
    metadata = {"descriptor_key": "k", "metadata_key": {"key": "x", "path": [{"key": "y"}]}}
    actions = [{"actions": [{"dynamic_metadata": metadata}]}, *GENERIC]
    patch = route(local(bucket(2), descriptors=[G]), actions)
    resource = envoy_filter("f", insert({"stat_prefix": "x"}), patch)
    (message,) = said(resource)
    assert message.startswith("acts, but for")
    assert "dynamic_metadata has no counterpart here" in message
    assert len(limits(resource).local[0].actions) == 1


def test_messages_are_merged_as_protobuf_merges_them():
    assert merge({"a": 1, "b": {"c": [1]}}, {"a": 2, "b": {"c": [2], "d": 3}}) == {"a": 2, "b": {"c": [1, 2], "d": 3}}
