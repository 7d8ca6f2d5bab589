"""What a collector says that it has not kept of a request which it has taken: OTLP's ``partial_success``. It is not sent again,
and counts as dropped."""

from __future__ import annotations

import logging
import os
import zlib
from typing import TYPE_CHECKING, Any

from meshlib.telemetry.dropped import dropped

if TYPE_CHECKING:
    import requests

log = logging.getLogger("meshlib.telemetry")

SPANS = "spans_rejected"
POINTS = "metric_points_rejected"
WORDS = {SPANS: "spans", POINTS: "points of metrics"}

_LONGEST = 500
"""Characters of a collector's words."""
_EITHER = 15 + 32
"""Of zlib: gzip and deflate alike."""
_told: set[str] = set()


def rejected(response: bytes) -> tuple[int, str]:
    """How many of a request's spans, points or records a collector has not kept, and its words; ``response`` is any of OTLP's
    in protobuf, which are alike. What is none of them says nothing."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

    if not response:  # nearly always
        return 0, ""
    try:
        said = ExportLogsServiceResponse.FromString(response).partial_success
    except DecodeError:
        return 0, ""
    return max(0, said.rejected_log_records), in_one_line(said.error_message)


def in_one_line(words: str) -> str:
    """What a collector has said, for a line of the log."""
    return "".join([each if each.isprintable() else " " for each in words[:_LONGEST]])


def counting_session(kind: str) -> requests.Session | None:
    """For an exporter over HTTP: counts what is rejected as ``kind``, ``SPANS`` or ``POINTS``. None where the environment names
    a session of its own, or there is no ``requests``."""
    if any(name.endswith("CREDENTIAL_PROVIDER") and name.startswith("OTEL_") for name in os.environ):
        return None
    try:
        import requests
    except ImportError:  # an exporter of another kind
        return None

    def look(response: requests.Response, *_: Any, **__: Any) -> None:
        if response.ok and response.headers.get("content-type", "").startswith("application/x-protobuf"):
            lost, words = rejected(response.content)
            if lost:
                request = response.request
                count(kind, min(lost, _sent(kind, request.body, request.headers.get("content-encoding", ""))), words)

    session = requests.Session()
    session.hooks["response"].append(look)
    return session


def counting_exporter(exporter: type[Any]) -> type[Any]:
    """``exporter``, OpenTelemetry's class that sends spans over gRPC, which counts what is rejected as ``SPANS``."""

    class Counting(exporter):  # type: ignore[misc]
        """It makes a stub for each of its channels, and has more than one in its time."""

        @property
        def _client(self) -> Any:
            return self.__dict__.get("_client")

        @_client.setter
        def _client(self, stub: Any) -> None:
            self.__dict__["_client"] = stub if stub is None else _CountingStub(stub)

    return Counting


class _CountingStub:
    def __init__(self, stub: Any) -> None:
        self._export = stub.Export

    def Export(self, request: Any, **how: Any) -> Any:  # noqa: N802 (gRPC's name)
        response = self._export(request, **how)
        lost = response.partial_success.rejected_spans
        if lost > 0:
            count(SPANS, min(lost, _spans(request)), response.partial_success.error_message)
        return response


def _sent(kind: str, body: Any, encoding: str | bytes) -> int:
    """How many spans or points there were in a request: no more of them can be lost, whatever a collector says. 1 where its
    body cannot be read."""
    from google.protobuf.message import DecodeError
    from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import ExportMetricsServiceRequest
    from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest

    try:
        if encoding in ("gzip", "deflate"):
            body = zlib.decompress(body, _EITHER)
        if kind == SPANS:
            return _spans(ExportTraceServiceRequest.FromString(body))
        return _points(ExportMetricsServiceRequest.FromString(body))
    except (DecodeError, TypeError, zlib.error):
        return 1


def _spans(request: Any) -> int:
    return sum(len(scope.spans) for resource in request.resource_spans for scope in resource.scope_spans)


def _points(request: Any) -> int:
    return sum(
        len(getattr(metric, metric.WhichOneof("data")).data_points)
        for resource in request.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    )


def count(kind: str, lost: int, words: str) -> None:
    """So many are lost, of which the log tells once."""
    if not lost:
        return
    dropped.add(kind, lost)
    if kind not in _told:
        _told.add(kind)
        log.warning(
            "the OTLP collector has taken a request and rejected %d %s%s; further ones are only counted "
            '(meshlib_telemetry_dropped_total{kind="%s"})',
            lost, WORDS[kind], f": {in_one_line(words)}" if words else "", kind,
        )  # fmt: skip
