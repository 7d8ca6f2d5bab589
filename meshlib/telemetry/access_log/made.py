"""An entry of a call that this program has made: what a sidecar beside it would have logged of its outbound side.

The program is its own downstream: of the connection that a sidecar would have had from it nothing is known, but by a gateway.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.compiler.routes import PASSTHROUGH
from meshlib.engine.outcome import Failure, Outcome
from meshlib.engine.replies import for_failure
from meshlib.engine.wire_headers import joined_value, size_of
from meshlib.telemetry.access_log.alike import request_reading
from meshlib.telemetry.access_log.entry import SERVICE_TIME, Entry
from meshlib.telemetry.access_log.line_code import SAME, Kind, Reading, Side
from meshlib.telemetry.sizes import response_body_size

if TYPE_CHECKING:
    from meshlib.compiler.access_log.format import Operator
    from meshlib.engine.call import Call
    from meshlib.engine.explanation import Exchange
    from meshlib.engine.message import Request
    from meshlib.policy.client_address import ClientFacts
    from meshlib.telemetry.access_log.entry import Traced

ALLOWED, BLOCKED, DEFAULT = "allow_any", "block_all", "default"
"""Istio's names of the routes that no VirtualService makes."""

RESET_REASONS = {
    Failure.CONNECT_FAILED: "remote_connection_failure",
    Failure.CONNECT_TIMEOUT: "connection_timeout",
    Failure.RESET: "connection_termination",
    Failure.REFUSED: "remote_refused_stream_reset",
    Failure.PROTOCOL_ERROR: "protocol_error",
    Failure.OVERFLOW: "overflow",
}


