"""An entry of a call that this program has served: what a sidecar before it would have logged of its inbound side.

Where the application is in this process there is no connection to it, and no address. Behind a proxy there is a hop, which is
a call that was made (``MadeEntry``).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from meshlib.engine.inbound import MET as MET_FACTS
from meshlib.engine.wanted_headers import wire_bytes
from meshlib.telemetry.access_log.alike import request_reading
from meshlib.telemetry.access_log.entry import SERVICE_TIME, Entry
from meshlib.telemetry.access_log.line_code import SAME, Kind, Reading, Side
from meshlib.telemetry.access_log.made import MadeEntry, local_bytes_of

if TYPE_CHECKING:
    from meshlib.compiler.access_log.format import Operator
    from meshlib.engine.inbound import InboundCall
    from meshlib.engine.inbound_request import InboundRequest
    from meshlib.telemetry.access_log.entry import Traced

ROUTE = "default"
"""Istio's name of the only route to an application."""
BY_FLAG = {
    "UC": "upstream_reset_after_response_started{connection_termination}",
    "DC": "downstream_remote_disconnect",
    "DR": "http2.remote_reset",
}


class ServedEntry(Entry):
    """Of an ``InboundCall``."""

    __slots__ = ("_call", "_hop", "_request")

    def __init__(self, call: InboundCall, now: float, today: float, traced: Traced | None, _cut: bool) -> None:
        self._call = call
        self._request: InboundRequest
        self.request = self._request = call.request
        self.started = call.started or now
        self.ended = now
        self.wall = today - now + self.started
        self.status = call.status
        self.flags = call.flags
        self.grpc = call.grpc_status
        self.traced = traced
        hop = call.hop
        self._hop = None if hop is None else MadeEntry(hop, now, today, None, False)

    def authority(self) -> str | None:
        """As ``Entry``'s."""
        return self._request.authority or self._request.header("host")

    def protocol(self) -> str | None:
        """As ``Entry``'s."""
        request = self._request
        if request.http2 or request.protocol == "grpc":
            return "HTTP/2"
        version = request.version or "1.1"
        return version if version.startswith("HTTP/") else f"HTTP/{version}"

    def request_bytes(self) -> int | None:
        """As ``Entry``'s."""
        call = self._call
        return max(call.request_bytes - call.request_head_bytes, 0)

    def request_head_bytes(self) -> int | None:
        """As ``Entry``'s."""
        return sum(len(name) + len(value) for name, value in self._request.headers)

    def response_header(self, name: str) -> str | None:
        """As ``Entry``'s. The time that the application took is measured here, whatever it says."""
        call = self._call
        if name == SERVICE_TIME and call.head_at and call.refusal is None:
            return str(int((call.head_at - self.started) * 1e3))
        found = [_text(value) for key, value in self._head() if _text(key).lower() == name]
        return ",".join(found) if found else None

    def _head(self) -> list[tuple[bytes | str, bytes | str]]:
        call = self._call
        if call.refusal is not None and not call.response_head:
            return [*self._request.response_headers(call.refusal.http_headers())]
        return [*call.response_head]

    def details(self) -> str | None:
        """As ``Entry``'s."""
        call = self._call
        if call.refusal is not None:
            return call.refusal.detail or "direct_response"
        if self._hop is not None and (found := self._hop.details()) not in (None, "via_upstream"):
            return found
        if not call.flags:
            return "via_upstream"
        return next((BY_FLAG[flag] for flag in call.flags.split(",") if flag in BY_FLAG), "via_upstream")

    def response_bytes(self) -> int | None:
        """As ``Entry``'s."""
        call = self._call
        if call.refusal is not None:
            bodiless = self._request.method == "HEAD" or self._request.protocol == "grpc"
            return 0 if bodiless else len(call.refusal.content)
        return max(call.response_bytes - call.response_head_bytes, 0)

    def response_head_bytes(self) -> int | None:
        """As ``Entry``'s."""
        return sum(len(name) + len(value) for name, value in self._head())

    def local_body(self) -> str | None:
        """As ``Entry``'s."""
        refusal = self._call.refusal
        return None if refusal is None else refusal.content.decode("latin-1")

    def head_at(self) -> float | None:
        """As ``Entry``'s."""
        return self._call.head_at or None

    def upstream(self) -> str | None:
        """As ``Entry``'s."""
        return None if self._hop is None else self._hop.upstream()

    def attempted(self) -> list[str]:
        """As ``Entry``'s."""
        return [] if self._hop is None else self._hop.attempted()

    def attempts(self) -> int | None:
        """As ``Entry``'s."""
        return None if self._hop is None else self._hop.attempts()

    def upstream_protocol(self) -> str | None:
        """As ``Entry``'s."""
        return None if self._hop is None else self._hop.upstream_protocol()

    def upstream_local(self) -> str | None:
        """As ``Entry``'s."""
        return None if self._hop is None else self._hop.upstream_local()

    def transport_failure(self) -> str | None:
        """As ``Entry``'s."""
        return None if self._hop is None else self._hop.transport_failure()

    def sent_at(self) -> float | None:
        """As ``Entry``'s."""
        return None if self._hop is None else self._hop.sent_at()

    def cluster(self) -> str | None:
        """As ``Entry``'s."""
        port = self._request.port
        return f"inbound|{port}||" if port else None

    def route(self) -> str | None:
        """As ``Entry``'s."""
        return ROUTE

    def remote(self) -> str | None:
        """As ``Entry``'s."""
        return _remote(self._request)

    def direct_remote(self) -> str | None:
        """As ``Entry``'s."""
        return self._request.peer or None

    def local(self) -> str | None:
        """As ``Entry``'s."""
        host, port = self._request.local_ip, self._request.port
        if not host:
            return None
        shown = f"[{host}]" if ":" in host else host
        return f"{shown}:{port}" if port else shown

    def peer_uri(self) -> str | None:
        """As ``Entry``'s."""
        return self._request.principal or None

    def server_name(self) -> str | None:
        """As ``Entry``'s."""
        return self._request.sni or None

    def claims(self) -> Mapping[str, object] | None:
        """As ``Entry``'s."""
        return self._request.claims


