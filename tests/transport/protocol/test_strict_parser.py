"""What a head may not hold is refused by llhttp, or looked for by us."""

from __future__ import annotations

import httptools
import pytest

from meshlib.transport.protocol import http1_request, received_head
from meshlib.transport.protocol.http1_request import Refused, RequestReader
from meshlib.transport.protocol.raw_response import RawResponseReader
from meshlib.transport.protocol.strict_parser import (
    CONTROLS,
    REFUSES_ODD_REQUESTS,
    REFUSES_ODD_RESPONSES,
    REQUEST_LINE,
    STATUS_LINE,
    odd_lines,
    odd_request_lines,
    takes,
)

VALUES = {
    b"a": b"xyz",
    b"connection": b"close",
    b"content-length": b"12",
    b"transfer-encoding": b"chunked",
    b"upgrade": b"h2c",
    b"proxy-connection": b"close",
    b"host": b"h",
}
"""llhttp reads some of them in ways of their own."""


def test_the_parser_that_is_installed_refuses_them():
    assert REFUSES_ODD_REQUESTS
    assert REFUSES_ODD_RESPONSES


@pytest.mark.parametrize(
    ("parser", "first"),
    [(httptools.HttpRequestParser, REQUEST_LINE), (httptools.HttpResponseParser, STATUS_LINE)],
    ids=["requests", "responses"],
)
def test_no_control_character_passes_anywhere_in_a_header(parser, first):
    passed = []
    for control in (CONTROLS[each : each + 1] for each in range(len(CONTROLS))):
        for name, value in VALUES.items():
            odd = [b"%b%b: %b\r\n" % (name[:at] + control, name[at:], value) for at in range(len(name) + 1)]
            odd += [
                b"%b%b%b%b\r\n" % (name, gap, value[:at] + control + value[at:], tail)
                for at in range(len(value) + 1)
                for gap in (b":", b": ", b":  ", b": ,")
                for tail in (b"", b" ", b", close")
            ]
            passed += [each for each in odd if takes(parser, first + each + b"\r\n")]
    assert passed == []


@pytest.mark.parametrize("trusted", [True, False], ids=["llhttp's look", "our own look"])
def test_odd_heads_are_refused_whoever_looks(trusted, monkeypatch):
    monkeypatch.setattr(http1_request, "REFUSES_ODD_REQUESTS", trusted)
    monkeypatch.setattr(received_head, "REFUSES_ODD_RESPONSES", trusted)
    heads = [b"%bHost: x\r\n%b\r\n" % (REQUEST_LINE, odd) for odd in odd_lines()]
    heads += [odd + b"Host: x\r\n\r\n" for odd in odd_request_lines()]
    for head in heads:
        reader = RequestReader()
        reader.feed(head)
        with pytest.raises(Refused):
            reader.head()
    for odd in odd_lines():
        response = RawResponseReader()
        response.feed(b"%b%bContent-Length: 0\r\n\r\n" % (STATUS_LINE, odd))
        assert response.error, odd


class Lenient:
    """A parser that takes whatever it gets."""

    def __init__(self, told) -> None:
        self._told = told

    def feed_data(self, _data: bytes) -> None:
        self._told.on_headers_complete()


def test_what_a_lenient_parser_lets_through_is_found(monkeypatch):
    monkeypatch.setattr(http1_request, "REFUSES_ODD_REQUESTS", False)
    for odd in odd_lines():
        if b"\r\n" not in odd or odd.startswith((b"a :", b"a\r\n", b": ")):
            continue  # names are the parser's to look at
        reader = RequestReader()
        reader._parser = Lenient(reader)
        reader.feed(b"%bHost: x\r\n%b\r\n" % (REQUEST_LINE, odd))
        with pytest.raises(Refused):
            reader.head()


@pytest.mark.parametrize("odd", [b"a\x01b", b"\x7f", b"a\x00"])
def test_a_status_line_with_a_control_character_is_looked_for_by_us(odd):
    reader = RawResponseReader()
    reader.feed(b"HTTP/1.1 200 %b\r\nContent-Length: 0\r\n\r\n" % odd)
    assert "control character" in reader.error