class MadeEntry(Entry):
    """Of a ``Call``. ``answered`` on its record has the last outcome, where the configuration in force at its beginning had an
    access log."""

    __slots__ = ("_call", "_head_at", "_local", "_outcome", "_record", "_request")

    outbound = True

    def __init__(self, call: Call, now: float, today: float, traced: Traced | None, cut: bool) -> None:
        self._call = call
        self._record = record = call.record
        self.request = self._request = call.request
        self.started = record.started or now  # it was over before it began
        self.ended = now
        self.wall = today - now + self.started
        self.status = record.status
        flags = record.flags
        if cut and "DC" not in flags:
            flags = f"{flags},DC" if flags else "DC"
        self.flags = flags
        self.grpc = record.grpc_status
        self.traced = traced
        answered = getattr(record, "answered", None)
        self._outcome: Outcome | None
        self._head_at: float | None
        if answered is None:
            self._outcome, self._head_at, self._local = None, None, False
        else:
            self._outcome, self._head_at, self._local = answered

    # -- the request, as it was sent ----------------------------------------------------------------------------------

    def path(self) -> str | None:
        """As ``Entry``'s."""
        return self._request.target.decode("latin-1") or None

    def authority(self) -> str | None:
        """As ``Entry``'s."""
        return self._request.sent_header("host") or self._request.authority or None

    def header(self, name: str) -> str | None:
        """As ``Entry``'s."""
        return self._request.sent_header(name)

    def protocol(self) -> str | None:
        """What was spoken; of a call that has reached nobody what its library speaks. A proxy's client has said it."""
        version: str | None = getattr(self._request, "version", None)
        return version or self.upstream_protocol() or ("HTTP/2" if self._request.protocol == "grpc" else "HTTP/1.1")

    def request_bytes(self) -> int | None:
        """As ``Entry``'s."""
        return self._request.body_bytes()

    def request_head_bytes(self) -> int | None:
        """As ``Entry``'s."""
        return size_of(self._request.headers)

    # -- the client, of a call that a gateway makes for one -------------------------------------------------------------

    def _client(self) -> ClientFacts | None:
        found: ClientFacts | None = getattr(self._request, "client", None)
        return found

    def remote(self) -> str | None:
        """As ``Entry``'s."""
        client = self._client()
        return None if client is None else client.remote or None

    def direct_remote(self) -> str | None:
        """As ``Entry``'s."""
        client = self._client()
        return None if client is None else client.direct or None

    def local(self) -> str | None:
        """As ``Entry``'s."""
        client = self._client()
        return None if client is None else client.local or None

    def peer_uri(self) -> str | None:
        """As ``Entry``'s."""
        client = self._client()
        return None if client is None else client.principal or None

    def server_name(self) -> str | None:
        """As ``Entry``'s."""
        client = self._client()
        return None if client is None else client.server_name or None

    # -- the response -------------------------------------------------------------------------------------------------

    def response_header(self, name: str) -> str | None:
        """As ``Entry``'s. The time that upstream took is measured here, as a sidecar does, whatever upstream says."""
        outcome = self._outcome
        if outcome is None or outcome.failure is not None:
            return None
        if name == SERVICE_TIME and not self._local:
            return None if self._record.upstream_ms is None else str(int(self._record.upstream_ms))
        return joined_value(outcome.headers, name)

    def trailer(self, name: str) -> str | None:
        """As ``Entry``'s."""
        outcome = self._outcome
        return None if outcome is None or not outcome.trailers else joined_value(outcome.trailers, name)

    def details(self) -> str | None:
        """As ``Entry``'s."""
        outcome = self._outcome
        if "DC" in self.flags:
            return "downstream_remote_disconnect"
        if outcome is None:
            return None
        if outcome.failure is Failure.TIMEOUT:
            return "response_timeout"
        reason = RESET_REASONS.get(outcome.failure) if outcome.failure is not None else None
        if reason is not None:
            why = self.transport_failure()
            return f"upstream_reset_before_response_started{{{reason}{f'|{why}' if why else ''}}}"
        if outcome.failure is not None:
            return outcome.failure.name.lower()
        if not self._local:
            return "via_upstream"
        if outcome.detail == "overflow":
            return "upstream_reset_before_response_started{overflow}"
        return outcome.detail or "direct_response"

    def response_bytes(self) -> int | None:
        """As ``Entry``'s."""
        outcome = self._outcome
        if outcome is None:
            return 0
        if outcome.failure is not None:  # as much as Envoy responds with, whose status is logged, too
            if (outcome.failure not in RESET_REASONS and outcome.failure is not Failure.TIMEOUT) or "DC" in self.flags:
                return 0
            reply = for_failure(outcome, len(self._record.attempts) > 1)
            return 0 if self._request.protocol == "grpc" else len(reply.whole or b"")
        return len(outcome.whole or b"") if self._local else response_body_size(self._call)

    def response_head_bytes(self) -> int | None:
        """As ``Entry``'s."""
        outcome = self._outcome
        return None if outcome is None else size_of(outcome.headers)

    def trailer_bytes(self) -> int | None:
        """As ``Entry``'s."""
        outcome = self._outcome
        return None if outcome is None else size_of(outcome.trailers or ())

    def local_body(self) -> str | None:
        """As ``Entry``'s."""
        outcome = self._outcome
        if outcome is None or not self._local or outcome.whole is None:
            return None
        return outcome.whole.decode("latin-1")

    # -- times --------------------------------------------------------------------------------------------------------

    def head_at(self) -> float | None:
        """As ``Entry``'s."""
        return None if self._outcome is None or self._outcome.failure is not None else self._head_at

    def sent_at(self) -> float | None:
        """As ``Entry``'s."""
        took = self._record.upstream_ms
        return None if self._head_at is None or took is None or self._local else self._head_at - took / 1000.0

    # -- where it went ------------------------------------------------------------------------------------------------

    def upstream(self) -> str | None:
        """As ``Entry``'s."""
        return self._record.endpoint or None

    def attempted(self) -> list[str]:
        """As ``Entry``'s."""
        return [attempt.endpoint for attempt in self._record.attempts]

    def attempts(self) -> int | None:
        """As ``Entry``'s."""
        ended = len(self._record.attempts)
        # of a call that its caller has broken off one is under way
        return ended + 1 if self._outcome is None and self._record.endpoint and not ended else ended

    def cluster(self) -> str | None:
        """As ``Entry``'s."""
        destination = self._record.destination
        return None if destination is None else destination.cluster or None

    def upstream_protocol(self) -> str | None:
        """As ``Entry``'s."""
        outcome = self._outcome
        if outcome is None or self._local or outcome.failure is not None or self._request.protocol == "tcp":
            return None
        return "HTTP/2" if self._request.protocol == "grpc" or outcome.http_version == b"HTTP/2" else "HTTP/1.1"

    def upstream_local(self) -> str | None:
        """As ``Entry``'s."""
        return None if self._outcome is None else local_of(self._outcome.stream)

    def transport_failure(self) -> str | None:
        """As ``Entry``'s."""
        outcome = self._outcome
        if outcome is None or outcome.failure is not Failure.CONNECT_FAILED:
            return None
        return outcome.detail or None

    def route(self) -> str | None:
        """As ``Entry``'s."""
        record = self._record
        if record.rule_object is None:
            return BLOCKED if record.virtual_host is self._call.live.snapshot.blocked else None
        if record.rule_object.name:
            return record.rule_object.name
        if record.rule_object.index >= 0:
            return None
        return ALLOWED if self.cluster() == PASSTHROUGH else DEFAULT


