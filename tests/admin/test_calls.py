"""``/calls`` and ``/hosts``."""

from __future__ import annotations

import json

import httpx
import pytest
from prometheus_client import CollectorRegistry

import meshlib
from meshlib.admin.calls import calls_page, has_failed, hosts_page, is_of
from meshlib.telemetry.recent import Recent
from tests.support.admin import seen
from tests.support.admin_process import RESOURCES, answer
from tests.support.fake_clock import FakeClock
from tests.support.resources import pod, service, to, virtual_service

HOST = "reviews.default.svc.cluster.local"


@pytest.fixture
def looked():
    clock = FakeClock()
    with meshlib.Mesh.from_resources(RESOURCES, clock=clock, seed=1, registry=CollectorRegistry()) as mesh:
        recent = Recent(clock.time)
        mesh._core.telemetry.remember = recent.made
        with mesh.client(transport=httpx.MockTransport(answer)) as client:
            for _ in range(3):
                client.get("http://reviews:9080/reviews/0")
            client.get("http://ratings:9080/")
        yield seen(mesh, recent)


def calls(looked, **query):
    return json.loads(b"".join(calls_page(looked, query).pieces))["calls"]


def test_the_newest_come_first_and_so_many_as_are_wanted(looked):
    assert [call["authority"] for call in calls(looked)] == ["ratings:9080"] + ["reviews:9080"] * 3
    assert len(calls(looked, limit="2")) == 2
    assert calls(looked, limit="0") == []
    for wrong in ("x", "-1", "9" * 9, "٣"):
        assert calls_page(looked, {"limit": wrong}).status == 400


@pytest.mark.parametrize(
    "match",
    ["reviews", HOST, "reviews.default", "reviews:9080", "VirtualService/default/reviews", "default/reviews",
     "VirtualService/default/reviews http[0]", "default/reviews http[0]"],
)  # fmt: skip
def test_calls_of_one_host_or_route(looked, match):
    assert {call["host"] for call in calls(looked, match=match)} == {HOST}
    assert len(calls(looked, match=match)) == 3


NAMED = [
    service("reviews"),
    pod("reviews", "v1", 9081),
    virtual_service(
        "stars",
        {"name": "canary", "match": [{"uri": {"prefix": "/new"}}], "route": [to("reviews")]},
        {"name": "stable", "route": [to("reviews")]},
        hosts=["reviews"],
    ),
]


@pytest.mark.parametrize(
    ("match", "paths"),
    [
        ("canary", ["/new"]),
        ("stable", ["/", "/old"]),
        ("default/stars canary", ["/new"]),
        ("VirtualService/default/stars stable", ["/", "/old"]),
        ("stars http[0]", ["/new"]),
        ("stars", ["/", "/new", "/old"]),
        ("default", []),
        ("stars canar", []),
        ("other/stars canary", []),
    ],
)
def test_a_rule_is_found_by_its_own_name_and_by_that_of_its_virtual_service(match, paths):
    clock = FakeClock()
    with meshlib.Mesh.from_resources(NAMED, clock=clock, seed=1, registry=CollectorRegistry()) as mesh:
        recent = Recent(clock.time)
        mesh._core.telemetry.remember = recent.made
        with mesh.client(transport=httpx.MockTransport(lambda _request: httpx.Response(200))) as client:
            for path in ("/new", "/old", "/"):
                client.get(f"http://reviews:9080{path}")
        found = calls(seen(mesh, recent), match=match)
    assert sorted(call["path"] for call in found) == paths


def test_the_default_route_of_a_host_has_no_name(looked):
    assert [call["rule_name"] for call in calls(looked, match="ratings")] == [""]


@pytest.mark.parametrize("match", ["review", "views", "default", "VirtualService", "default/reviews http[1]"])
def test_a_part_of_a_name_is_not_the_name(looked, match):
    assert calls(looked, match=match) == []
    assert not any(is_of(call, match) for call in calls(looked))


def test_failed_ones_are_those_with_an_error_or_an_attempt_that_had_one(looked):
    found = calls(looked, failed="")
    assert [call["authority"] for call in found] == ["ratings:9080", "reviews:9080"]
    assert found[1]["status"] == 200
    assert [has_failed(call) for call in calls(looked)].count(True) == 2


def test_hosts_have_their_calls_and_endpoints(looked):
    page = json.loads(b"".join(hosts_page(looked).pieces))
    hosts = {each["host"]: each for each in page["hosts"]}
    reviews = hosts[HOST]
    assert (reviews["direction"], reviews["calls"], reviews["errors"]) == ("made", 3, 0)
    assert (reviews["endpoints"], reviews["ejected"], reviews["unusable"], reviews["active"]) == (2, 1, 1, 0)
    assert len(reviews["counts"]) == len(page["bounds"]) + 1
    assert hosts["ratings.default.svc.cluster.local"]["errors"] == 1
    assert page["at"] == looked.core.clock.monotonic()
