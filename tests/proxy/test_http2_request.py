"""A request that came over HTTP/2, as an upstream of HTTP/2 gets it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from meshlib.proxy.http2_request import Http2Request
from meshlib.proxy.request import ProxyRequest
from meshlib.transport.protocol.http1_request import SPECIAL
from meshlib.transport.protocol.http2_codec import SecretHeader


def request_of(*lines: bytes, method: bytes = b"POST") -> Http2Request:
    text = b"".join(line + b"\r\n" for line in (b"host: reviews", *lines))
    fields: Any = [tuple(line.split(b": ")) for line in lines]
    lower = b"\r\n" + text
    return Http2Request(method, b"reviews", b"/a", fields, text, lower, None, SPECIAL.findall(lower), None)


@pytest.mark.parametrize("method", [b"GET", b"BREW"])
@pytest.mark.parametrize("target", [b"/a?b=c?d", b"/a?\xff", b"/"])
@pytest.mark.parametrize("body", [None, b"", b"\0\0\0\0\1x", SimpleNamespace(messages=1)])
@pytest.mark.parametrize("grpc", [None, True, False])
@pytest.mark.parametrize(
    "line", [b"x: y", b"content-type: application/grpc+proto", b"content-length: 6", b"x-envoy-a: 1"]
)
def test_it_is_what_any_request_with_these_lines_is(method, target, body, grpc, line):
    text = b"host: a\r\n" + line + b"\r\n"
    lower = b"\r\n" + text
    special = SPECIAL.findall(lower)
    made = Http2Request(method, b"a", target, [], text, lower, body, special, grpc)
    other = ProxyRequest(method, b"a", target, text, lower, body, "http", special, grpc)
    for name in ProxyRequest.__slots__:
        if name not in ("_headers", "_received"):
            assert getattr(made, name) == getattr(other, name), name
    assert made.sent_head is made._received
    assert made.lines == other.lines == text
    assert made.host == b"a"


def test_a_request_that_rules_have_not_changed_goes_on_as_it_came():
    assert request_of(b"te: trailers", b"x: y").http2_head(2, b"http") == [
        (b":method", b"POST"),
        (b":scheme", b"http"),
        (b":authority", b"reviews"),
        (b":path", b"/a"),
        (b"te", b"trailers"),
        (b"x", b"y"),
        (b"x-envoy-attempt-count", b"2"),
    ]


@pytest.mark.parametrize("line", [b"authorization: Bearer x", b"cookie: a=b", b"proxy-authorization: x"])
def test_secrets_stay_out_of_the_compression_tables(line):
    head = request_of(b"x: y", line).http2_head(1, b"http")
    assert head is not None
    assert [pair for pair in head if type(pair) is SecretHeader] == [tuple(line.split(b": "))]


def test_a_long_cookie_is_none():
    head = request_of(b"cookie: session=0123456789abcdef").http2_head(1, b"http")
    assert head is not None
    assert SecretHeader not in map(type, head)


def test_what_rules_have_changed_and_unknown_methods_are_looked_at():
    assert request_of(method=b"BREW").http2_head(1, b"http") is None
    request = request_of()
    request.headers = [(b"Host", b"other")]
    assert request.http2_head(1, b"http") is None
    assert request_of(b"x-envoy-attempt-count: 9").http2_head(1, b"http") is None
