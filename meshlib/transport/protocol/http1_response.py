"""A response as HTTP/1.1 writes it for a client: its head, and how its body is framed, decided from what the upstream sent."""

from __future__ import annotations

import operator
from http import HTTPStatus

from meshlib.policy.header_ops import Headers, RawHeaders
from meshlib.transport.protocol.received_head import HOP_BY_HOP, ReceivedHead

_NAME = operator.itemgetter(0)
_line = b": ".join
_LINE_END = b"\r\n"
NO_CONTENT = 204
BODILESS = frozenset((NO_CONTENT, 304))
_CLOSE = b"connection: close\r\n"
CLOSE_AND_END = _CLOSE + _LINE_END
_CHUNKED = b"transfer-encoding: chunked\r\n"
_USUAL_LINES = {int(each): b"HTTP/1.1 %d %b\r\n" % (each, each.phrase.encode()) for each in HTTPStatus}
OK = 200
OK_LINE = _USUAL_LINES[OK]
_BEFORE_REASON = len("HTTP/1.1 200 ")
LAST_CHUNK = b"0\r\n\r\n"


class ResponseHead:
    """``lines``: status line and headers, without the empty line, to which more may be added. ``chunked``: pieces of the body
    are to be written as chunks, with ``LAST_CHUNK`` behind them. ``bodiless``: none is to be written, whatever the upstream's
    headers say of it."""

    __slots__ = ("bodiless", "chunked", "lines")

    def __init__(self, lines: bytes, chunked: bool, bodiless: bool) -> None:
        self.lines = lines
        self.chunked = chunked
        self.bodiless = bodiless


def response_head(status: int, reason: bytes, headers: Headers, to_head: bool, whole: int | None) -> ResponseHead:
    """Of a response to a request (``to_head``: to HEAD). ``whole``: bytes of its body, None when they are still to come."""
    # no step of bytecode a header: what is asked here is one pass in C (row "proxy: HTTP/1.1")
    if type(headers) is ReceivedHead and not (headers.sized and status == NO_CONTENT):
        lines, sized, coded = headers.passed, headers.sized, headers.coded
    else:
        names = set(map(bytes.lower, map(_NAME, headers)))
        sized, coded = b"content-length" in names, b"transfer-encoding" in names
        if not HOP_BY_HOP.isdisjoint(names):
            headers = _end_to_end(headers)
        if sized and status == NO_CONTENT:  # who reads it might wait for what it says
            headers = [pair for pair in headers if pair[0].lower() != b"content-length"]
        lines = b"%b\r\n" % _LINE_END.join(map(_line, headers)) if headers else b""
    bodiless = to_head or status in BODILESS
    chunked = False
    framing = b""
    if not bodiless and not sized:
        if whole == 0 and not coded:
            framing = b"content-length: 0\r\n"
        else:
            chunked, framing = True, _CHUNKED
    elif to_head and coded:
        framing = _CHUNKED  # as the response to GET would say
    return ResponseHead(status_line(status, reason) + lines + framing, chunked, bodiless)


def status_line(status: int, reason: bytes) -> bytes:
    """With its line end. ``reason`` is empty: the usual one."""
    line = _USUAL_LINES.get(status, b"")
    if reason and line[_BEFORE_REASON:-2] != reason:
        return b"HTTP/1.1 %d %b\r\n" % (status, reason)
    return line or b"HTTP/1.1 %d \r\n" % status


def _end_to_end(headers: Headers) -> RawHeaders:
    gone = set(HOP_BY_HOP)
    for name, value in headers:
        if len(name) == 10 and name.lower() == b"connection":
            gone.update(token.strip(b" \t").lower() for token in value.split(b","))
    gone.discard(b"content-length")
    return [pair for pair in headers if pair[0].lower() not in gone]


def chunk(data: bytes) -> bytes:
    """A piece of a body, at least one byte, as a chunk."""
    return b"%x\r\n%b\r\n" % (len(data), data)


def closing(head: ResponseHead) -> bytes:
    """Its bytes, with the word that no other response follows on the connection."""
    return head.lines + CLOSE_AND_END


def keeping(head: ResponseHead) -> bytes:
    """Its bytes."""
    return head.lines + _LINE_END
