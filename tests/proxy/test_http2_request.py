"""A request that came over HTTP/2, as an upstream of HTTP/2 gets it."""

from __future__ import annotations

import pytest

from meshlib.proxy.http2_request import Http2Request
from meshlib.transport.protocol.http2_codec import SecretHeader


def request_of(*lines: bytes, method: bytes = b"POST") -> Http2Request:
    text = b"".join(line + b"\r\n" for line in (b"host: reviews", *lines))
    request = Http2Request(method, b"reviews", b"/a", text, b"\r\n" + text, None)
    request.host = b"reviews"
    request.fields = [tuple(line.split(b": ")) for line in lines]  # type: ignore[misc]
    return request


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
