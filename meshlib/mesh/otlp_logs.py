"""Where access logs over OTLP go: a channel of grpcio to the collector that a provider names."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from meshlib.problems import MeshError
from meshlib.telemetry.access_log.otlp_output import METHOD, MISSING, OtlpOutput, RefusedError
from meshlib.telemetry.partial_success import in_one_line

if TYPE_CHECKING:
    from meshlib.engine.live_mesh import LiveMesh
    from meshlib.policy.telemetry_settings import AccessLog
    from meshlib.workload import Workload


RETRIED = frozenset(("CANCELLED", "DEADLINE_EXCEEDED", "ABORTED", "OUT_OF_RANGE", "UNAVAILABLE", "DATA_LOSS"))
"""Statuses after which OTLP lets a client try again; RESOURCE_EXHAUSTED, too, where the collector says when (``_WHEN``): a
request that is too large for it has the same status."""
_DETAILS, _WHEN = "grpc-status-details-bin", b"google.rpc.RetryInfo"


class CollectorChannel:
    """In plain text, to where ``address`` says. Opened with the first request, and by each process for itself."""

    def __init__(self, address: Callable[[], str]) -> None:
        self._address = address
        self._call: Any = None
        self._of = -1, ""

    def __call__(self, request: bytes, timeout: float) -> bytes:
        """Send it; what the collector has responded. Raises ConnectionError for whatever goes wrong, ``RefusedError`` where
        another try would end alike."""
        import grpc

        of = os.getpid(), self._address()
        if of != self._of:
            # without gRPC core's own retries, which may never end once a server has said that it goes away
            self._call = grpc.insecure_channel(of[1], (("grpc.enable_retries", 0),)).unary_unary(METHOD)
            self._of = of
        try:
            response: bytes = self._call(request, timeout=timeout)
        except grpc.RpcError as error:
            code = error.code().name
            trailers: Any = error.trailing_metadata() or ()
            again = code in RETRIED or (code == "RESOURCE_EXHAUSTED" and _WHEN in dict(trailers).get(_DETAILS, b""))
            kind = ConnectionError if again else RefusedError
            raise kind(f"the collector at {of[1]}: {code}: {in_one_line(str(error.details()))}") from None
        return response


def otlp_output(settings: AccessLog, workload: Workload, live: Callable[[], LiveMesh | None]) -> OtlpOutput:
    """For a provider ``envoyOtelAls``. Raises ``MeshError`` where an extra is missing."""
    try:
        import grpc  # noqa: F401 (whether it is there)
    except ImportError:
        raise MeshError(MISSING) from None
    resource = {
        "log_name": settings.log_name,
        "cluster_name": workload.cluster,
        "node_name": workload.name,
        "zone_name": workload.locality,
        "service.name": f"{workload.name}.{workload.namespace}",
    }
    channel = CollectorChannel(lambda: collector_address(settings.service, settings.port, live()))
    return OtlpOutput(channel, settings.log_name, {key: value for key, value in resource.items() if value})


def collector_address(service: str, port: int, live: LiveMesh | None) -> str:
    """The first endpoint of the service that the mesh knows; where it knows none, its name is left to DNS."""
    cluster = None if live is None else live.snapshot.clusters.get(f"outbound|{port}||{service}")
    if cluster is not None and cluster.endpoints:
        return cluster.endpoints[0].key
    return f"{service}:{port}"
