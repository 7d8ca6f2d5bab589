"""What a collector takes and rejects is counted and told once, whoever sends it."""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceResponse
from prometheus_client import CollectorRegistry, generate_latest

import meshlib
from meshlib import otel
from meshlib.mesh.metric_export import metric_exporter_from_env
from meshlib.telemetry import partial_success
from meshlib.telemetry.dropped import dropped
from meshlib.telemetry.partial_success import POINTS, SPANS, count, counting_session, rejected
from tests.support.otlp_receiver import OtlpReceiver


@pytest.fixture(scope="module")
def receiver() -> Iterator[OtlpReceiver]:
    with OtlpReceiver() as made:
        yield made


@pytest.fixture(autouse=True)
def nothing_yet(receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    receiver.clear()
    dropped.after_fork()
    monkeypatch.setattr(partial_success, "_told", set())
    monkeypatch.setenv("OTEL_METRIC_EXPORT_INTERVAL", "3600000")
    yield
    dropped.after_fork()


def test_spans_that_a_collector_rejects_are_dropped(receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture) -> None:
    receiver.reject(2, "no such tenant")
    provider = otel.tracer_provider(receiver.http, service="page", delay=3600.0)
    tracer = provider.get_tracer("t")
    with caplog.at_level(logging.WARNING, "meshlib"):
        for _ in range(2):
            for _ in range(3):
                tracer.start_span("x").end()
            assert provider.force_flush()
    provider.shutdown()
    assert dropped.counts() == {SPANS: 4}
    assert [record.getMessage() for record in caplog.records if record.name.startswith("meshlib")] == [
        "the OTLP collector has taken a request and rejected 2 spans: no such tenant; further ones are only counted "
        '(meshlib_telemetry_dropped_total{kind="spans_rejected"})'
    ]


def test_points_of_metrics_that_a_collector_rejects_are_dropped(receiver: OtlpReceiver) -> None:
    exporter = metric_exporter_from_env({"MESHLIB_OTLP_METRICS": receiver.http})
    registry = CollectorRegistry()
    with meshlib.Mesh.from_resources([], metric_exporter=exporter, registry=registry) as mesh:
        receiver.reject(5)
        assert mesh._metrics.export is not None
        mesh._metrics.export.flush()
        assert mesh.status()["telemetry"]["dropped"] == {POINTS: 5}
        assert f'kind="{POINTS}"' in generate_latest(registry).decode()
        receiver.accept()


def test_the_responses_of_all_signals_are_alike() -> None:
    response = ExportTraceServiceResponse()
    response.partial_success.rejected_spans = 3
    response.partial_success.error_message = "w" * 1000
    assert rejected(response.SerializeToString()) == (3, "w" * 500)
    assert rejected(b"") == (0, "")
    assert rejected(b"<html>") == (0, "")


def test_a_collectors_words_end_no_line_of_the_log(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.WARNING, "meshlib"):
        count(SPANS, 1, "a\nERROR forged")
    assert "\n" not in caplog.records[-1].getMessage()


def test_a_session_that_the_environment_names_is_left_to_the_exporter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OTEL_PYTHON_EXPORTER_OTLP_HTTP_CREDENTIAL_PROVIDER", "mine")
    assert counting_session(SPANS) is None
