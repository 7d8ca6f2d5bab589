"""What a driver sends back into the exchange after a ``Send``: a response's head, or the way it failed.

Failures are values, not exceptions: an exchange decides over them (retry? eject?) on every call, and raising between
layers would cost more than the decision itself.
"""

from __future__ import annotations

from enum import IntEnum
from typing import TYPE_CHECKING

from meshlib.policy.grpc_status import http_of_grpc
from meshlib.policy.header_ops import Headers, RawHeaders

if TYPE_CHECKING:
    from meshlib.engine.message import ResponseBody


class Failure(IntEnum):
    """Why there is no response head. The names say what happened on the wire; policy maps them to retry conditions."""

    CONNECT_FAILED = 1  # refused, unreachable, name not found, TLS handshake failed: no byte of the request was sent
    CONNECT_TIMEOUT = 2  # the same, because connectTimeout passed
    RESET = 3  # the connection broke after (some of) the request was sent and before the head of the response was whole
    PROTOCOL_ERROR = 4  # what came back is not HTTP/1.1, or its head exceeds the limits
    TIMEOUT = 5  # no head within Send.timeout (which of the timeouts it was, the exchange knows)
    POOL_TIMEOUT = 6  # waited longer than the caller's pool timeout for a connection slot
    OVERFLOW = 7  # a connection-pool limit refused the attempt: nothing was sent
    INVALID_REQUEST = 8  # the request cannot be written as HTTP: nothing was sent, no endpoint is to blame
    WRITE_TIMEOUT = 9  # the request body could not be written within the caller's write timeout
    REQUEST_BODY_FAILED = 10  # the caller's own body iterator raised; ``error`` holds what it raised
    REFUSED = 11  # the server refused the stream before processing it
    CLOSED = 12  # the mesh was closed meanwhile: nobody is to blame, and nothing more is tried


LOCAL_ORIGIN = {
    Failure.CONNECT_FAILED: "connect",
    Failure.CONNECT_TIMEOUT: "connect",
    Failure.RESET: "reset",
    Failure.REFUSED: "reset",
    Failure.PROTOCOL_ERROR: "reset",
    Failure.TIMEOUT: "timeout",
}
"""Failures that outlier detection holds against the endpoint; the others are the caller's or our own doing."""


class Outcome:
    """The result of one attempt: either ``failure`` is None and there is a head and a body, or it says what failed.

    ``headers`` are as received: bytes, order and case kept, repeated names repeated; a list, or a head whose list is made when
    somebody goes through it (see ``transport/protocol/raw_head.py``). ``body`` is the driver's stream of
    what follows (see ``transport``), None with a failure. ``whole`` is the entire body when it arrived together with
    the head (the common case for small responses): then the connection is free already and ``body`` is None. ``stale``
    marks a failure on a kept-alive connection before any byte of a response (the server had most likely closed it), or what a
    GOAWAY of HTTP/2 says has not been worked on.
    ``trailers`` (HTTP/2 only, else None) is filled when the body has been read to its end. ``grpc_status`` is the gRPC
    status of a call that ended with its head (a trailers-only response, or a local one), else None. ``stream`` is what the
    caller may know of the connection (see ``transport/upstream/network_stream.py``), None without one. ``size``: bytes of
    the head, and of the body of a ``whole`` response, as they came; 0 when nobody has counted them. ``usual``: it is a 200 of
    which nothing else has to be looked at: no headers that decide anything, no body to come, no status of gRPC but OK.
    """

    __slots__ = (
        "body",
        "detail",
        "error",
        "failure",
        "grpc_status",
        "headers",
        "http_version",
        "reason",
        "size",
        "stale",
        "status",
        "stream",
        "trailers",
        "usual",
        "whole",
    )

    def __init__(
        self,
        failure: Failure | None = None,
        detail: str = "",
        error: BaseException | None = None,
        *,
        status: int = 0,
        reason: bytes = b"",
        headers: Headers | None = None,
        http_version: bytes = b"HTTP/1.1",
        whole: bytes | None = None,
        body: ResponseBody | None = None,
        stale: bool = False,
        trailers: RawHeaders | None = None,
    ) -> None:
        self.failure = failure
        self.detail = detail
        self.error = error
        self.status = status
        self.reason = reason
        self.headers: Headers = headers if headers is not None else []
        self.http_version = http_version
        self.whole = whole
        self.body = body
        self.stale = stale
        self.usual = False
        self.trailers = trailers
        self.grpc_status: int | None = None
        self.size = 0
        self.stream: object = None

    @property
    def health_status(self) -> int:
        """The HTTP status by which health is judged (outlier detection, breakers, hedges, fallbacks): the one that stands
        for ``grpc_status``, as in Envoy, else ``status``."""
        return self.status if self.grpc_status is None else http_of_grpc(self.grpc_status)

    def drop(self) -> None:
        """Nobody will read the body, if there is one."""
        if self.body is not None:
            self.body.abort()

    def __repr__(self) -> str:
        if self.failure is not None:
            return f"<Outcome {self.failure.name} {self.detail!r}>"
        return f"<Outcome {self.status} {len(self.headers)} headers>"
