"""Headers as the bytes they came in: sent on as they are, a list only when somebody looks."""

from __future__ import annotations

import httptools
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.transport.protocol.framing import Chunked, FalseFraming, NoBody, Sized, framing_of
from meshlib.transport.protocol.raw_head import RawHead
from meshlib.transport.protocol.request_body import ReplayBody
from meshlib.transport.protocol.request_head import InvalidHead, asks_for_websocket, encode_head

LINES = b"Host: reviews:9080\r\nX-Odd:value \r\nx-odd:  second\r\nEmpty:\r\n"
PAIRS = [(b"Host", b"reviews:9080"), (b"X-Odd", b"value"), (b"x-odd", b"second"), (b"Empty", b"")]

token = st.from_regex(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,12}", fullmatch=True)
names = st.one_of(
    token, st.sampled_from([b"Host", b"expect", b"Content-Length", b"content-length", b"Transfer-Encoding"])
)
values = st.one_of(
    st.sampled_from([b"chunked", b"5", b"0", b"100-continue", b"a:b", b""]),
    st.from_regex(rb"[!-~]{0,8}", fullmatch=True),
)


def lines_of(pairs) -> bytes:
    return b"".join(b"%b: %b\r\n" % pair for pair in pairs)


def unmade(head: RawHead) -> bool:
    return head._pairs is None


def test_it_is_written_as_it_came_and_no_list_is_made():
    head = RawHead(LINES)
    framing = framing_of(head, None)
    assert encode_head(b"GET", b"/x", framing.headers) == b"GET /x HTTP/1.1\r\n" + LINES + b"\r\n"
    sized = RawHead(LINES + b"Content-Length: 2\r\n")
    framing = framing_of(sized, b"ab")
    assert isinstance(framing, Sized)
    assert encode_head(b"POST", b"/x", framing.headers).endswith(b"Content-Length: 2\r\n\r\n")
    assert unmade(head)
    assert unmade(sized)


def test_whoever_looks_sees_a_list():
    head = RawHead(LINES)
    assert len(head) == 4
    assert unmade(head)
    assert list(head) == PAIRS
    assert head[0] == PAIRS[0]
    assert head[1:] == PAIRS[1:]
    assert len(head) == 4
    assert list(RawHead(b"")) == []


def test_a_line_more_leaves_the_head_as_it_was():
    head = RawHead(LINES)
    more = head.plus(b"x-envoy-attempt-count", b"1")
    assert encode_head(b"GET", b"/", more).endswith(b"Empty:\r\nx-envoy-attempt-count: 1\r\n\r\n")
    assert head.lines == LINES
    assert unmade(more)


def test_a_websocket_is_seen():
    assert asks_for_websocket(RawHead(b"Host: a\r\nUpgrade: websocket\r\n"))
    assert not asks_for_websocket(RawHead(b"Host: a\r\n"))


@pytest.mark.parametrize(
    "lines",
    [
        b"a: 1\r\n\r\nGET /smuggled HTTP/1.1\r\n",  # another head
        b"\r\na: 1\r\n",
        b"a: 1\r\n b: 2\r\n",  # folded
        b"a: 1\r\n\tb: 2\r\n",
        b" a: 1\r\n",
        b"a: 1\nb: 2\r\n",  # a line end for some readers
        b"a: 1\rb: 2\r\n",
        b"a: \x00\r\n",
        b"a: 1",  # no line end: the next line would be part of it
        b"\r",
    ],
)
def test_what_another_reader_might_split_differently_is_not_written(lines):
    with pytest.raises(InvalidHead):
        encode_head(b"GET", b"/", RawHead(lines))


@pytest.mark.parametrize(
    ("method", "target"), [(b"GE T", b"/"), (b"", b"/"), (b"GET", b""), (b"GET", b"/a b"), (b"GET", b"/\r\n")]
)
def test_method_and_target_are_checked_as_ever(method, target):
    with pytest.raises(InvalidHead):
        encode_head(method, target, RawHead(LINES))


@given(st.lists(st.tuples(names, values), max_size=6), st.sampled_from(["none", "five", "empty", "stream"]))
def test_its_framing_is_that_of_the_list(pairs, kind):
    def framed(headers):
        body = {"none": None, "five": b"12345", "empty": b"", "stream": ReplayBody(iter([b"1"]))}[kind]
        try:
            framing = framing_of(headers, body)
        except FalseFraming:
            return "refused"  # of several reasons either may be named
        length = framing.length if isinstance(framing, Sized) else None
        return (
            type(framing),
            list(framing.headers),
            length,
            framing.expects_continue,
            isinstance(framing, (NoBody, Chunked)),
        )

    assert framed(RawHead(lines_of(pairs))) == framed(pairs)


@given(st.lists(st.tuples(token, values), max_size=6))
def test_a_strict_parser_reads_what_was_meant(pairs):
    kept = [
        pair
        for pair in pairs
        if pair[0].lower() not in (b"content-length", b"transfer-encoding", b"connection", b"upgrade")
    ]
    found = []

    class Reader:
        def on_header(self, name: bytes, value: bytes) -> None:
            found.append((name, value))

    httptools.HttpRequestParser(Reader()).feed_data(encode_head(b"GET", b"/", RawHead(lines_of(kept))))
    assert found == kept
