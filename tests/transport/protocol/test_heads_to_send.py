"""What headers come to on the wire is the same whether they were met before or not."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.transport.protocol.framing import NoBody, framing_of
from meshlib.transport.protocol.heads_to_send import sent_head_of
from meshlib.transport.protocol.http2_headers import request_head
from meshlib.transport.protocol.request_head import InvalidHead, asks_for_websocket, encode_head

NAMES = st.sampled_from(
    [
        *(b"Host", b"host", b"Connection", b"Keep-Alive", b"accept", b"X-A", b"x-b", b"user-agent", b"TE", b"Cookie"),
        *(b"Content-Length", b"Transfer-Encoding", b"Expect", b"Upgrade", b"Authorization", b"x bad", b"", b":path"),
    ]
)
VALUES = st.sampled_from(
    [b"", b" ", b"1", b"keep-alive", b"close", b"x-a", b"websocket", b"trailers", b"0", b"a\r\nb: c", b"a\0", b"\xe9 "]
)


def told(call: Any, *arguments: Any) -> Any:
    try:
        return call(*arguments)
    except InvalidHead as error:
        return str(error)


@given(
    headers=st.lists(st.tuples(NAMES, VALUES), max_size=5),
    method=st.sampled_from([b"GET", b"HEAD", b"CONNECT", b"PURGE", b"B D"]),
    target=st.sampled_from([b"/", b"/a?b=c", b"*", b"", b"/ "]),
)
def test_a_head_that_was_met_goes_out_as_its_headers_do(headers, method, target):
    head = sent_head_of(headers)
    if head is None:
        return
    for write in (encode_head, lambda *what: request_head(*what, b"http")):
        assert told(write, method, target, head) == told(write, method, target, headers)
    framing = framing_of(headers, None)
    assert type(framing_of(head, None)) is type(framing) is NoBody
    assert not framing.expects_continue
    assert asks_for_websocket(headers) is asks_for_websocket(head) is False
    with_body, other = framing_of(headers, b"abc"), framing_of(head, b"abc")
    assert (type(other), list(other.headers)) == (type(with_body), list(with_body.headers))


PLAIN = [(b"Host", b"a"), (b"Accept", b"*/*"), (b"Connection", b"keep-alive")]


def test_the_usual_headers_make_a_head():
    assert sent_head_of(PLAIN) is not None


@pytest.mark.parametrize(
    "more",
    [
        (b"Content-Length", b"3"),
        (b"Transfer-Encoding", b"chunked"),
        (b"Expect", b"100-continue"),
        (b"Upgrade", b"websocket"),
        (b"Authorization", b"Bearer abc"),
        (b"Cookie", b"a=b"),
        (b"TE", b"trailers"),
        (b"Host", b"b"),
        (b"X-A", b"a\r\nb: c"),
        (b"X A", b"a"),
    ],
)
def test_headers_of_which_more_is_to_be_said_make_none(more):
    assert sent_head_of([*PLAIN, more]) is None
