"""``/stats`` and ``/stats/prometheus``."""

from __future__ import annotations

import json

import httpx
from prometheus_client import CollectorRegistry
from prometheus_client.parser import text_string_to_metric_families

import meshlib
from meshlib.admin.stats import prometheus_page, stats_page
from tests.support.admin import seen
from tests.support.fake_clock import FakeClock
from tests.support.resources import pod, service


def called() -> meshlib.Mesh:
    made = meshlib.Mesh.from_resources(
        [service("reviews"), pod("reviews", "v1", 9081)], registry=CollectorRegistry(), clock=FakeClock()
    )
    made.client(transport=httpx.MockTransport(lambda _request: httpx.Response(200))).get("http://reviews:9080/")
    return made


def test_numbers_have_the_names_of_what_they_count():
    with called() as mesh:
        found = seen(mesh)
        lines = dict(
            line.rsplit(": ", 1) for line in b"".join(stats_page(found, as_json=False).pieces).decode().splitlines()
        )
        assert lines["cluster.outbound|9080||reviews.default.svc.cluster.local.requests"] == "1"
        assert lines["cluster.outbound|9080||reviews.default.svc.cluster.local.endpoints.127.0.0.1:9081.active"] == "0"
        assert lines["failures.calls"] == "0"
        numbers = json.loads(b"".join(stats_page(found, as_json=True).pieces))["stats"]
        assert {each["name"]: str(each["value"]) for each in numbers} == lines


def test_metrics_are_those_of_the_meshs_registry():
    with called() as mesh:
        text = b"".join(prometheus_page(seen(mesh)).pieces).decode()
    families = {family.name: family for family in text_string_to_metric_families(text)}
    (sample,) = [s for s in families["istio_requests"].samples if s.name == "istio_requests_total"]
    assert sample.value == 1
    assert sample.labels["destination_service"] == "reviews.default.svc.cluster.local"
