"""Whether httptools (llhttp) refuses by itself what a head may not hold: looked at once, at import, of the one installed.

Heads go on as the bytes that they came in. What llhttp is lenient about would be read by somebody behind us, perhaps in another
way, so it is looked for byte by byte where llhttp does not refuse it. llhttp 9 does, and a second look costs a tenth of
reading a head (row "proxy-inprocess"). ``tests/transport/protocol/test_strict_parser.py`` tries all such bytes in all places.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import httptools

REQUEST_LINE = b"GET / HTTP/1.1\r\n"
STATUS_LINE = b"HTTP/1.1 200 OK\r\n"
CONTROLS = bytes([*range(9), *range(10, 32), 127])
"""Bytes that no value holds, the line breaks among them."""


class _Told:
    """Hears whether a head was taken."""

    taken = False

    def on_headers_complete(self) -> None:
        self.taken = True


def takes(parser: Any, head: bytes) -> bool:
    """Whether a new ``parser`` of httptools takes all of ``head`` as one."""
    told = _Told()
    try:
        parser(told).feed_data(head)
    except httptools.HttpParserUpgrade:
        pass
    except httptools.HttpParserError:
        return False
    return told.taken


def odd_lines() -> Iterator[bytes]:
    """Header lines, each of which has something that no head may have."""
    for control in (CONTROLS[each : each + 1] for each in range(len(CONTROLS))):
        for name, value in ((b"a", b"xy"), (b"connection", b"close"), (b"host", b"xy")):
            yield b"%b: x%b%b\r\n" % (name, control, value)
            yield b"%b: %b%b\r\n" % (name, control, value)
            yield b"%b: %b%b\r\n" % (name, value, control)
            yield b"%b%b: %b\r\n" % (name, control, value)
    for fold in (b" ", b"\t", b" c: ", b"\t\r\n "):
        yield b"a: b\r\n%bc\r\n" % fold
    yield from (
        b"a: b\n",
        b"a: b\r",
        b"a: b\n\r\n",
        b"a: b\r\n\n",
        b"a: b\r\r\n",
        b"a : b\r\n",
        b" a: b\r\n",
        b"a\r\n",
        b": b\r\n",
    )


def odd_request_lines() -> Iterator[bytes]:
    """Each has something that no request line may have."""
    yield from (b"GET /a" + CONTROLS[each : each + 1] + b"b HTTP/1.1\r\n" for each in range(len(CONTROLS)))
    yield from (b"GET / HTTP/1.1\n", b"GET / HTTP/1.1\r", b"GET /\t HTTP/1.1\r\n", b"GET / HTTP/1.1 \r\n")


def _refuses_all(parser: Any, first: bytes) -> bool:
    return takes(parser, first + b"a: b\r\n\r\n") and not any(
        takes(parser, first + odd + b"\r\n") for odd in odd_lines()
    )


REFUSES_ODD_REQUESTS = _refuses_all(httptools.HttpRequestParser, REQUEST_LINE) and not any(
    takes(httptools.HttpRequestParser, odd + b"a: b\r\n\r\n") for odd in odd_request_lines()
)
REFUSES_ODD_RESPONSES = _refuses_all(httptools.HttpResponseParser, STATUS_LINE)
"""In header lines. (A status line may hold control characters.)"""