_ALIKE = """
    record, request = call.record, call.request
    alike = request.alike
    if request.headers is not alike.headers:  # a rule has changed them
        return False
    try:
        outcome, _, local = record.answered
    except AttributeError:  # it began before there was a log
        return False
    if local or record._attempts is not None or outcome.failure is not None or record.flags:
        return False
    started = record.started
"""
_KEY_OF_ALIKE = (
    "alike, record.status, record.endpoint, record.rule_object, record.destination, request.method,"
    " outcome.http_version"
)
_PLACED = """
    try:
        outcome, _, local = record.answered
    except AttributeError:  # it began before there was a log
        return False
    if local or record._attempts is not None or outcome.failure is not None:
        return False
    started = record.started
"""
_BEGIN = """
    record, request = call.record, call.request
    if request.alike is not None:
        if closer(call, ended, traced):
            return True
    elif (there := there_for(names := request.names)) is not None:
        headers = request.headers
        if headers is request.received and not record.flags:  # no rule has changed them, and there is no more to be told
            return there(call, record, request, headers, ended, traced)
    elif names is not None:
        meet(names)
""" + _PLACED[1:]
_KEY_OF_PLACED = (
    "record.status, record.endpoint, record.rule_object, record.destination, request.method, outcome.http_version,"
    " record.grpc_status"
)
_KEY = (
    "record.status, record.endpoint, record.rule_object, record.destination, request.method,"
    " outcome.http_version if (protocol := request.protocol) == 'http' else protocol,"
    " record.grpc_status if not record.flags else (record.flags, record.grpc_status)"
)
_SAME = frozenset((
    "PROTOCOL", "RESPONSE_CODE", "RESPONSE_CODE_DETAILS", "CONNECTION_TERMINATION_DETAILS", "RESPONSE_FLAGS",
    "RESPONSE_FLAGS_LONG", "GRPC_STATUS", "GRPC_STATUS_NUMBER", "UPSTREAM_HOST", "UPSTREAM_HOST_NAME",
    "UPSTREAM_HOST_NAME_WITHOUT_PORT", "UPSTREAM_CLUSTER", "UPSTREAM_CLUSTER_RAW", "UPSTREAM_PROTOCOL",
    "UPSTREAM_REMOTE_ADDRESS", "UPSTREAM_REMOTE_PORT", "UPSTREAM_REQUEST_ATTEMPT_COUNT", "UPSTREAM_TRANSPORT_FAILURE_REASON",
    "ROUTE_NAME", "DOWNSTREAM_REMOTE_ADDRESS", "DOWNSTREAM_DIRECT_REMOTE_ADDRESS", "DOWNSTREAM_LOCAL_ADDRESS",
    "DOWNSTREAM_PEER_URI_SAN", "HOSTNAME", "ENVIRONMENT", "ACCESS_LOG_TYPE",
))  # fmt: skip
"""For calls that one rule has sent to one endpoint, which has responded to the first attempt with one status."""
_READ = {
    "BYTES_RECEIVED": Reading("request.body_bytes()", None, Kind.NUMBER),
    "BYTES_SENT": Reading(
        "body_of(call) if type(outcome) is not Outcome or (whole := outcome.whole) is None else len(whole)",
        None,
        Kind.NUMBER,
    ),
    "UPSTREAM_LOCAL_ADDRESS": Reading(
        'getattr(outcome.stream, "local_text", None) or local_bytes_of(outcome.stream) or empty',
        None,
        Kind.PLAIN,
        tried="outcome.stream.local_text",
    ),
}
_READ_OF_ALIKE = {
    "BYTES_RECEIVED": "0 if request.body is None else request.body_bytes()",
    "BYTES_SENT": "body_of(call) if outcome.whole is None else len(outcome.whole)",
}
_TARGET = "request.target"
ORIGINAL_PATH = "x-envoy-original-path"


