"""The requests of a client as bytes in: heads, bodies, and what is refused with which status."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.transport.protocol.http1_request import MAX_HEAD_BYTES, MAX_HEADERS, Refused, RequestReader

HOST = b"Host: a\r\n"


def requests_of(*pieces):
    """(method, target, lines, body) of each request that came whole."""
    reader, found, now = RequestReader(), [], None
    for piece in pieces:
        reader.feed(piece)
        while True:
            if now is None:
                head = reader.head()
                if head is None:
                    break
                now = [head.method, head.target, head.lines, b""]
            now[3] += reader.body()
            if not reader.ended:
                break
            found.append(tuple(now))
            now = None
    return found


def status_of(data):
    reader = RequestReader()
    reader.feed(data)
    try:
        if reader.head() is not None:
            reader.body()
    except Refused as refused:
        return refused.status
    return 0


def test_a_request_keeps_its_lines_as_they_came():
    [found] = requests_of(b"GET /a?b=c HTTP/1.1\r\nHost: a\r\nX-Some:  Thing \r\nx-some: other\r\n\r\n")
    assert found == (b"GET", b"/a?b=c", b"Host: a\r\nX-Some:  Thing \r\nx-some: other\r\n", b"")


def test_requests_follow_each_other_with_bodies_of_both_kinds():
    data = (
        b"POST /1 HTTP/1.1\r\nHost: a\r\nContent-Length: 3\r\n\r\nabc"
        b"POST /2 HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nde\r\n0\r\n\r\n"
        b"GET /3 HTTP/1.1\r\nHost: a\r\n\r\n"
    )
    whole = [(method, target, body) for method, target, _, body in requests_of(data)]
    assert whole == [(b"POST", b"/1", b"abc"), (b"POST", b"/2", b"de"), (b"GET", b"/3", b"")]
    bytewise = requests_of(*[data[i : i + 1] for i in range(len(data))])
    assert [(method, target, body) for method, target, _, body in bytewise] == whole


@given(st.lists(st.integers(1, 200), max_size=6))
def test_however_it_is_cut_the_request_is_the_same(cuts):
    head = b"POST /1 HTTP/1.1\r\nHost: a\r\nConnection: x-gone\r\nX-Gone: 1\r\nTransfer-Encoding: chunked\r\n\r\n"
    data = head + b"3\r\nabc\r\n0\r\n\r\n"
    places = sorted({0, len(data), *[cut for cut in cuts if cut < len(data)]})
    pieces = [data[a:b] for a, b in itertools.pairwise(places)]
    assert requests_of(*pieces) == [(b"POST", b"/1", b"Host: a\r\n", b"abc")]


def test_what_is_for_this_connection_goes_no_further():
    lines = b"Host: a\r\nConnection: close, X-Mine\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nTE: trailers\r\nX-Yours: 2\r\n"
    reader = RequestReader()
    reader.feed(b"GET / HTTP/1.1\r\n" + lines + b"\r\n")
    head = reader.head()
    assert (head.lines, head.lower, head.close) == (
        b"Host: a\r\nX-Yours: 2\r\n",
        b"\r\nhost: a\r\nx-yours: 2\r\n",
        True,
    )


def test_an_upgrade_is_told_of():
    reader = RequestReader()
    reader.feed(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\nahead")
    head = reader.head()
    assert (head.upgrade, head.lines, reader.all()) == (b"websocket", b"Host: a\r\n", b"ahead")


def test_a_client_that_waits_for_100_is_told_of():
    reader = RequestReader()
    reader.feed(b"PUT / HTTP/1.1\r\nHost: a\r\nExpect: 100-Continue\r\nContent-Length: 1\r\n\r\n")
    assert reader.head().expects_continue


REFUSED = {
    b"GET / HTTP/1.1\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nhost: b\r\n\r\n": 400,
    b"GET / HTTP/1.0\r\nHost: a\r\n\r\n": 426,
    b"GET / HTTP/0.9\r\nHost: a\r\n\r\n": 400,
    b"GET / HTTP/2.0\r\nHost: a\r\n\r\n": 400,
    b"GET / http/1.1\r\nHost: a\r\n\r\n": 400,
    b"GET /\r\nHost: a\r\n\r\n": 400,
    b"GET  / HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"GET /a b HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"GET /#a HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"GET /\x01 HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"G\x00T / HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b" GET / HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"GET / HTTP/1.1\nHost: a\n\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\nX: b\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nX: a\r\n b\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\n X: a\r\nHost: a\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost : a\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nX y: b\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nnothing\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\n: b\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nX: \x00\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 1\r\n\r\na": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1, 1\r\n\r\na": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: +1\r\n\r\na": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\na": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length:\r\n\r\na": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999999999999\r\n\r\na": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n": 501,
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n": 400,
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n": 417,
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, Host\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * MAX_HEADERS + b"\r\n": 431,
    b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * MAX_HEAD_BYTES + b"\r\n\r\n": 431,
}


@pytest.mark.parametrize(("data", "status"), REFUSED.items(), ids=range(len(REFUSED)))
def test_what_another_reader_could_understand_otherwise_is_refused(data, status):
    assert status_of(data) == status
