"""How a request's body is declared from the next request: decided once, counted as it is written, the same in every runtime.

A caller's headers may say anything of its body. What goes on the wire is what they say, or nothing does: a length that is
not the body's would make the rest of the body the next request on that connection, and give its response to another caller.

``framing_of`` decides: ``NoBody``, ``Sized`` (exactly so many bytes) or ``Chunked``. Each has ``headers`` (to be written),
``body`` (None, bytes or a ``ReplayBody``) and ``expects_continue`` (the body waits for the server's word). A whole body has
been held against its length then. A streamed one is held against it while it is written: ``piece`` makes of its next bytes
what HTTP/1.1 writes, ``end`` what follows them; HTTP/2, which has frames of its own, asks ``count`` and ``finish``. One
object is good for one attempt.
"""

from __future__ import annotations

import operator
from typing import TYPE_CHECKING

from meshlib.transport.protocol.raw_head import Headers, RawHead
from meshlib.transport.protocol.request_head import InvalidHead
from meshlib.transport.protocol.sent_head import SentHead

if TYPE_CHECKING:
    from meshlib.policy.header_ops import RawHeaders
    from meshlib.transport.protocol.request_body import ReplayBody

CHUNKED = b"chunked"
MOST_DIGITS = 18
"""Of a Content-Length; more bytes than any body has, and few enough for every server's integers."""

_DECLARED = {len(name): name for name in (b"host", b"expect", b"content-length", b"transfer-encoding")}
_HOST = b"\r\nhost:"
_LINES = [(name, b"\r\n%b:" % name) for name in _DECLARED.values() if name != b"host"]
"""How their lines begin."""
_WHITE = b" \t"
_NAME = operator.itemgetter(0)


class FalseFraming(InvalidHead):
    """What the head says of the body is not so, or can be read in more than one way. The bytes that would show it on the
    wire have not been written; the connection (HTTP/2: the stream) must not be used further."""


class NoBody:
    """A request that ends with its head."""

    __slots__ = ("headers",)

    body = None
    expects_continue = False

    def __init__(self, headers: Headers) -> None:
        self.headers = headers


class Sized:
    """A body of exactly ``length`` bytes."""

    __slots__ = ("_left", "body", "expects_continue", "headers", "length")

    def __init__(self, headers: Headers, body: bytes | ReplayBody, length: int, expects_continue: bool = False) -> None:
        self.headers = headers
        self.body = body
        self.length = length
        self.expects_continue = expects_continue
        self._left = length

    def whole(self, body: bytes) -> bytes:
        """A whole body as HTTP/1.1 writes it."""
        return body

    def count(self, size: int) -> None:
        """So many more bytes are about to be written. Raises ``FalseFraming`` when they are too many."""
        self._left -= size
        if self._left < 0:
            raise FalseFraming(
                f"the request body is longer than its Content-Length of {self.length}: "
                f"{self.length - self._left} bytes were read and there may be more"
            )

    def finish(self) -> None:
        """The body is over. Raises ``FalseFraming`` when bytes are missing."""
        if self._left:
            raise FalseFraming(
                f"the request body ended after {self.length - self._left} bytes; its Content-Length is {self.length}"
            )

    def piece(self, data: bytes) -> bytes:
        """The body's next bytes as HTTP/1.1 writes them."""
        self.count(len(data))
        return data

    def end(self) -> bytes:
        """What follows the body's last byte."""
        self.finish()
        return b""


class Chunked:
    """A body in chunks. ``length``: what the caller said of its size besides, which is held to and not written."""

    __slots__ = ("_count", "body", "expects_continue", "headers")

    def __init__(
        self, headers: Headers, body: bytes | ReplayBody, length: int | None, expects_continue: bool = False
    ) -> None:
        self.headers = headers
        self.body = body
        self.expects_continue = expects_continue
        self._count = None if length is None else Sized(headers, body, length)

    def whole(self, body: bytes) -> bytes:
        """A whole body as HTTP/1.1 writes it."""
        return b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body) if body else b"0\r\n\r\n"

    def count(self, size: int) -> None:
        """So many more bytes are about to be written. Raises ``FalseFraming`` when they are too many."""
        if self._count is not None:
            self._count.count(size)

    def finish(self) -> None:
        """The body is over. Raises ``FalseFraming`` when bytes are missing."""
        if self._count is not None:
            self._count.finish()

    def piece(self, data: bytes) -> bytes:
        """The body's next bytes (at least one) as HTTP/1.1 writes them."""
        self.count(len(data))
        return b"%x\r\n%b\r\n" % (len(data), data)

    def end(self) -> bytes:
        """What follows the body's last byte."""
        self.finish()
        return b"0\r\n\r\n"


