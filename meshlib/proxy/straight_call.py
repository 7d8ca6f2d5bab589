"""A request to an application of which nothing is asked before but by checks that say so at once: its call, as ``Server.call``
would make it, in a third of the time."""

from __future__ import annotations

from collections.abc import Hashable, Iterable
from typing import TYPE_CHECKING

from meshlib.engine.inbound import InboundCall
from meshlib.engine.wanted_headers import wire_bytes
from meshlib.transport.protocol.received_head import ReceivedHead

if TYPE_CHECKING:
    import random

    from meshlib.engine.call import Call
    from meshlib.engine.check_failures import CheckFailures
    from meshlib.engine.inbound import Facts
    from meshlib.engine.inbound_state import BoundInbound
    from meshlib.engine.message import Request
    from meshlib.engine.outcome import Outcome
    from meshlib.engine.wanted_headers import WantedHeaders
    from meshlib.policy.refusal import Refusal
    from meshlib.proxy.inbound_request import ServedRequest
    from meshlib.transport.runtimes.serving import Server


class StraightCall(InboundCall):
    """Of a request without a deadline; ``bound`` is what ``Server.straight`` says of its port. It has begun."""

    # what each call sets or asks for: an attribute that a class has, too, takes CPython 3.11 ten times as long
    __slots__ = (
        "added",
        "answered",
        "came",
        "checks",
        "flags",
        "grpc_status",
        "head_at",
        "hop",
        "injected_delay",
        "made_id",
        "refusal",
        "request_bytes",
        "request_head_bytes",
        "response_bytes",
        "response_head_bytes",
        "route",
        "sent",
        "server",
        "started",
        "status",
        "tells",
    )

    request: ServedRequest

    def __init__(self, request: ServedRequest, bound: BoundInbound, server: Server) -> None:
        self.request = request
        self.inbound = bound.settings
        self.checks = bound.checks
        self.server = server
        self.clock = server.clock
        self.hop: Call[Request] | None = None
        self.tells = bound.tells
        self.request_bytes = self.response_bytes = self.request_head_bytes = self.response_head_bytes = 0
        self.sent = self.status = 0
        self.head_at = 0.0
        self.grpc_status: int | None = None
        self.flags = self.made_id = self.route = ""
        self.refusal: Refusal | None = None
        self.injected_delay = 0.0
        self.answered: Outcome | None = None
        # the headers of its response, and lines that they get beside their own
        self.came: Iterable[tuple[bytes | str, bytes | str]] = ()
        self.added = b""
        self.started = server.now()

    @property
    def response_head(self) -> Iterable[tuple[bytes | str, bytes | str]]:
        """Put together when somebody asks: few do."""
        came = self.came
        return came.with_lines(self.added) if self.added and type(came) is ReceivedHead else came

    @response_head.setter
    def response_head(self, headers: Iterable[tuple[bytes | str, bytes | str]]) -> None:
        self.came = headers
        self.added = b""

    def facts(self, wanted: WantedHeaders) -> Facts | None:
        """As ``InboundCall``'s, of a request that has gone on to its application, without a function for each part."""
        hop, answered = self.hop, self.answered
        if hop is None:
            return super().facts(wanted)
        record, request = hop.record, self.request
        kind: Hashable
        if answered is not None:  # nearly always: all else is as it is in all such calls
            kind = (
                *(self.status, request.method, request.version, request.of_connection),
                *(record.endpoint, record.rule_object, record.destination, answered.http_version),
            )
        else:
            kind = self._kind(hop)
            if kind is None:
                return None
        authority, query, target = request.authority, request.query, request.target
        if not query:
            path = request.path
            target = path.encode() if path.isascii() else wire_bytes(path)
        received = self.request_bytes - self.request_head_bytes
        sent = self.response_bytes - self.response_head_bytes
        return (
            kind,
            target,
            request.peer,
            authority.encode() if authority.isascii() else wire_bytes(authority),
            self.head_at,
            received if received > 0 else 0,
            sent if sent > 0 else 0,
            request.values_of(wanted),
            hop,
        )

    def _kind(self, hop: Call[Request]) -> Hashable:
        """What decides the rest of the line; None: as ``facts``."""
        record, request = hop.record, self.request
        try:
            outcome, _, local = record.answered
        except AttributeError:
            return None
        if (
            local
            or not self.head_at
            or record._attempts is not None
            or outcome.failure is not None
            or self.refusal is not None
            or self.made_id
        ):
            return None
        return (
            (self.status, self.flags, self.grpc_status, request.method, request.version, request.http2),
            (request.protocol, request.principal, request.sni, request.local_ip, request.port, record.status),
            (record.flags, record.endpoint, record.rule_object, record.destination, outcome.http_version),
        )

    @property
    def failures(self) -> CheckFailures:  # type: ignore[override]
        """What checks have failed at: few have."""
        return self.server.failures

    @property
    def rng(self) -> random.Random:  # type: ignore[override]
        """Of faults, of which it has none."""
        return self.server.rng
