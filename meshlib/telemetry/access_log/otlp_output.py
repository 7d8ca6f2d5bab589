"""Lines to an OpenTelemetry collector, as Envoy's ``open_telemetry`` access logger sends them: OTLP over gRPC.

Needs the messages of OpenTelemetry (extra ``otel``). What sends them comes in: telemetry opens no connection.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from meshlib.clock import rest
from meshlib.problems import MeshError

if TYPE_CHECKING:
    Send = Callable[[bytes, float], None]
    """Sends an ``ExportLogsServiceRequest`` and waits for its response, so many seconds. Raises OSError."""

METHOD = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
BATCH = 512
"""Records in one request."""
TIMEOUT = 10.0
"""Seconds that a collector has to respond."""
PAUSES = (0.5, 1.0, 2.0, 4.0, 8.0)
"""Seconds before a batch is sent again; after the last one it is lost."""
MISSING = "access logs over OTLP need the extras otel and grpc: pip install 'sidecarless[otel,grpc]'"


class LogRecord(NamedTuple):
    """One line: when its call began, in nanoseconds since the epoch, its text, and its attributes."""

    time: int
    body: str
    attributes: tuple[tuple[str, str], ...] = ()


class OtlpOutput:
    """``log_name`` and ``resource`` say whose lines they are."""

    def __init__(
        self,
        send: Send,
        log_name: str,
        resource: Mapping[str, str],
        pause: Callable[[float], None] = rest,
    ) -> None:
        self._send = send
        self._log_name = log_name
        self._resource = dict(resource)
        self._pause = pause
        self._messages = messages()

    def write(self, items: Sequence[LogRecord], stopping: Callable[[], bool], /) -> int:
        """As ``Output``. A collector that is down is asked again a few times; no call waits for that."""
        for at in range(0, len(items), BATCH):
            if not self._sent(self._request(items[at : at + BATCH]), stopping):
                return len(items) - at
        return 0

    def _sent(self, request: bytes, stopping: Callable[[], bool]) -> bool:
        for pause in (*PAUSES, None):
            try:
                self._send(request, TIMEOUT)
            except OSError:
                if pause is None:
                    raise  # with its words, for the log
                if stopping():
                    return False
                self._pause(pause)
            else:
                return True
        return False

    def _request(self, records: Sequence[LogRecord]) -> bytes:
        service, common, logs = self._messages
        request = service.ExportLogsServiceRequest()
        of_resource = request.resource_logs.add()
        for key, value in self._resource.items():
            of_resource.resource.attributes.append(_pair(common, key, value))
        scope = of_resource.scope_logs.add()
        scope.scope.name = "meshlib"
        for record in records:
            made = logs.LogRecord(time_unix_nano=record.time, body=common.AnyValue(string_value=record.body))
            made.attributes.extend(_pair(common, key, value) for key, value in record.attributes)
            scope.log_records.append(made)
        encoded: bytes = request.SerializeToString()
        return encoded

    def reopen(self) -> None:
        """There is no file."""

    def close(self) -> None:
        """What sends belongs to the mesh."""

    def after_fork(self) -> None:
        """Who sends sees to its connections."""


def _pair(common: Any, key: str, value: str) -> Any:
    return common.KeyValue(key=key, value=common.AnyValue(string_value=value))


def messages() -> tuple[Any, Any, Any]:
    """OpenTelemetry's own. Raises ``MeshError`` without the extra."""
    try:
        from opentelemetry.proto.collector.logs.v1 import logs_service_pb2
        from opentelemetry.proto.common.v1 import common_pb2
        from opentelemetry.proto.logs.v1 import logs_pb2
    except ImportError:
        raise MeshError(MISSING) from None
    return logs_service_pb2, common_pb2, logs_pb2
