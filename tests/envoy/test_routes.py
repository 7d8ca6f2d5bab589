"""Rules as Envoy's routes."""

from __future__ import annotations

from typing import Any

import pytest

from tests.support.envoy_engine import compiled, routes_to
from tests.support.mesh_config import mesh_config
from tests.support.resources import destination_rule, pod, service, to, virtual_service

PODS = [service("reviews"), pod("reviews", "v1", 1), pod("reviews", "v2", 2), destination_rule("reviews", "v1", "v2")]
V1, V2 = (f"outbound|9080|{version}|reviews.default.svc.cluster.local" for version in ("v1", "v2"))
WHOLE = "outbound|9080||reviews.default.svc.cluster.local"


def routes(*rules: dict[str, Any], more: tuple[dict[str, Any], ...] = ()) -> list[dict[str, Any]]:
    made = compiled(*(PODS if not more else PODS[:-1]), *more, virtual_service("reviews", *rules))
    return routes_to(made, "reviews:9080")


def route(**rule: Any) -> dict[str, Any]:
    (found,) = routes({"route": [to("reviews")], **rule})
    return found


def test_a_host_without_rules_goes_to_its_service_with_istios_retries() -> None:
    (found,) = routes_to(compiled(*PODS), "reviews:9080")
    assert (found["match"], found["route"]["cluster"], found["route"]["timeout"]) == ({"prefix": "/"}, WHOLE, "0s")
    retry = found["route"]["retry_policy"]
    assert retry["num_retries"] == 2
    assert set(retry["retry_on"].split(",")) == {"connect-failure", "refused-stream", "unavailable", "cancelled"}
    assert retry["retry_host_predicate"][0]["name"] == "envoy.retry_host_predicates.previous_hosts"


def test_each_match_block_is_a_route_in_order() -> None:
    found = routes(
        {
            "name": "a",
            "match": [{"uri": {"exact": "/x"}}, {"name": "b", "uri": {"regex": "/y.*"}}],
            "route": [to("reviews")],
        },
        {"match": [{"uri": {"prefix": "/Z"}, "ignoreUriCase": True}], "route": [to("reviews")]},
    )
    assert [(each["name"], each["match"]) for each in found] == [
        ("a", {"path": "/x"}),
        ("a.b", {"safe_regex": {"regex": "/y.*"}}),
        ("", {"prefix": "/Z", "case_sensitive": False}),
    ]


def test_headers_queries_and_pseudo_headers_are_matched() -> None:
    match = route(
        match=[
            {
                "method": {"exact": "GET"},
                "headers": {"X-User": {"prefix": "j"}, "x-any": {}},
                "withoutHeaders": {"x-no": {}, "x-not": {"exact": "b"}},
                "queryParams": {"q": {"exact": "1"}, "p": {}},
            }
        ]
    )["match"]
    assert match["headers"] == [
        {"name": ":method", "string_match": {"exact": "GET"}},
        {"name": "x-user", "string_match": {"prefix": "j"}},
        {"name": "x-any", "present_match": True},
        {"name": "x-no", "present_match": True, "invert_match": True},
        {"name": "x-not", "string_match": {"exact": "b"}, "invert_match": True, "treat_missing_header_as_empty": True},
    ]
    assert match["query_parameters"] == [
        {"name": "q", "string_match": {"exact": "1"}},
        {"name": "p", "present_match": True},
    ]


def test_weights_and_the_operations_of_each_destination() -> None:
    one = {**to("reviews", "v1", 90), "headers": {"request": {"set": {"x-v": "1"}}}}
    (found,) = routes(
        {"route": [one, to("reviews", "v2", 10), to("nobody", "", 0)], "headers": {"request": {"remove": ["x-old"]}}}
    )
    clusters = found["route"]["weighted_clusters"]["clusters"]
    assert [(each["name"], each["weight"]) for each in clusters] == [(V1, 90), (V2, 10)]
    assert found["request_headers_to_remove"] == ["x-old"], (
        "the rule's own are the route's, after those of destinations"
    )
    assert not any("request_headers_to_remove" in each for each in clusters)
    assert clusters[0]["request_headers_to_add"][0]["header"] == {"key": "x-v", "value": "1"}


def test_a_destination_that_is_not_there_names_no_cluster() -> None:
    (found,) = routes({"route": [to("nobody", port=80)]})
    assert found["route"]["cluster"] == "missing|80||nobody.default.svc.cluster.local"


@pytest.mark.parametrize(
    ("rewrite", "action"),
    [
        ({"uri": "/b"}, {"prefix_rewrite": "/b"}),
        ({"authority": "other"}, {"host_rewrite_literal": "other"}),
        (
            {"uriRegexRewrite": {"match": "/a/(.*)", "rewrite": r"/\1"}},
            {"regex_rewrite": {"pattern": {"regex": "/a/(.*)"}, "substitution": r"/\1"}},
        ),
    ],
)
def test_rewrites(rewrite: dict[str, Any], action: dict[str, Any]) -> None:
    assert action.items() <= route(rewrite=rewrite)["route"].items()


def test_x_forwarded_host_is_asked_for_where_there_is_a_rewrite() -> None:
    settings = mesh_config(defaultConfig={"proxyHeaders": {"xForwardedHost": {"enabled": True}}})
    rules = {"rewrite": {"authority": "other"}, "route": [to("reviews")]}, {"route": [to("reviews")]}
    found = [each["route"].get("append_x_forwarded_host") for each in routes(*rules, more=(PODS[-1], settings))]
    assert found == [True, None]
    assert "append_x_forwarded_host" not in route(rewrite={"authority": "other"})["route"]


def test_a_host_that_headers_set_is_rewritten() -> None:
    found = route(headers={"request": {"set": {"Host": "other"}}})
    assert found["route"]["host_rewrite_literal"] == "other"
    assert "request_headers_to_add" not in found


