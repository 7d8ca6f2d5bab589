"""Responses for somebody who passes them on: read as by every reader, with heads that stay bytes."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.transport.protocol.http1 import ResponseReader
from meshlib.transport.protocol.raw_response import RawResponseReader
from meshlib.transport.protocol.received_head import ReceivedHead

OK = b"HTTP/1.1 200 Fine\r\nX-A: 1\r\nx-a:  2\r\n"
RESPONSES = [
    OK + b"Content-Length: 3\r\n\r\nabc",
    OK + b"Content-Length: 0\r\n\r\n",
    OK + b"Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\nX-I: 1\r\n\r\nHTTP/1.1 103 Hints\r\n\r\n" + OK + b"Content-Length: 3\r\n\r\nabc",
    b"HTTP/1.1 204 No Content\r\nX-A: 1\r\n\r\n",
    b"HTTP/1.0 200 OK\r\nContent-Length: 3\r\n\r\nabc",
    OK + b"\r\nuntil the end",
    b"HTTP/1.1 200 OK\r\n" + b"X: y\r\n" * 101 + b"\r\n",
    OK + b"Content-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n",
    OK + b"Transfer-Encoding: gzip\r\n\r\n",
    b"nonsense\r\n\r\n",
    b"HTTP/1.1 099 Odd\r\n\r\n",
]


def told(reader, pieces, head_request):
    reader.begin(head_request)
    for piece in pieces:
        reader.feed(piece)
    ended = not reader.error and reader.feed_eof()
    failed = bool(reader.error)
    head = failed or (reader.reason, list(reader.headers))
    return (failed, reader.status, head, reader.take(), reader.complete, ended, reader.continue_seen,
            reader.http_version, failed or reader.reusable)  # fmt: skip


@pytest.mark.parametrize("head_request", [False, True])
@given(st.sampled_from(RESPONSES), st.lists(st.integers(1, 120), max_size=5))
def test_it_reads_what_every_reader_reads(head_request, data, cuts):
    places = sorted({0, len(data), *[cut for cut in cuts if cut < len(data)]})
    pieces = [data[a:b] for a, b in itertools.pairwise(places)]
    assert told(RawResponseReader(), pieces, head_request) == told(ResponseReader(), pieces, head_request)


LINES = [b"Content-Length: 3", b"content-length: 3 ", b"Content-Length:3", b"Content-Length: 4", b"Content-Length: 03",
         b"Connection: keep-alive", b"Connection: Keep-Alive", b"Connection: close", b"Connection: keep-alive, x",
         b"Keep-Alive: 1", b"Upgrade: x", b"Transfer-Encoding: chunked", b"X: Content-Length: 3", b"X:\x80", b"X : y",
         b"X: a\x00b", b" x", b"Trailer: x", b"X: \t y\t"]  # fmt: skip
FIRSTS = [b"HTTP/1.1 200 OK", b"HTTP/1.1 200 ", b"HTTP/1.1 200", b"HTTP/1.1 599 A b", b"HTTP/1.1 600 OK", b"HTTP/1.1 304 OK",
          b"HTTP/1.1 204 OK", b"HTTP/1.1 199 OK", b"HTTP/1.1  200 OK", b"HTTP/1.0 200 OK", b"http/1.1 200 OK",
          b"HTTP/1.1 200 \xe9", b"HTTP/1.1 201 Created "]  # fmt: skip
BEHIND = [b"abc", b"ab", b"", b"abcd", b"abc\r\n", b"abcHTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n"]
_numbers = itertools.count()


@given(st.sampled_from(FIRSTS), st.lists(st.sampled_from(LINES), max_size=3), st.sampled_from(BEHIND), st.booleans())
def test_a_head_that_was_never_met_is_read_as_byte_by_byte(first, lines, behind, sized):
    """Most are read at a glance, and what that cannot judge, is looked through."""
    head = [first, b"X-N: %d" % next(_numbers), *lines, *([b"Content-Length: 3"] if sized else [])]
    data = b"\r\n".join(head) + b"\r\n\r\n" + behind
    whole, bytewise = RawResponseReader(), RawResponseReader()
    size = len(data) - len(behind)
    pieces = [data[at : at + 1] for at in range(size)] + ([behind] if behind else [])
    assert told(whole, [data], False) == told(bytewise, pieces, False)
    assert (whole.poisoned, whole.keep_alive) == (bytewise.poisoned, bytewise.keep_alive)
    if not whole.error and type(whole.headers) is ReceivedHead:
        one, other = whole.headers, bytewise.headers
        assert (one.lines, one.passed, one.sized, one.coded, one.shape) == (
            other.lines, other.passed, other.sized, other.coded, other.shape)  # fmt: skip
    if not whole.error and whole.reusable:  # the next one on the connection
        assert told(whole, [data], False) == told(bytewise, [data], False)


def test_more_headers_than_are_taken_are_refused_at_a_glance_too():
    for count in (99, 100):
        reader = RawResponseReader()
        reader.begin(False)
        reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n" + b"X: y\r\n" * count + b"\r\n")
        assert bool(reader.error) == (count == 100)


def test_a_head_stays_the_bytes_that_it_came_in():
    reader = RawResponseReader()
    for number in range(3):  # and is known when it comes again
        reader.begin(False)
        reader.feed(OK + b"Content-Length: 3\r\n\r\n%03d" % number)
        assert type(reader.headers) is ReceivedHead
        assert reader.headers.lines == b"X-A: 1\r\nx-a:  2\r\nContent-Length: 3\r\n"
        assert (reader.take(), reader.reusable) == (b"%03d" % number, True)


@pytest.mark.parametrize("line", [b"A: b\nC: d\r\n", b"A: b\r\n c\r\n"])
def test_what_can_be_read_in_two_ways_is_an_error(line):
    reader = RawResponseReader()
    reader.begin(False)
    reader.feed(b"HTTP/1.1 200 OK\r\n" + line + b"Content-Length: 0\r\n\r\n")
    assert reader.error
    assert not reader.reusable


@pytest.mark.parametrize("line", [b"Content-Length: 5", b"Content-Length: 00", b"Transfer-Encoding: chunked"])
@pytest.mark.parametrize("status", [b"103 Hints", b"204 No Content"])
@pytest.mark.parametrize("head_request", [False, True])
def test_a_length_where_there_can_be_no_body_is_an_error(line, status, head_request):
    """Who is passed it on may wait for the body, and take the next response for it."""
    reader = RawResponseReader()
    reader.begin(head_request)
    reader.feed(b"HTTP/1.1 " + status + b"\r\n" + line + b"\r\n\r\n")
    assert reader.error
    assert not reader.reusable


def test_a_length_of_0_where_there_can_be_no_body_goes_no_further():
    reader = RawResponseReader()
    for _ in range(2):
        reader.begin(False)
        reader.feed(b"HTTP/1.1 204 No Content\r\nX-A: 1\r\nContent-Length: 0\r\nX-B: 1\r\n\r\n")
        assert reader.reusable
        assert reader.headers.passed == b"X-A: 1\r\nX-B: 1\r\n"
        assert not reader.headers.sized


@pytest.mark.parametrize("empty", [b"\r\n", b"\r\n\r\n"])
@pytest.mark.parametrize("apart", [False, True])
def test_empty_lines_before_a_head_are_an_error_behind_an_interim_one_too(empty, apart):
    """They would be read as its end, or its first line as a header."""
    reader = RawResponseReader()
    reader.begin(False)
    interim, final = b"HTTP/1.1 103 Hints\r\n\r\n", empty + b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"
    for data in (interim, final) if apart else (interim + final,):
        reader.feed(data)
    assert reader.error
    assert not reader.reusable
