"""One request on an HTTP/2 connection of a client."""

from __future__ import annotations

from meshlib.transport.protocol.http2_request import read_head
from meshlib.transport.protocol.http2_server_stream import ServerStream


def test_a_stream_begins_with_a_request_and_without_a_response():
    head = read_head(((b":method", b"GET"), (b":scheme", b"http"), (b":path", b"/"), (b":authority", b"a")))
    stream = ServerStream(3, head, True, 2.5)
    assert (stream.id, stream.head, stream.request_over, stream.began) == (3, head, True, 2.5)
    assert (stream.response_begun, stream.response_over, stream.unread) == (False, False, 0)