def _host_bytes(request: InboundRequest) -> bytes:
    return wire_bytes(request.header("host") or "")


def _local_bytes(stream: object) -> bytes | None:
    return None if stream is None else local_bytes_of(stream)


def _remote_bytes(request: InboundRequest) -> bytes:
    return wire_bytes(_remote(request) or "")


def _remote(request: InboundRequest) -> str | None:
    seen = request.remote_ip
    if not seen or seen == request.source_ip:
        return request.peer or None
    return f"[{seen}]:0" if ":" in seen else f"{seen}:0"


# -- the short ways (``alike.py``) ------------------------------------------------------------------------------------

_MET = """
    seen = call.seen()
    if seen is None:
        return False
    key, peer, head_at, received, sent = seen
    started = call.started
"""
_OTHERS = """
    facts = call.facts(wanted)
    if facts is None:
        return False
    if facts is met:
        return closer(call, ended, traced)
    key, target, peer, authority, head_at, received, sent, values, hop = facts
    started = call.started
"""
_OF_RESPONSE = frozenset((
    "PROTOCOL", "RESPONSE_CODE", "RESPONSE_CODE_DETAILS", "CONNECTION_TERMINATION_DETAILS", "RESPONSE_FLAGS",
    "RESPONSE_FLAGS_LONG", "GRPC_STATUS", "GRPC_STATUS_NUMBER", "UPSTREAM_HOST", "UPSTREAM_HOST_NAME",
    "UPSTREAM_HOST_NAME_WITHOUT_PORT", "UPSTREAM_CLUSTER", "UPSTREAM_CLUSTER_RAW", "UPSTREAM_PROTOCOL",
    "UPSTREAM_REMOTE_ADDRESS", "UPSTREAM_LOCAL_ADDRESS", "UPSTREAM_REQUEST_ATTEMPT_COUNT",
    "UPSTREAM_TRANSPORT_FAILURE_REASON", "ROUTE_NAME", "DOWNSTREAM_LOCAL_ADDRESS", "DOWNSTREAM_PEER_URI_SAN", "HOSTNAME",
    "ENVIRONMENT", "ACCESS_LOG_TYPE",
))  # fmt: skip
"""Of requests that one application has answered alike: it has no upstream, or they went there by the same way."""
_OF_REQUEST = frozenset(("PATH", "QUERY_PARAM", "QUERY_PARAMS", "STREAM_ID"))
_PEER = "(peer.encode() if peer.isascii() else wire_bytes(peer))"
_BODIES = {"BYTES_RECEIVED": "received", "BYTES_SENT": "sent"}


def same_or_number(operator: Operator) -> Reading | None:
    """Of what is the same in a kind of requests, or a number."""
    name, argument = operator.name, (operator.argument or "").lower()
    if name in _BODIES:
        return Reading(_BODIES[name], None, Kind.NUMBER)
    if name in ("RESP", "RESPONSE_HEADER") and argument == SERVICE_TIME:
        return Reading("(head_at - started) * 1e3", lambda took: str(int(took)), Kind.TOOK)
    return SAME if name in _OF_RESPONSE or (name == "REQUESTED_SERVER_NAME" and not argument) else None


def _of_met(operator: Operator) -> Reading | None:
    name = operator.name
    if name in ("DOWNSTREAM_REMOTE_ADDRESS", "DOWNSTREAM_DIRECT_REMOTE_ADDRESS"):
        return Reading("peer or None", None, Kind.SHORT)
    if name in _OF_REQUEST:
        return SAME
    if name in ("REQ", "REQUEST_HEADER"):
        return None if ":scheme" in (operator.argument or "").lower().split("?") else SAME
    return same_or_number(operator)


def _of_others(operator: Operator) -> Reading | None:
    name = operator.name
    if name == "DOWNSTREAM_REMOTE_ADDRESS":
        return Reading(f"(remote_of(call.request) if {{has0}} else {_PEER}) or None", headers=("x-forwarded-for",))
    if name == "DOWNSTREAM_DIRECT_REMOTE_ADDRESS":
        return Reading(f"{_PEER} or None")
    if name == "UPSTREAM_LOCAL_ADDRESS":  # which no two connections to the application have in common
        return Reading("empty if hop is None else local_of(hop.record.answered[0].stream) or empty", None, Kind.PLAIN)
    return request_reading(operator, "target", "authority or host_of(call.request)") or same_or_number(operator)


MET: Side[InboundCall] = Side(_MET, _of_met, "", {}, ServedEntry)
"""The short way to lines of requests whose head was met before: closer than that of others."""
OTHERS: Side[InboundCall] = Side(
    _OTHERS,
    _of_others,
    "values",
    {"met": MET_FACTS, "remote_of": _remote_bytes, "host_of": _host_bytes, "local_of": _local_bytes},
    ServedEntry,
    raw=True,
)
"""That of others."""


def _text(value: bytes | str) -> str:
    return value.decode("latin-1") if isinstance(value, bytes) else value