Framing = NoBody | Sized | Chunked


def framing_of(headers: Headers, body: bytes | ReplayBody | None) -> Framing:
    """The framing that ``headers`` declare for ``body``, or the only one that is left for it. Raises ``FalseFraming``.

    One Content-Length, ASCII digits, equal to the body; Transfer-Encoding: chunked and nothing else; with both, the length
    is not written. A body with neither goes in chunks, as Envoy sends it. No second Host.
    """
    if body is None and type(headers) is SentHead:
        return NoBody(headers)
    if type(headers) is RawHead:
        declared = _declared_by_lines(headers)
        if body is None and not declared:
            return NoBody(headers)
    else:
        if body is None:
            # the common case at the cost of one list, made without a step of bytecode a header (row "httpx.Client p50"): no
            # name is as long as those that matter, but for one like Host's
            sizes = list(map(len, map(_NAME, headers)))
            if 14 not in sizes and 17 not in sizes and sizes.count(4) < 2:
                return NoBody(headers)
        declared = {}
        for name, value in headers:
            known = _DECLARED.get(len(name))
            if known is not None and name.lower() == known:
                if known in declared and known != b"expect":
                    raise FalseFraming(_TWICE[known])
                declared[known] = value
    length = _length(declared.get(b"content-length"))
    expects_continue = declared.get(b"expect", b"").strip(_WHITE).lower() == b"100-continue"
    coding = declared.get(b"transfer-encoding")
    if coding is not None and coding.strip(_WHITE).lower() != CHUNKED:
        raise FalseFraming(
            f"the request's Transfer-Encoding is {coding[:100].decode('latin-1')!r}: only chunked can be sent"
        )
    if length is not None and (body is None or type(body) is bytes):
        size = 0 if body is None else len(body)
        if size != length:
            raise FalseFraming(f"the request's Content-Length is {length}, its body has {size} bytes")
    if coding is not None:
        return Chunked(_in_chunks(headers), b"" if body is None else body, length, expects_continue)
    if body is None:
        return NoBody(headers)
    if length is None:
        return Chunked(_in_chunks(headers), body, None, expects_continue)
    return Sized(headers, body, length, expects_continue)


def _declared_by_lines(head: RawHead) -> dict[bytes, bytes]:
    """What a raw head declares, without a list of its headers; Host is only counted."""
    declared: dict[bytes, bytes] = {}
    lower = b"\r\n" + head.lines.lower()
    if lower.count(_HOST) > 1:
        raise FalseFraming(_TWICE[b"host"])
    for name, line in _LINES:
        if lower.find(line) < 0:
            continue
        values = head.values(name)
        if len(values) > 1 and name != b"expect":
            raise FalseFraming(_TWICE[name])
        declared[name] = values[-1]
    return declared


_TWICE = {
    b"host": "the request has two Host headers",
    b"content-length": "the request has two Content-Length headers",
    b"transfer-encoding": "the request has two Transfer-Encoding headers: only one, chunked, can be sent",
}


def _length(value: bytes | None) -> int | None:
    if value is None:
        return None
    digits = value.strip(_WHITE)
    if not digits.isdigit() or len(digits) > MOST_DIGITS:
        raise FalseFraming(
            f"the request's Content-Length is {value[:100].decode('latin-1')!r}, which is not a valid length"
        )
    return int(digits)


def _in_chunks(headers: Headers) -> RawHeaders:
    """The headers of a body in chunks: no length, and the one coding in its usual spelling, where it stood."""
    made, written = [], False
    for pair in headers:
        name = pair[0].lower()
        if name == b"transfer-encoding":
            made.append((pair[0], CHUNKED))
            written = True
        elif name != b"content-length":
            made.append(pair)
    if not written:
        made.append((b"Transfer-Encoding", CHUNKED))
    return made
