"""istio_tcp_*: Istio's labels of connections, and what Telemetries change about them."""

from __future__ import annotations

from prometheus_client import CollectorRegistry

from meshlib.policy.telemetry_settings import MetricOverride, MetricSettings, TagOverride
from meshlib.telemetry.families import CONNECTION_LABELS, LABELS, tcp_families
from meshlib.telemetry.tag_overrides import AS_THEY_ARE, made, overrides_of
from meshlib.telemetry.tcp_series import UNCOUNTED, tcp_series
from meshlib.workload import Workload

CALL = tuple(f"of_{name}" for name in LABELS)


def shown(registry: CollectorRegistry) -> dict[str, dict[str, str]]:
    return {
        sample.name: sample.labels
        for family in registry.collect()
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def test_a_connection_has_the_labels_of_calls_but_those_of_a_response():
    registry = CollectorRegistry()
    series = tcp_series(registry, AS_THEY_ARE, CALL, ())
    series.opened.inc()
    series.closed.inc()
    series.sent.inc(10)
    series.received.inc(20)
    names = ("connections_opened", "connections_closed", "sent_bytes", "received_bytes")
    found = shown(registry)
    assert set(found) == {f"istio_tcp_{name}_total" for name in names}
    for labels in found.values():
        assert labels == {
            name: f"of_{name}" for name in LABELS if name not in ("response_code", "grpc_response_status")
        }
    assert registry.get_sample_value("istio_tcp_sent_bytes_total", found["istio_tcp_sent_bytes_total"]) == 10
    assert registry.get_sample_value("istio_tcp_received_bytes_total", found["istio_tcp_received_bytes_total"]) == 20


def test_a_telemetry_turns_one_off_and_takes_labels_from_another():
    registry = CollectorRegistry()
    settings = MetricSettings(
        overrides={
            "tcp_sent_bytes_total": MetricOverride(disabled=True),
            "tcp_received_bytes_total": MetricOverride(
                tags=(TagOverride("source_app", ""), TagOverride("response_code", ""))
            ),
        }
    )
    tags = overrides_of(settings, Workload(), True, made)
    assert tags is not None
    series = tcp_series(registry, tags, CALL, ())
    series.sent.inc(10)
    series.received.inc(20)
    found = shown(registry)
    assert "istio_tcp_sent_bytes_total" not in found
    assert set(found["istio_tcp_received_bytes_total"]) == set(CONNECTION_LABELS) - {"source_app"}


def test_the_families_of_a_registry_are_made_once():
    registry = CollectorRegistry()
    assert tcp_families(registry) is tcp_families(registry)


def test_who_counts_nothing_counts_nothing():
    UNCOUNTED.sent.inc(1)