def _reading(operator: Operator) -> Reading | None:
    name = operator.name
    if name in _READ:
        return _READ[name]
    if name in _SAME or (name == "REQUESTED_SERVER_NAME" and not operator.argument):
        return SAME
    argument = (operator.argument or "").lower()
    if name in ("RESP", "RESPONSE_HEADER") and argument == SERVICE_TIME:
        return Reading("record.upstream_ms", _milliseconds, Kind.TOOK)
    return request_reading(operator, _TARGET, "{0} or wire_bytes(request.authority)")


def _reading_of_placed(operator: Operator) -> Reading | None:
    """For calls of HTTP with bodies as httpx has them."""
    code = _READ_OF_ALIKE.get(operator.name)
    if code is None:
        return _reading(operator)
    return Reading(code, None, Kind.NUMBER, mostly_none=operator.name == "BYTES_RECEIVED")


def _reading_of_alike(operator: Operator) -> Reading | None:
    """For calls whose headers are those of many: what they say is the same, too."""
    if operator.name == "STREAM_ID":
        return SAME
    if operator.name in _READ_OF_ALIKE:
        return Reading(_READ_OF_ALIKE[operator.name], None, Kind.NUMBER)
    reading = _reading(operator)
    if operator.name in ("REQ", "REQUEST_HEADER"):
        asked = (operator.argument or "").lower().split("?")
        if all(name[:1] != ":" or name in (":authority", ":method") for name in asked) and ORIGINAL_PATH not in asked:
            return SAME
    if reading is not None and reading.headers == (ORIGINAL_PATH,):
        return reading._replace(code=_TARGET, headers=(), absent=f"not {_TARGET}")  # which none of them has
    return reading


def _has_its_target(call: Call) -> bool:
    return call.request.sent_header(ORIGINAL_PATH) is None


def _milliseconds(took: float | None) -> str | None:
    return None if took is None else str(int(took))


def local_of(stream: object) -> str | None:
    """Our address of a connection, as a line shows it; made once, where the connection keeps it."""
    if stream is None:
        return None
    shown = local_bytes_of(stream)
    return None if shown is None else shown.decode()


def local_bytes_of(stream: object) -> bytes | None:
    """The same in bytes."""
    shown: bytes | None = getattr(stream, "local_text", None)
    if shown is None:
        text = shown_address(address_of(stream))
        if text is None:
            return None
        shown = text.encode()
        if hasattr(type(stream), "local_text"):
            stream.local_text = shown  # type: ignore[attr-defined]
    return shown


def address_of(stream: object) -> object:
    """Our address of a connection, as its socket has it; None where nobody knows it, or it is closed by now."""
    ask = getattr(stream, "get_extra_info", None)
    try:
        return None if ask is None else ask("client_addr")
    except OSError:
        return None


def shown_address(address: object) -> str | None:
    """As a line shows it."""
    if not isinstance(address, tuple) or len(address) < 2:
        return None
    host, port = address[0], address[1]
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


_NAMES = {"body_of": response_body_size, "local_bytes_of": local_bytes_of, "Outcome": Outcome}
MADE_PLACED: Side[Call] = Side(
    _PLACED,
    _reading_of_placed,
    "",
    _NAMES,
    MadeEntry,
    key=_KEY_OF_PLACED,
    raw=True,
    takes="call, record, request, headers, ended, traced",
)
"""The short way to lines of calls whose requests keep the names of their headers (``Request.names``)."""
MADE: Side[Call] = Side(
    _BEGIN, _reading, "request.sent_values(wanted)", _NAMES, MadeEntry, key=_KEY, raw=True, placed=MADE_PLACED
)
"""The short way to lines of calls that were made; not of those that a gateway makes for its clients."""
MADE_ALIKE: Side[Call] = Side(_ALIKE, _reading_of_alike, "", _NAMES, MadeEntry, _has_its_target, _KEY_OF_ALIKE)
"""That of calls whose headers are those of many (``alike``): closer."""

if TYPE_CHECKING:

    def _is_sent(request: Request) -> str | None:
        return request.sent_header("x")

    def _has(record: Exchange) -> object:
        return record.answered
