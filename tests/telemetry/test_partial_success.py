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


def test_so_they_are_over_grpc(receiver: OtlpReceiver, caplog: pytest.LogCaptureFixture) -> None:
    receiver.reject(2, "no such tenant")
    provider = otel.tracer_provider(receiver.grpc.replace("http", "grpc"), service="page", delay=3600.0)
    with caplog.at_level(logging.WARNING, "meshlib"):
        for _ in range(3):
            provider.get_tracer("t").start_span("x").end()
        assert provider.force_flush()
        receiver.accept()
        provider.get_tracer("t").start_span("x").end()
        assert provider.force_flush()
    provider.shutdown()
    assert len(receiver.spans) == 4
    assert dropped.counts() == {SPANS: 2}
    assert [
        record.getMessage().partition(";")[0] for record in caplog.records if record.name.startswith("meshlib")
    ] == ["the OTLP collector has taken a request and rejected 2 spans: no such tenant"]


def test_a_channel_that_is_made_anew_counts_too(receiver: OtlpReceiver) -> None:
    exporter = otel.exporter_to(receiver.grpc.replace("http", "grpc"))
    assert type(exporter._client) is partial_success._CountingStub  # type: ignore[attr-defined]
    exporter._client = None  # type: ignore[attr-defined]
    assert exporter._client is None  # type: ignore[attr-defined]
    exporter.shutdown()


@pytest.mark.parametrize("scheme", ["grpc", "http", "http with gzip", "http with deflate"])
def test_no_more_spans_are_lost_than_were_sent(
    receiver: OtlpReceiver, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    """Whatever a collector says: a counter that has once been told of 2**60 counts nothing any more."""
    if "with" in scheme:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_COMPRESSION", scheme.rpartition(" ")[2])
    receiver.reject(2**60)
    endpoint = receiver.grpc.replace("http", "grpc") if scheme == "grpc" else receiver.http
    provider = otel.tracer_provider(endpoint, service="page", delay=3600.0)
    for _ in range(3):
        provider.get_tracer("t").start_span("x").end()
    assert provider.force_flush()
    provider.shutdown()
    assert dropped.counts() == {SPANS: 3}


def test_nor_more_points_of_metrics(receiver: OtlpReceiver) -> None:
    exporter = metric_exporter_from_env({"MESHLIB_OTLP_METRICS": receiver.http})
    with meshlib.Mesh.from_resources([], metric_exporter=exporter, registry=CollectorRegistry()) as mesh:
        receiver.reject(2**60)
        assert mesh._metrics.export is not None
        mesh._metrics.export.flush()
        sent = sum(len(getattr(m.item, m.item.WhichOneof("data")).data_points) for m in receiver.metrics)
        assert sent > 5
        assert dropped.counts() == {POINTS: sent}
        receiver.accept()


@pytest.mark.parametrize("body", [b"<html>", None, iter([b"x"])])
def test_of_a_request_that_cannot_be_read_one_is_lost(body: object) -> None:
    assert partial_success._sent(SPANS, body, "") == 1
    assert partial_success._sent(POINTS, body, "gzip") == 1


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
