"""An OTLP receiver on loopback, for exporters under test: traces, logs and metrics, over gRPC and over HTTP with protobuf.

What arrives is kept as OpenTelemetry's own messages, flat, and may be waited for. It can be told to refuse, or to respond to
nobody, as a collector does that is down or slow. One serves a module: ``clear`` forgets what has come.
"""

from __future__ import annotations

import http.server
import threading
import zlib
from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from typing import Any, NamedTuple, Self

import grpc
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2 as logs
from opentelemetry.proto.collector.logs.v1 import logs_service_pb2_grpc as logs_grpc
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2 as metrics
from opentelemetry.proto.collector.metrics.v1 import metrics_service_pb2_grpc as metrics_grpc
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2 as traces
from opentelemetry.proto.collector.trace.v1 import trace_service_pb2_grpc as traces_grpc

from meshlib.telemetry.trace_tree import SpanFacts

PATIENCE = 30.0
"""Seconds that ``wait_for`` waits at most: far more than it takes."""


class Received(NamedTuple):
    """One span, log record or metric: ``resource`` and ``attributes`` as plain values, ``item`` OpenTelemetry's message of it,
    ``scope`` the name of the library that made it."""

    resource: dict[str, Any]
    scope: str
    item: Any

    @property
    def name(self) -> str:
        return self.item.name

    @property
    def attributes(self) -> dict[str, Any]:
        return plain(self.item.attributes)


class OtlpReceiver:
    """``grpc`` and ``http`` are where exporters send to: an endpoint for OTLP over gRPC without TLS, and a base URL, below
    which are ``/v1/traces``, ``/v1/logs`` and ``/v1/metrics``."""

    def __init__(self) -> None:
        self.spans: list[Received] = []
        self.logs: list[Received] = []
        self.metrics: list[Received] = []
        self.requests = 0
        """All, also those refused."""
        self.headers: list[dict[str, str]] = []
        """Of each request: metadata, or headers of HTTP."""
        self._refused: tuple[int, grpc.StatusCode] | None = None
        self._details = b""
        self._rejected: tuple[int, str] | None = None
        self._open = threading.Event()
        self._open.set()
        self._news = threading.Condition()
        self._grpc = grpc.server(ThreadPoolExecutor(4), options=(("grpc.so_reuseport", 0),))
        traces_grpc.add_TraceServiceServicer_to_server(_Traces(self), self._grpc)
        logs_grpc.add_LogsServiceServicer_to_server(_Logs(self), self._grpc)
        metrics_grpc.add_MetricsServiceServicer_to_server(_Metrics(self), self._grpc)
        self.grpc = f"http://127.0.0.1:{self._grpc.add_insecure_port('127.0.0.1:0')}"
        self._http = _HttpServer(("127.0.0.1", 0), _handler(self))
        self.http = f"http://127.0.0.1:{self._http.server_port}"
        self._thread = threading.Thread(target=self._http.serve_forever, args=(0.02,), daemon=True)

    def __enter__(self) -> Self:
        self._grpc.start()
        self._thread.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._open.set()
        self._grpc.stop(None).wait(60)
        self._http.shutdown()
        self._http.server_close()
        self._thread.join(60)

    # -- what a test says ---------------------------------------------------------------------------------------------

    def clear(self) -> None:
        """Forget what has come, and accept all again."""
        self.accept()
        with self._news:
            self.requests = 0
            for kept in (self.spans, self.logs, self.metrics, self.headers):
                kept.clear()

    def refuse(
        self, status: int = 503, code: grpc.StatusCode = grpc.StatusCode.UNAVAILABLE, details: bytes = b""
    ) -> None:
        """Respond with this from now on, and keep nothing. ``details``: of gRPC's ``google.rpc.Status``."""
        self._refused = status, code
        self._details = details

    def reject(self, count: int, words: str = "") -> None:
        """Keep what comes, and say from now on that so much of it was rejected."""
        self._rejected = count, words

    def hold(self) -> None:
        """Respond to nobody until ``accept``: a collector that hangs."""
        self._open.clear()

    def accept(self) -> None:
        """Keep what comes, and respond at once."""
        self._refused = self._rejected = None
        self._open.set()

    def wait_for(self, enough: Callable[[Self], Any]) -> None:
        """Until ``enough(receiver)`` is true of what has come."""
        with self._news:
            if not self._news.wait_for(lambda: enough(self), PATIENCE):
                raise AssertionError(
                    f"in {PATIENCE:g} s there have come {len(self.spans)} spans, {len(self.logs)} logs, "
                    f"{len(self.metrics)} metrics, in {self.requests} requests"
                )

    # -- what exporters send ------------------------------------------------------------------------------------------

    def take(self, message: Any, headers: dict[str, str]) -> tuple[int, grpc.StatusCode] | None:
        """Keep what a request exports; what it is refused with, None when it is not."""
        with self._news:
            self.requests += 1
            self.headers.append(headers)
            self._news.notify_all()
        self._open.wait(PATIENCE)
        with self._news:
            if self._refused is None:
                for of_one in getattr(message, "resource_spans", ()):
                    self.spans += _flat(of_one, of_one.scope_spans, "spans")
                for of_one in getattr(message, "resource_logs", ()):
                    self.logs += _flat(of_one, of_one.scope_logs, "log_records")
                for of_one in getattr(message, "resource_metrics", ()):
                    self.metrics += _flat(of_one, of_one.scope_metrics, "metrics")
            self._news.notify_all()
            return self._refused

    def told(self, response: Any) -> Any:
        """With what was rejected."""
        if self._rejected is not None:
            said = response.partial_success
            (field,) = (name for name in said.DESCRIPTOR.fields_by_name if name.startswith("rejected_"))
            setattr(said, field, self._rejected[0])
            said.error_message = self._rejected[1]
        return response


