"""What a line is about: a call that is over, of the side that made it or of the one that served it.

Operators ask an entry; each side knows its own (``made.py``, ``served.py``). Texts are wire strings (bytes read as latin-1).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, ClassVar, Protocol

from meshlib.policy.envoy_matchers import query_parameter

if TYPE_CHECKING:
    from meshlib.policy.http_match import RequestView

TRACEPARENT = "traceparent"
SERVICE_TIME = "x-envoy-upstream-service-time"


class Traced(Protocol):
    """What an entry wants of a span."""

    @property
    def trace_id(self) -> int: ...
    @property
    def span_id(self) -> int: ...


class Entry:
    """A call. ``started`` and ``ended`` are by the mesh's monotonic clock, ``wall`` is the time of day when it began, all in
    seconds; ``flags`` are Envoy's, comma separated, ``grpc`` is the number of a gRPC status."""

    __slots__ = ("ended", "flags", "grpc", "request", "started", "status", "traced", "wall")

    outbound: ClassVar[bool] = False
    """Whether it was made; else it was served."""
    request: RequestView
    started: float
    ended: float
    wall: float
    status: int
    flags: str
    grpc: int | None
    traced: Traced | None

    # -- the request --------------------------------------------------------------------------------------------------

    def method(self) -> str | None:
        """Of the request."""
        return self.request.method or None

    def path(self) -> str | None:
        """With its query."""
        return self.request.full_path or None

    def authority(self) -> str | None:
        """The Host."""
        return self.request.authority or None

    def scheme(self) -> str | None:
        """http or https."""
        return self.request.scheme

    def header(self, name: str) -> str | None:
        """Of the request; ``name`` in lower case."""
        return self.request.header(name)

    def query(self, name: str) -> str | None:
        """A parameter of the query, decoded."""
        return query_parameter((self.path() or "").partition("?")[2], name)

    def protocol(self) -> str | None:
        """``HTTP/1.1`` and its like."""
        return None

    def request_bytes(self) -> int | None:
        """Of its body."""
        return None

    def request_head_bytes(self) -> int | None:
        """Of its headers."""
        return None

    # -- the response -------------------------------------------------------------------------------------------------

    def response_header(self, _name: str) -> str | None:
        """``name`` in lower case."""
        return None

    def trailer(self, _name: str) -> str | None:
        """``name`` in lower case."""
        return None

    def details(self) -> str | None:
        """Who made the response, and why, in Envoy's words."""
        return None

    def response_bytes(self) -> int | None:
        """Of its body."""
        return None

    def response_head_bytes(self) -> int | None:
        """Of its headers."""
        return None

    def trailer_bytes(self) -> int | None:
        """Of its trailers."""
        return None

    def local_body(self) -> str | None:
        """The text of a response that was made here."""
        return None

    # -- times --------------------------------------------------------------------------------------------------------

    def head_at(self) -> float | None:
        """When the head of the response was there."""
        return None

    def sent_at(self) -> float | None:
        """When the last attempt began to be sent."""
        return None

    # -- where it went ------------------------------------------------------------------------------------------------

    def upstream(self) -> str | None:
        """The endpoint, with its port."""
        return None

    def attempted(self) -> list[str]:
        """The endpoints of all attempts."""
        return []

    def attempts(self) -> int | None:
        """How many there were."""
        return None

    def cluster(self) -> str | None:
        """Envoy's name of it."""
        return None

    def upstream_protocol(self) -> str | None:
        """What was spoken to the endpoint."""
        return None

    def upstream_local(self) -> str | None:
        """Our address of the connection to the endpoint."""
        return None

    def transport_failure(self) -> str | None:
        """Why there was no connection."""
        return None

    def route(self) -> str | None:
        """The name of the rule."""
        return None

    # -- where it came from -------------------------------------------------------------------------------------------

    def remote(self) -> str | None:
        """The caller, as proxies before us have seen it."""
        return None

    def direct_remote(self) -> str | None:
        """The peer of the connection."""
        return None

    def local(self) -> str | None:
        """The address that it came to."""
        return None

    def peer_uri(self) -> str | None:
        """The SPIFFE ID of the peer's certificate."""
        return None

    def server_name(self) -> str | None:
        """What TLS was asked for."""
        return None

    def claims(self) -> Mapping[str, object] | None:
        """Of the verified token."""
        return None

    # -- traces -------------------------------------------------------------------------------------------------------

    def trace_id(self) -> str | None:
        """Of the span, or of the context that goes on with the call."""
        if self.traced is not None:
            return f"{self.traced.trace_id:032x}"
        parts = (self.header(TRACEPARENT) or "").split("-")
        if len(parts) >= 4:
            return parts[1]
        return self.header("x-b3-traceid")

    def span_id(self) -> str | None:
        """Likewise."""
        return None if self.traced is None else f"{self.traced.span_id:016x}"
