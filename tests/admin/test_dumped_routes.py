"""Rules in Envoy's JSON: Envoy's own messages take them."""

from __future__ import annotations

from typing import Any

import meshlib
from meshlib.admin.dumped_routes import virtual_hosts
from tests.support.ads_server import ROUTES, parse
from tests.support.resources import destination_rule, pod, service, to, virtual_service

BASE = [
    service("reviews"),
    pod("reviews", "v1", 9081),
    pod("reviews", "v2", 9082),
    destination_rule("reviews", "v1", "v2"),
]


def routes(*rules: dict[str, Any]) -> list[dict[str, Any]]:
    """Of ``reviews``, after Envoy's message has taken them."""
    with meshlib.Mesh.from_resources([*BASE, virtual_service("reviews", *rules)]) as mesh:
        hosts = list(virtual_hosts(mesh._core.live.snapshot.ports[9080]))
    parse({"@type": ROUTES, "name": "9080", "virtual_hosts": hosts})
    (host,) = [each for each in hosts if each["name"] == "reviews.default.svc.cluster.local:9080"]
    assert "reviews" in host["domains"]
    found: list[dict[str, Any]] = host["routes"]
    return found


def test_matches():
    match = {
        "name": "one",
        "uri": {"prefix": "/A"},
        "ignoreUriCase": True,
        "method": {"exact": "GET"},
        "headers": {"end-user": {"exact": "jason"}, "x-api-key": {"exact": "c4n4ry"}, "x-there": {}},
        "withoutHeaders": {"x-not": {"regex": "a.*"}},
        "queryParams": {"v": {"exact": "2"}, "token": {"exact": "c4n4ry"}},
    }
    other = {"uri": {"regex": "/b/[0-9]+"}}
    first, second, last = routes(
        {"name": "rule", "match": [match, other], "route": [to("reviews", "v1")]}, {"route": [to("reviews", "v2")]}
    )
    assert first["match"]["prefix"] == "/A"
    assert first["match"]["case_sensitive"] is False
    headers = {each["name"]: each for each in first["match"]["headers"]}
    assert headers[":method"]["string_match"] == {"exact": "GET"}
    assert headers["end-user"]["string_match"] == {"exact": "jason"}
    assert headers["x-there"]["present_match"] is True
    assert headers["x-not"]["invert_match"] is True
    assert "c4n4ry" not in str(first)
    assert second["match"] == {"safe_regex": {"regex": "/b/[0-9]+"}}
    assert last["match"] == {"prefix": "/"}
    assert last["route"]["cluster"] == "outbound|9080|v2|reviews.default.svc.cluster.local"


def test_what_is_done_with_a_request():
    (found,) = routes(
        {
            "name": "all",
            "route": [
                {**to("reviews", "v1", 75), "headers": {"request": {"set": {"x-v": "1", "authorization": "c4n4ry"}}}},
                {**to("reviews", "v2", 25), "headers": {"response": {"remove": ["x-b"]}}},
            ],
            "timeout": "2s",
            "retries": {"attempts": 3, "retryOn": "5xx,503", "perTryTimeout": "500ms"},
            "rewrite": {"uri": "/new", "authority": "other"},
            "fault": {
                "delay": {"fixedDelay": "1s", "percentage": {"value": 50}},
                "abort": {"httpStatus": 500, "percentage": {"value": 1}},
            },
            "mirror": {"host": "reviews", "subset": "v2"},
            "mirrorPercentage": {"value": 10},
        }
    )  # fmt: skip
    action = found["route"]
    assert [(each["name"].split("|")[2], each["weight"]) for each in action["weighted_clusters"]["clusters"]] == [
        ("v1", 75),
        ("v2", 25),
    ]
    added = action["weighted_clusters"]["clusters"][0]["request_headers_to_add"]
    assert {each["header"]["key"]: each["header"]["value"] for each in added} == {
        "x-v": "1",
        "authorization": "(not shown)",
    }
    assert action["weighted_clusters"]["clusters"][1]["response_headers_to_remove"] == ["x-b"]
    assert (action["timeout"], action["prefix_rewrite"], action["host_rewrite_literal"]) == ("2s", "/new", "other")
    assert action["retry_policy"]["num_retries"] == 3
    assert action["retry_policy"]["per_try_timeout"] == "0.5s"
    assert action["retry_policy"]["retriable_status_codes"] == [503]
    assert action["request_mirror_policies"][0]["runtime_fraction"]["default_value"]["numerator"] == 100_000
    ours = found["metadata"]["filter_metadata"]["meshlib"]
    assert ours["fault"] == {"delay": {"fixed_delay": "1s", "percent": 50}, "abort": {"status": 500, "percent": 1}}


def test_what_is_answered_without_an_endpoint():
    redirect, direct, nowhere = routes(
        {"match": [{"uri": {"exact": "/r"}}], "redirect": {"authority": "a", "uri": "/x", "redirectCode": 302}},
        {"match": [{"uri": {"exact": "/d"}}], "directResponse": {"status": 418, "body": {"string": "teapot"}}},
        {"route": [to("nowhere")]},
    )
    assert redirect["redirect"] == {"response_code": "FOUND", "host_redirect": "a", "path_redirect": "/x"}
    assert direct["direct_response"] == {"status": 418, "body": {"inline_string": "teapot"}}
    assert nowhere["route"]["cluster"] == "BlackHoleCluster"
    assert "nowhere.default.svc.cluster.local" in nowhere["metadata"]["filter_metadata"]["meshlib"]["missing"]
