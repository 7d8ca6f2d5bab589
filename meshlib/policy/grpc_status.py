"""gRPC status codes by name and number, and Envoy's maps between them and HTTP status codes."""

from __future__ import annotations

from types import MappingProxyType

NAMES = (
    "OK",
    "CANCELLED",
    "UNKNOWN",
    "INVALID_ARGUMENT",
    "DEADLINE_EXCEEDED",
    "NOT_FOUND",
    "ALREADY_EXISTS",
    "PERMISSION_DENIED",
    "RESOURCE_EXHAUSTED",
    "FAILED_PRECONDITION",
    "ABORTED",
    "OUT_OF_RANGE",
    "UNIMPLEMENTED",
    "INTERNAL",
    "UNAVAILABLE",
    "DATA_LOSS",
    "UNAUTHENTICATED",
)
NUMBERS = MappingProxyType({name: number for number, name in enumerate(NAMES)})

_HTTP_OF = (200, 499, 500, 400, 504, 404, 409, 403, 429, 400, 409, 400, 501, 500, 503, 500, 401)
_GRPC_OF = {400: 13, 401: 16, 403: 7, 404: 12, 429: 14, 502: 14, 503: 14, 504: 14}


def http_of_grpc(status: int) -> int:
    """The HTTP status that stands for a gRPC status (outlier detection and plain HTTP callers see this one)."""
    return _HTTP_OF[status] if 0 <= status < len(_HTTP_OF) else 500


def grpc_of_http(status: int) -> int:
    """The gRPC status of a response that carries none; UNKNOWN for whatever has no better one."""
    return _GRPC_OF.get(status, 2)
