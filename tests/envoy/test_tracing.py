"""Spans that Envoy makes and sends."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from meshlib.envoy.configuration import configuration
from meshlib.envoy.messages import CLUSTER as KIND
from meshlib.envoy.messages import LISTENER, packed
from meshlib.envoy.tracing import CLUSTER, Collector, collector_cluster, collector_of, not_traced, traced
from meshlib.policy.telemetry_settings import CustomTag, TracingSettings, WorkloadTelemetry
from tests.support.envoy_engine import EnvoyCommand, Json, snapshot_of
from tests.support.otlp_receiver import OtlpReceiver
from tests.support.resources import service
from tests.support.servers import EchoServer

HERE = Collector("localhost", 4318, "/v1/traces", "web")
TELEMETRY = """
---
apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: tags, namespace: default}
spec:
  tracing:
  - randomSamplingPercentage: 100
    customTags:
      team: {literal: {value: shop}}
      tenant: {header: {name: x-tenant, defaultValue: nobody}}
      door: {header: {name: authorization}}
      crumbs: {formatter: {value: "%REQ(COOKIE)%"}}
      where: {formatter: {value: "100%% %REQ(:METHOD)% %REQ(:PATH):4%"}}
      path: {header: {name: ":path"}}
"""

SENT = ("x-tenant: blue", "authorization: Bearer secret", "cookie: id=secret")


@pytest.mark.parametrize(
    ("url", "found"),
    [
        ("http://localhost:4318", HERE),
        ("http://localhost", HERE),
        ("http://[::1]:9/otlp/traces", Collector("::1", 9, "/otlp/traces", "web")),
        ("grpc://localhost", Collector("localhost", 4317, "", "web")),
        ("grpc://10.0.0.1:5", Collector("10.0.0.1", 5, "", "web")),
    ],
)
def test_a_collector_is_where_its_url_says(url: str, found: Collector) -> None:
    assert collector_of(url, "web") == found
    packed(KIND, collector_cluster(found))


@pytest.mark.parametrize(
    "url", ["https://a.test", "grpcs://a.test", "a.test:4318", "http://u:p@a.test", "http://a.test?x=1"]
)
def test_a_collector_that_envoy_would_be_told_half_of_is_refused(url: str) -> None:
    with pytest.raises(ValueError, match=r"plain text|leave them out"):
        collector_of(url, "web")


def tracing(settings: TracingSettings, collector: Collector = HERE) -> Json:
    """Of the filter that reads requests."""
    snapshot = replace(snapshot_of(service("web")), telemetry=WorkloadTelemetry())
    made = configuration(snapshot, [("127.0.0.1", 15001)])
    traced(
        made.listeners,
        collector,
        replace(snapshot.telemetry, client=replace(snapshot.telemetry.client, tracing=settings)),
    )
    (listener,) = made.listeners.values()
    packed(LISTENER, listener)
    found: Json = listener["filter_chains"][0]["filters"][0]["typed_config"].get("tracing", {})
    return found


def test_without_a_collector_nothing_is_recorded() -> None:
    made = configuration(snapshot_of(service("web")), [("127.0.0.1", 15001)])
    assert CLUSTER not in made.clusters
    assert "tracing" not in made.listeners["outbound"]["filter_chains"][0]["filters"][0]["typed_config"]


def test_what_telemetry_says_of_spans_is_done() -> None:
    assert tracing(TracingSettings(disabled=True)) == {}
    assert tracing(TracingSettings())["random_sampling"] == {"value": 100.0}
    tags = (
        CustomTag("team", "literal", "shop"),
        CustomTag("zone", "environment", "ZONE"),
        CustomTag("tenant", "header", "x-tenant", "nobody"),
        CustomTag("code", "formatter", "%RESPONSE_CODE%"),
    )
    made = tracing(TracingSettings(sampling=2.5, custom_tags=tags, max_tag_length=80))
    assert (made["random_sampling"], made["max_path_tag_length"]) == ({"value": 2.5}, 80)
    assert made["custom_tags"][1:] == [
        {"tag": "team", "literal": {"value": "shop"}},
        {"tag": "zone", "environment": {"name": "ZONE"}},
        {"tag": "tenant", "request_header": {"name": "x-tenant", "default_value": "nobody"}},
        {"tag": "code", "value": "%RESPONSE_CODE%"},
    ]


def test_what_envoy_does_otherwise_is_said() -> None:
    there = WorkloadTelemetry()
    plain = replace(there.client, tracing=TracingSettings(istio_tags=False))
    there = replace(there, client=plain, server=plain)
    assert not_traced(there) == []
    other = TracingSettings(propagates=False, use_request_id=False, istio_tags=False)
    said = not_traced(replace(there, server=replace(there.server, tracing=other)))
    assert [each.partition(":")[0] for each in said] == ["disableContextPropagation", "useRequestIdForTraceSampling"]


def test_that_spans_have_no_tags_of_istio_is_said_where_there_are_spans() -> None:
    (said,) = not_traced(WorkloadTelemetry())
    assert said.startswith("enableIstioTags: ")
    there = WorkloadTelemetry()
    none = replace(there.client, tracing=TracingSettings(disabled=True))
    assert not_traced(replace(there, client=none, server=none)) == []


def test_a_tag_that_envoy_is_not_told_of_is_said_once_with_its_place() -> None:
    there = WorkloadTelemetry()
    tag = CustomTag("door", "formatter", "%REQ(COOKIE)%", where="a.yaml:3:5")
    with_tag = replace(there.client, tracing=TracingSettings(istio_tags=False, custom_tags=(tag,)))
    (said,) = not_traced(replace(there, client=with_tag, server=with_tag))
    assert said.startswith("a.yaml:3:5: door is left out: ")
    assert "leave cookie out" in said
    assert [each["tag"] for each in tracing(with_tag.tracing)["custom_tags"]] == ["http.url"]


@pytest.mark.parametrize("over", ["http", "grpc"])
def test_spans_of_a_request_come_to_the_collector_without_its_query(tmp_path: Path, over: str) -> None:
    with OtlpReceiver() as receiver, EchoServer() as server:
        url = receiver.http if over == "http" else receiver.grpc.replace("http", "grpc")
        (tmp_path / "mesh").mkdir()
        (tmp_path / "mesh" / "telemetry.yaml").write_text(TELEMETRY)
        with EnvoyCommand(tmp_path, server.port, "--otlp", url, "--workload", "web") as proxy:
            with proxy.client() as client:
                assert client.get("/there?token=secret", "GET", "reviews.example", *SENT).status == 200
            receiver.wait_for(lambda there: len(there.spans) >= 2)
    for span in receiver.spans:
        assert span.resource["service.name"] == "web"
        assert "secret" not in str(span.item)
    whole = next(span for span in receiver.spans if "http.url" in span.attributes and not span.item.parent_span_id)
    assert whole.attributes["http.url"] == "/there"
    assert (whole.attributes["team"], whole.attributes["tenant"]) == ("shop", "blue")
    assert (whole.attributes["door"], whole.attributes["path"]) == ("(not shown)", "/there")
    assert whole.attributes["where"] == "100% GET /the"
    assert "crumbs" not in whole.attributes
    assert server.seen[-1]["headers"]["traceparent"].split("-")[1] == whole.item.trace_id.hex()