def test_a_host_that_one_of_several_destinations_sets_is_its_own_unless_the_rule_sets_one() -> None:
    sets = {**to("reviews", "v1", 90), "headers": {"request": {"set": {"host": "own"}}}}
    (found,) = routes({"route": [sets, to("reviews", "v2", 10)]})
    clusters = found["route"]["weighted_clusters"]["clusters"]
    assert [each.get("host_rewrite_literal") for each in clusters] == ["own", None]
    assert "host_rewrite_literal" not in found["route"]
    (found,) = routes({"route": [sets, to("reviews", "v2", 0)]})
    (sole,) = found["route"]["weighted_clusters"]["clusters"]
    assert sole["host_rewrite_literal"] == "own", "though the other one gets nothing"
    (found,) = routes({"route": [sets, to("reviews", "v2", 10)], "rewrite": {"authority": "rule"}})
    assert found["route"]["host_rewrite_literal"] == "rule"
    assert not any("host_rewrite_literal" in each for each in found["route"]["weighted_clusters"]["clusters"])


def test_redirects_and_direct_responses_take_the_responses_headers_too() -> None:
    (found,) = routes(
        {"redirect": {"uri": "/x", "authority": "there", "port": 81, "scheme": "https", "redirectCode": 308}}
    )
    assert found["redirect"] == {
        "response_code": "PERMANENT_REDIRECT",
        "host_redirect": "there",
        "scheme_redirect": "https",
        "port_redirect": 81,
        "path_redirect": "/x",
    }
    (found,) = routes(
        {"directResponse": {"status": 503, "body": {"string": "no"}}, "headers": {"response": {"set": {"x-why": "no"}}}}
    )
    assert found["direct_response"] == {"status": 503, "body": {"inline_bytes": "bm8="}}
    assert found["response_headers_to_add"][0]["header"]["key"] == "x-why"


def test_timeouts_and_retries() -> None:
    action = route(
        timeout="3s", retries={"attempts": 4, "retryOn": "5xx,429", "perTryTimeout": "1s", "backoff": "10ms"}
    )["route"]
    assert action["timeout"] == "3s"
    retry = action["retry_policy"]
    assert (retry["num_retries"], retry["per_try_timeout"]) == (4, "1s")
    assert retry["retry_on"] == "5xx,retriable-status-codes"
    assert retry["retriable_status_codes"] == [429]
    assert retry["retry_back_off"] == {"base_interval": "0.01s", "max_interval": "0.1s"}
    assert "retry_policy" not in route(retries={"attempts": 0})["route"]
    away = route(retries={"attempts": 1, "retryIgnorePreviousHosts": False, "retryRemoteLocalities": True})
    assert "retry_host_predicate" not in away["route"]["retry_policy"]
    assert away["route"]["retry_policy"]["retry_priority"]["name"] == "envoy.retry_priorities.previous_priorities"


def test_faults_are_the_filters_settings_of_the_route() -> None:
    found = route(
        fault={
            "delay": {"fixedDelay": "2s", "percentage": {"value": 0.1}},
            "abort": {"httpStatus": 418, "percentage": {"value": 100}},
        }
    )
    made = found["typed_per_filter_config"]["envoy.filters.http.fault"]
    assert made["delay"] == {"fixed_delay": "2s", "percentage": {"numerator": 1000, "denominator": "MILLION"}}
    assert made["abort"] == {"http_status": 418, "percentage": {"numerator": 1_000_000, "denominator": "MILLION"}}
    found = route(fault={"abort": {"grpcStatus": "UNAVAILABLE", "percentage": {"value": 50}}})
    assert found["typed_per_filter_config"]["envoy.filters.http.fault"]["abort"]["grpc_status"] == 14


def test_cross_origin_requests() -> None:
    found = route(
        corsPolicy={
            "allowOrigins": [{"exact": "https://a"}, {"regex": ".*b"}],
            "allowMethods": ["GET", "PUT"],
            "maxAge": "1h",
            "allowCredentials": True,
            "unmatchedPreflights": "IGNORE",
        }
    )
    made = found["typed_per_filter_config"]["envoy.filters.http.cors"]
    assert made["allow_origin_string_match"] == [{"exact": "https://a"}, {"safe_regex": {"regex": ".*b"}}]
    assert (made["allow_methods"], made["max_age"], made["allow_credentials"]) == ("GET,PUT", "3600", True)
    assert made["forward_not_matching_preflights"] is False


def test_mirrors_get_their_share() -> None:
    found = route(mirrors=[{"destination": {"host": "reviews", "subset": "v2"}, "percentage": {"value": 25}}])
    (mirror,) = found["route"]["request_mirror_policies"]
    assert mirror["cluster"] == V2
    assert mirror["runtime_fraction"] == {"default_value": {"numerator": 250_000, "denominator": "MILLION"}}


@pytest.mark.parametrize(
    ("key", "policy"),
    [
        ({"httpHeaderName": "X-User"}, {"header": {"header_name": "x-user"}}),
        ({"httpQueryParameterName": "q"}, {"query_parameter": {"name": "q"}}),
        ({"useSourceIp": True}, {"connection_properties": {"source_ip": True}}),
        ({"httpCookie": {"name": "c", "ttl": "0s"}}, {"cookie": {"name": "c", "ttl": "0s"}}),
    ],
)
def test_what_a_request_is_hashed_by(key: dict[str, Any], policy: dict[str, Any]) -> None:
    rule = destination_rule("reviews", loadBalancer={"consistentHash": key})
    (found,) = routes({"route": [to("reviews")]}, more=(rule,))
    assert found["route"]["hash_policy"] == [policy]
