"""Request heads and trailers as the HTTP/2 session without I/O writes them."""

from __future__ import annotations

import h2.config
import h2.connection
import h2.errors
import h2.events
import h2.exceptions
import h2.settings
import pytest

from meshlib.transport.protocol.http2_codec import SecretHeader
from meshlib.transport.protocol.http2_headers import request_head
from meshlib.transport.protocol.request_head import InvalidHead
from tests.support.http2_pair import HEAD, Pair

pytestmark = pytest.mark.usefixtures("codec")


def test_a_request_head_is_written_as_http2_wants_it():
    headers = [
        (b"Host", b"reviews:9080"),
        (b"Accept", b"*/*"),
        (b"Connection", b"keep-alive, X-Hop"),
        (b"Keep-Alive", b"timeout=5"),
        (b"Proxy-Connection", b"keep-alive"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Upgrade", b"websocket"),
        (b"X-Hop", b"1"),
        (b"TE", b"gzip"),
        (b"X-Padded", b" a "),
        (b"Cookie", b"a=1; b=2"),
        (b"Authorization", b"Bearer secret"),
    ]
    head = request_head(b"POST", b"/a?b=c", headers, b"https")
    assert [tuple(header) for header in head] == [
        (b":method", b"POST"),
        (b":scheme", b"https"),
        (b":authority", b"reviews:9080"),
        (b":path", b"/a?b=c"),
        (b"accept", b"*/*"),
        (b"x-padded", b"a"),
        (b"cookie", b"a=1; b=2"),
        (b"authorization", b"Bearer secret"),
    ]
    assert isinstance(head[-1], SecretHeader)


def test_te_trailers_stays():
    head = request_head(b"POST", b"/", [(b"Host", b"a"), (b"TE", b"trailers"), (b"Connection", b"TE")], b"http")
    assert (b"te", b"trailers") in head


@pytest.mark.parametrize(
    ("method", "target", "headers"),
    [
        (b"GET", b"/", [(b"x", b"a\r\nevil: 1")]),
        (b"GET", b"/", [(b"x", b"a\x00b")]),
        (b"GET", b"/", [(b"bad name", b"1")]),
        (b"GET", b"/", [(b":path", b"/other")]),
        (b"GET", b"/a b", []),
        (b"G T", b"/", []),
        (b"GET", b"/", [(b"Host", b"a"), (b"host", b"b")]),
        (b"CONNECT", b"a:443", []),
    ],
)
def test_a_request_that_cannot_be_written_safely_is_refused(method, target, headers):
    with pytest.raises(InvalidHead):
        request_head(method, target, headers, b"http")


def test_a_request_may_end_with_trailers():
    pair = Pair()
    stream = pair.client.open(HEAD, False, False, lambda: None)
    assert stream is not None
    pair.client.send(stream, memoryview(b"x"), False)
    pair.client.end(stream, [(b"checksum", b"1")])
    pair.move()
    (event,) = [one for one in pair.events if isinstance(one, h2.events.TrailersReceived)]
    assert [(bytes(name), bytes(value)) for name, value in event.headers] == [(b"checksum", b"1")]