def facts_of(received: Received) -> SpanFacts:
    """A span for ``trace_tree.render``."""
    item = received.item
    return SpanFacts(
        trace_id=item.trace_id.hex(),
        span_id=item.span_id.hex(),
        parent_id=item.parent_span_id.hex(),
        name=item.name,
        kind=item.SpanKind.Name(item.kind).removeprefix("SPAN_KIND_"),
        service=received.resource["service.name"],
        start=item.start_time_unix_nano,
        end=item.end_time_unix_nano,
        attributes=received.attributes,
        events=[(event.name, plain(event.attributes)) for event in item.events],
        failed=item.status.code == item.status.STATUS_CODE_ERROR,
    )


def plain(attributes: Iterable[Any]) -> dict[str, Any]:
    """OTLP's attributes as a dict."""
    return {pair.key: _value(pair.value) for pair in attributes}


def _value(value: Any) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(each) for each in value.array_value.values]
    if kind == "kvlist_value":
        return plain(value.kvlist_value.values)
    return None if kind is None else getattr(value, kind)


def _flat(of_one: Any, scopes: Any, field: str) -> list[Received]:
    resource = plain(of_one.resource.attributes)
    return [Received(resource, scope.scope.name, item) for scope in scopes for item in getattr(scope, field)]


def _serve(receiver: OtlpReceiver, request: Any, context: Any, response: Any) -> Any:
    refused = receiver.take(request, {str(name): str(value) for name, value in context.invocation_metadata()})
    if refused is not None:
        if receiver._details:
            context.set_trailing_metadata((("grpc-status-details-bin", receiver._details),))
        context.abort(refused[1], "refused by the test")
    return receiver.told(response)


class _Traces(traces_grpc.TraceServiceServicer):
    def __init__(self, receiver: OtlpReceiver) -> None:
        self._receiver = receiver

    def Export(self, request: Any, context: Any) -> Any:
        return _serve(self._receiver, request, context, traces.ExportTraceServiceResponse())


class _Logs(logs_grpc.LogsServiceServicer):
    def __init__(self, receiver: OtlpReceiver) -> None:
        self._receiver = receiver

    def Export(self, request: Any, context: Any) -> Any:
        return _serve(self._receiver, request, context, logs.ExportLogsServiceResponse())


class _Metrics(metrics_grpc.MetricsServiceServicer):
    def __init__(self, receiver: OtlpReceiver) -> None:
        self._receiver = receiver

    def Export(self, request: Any, context: Any) -> Any:
        return _serve(self._receiver, request, context, metrics.ExportMetricsServiceResponse())


BY_PATH = {
    "/v1/traces": (traces.ExportTraceServiceRequest, traces.ExportTraceServiceResponse),
    "/v1/logs": (logs.ExportLogsServiceRequest, logs.ExportLogsServiceResponse),
    "/v1/metrics": (metrics.ExportMetricsServiceRequest, metrics.ExportMetricsServiceResponse),
}


class _HttpServer(http.server.ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Exporters that are shut down hang up."""


def _handler(receiver: OtlpReceiver) -> type[http.server.BaseHTTPRequestHandler]:
    class Handler(http.server.BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def do_POST(self) -> None:
            body = self._body()
            if self.headers.get("content-encoding") in ("gzip", "deflate"):
                body = zlib.decompress(body, 15 + 32)
            known = BY_PATH.get(self.path)
            if known is None or self.headers.get("content-type") != "application/x-protobuf":
                self._respond(404 if known is None else 415, b"")
                return
            message, response = known
            refused = receiver.take(message.FromString(body), {k.lower(): v for k, v in self.headers.items()})
            if refused is not None:
                self._respond(refused[0], b"")
            else:
                self._respond(200, receiver.told(response()).SerializeToString())

        def _body(self) -> bytes:
            if self.headers.get("transfer-encoding") != "chunked":
                return self.rfile.read(int(self.headers.get("content-length") or 0))
            found = b""
            while size := int(self.rfile.readline(), 16):
                found += self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return found

        def _respond(self, status: int, body: bytes) -> None:
            self.send_response(status)
            self.send_header("content-type", "application/x-protobuf")
            self.send_header("content-length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *args: Any) -> None:
            """Quiet."""

    return Handler
