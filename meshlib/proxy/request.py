"""A request that a client of the proxy has sent, as policy sees it and as it goes on: over the bytes that it came in."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.message_size import length_of
from meshlib.engine.wire_headers import ATTEMPT_COUNT, HOST, joined_value, shadow_host, size_of
from meshlib.policy.deadline import write as write_deadline
from meshlib.policy.header_ops import RawHeaders
from meshlib.proxy.grpc import MessageCount
from meshlib.transport.protocol.http1_request import METHODS as KNOWN_METHODS
from meshlib.transport.protocol.http1_request import SPECIAL
from meshlib.transport.protocol.raw_head import RawHead
from meshlib.transport.protocol.request_body import Bodied

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

    from meshlib.engine.wanted_headers import Values, WantedHeaders
    from meshlib.transport.protocol.http2_codec import Head
    from meshlib.transport.protocol.request_body import ReplayBody
    from meshlib.transport.upstream.trace import Trace

_KEYS: dict[str, bytes] = {}
"""Of a header's name, what is looked for in a head in lower case. The names are those of resources."""
MOST_KEYS = 1024
_LINE_END = b"\r\n"
_TRACEPARENT = b"\r\ntraceparent:"
_TRACED, _TITLED = b"\ntraceparent: ", b"\nTraceparent: "
_BLANK = b" \t"
_COUNT_LINE = b"x-envoy-attempt-count: %d\r\n"
FIRST_COUNT = _COUNT_LINE % 1
METHODS = {each: each.decode() for each in KNOWN_METHODS}
UPGRADE = b"upgrade:"
"""Among what is ``special`` of a request that asks for another protocol. Its connection is of no use to another request, as in
Envoy, where the server declines: to who was to speak that protocol, the request is not over."""
GRPC = b"\r\ncontent-type: application/grpc"
_GRPC_LINE = GRPC[2:]
_AFTER_GRPC = b"\r+; "


