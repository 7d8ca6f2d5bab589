"""Lines to an OpenTelemetry collector, as Envoy's ``open_telemetry`` access logger sends them: OTLP over gRPC.

Needs the messages of OpenTelemetry (extra ``otel``). What sends them comes in: telemetry opens no connection.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple

from meshlib.clock import rest
from meshlib.problems import MeshError
from meshlib.telemetry.access_log.writer import LinesLostError
from meshlib.telemetry.partial_success import rejected

if TYPE_CHECKING:
    Send = Callable[[bytes, float], bytes]
    """Sends an ``ExportLogsServiceRequest`` and waits for its response, so many seconds, which it returns. Raises OSError;
    ``RefusedError`` for what would be refused again."""

log = logging.getLogger("meshlib.access_log")

METHOD = "/opentelemetry.proto.collector.logs.v1.LogsService/Export"
BATCH = 512
"""Records in one request."""
BATCH_BYTES = 1024 * 1024
"""Bytes in one request, unless one record alone has more: a collector takes 4 MB, if nobody has told it otherwise."""
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


class RefusedError(ConnectionError):
    """The collector has refused a request, and would do so again."""


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
        self._has_rejected = False

    def write(self, items: Sequence[LogRecord], stopping: Callable[[], bool], /) -> int:
        """As ``Output``. A collector that is down is asked again a few times; no call waits for that. What it refuses for good,
        or does not keep of what it takes, is lost, and nothing else."""
        at = lost = 0
        why: OSError | None = None
        for request, count in self._requests(items):
            try:
                response = self._sent(request, stopping)
            except RefusedError as error:
                why, gone = error, count
            except OSError as error:
                raise LinesLostError(error, lost + len(items) - at) from None  # with its words, for the log
            else:
                if response is None:
                    return lost + len(items) - at
                gone, words = rejected(response)
                gone = min(gone, count)
                self._tell(gone, count, words)
            at += count
            lost += gone
        if lost:
            raise LinesLostError(why or OSError("rejected"), lost, works=why is None)
        return 0

    def _tell(self, gone: int, count: int, words: str) -> None:
        """Of a collector that has rejected ``gone`` of so many lines, once."""
        if gone and not self._has_rejected:
            self._has_rejected = True
            log.warning(
                "the OTLP collector of access logs has rejected %d of %d lines%s; they are lost, and further ones are only "
                "counted (status: access_logs)", gone, count, f": {words}" if words else "",
            )  # fmt: skip

    def _sent(self, request: bytes, stopping: Callable[[], bool]) -> bytes | None:
        """What the collector has responded; None: it is down, and there is no time to wait for it."""
        for pause in PAUSES:
            try:
                return self._send(request, TIMEOUT)
            except RefusedError:
                raise
            except OSError:
                if stopping():
                    return None
                self._pause(pause)
        return self._send(request, TIMEOUT)

    def _requests(self, items: Sequence[LogRecord]) -> Iterator[tuple[bytes, int]]:
        """Requests with these, and how many there are in each."""
        _, common, logs = self._messages
        request, size = self._empty(), 0
        scope = request.resource_logs[0].scope_logs[0]
        for record in items:
            made = logs.LogRecord(time_unix_nano=record.time, body=common.AnyValue(string_value=record.body))
            made.attributes.extend(_pair(common, key, value) for key, value in record.attributes)
            more = made.ByteSize()
            if scope.log_records and (len(scope.log_records) == BATCH or size + more > BATCH_BYTES):
                yield request.SerializeToString(), len(scope.log_records)
                del scope.log_records[:]
                size = 0
            size += more
            scope.log_records.append(made)
        if scope.log_records:
            yield request.SerializeToString(), len(scope.log_records)

    def _empty(self) -> Any:
        """A request that says whose records they are."""
        service, common, _ = self._messages
        request = service.ExportLogsServiceRequest()
        of_resource = request.resource_logs.add()
        for key, value in self._resource.items():
            of_resource.resource.attributes.append(_pair(common, key, value))
        of_resource.scope_logs.add().scope.name = "meshlib"
        return request

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
