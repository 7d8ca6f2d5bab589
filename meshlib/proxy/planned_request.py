"""A request that came over HTTP/2 with names of headers that were met before (``http2_request.Plan``): its header lines are
made for who asks for them, as ``laid_out_request.py`` has it for HTTP/1.1."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.wire_headers import ATTEMPT_COUNT
from meshlib.proxy.http2_request import FIRST, METHODS_SENT_ON, SCHEMES, Http2Request
from meshlib.proxy.request import METHODS, ProxyRequest, is_grpc
from meshlib.transport.protocol.http2_headers import hidden
from meshlib.transport.protocol.raw_head import RawHead

if TYPE_CHECKING:
    from meshlib.policy.header_ops import RawHeaders
    from meshlib.transport.protocol.http2_codec import Head
    from meshlib.transport.protocol.http2_request import Plan, RequestHead
    from meshlib.transport.protocol.request_body import ReplayBody

ADDED = frozenset(("x-request-id", "x-forwarded-proto"))
"""Headers that may be added here."""

_BLANK = b" \t"
_new = object.__new__
# of what is imported, CPython 3.11 would make a method for each call
_known_method, _sent_on = METHODS.get, METHODS_SENT_ON.get


class PlannedRequest(Http2Request):
    """``planned`` makes one."""

    __slots__ = ("_added", "_came", "_changed", "_lower", "_plan", "_size", "_text", "_values")

    _plan: Plan | None
    """None: its header lines are no longer those that it came with."""
    _values: tuple[bytes, ...]
    """Of all headers that it came with."""
    _added: tuple[tuple[bytes, bytes], ...]
    """To these."""
    _size: int
    """Bytes of the names and values of all of them, and of the method."""
    _text: tuple[str, str, str] | None
    """``full_path``, ``path`` and ``query``, once somebody has asked for one: of a host with one rule nobody does (1,600
    instructions of 230,000)."""
    _lower: bytes | None
    _came: RawHead | RawHeaders | None
    """The header lines, once somebody has asked for them."""
    _changed: RawHead | RawHeaders | None
    """Those that are sent, where they are others."""

    # -- made for who asks: most need none of them ----------------------------------------------------------------------

    @property
    def full_path(self) -> str:
        return (self._text or self._as_text())[0]

    @full_path.setter
    def full_path(self, full_path: str) -> None:
        self._parted(full_path)

    @property
    def path(self) -> str:
        return (self._text or self._as_text())[1]

    @path.setter
    def path(self, path: str) -> None:
        full_path, _, query = self._text or self._as_text()
        self._text = full_path, path, query

    @property
    def query(self) -> str:
        return (self._text or self._as_text())[2]

    @query.setter
    def query(self, query: str) -> None:
        full_path, path, _ = self._text or self._as_text()
        self._text = full_path, path, query

    def _as_text(self) -> tuple[str, str, str]:
        return self._parted(self.target.decode("latin-1"))

    def _parted(self, full_path: str) -> tuple[str, str, str]:
        path, _, query = full_path.partition("?")
        self._text = text = full_path, path, query
        return text

    @property
    def _received(self) -> RawHead | RawHeaders:
        came = self._came
        if came is None:
            assert self._plan is not None
            lines = self._plan.lines(self.host, self._values)
            self._came = came = RawHead(lines + b"".join([b"%b: %b\r\n" % pair for pair in self._added]))
        return came

    @_received.setter
    def _received(self, headers: RawHead | RawHeaders) -> None:
        self._came = headers
        self._plan = None

    @property
    def _headers(self) -> RawHead | RawHeaders:
        changed = self._changed
        return self._received if changed is None else changed

    @_headers.setter
    def _headers(self, headers: RawHead | RawHeaders) -> None:
        self._changed = headers

    @property
    def lower(self) -> bytes:
        lower = self._lower
        if lower is None:
            self._lower = lower = b"\r\n" + self.lines.lower()
        return lower

    @lower.setter
    def lower(self, lower: bytes) -> None:
        self._lower = lower
        self._settle()

    def _settle(self) -> None:
        """From here on it has the header lines, and headers are looked for in them."""
        self._received = self._received

    # -- as ``ProxyRequest`` and ``Http2Request`` have it ---------------------------------------------------------------

    def header(self, name: str) -> str | None:
        """As ``ProxyRequest``'s."""
        plan = self._plan
        if plan is None:
            return ProxyRequest.header(self, name)
        at = plan.at.get(name)
        if at is None:
            return ProxyRequest.header(self, name) if name in ADDED else None
        return self._values[at].strip(_BLANK).decode("latin-1") if at >= 0 else ProxyRequest.header(self, name)

    def traced_by(self, traceparent: bytes, came: bytes) -> None:
        """As ``ProxyRequest``'s."""
        self._lower = self.lower
        self._settle()
        ProxyRequest.traced_by(self, traceparent, came)

    def head_bytes(self) -> int:
        """As ``ProxyRequest``'s."""
        if self._plan is None or self._changed is not None:
            return ProxyRequest.head_bytes(self)
        return self._size + len(self.target)

    def sent_bytes(self) -> int:
        """As ``ProxyRequest``'s."""
        return self.head_bytes() + self.body_bytes()

    def http2_head(self, attempt: int, scheme: bytes) -> Head | None:
        """As ``Http2Request``'s."""
        plan, method, fields = self._plan, _sent_on(self.verb), self.fields
        if plan is None or self._changed is not None or self.has_envoy_headers or method is None or not self.counts:
            return None
        if plan.hides:
            fields = hidden(fields)
        return [
            method,
            SCHEMES[scheme],
            (b":authority", self.host),
            (b":path", self.target),
            *fields,
            *self._added,
            FIRST if attempt == 1 else (ATTEMPT_COUNT, b"%d" % attempt),
        ]


def planned(
    head: RequestHead,
    plan: Plan,
    target: bytes,
    added: tuple[tuple[bytes, bytes], ...],
    size: int,
    body: bytes | ReplayBody | None,
) -> PlannedRequest:
    """One for ``target``, of a head whose names are those of ``plan``; ``added``: to its headers, names and values of ``size``
    bytes that nobody is ``special`` to. Not its ``__init__``, which would read all header lines."""
    made: PlannedRequest = _new(PlannedRequest)
    method, authority, grpc = head.method, head.authority, head.grpc  # not four: that takes a tuple
    made.verb = method
    made.method = _known_method(method) or method.decode("latin-1")
    made.scheme = "http"
    made.host = authority
    made.authority = made.dialled = authority.decode("latin-1")
    made.target = target
    made.fields = head.fields
    made.special = head.special
    made.has_envoy_headers = plan.envoy
    made._values = head.came  # type: ignore[assignment]
    made._added = added
    made._plan = plan
    made._size = head.size + size - len(head.scheme) - len(head.target)
    made._lower = made._came = made._changed = made._text = None
    if grpc is None:
        grpc = is_grpc(made.lower)
    made.protocol = "grpc" if grpc else "http"
    made.body = body
    if type(body) is bytes:
        made._framed = plan.length >= 0
    elif body is None:
        made._framed = True
    else:
        made.comes_in_pieces()
    made.counted = False
    made.counts = True
    return made