class ProxyRequest(Bodied):
    """A ``Request`` (``engine/message.py``). ``lines``: its header lines, Host among them, without those of the client's
    connection; ``lower``: the same in lower case behind a line end, but for the value of traceparent, which may be the one that
    came. ``authority``: what Host says, ``target``: path and query. ``body``: None, all its bytes, or
    what keeps it while it is sent. ``special``: what ``SPECIAL`` found in ``lower`` as it came. ``grpc``: whether it is one of
    that, None: ``lower`` says so. ``verb``: the method's bytes."""

    __slots__ = (
        "_framed",
        "_headers",
        "_received",
        "authority",
        "body",
        "counted",
        "counts",
        "dialled",
        "full_path",
        "has_envoy_headers",
        "lower",
        "method",
        "path",
        "protocol",
        "query",
        "scheme",
        "special",
        "target",
        "verb",
    )

    multiplexed = False
    alike = names = None
    came_by = ("", "")
    """The addresses of the connection that it came by, where that is known: who has connected, and where to."""
    trace: Trace | None = None
    version: str | None = "HTTP/1.1"

    def __init__(
        self,
        method: bytes,
        authority: bytes,
        target: bytes,
        lines: bytes,
        lower: bytes,
        body: bytes | ReplayBody | None,
        scheme: str = "http",
        special: Collection[bytes] | None = None,
        grpc: bool | None = None,
    ) -> None:
        self.verb = method
        self.method = METHODS.get(method) or method.decode("latin-1")
        self.scheme = scheme
        self.authority = self.dialled = authority.decode("latin-1")
        self.target = target
        # without the name of a codec, which takes longer to look up than such text to read
        self.full_path = full_path = target.decode() if target.isascii() else target.decode("latin-1")
        self.path, _, self.query = full_path.partition("?")
        self.lower = lower
        if special is None:
            special = SPECIAL.findall(lower)
        self.special = special
        self.has_envoy_headers = b"x-envoy-" in special
        if grpc is None:
            grpc = _GRPC_LINE in special and is_grpc(lower)
        self.protocol = "grpc" if grpc else "http"
        self._received: RawHead | RawHeaders = RawHead(lines)
        self._headers: RawHead | RawHeaders = self._received
        self.body = body
        if body is None:
            self._framed = True
        elif type(body) is bytes:
            self._framed = b"content-length:" in special
        else:
            self.comes_in_pieces()
        self.counted = False  # whether headers hold the number of the first attempt
        self.counts = True  # whether they shall

    def comes_in_pieces(self) -> None:
        """Its body does: those of gRPC are counted from here on."""
        self._framed = False
        if self.protocol == "grpc":
            getattr(self.body, "messages", None)

    # -- as it came ---------------------------------------------------------------------------------------------------

    def header(self, name: str) -> str | None:
        """Value of a header (``name`` in lower case), repeated ones joined with ","; None when absent."""
        key = _KEYS.get(name) or _key_of(name)
        lower = self.lower
        at = lower.find(key)
        if at < 0:
            return None
        lines: bytes = self._received.lines  # type: ignore[union-attr]  # as ``lines``, without a call of it
        start = at + len(key)
        value = lines[start - 2 : lower.find(_LINE_END, start) - 2].strip(_BLANK)
        at = lower.find(key, start)
        while at >= 0:
            start = at + len(key)
            value = b"%b,%b" % (value, lines[start - 2 : lower.find(_LINE_END, start) - 2].strip(_BLANK))
            at = lower.find(key, start)
        return value.decode("latin-1")

    def values_of(self, wanted: WantedHeaders) -> Values:
        """Several at once, in bytes."""
        lines: bytes = self._received.lines  # type: ignore[union-attr]  # as ``lines``, without a call of it
        return wanted.of_lines(lines, self.lower, self.header)

    def retarget(self, target: bytes) -> None:
        """Its target is another one: before anybody has decided by it."""
        self.target = target
        self.full_path = full_path = target.decode("latin-1")
        self.path, _, self.query = full_path.partition("?")

    def relined(self, lines: bytes, lower: bytes) -> None:
        """It came with these header lines: before anybody has decided by others."""
        self.lower = lower
        self.special = special = SPECIAL.findall(lower)
        self.has_envoy_headers = b"x-envoy-" in special
        self._received = RawHead(lines)
        self._headers = RawHead(
            lines
        )  # another one: what was noted of the head as it came does not go out (``http2_head``)

    def to_application(self, lines: bytes, lower: bytes) -> None:
        """From here on it is one to the application behind the proxy, with these header lines: its own, less what says how to
        route it, and more. Which attempt of its sender's it is has been written by a proxy before this one or not at all:
        Istio's inbound routes count none. ``special`` stays that of the head as it came: what is added (X-Forwarded-Proto,
        X-Forwarded-Client-Cert) is asked of nobody by it from here on."""
        self.scheme = "http"
        self.lower = lower
        self._relined(lines)
        self.has_envoy_headers = False
        self.counts = False

    def to_application_with(self, added: bytes, lower: bytes) -> None:
        """The same with the lines ``added`` behind its own; ``lower``: those in lower case."""
        self.to_application(self.lines + added, self.lower + lower)

    def _relined(self, lines: bytes) -> None:
        received: RawHead = self._received  # type: ignore[assignment]
        if self._headers is received:  # nearly always; nobody has seen it
            received.lines = lines
            received._pairs = None
        else:
            self._headers = self._received = RawHead(lines)

    def retraced(self, names: Iterable[bytes], added: bytes) -> None:
        """It came with the lines ``added`` in place of those of ``names`` (in lower case), none of which is looked for among
        ``special``: before anybody has decided by them."""
        lines, lower = self.lines, self.lower
        for name in names:
            key = b"\r\n%b:" % name
            at = lower.find(key)
            while at >= 0:
                end = lower.find(_LINE_END, at + 2)
                lines, lower = lines[:at] + lines[end:], lower[: at + 2] + lower[end + 2 :]
                at = lower.find(key, at)
        self.lower = lower + added.lower()
        self.special = list(self.special)  # of another head than the one in which they were found
        self._headers = self._received = RawHead(lines + added)

    def traced_by(self, traceparent: bytes, came: bytes) -> None:
        """The same of traceparent: this is its value from here on (in lower case), ``came`` the one that it came with (valid
        ones have no comma, so are not several of them)."""
        received: RawHead = self._received  # type: ignore[assignment]  # as ``lines``, without a call of it
        there = lines = received.lines
        size = len(came)
        if size == len(traceparent):
            # most write it in one of two ways, behind another line: to look for its place takes twice as long
            lines = there.replace(_TRACED + came, _TRACED + traceparent)
            if lines == there:
                lines = there.replace(_TITLED + came, _TITLED + traceparent)
        if lines == there:
            # its name stands at the same place in ``lower``, behind a line end
            start = there.find(came, self.lower.find(_TRACEPARENT))
            if size != len(traceparent) or start < 0:  # or it is there more than once
                self.retraced((_TRACEPARENT[2:-1],), b"traceparent: %b\r\n" % traceparent)
                return
            lines = b"".join((there[:start], traceparent, there[start + size :]))
        # what stands in ``lower`` is as long: values are read from ``lines``
        if self._headers is received:  # as ``_relined``
            received.lines = lines
            received._pairs = None
        else:
            self._headers = self._received = RawHead(lines)

    @property
    def lines(self) -> bytes:
        """The header lines, as they came."""
        received = self._received
        assert type(received) is RawHead
        return received.lines

    def header_values(self, name: str) -> list[str] | None:
        """Each value of a repeated header on its own; None when the header is not repeated."""
        received = self._received
        assert type(received) is RawHead
        found = received.values(name.encode("latin-1", "replace"))
        return [value.decode("latin-1") for value in found] if len(found) > 1 else None

    # -- as it is sent ------------------------------------------------------------------------------------------------

    @property
    def headers(self) -> RawHeaders:
        """As they are sent, without the number of the attempt. The list is made now."""
        headers = self._headers
        return headers.pairs if type(headers) is RawHead else headers  # type: ignore[return-value]

    @headers.setter
    def headers(self, headers: RawHeaders) -> None:
        self._headers = headers

    @property
    def sent_head(self) -> RawHead | RawHeaders:
        """The headers as they are sent, without the number of the attempt: as bytes, where they are such."""
        return self._headers

    def sent_header(self, name: str) -> str | None:
        """Value of a header as it is sent."""
        return self.header(name) if self._headers is self._received else joined_value(self._headers, name)

    def sent_values(self, wanted: WantedHeaders) -> Values:
        """Values of several headers as they are sent."""
        headers = self._headers
        if headers is self._received:  # as ``values_of``
            return wanted.of_lines(headers.lines, self.lower, self.header)  # type: ignore[union-attr]
        return wanted.of_texts(map(self.sent_header, wanted.names))

    def head_bytes(self) -> int:
        """Bytes of method, target, names and values of headers as they are sent."""
        headers = self._headers
        if type(headers) is RawHead:
            lines = headers.lines
            return len(lines) - 4 * lines.count(b"\n") + len(self.method) + len(self.target)
        return size_of(headers) + len(self.method) + len(self.target)

    def sent_bytes(self) -> int:
        """The same, and as much of the body as has been seen."""
        headers, body = self._headers, self.body
        if type(headers) is RawHead:  # as most are: without a call
            lines = headers.lines
            size = len(lines) - 4 * lines.count(b"\n") + len(self.method) + len(self.target)
            if body is None:
                return size
            return size + (len(body) if type(body) is bytes else self.body_bytes())
        return self.head_bytes() if body is None else self.head_bytes() + self.body_bytes()

    @property
    def messages(self) -> MessageCount:
        """Those of gRPC that have come by now."""
        body = self.body
        if body is None or isinstance(body, bytes):
            return MessageCount(body or b"")
        found: MessageCount | None = getattr(body, "messages", None)
        return MessageCount() if found is None else found

    @property
    def one_message(self) -> bool:
        """Whether the body is one message of gRPC that is all here."""
        body = self.body  # as ``is_one_message``, without a call of it
        return type(body) is bytes and body.startswith(length_of(len(body)), 1)

    def count_first(self) -> RawHeaders:
        """The headers with the number of the first attempt in them."""
        if not self.counts:
            return self.headers
        self.counted = True
        return [*self._uncounted(), (ATTEMPT_COUNT, b"1")]

    def _uncounted(self) -> RawHeaders:
        """Without a number that the client has put there: it is ours to say."""
        headers = self.headers
        return [pair for pair in headers if pair[0].lower() != ATTEMPT_COUNT] if self.has_envoy_headers else headers

    def attempt_headers(self, attempt: int) -> RawHeaders | RawHead:
        """The headers with the number of the attempt."""
        headers = self._headers
        if not self.counts:
            return headers
        if not self.counted:
            if type(headers) is RawHead and not self.has_envoy_headers:
                return RawHead(headers.lines + _COUNT_LINE % attempt)
            return [*self._uncounted(), (ATTEMPT_COUNT, b"%d" % attempt)]
        count = (ATTEMPT_COUNT, b"%d" % attempt)
        return [count if pair[0] == ATTEMPT_COUNT else pair for pair in self.headers]

    def http2_head(self, attempt: int, scheme: bytes) -> Head | None:
        """As HTTP/2 writes it for this attempt; None: whoever asks has to look at each header."""
        return None

    def encoded(self, attempt: int) -> bytes | None:
        """What HTTP/1.1 writes for this attempt, where it needs no look: the headers are those that its reader has taken and
        vouched for, and so is the length of a body, which is all here."""
        headers, body = self._headers, self.body
        if type(headers) is not RawHead or not self._framed or self.counted or self.has_envoy_headers:
            return None
        # joined, which takes half as long as a format
        if self.counts:
            count = FIRST_COUNT if attempt == 1 else _COUNT_LINE % attempt
            start = b"".join((self.verb, b" ", self.target, b" HTTP/1.1\r\n", headers.lines, count, _LINE_END))
        else:
            start = b"".join((self.verb, b" ", self.target, b" HTTP/1.1\r\n", headers.lines, _LINE_END))
        return start + body if type(body) is bytes else start

    def set_deadline(self, header: str, seconds: float) -> None:
        """Say how much time is left."""
        name = header.encode("latin-1")
        rest = [pair for pair in self.headers if pair[0].lower() != name]
        self.headers = [*rest, (name, write_deadline(header, seconds).encode())]

    def shadow(self) -> ProxyRequest:
        """The same request for a mirror: ``-shadow`` on its host, before the port."""
        copy = ProxyRequest.__new__(ProxyRequest)
        for name in ProxyRequest.__slots__:
            setattr(copy, name, getattr(self, name))
        copy.headers = [
            (name, shadow_host(value)) if name.lower() == HOST else (name, value) for name, value in self.headers
        ]
        return copy


def is_grpc(lower: bytes) -> bool:
    """Whether the headers say so, as Envoy reads them: ``application/grpc`` and ``application/grpc+proto`` do,
    ``application/grpc-web`` does not."""
    at = lower.find(GRPC)
    return at >= 0 and lower[at + len(GRPC)] in _AFTER_GRPC


def _key_of(name: str) -> bytes:
    key = b"\r\n%b:" % name.encode("latin-1", "replace")
    if len(_KEYS) >= MOST_KEYS:
        _KEYS.clear()
    _KEYS[name] = key
    return key
