"""The requests of a client as bytes in: heads, bodies, and what is refused with which status."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.transport.protocol.http1_request import MAX_HEAD_BYTES, MAX_HEADERS, MOST_NAMED, Refused, RequestReader

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


def test_one_empty_line_before_a_request_is_passed_over():
    get = b"GET /%d HTTP/1.1\r\nHost: a\r\n\r\n"
    data = b"\r\n" + get % 1 + b"\r\n" + get % 2
    for pieces in ([data], [data[i : i + 1] for i in range(len(data))]):
        assert [target for _, target, _, _ in requests_of(*pieces)] == [b"/1", b"/2"]
    assert requests_of(b"\r") == requests_of(b"\r\n") == []


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
        b"Host: a\r\nX-Yours: 2\r\nte: trailers\r\n",
        b"\r\nhost: a\r\nx-yours: 2\r\nte: trailers\r\n",
        True,
    )


def head_of(*lines, line=b"GET / HTTP/1.1"):
    reader = RequestReader()
    reader.feed(b"\r\n".join([line, b"Host: a", *lines, b"", b""]))
    return reader.head()


@pytest.mark.parametrize(
    ("lines", "passed_on"),
    [
        ([b"TE: trailers"], True),
        ([b"TE: gzip;q=0.5, trailers"], True),
        ([b"TE: gzip", b"TE: trailers"], True),
        ([b"TE: Trailers"], False),
        ([b"TE: Trailers", b"Connection: TE"], True),
        ([b"TE: trailers", b"Connection: close, te"], True),
        ([b"TE: trailers;q=1"], False),
        ([b"TE: gzip"], False),
        ([b"TE:"], False),
    ],
)
def test_of_te_only_trailers_go_further_as_in_envoy(lines, passed_on):
    assert head_of(*lines).lines == b"Host: a\r\n" + (b"te: trailers\r\n" if passed_on else b"")


def test_the_connection_may_be_closed_by_an_old_name():
    assert head_of(b"Proxy-Connection: Close").close
    assert not head_of(b"Proxy-Connection: keep-alive").close


def test_an_upgrade_is_told_of():
    reader = RequestReader()
    reader.feed(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: WebSocket\r\n\r\nahead")
    head = reader.head()
    assert (head.upgrade, head.lines, reader.all()) == (b"WebSocket", b"Host: a\r\n", b"ahead")


@pytest.mark.parametrize(
    ("upgrade", "connection", "status"),
    [
        (b"foo", b"Upgrade", 403),
        (b"", b"Upgrade", 403),
        (b"websocket, h2c", b"Upgrade", 403),
        (b"websocket\r\nUpgrade: websocket", b"Upgrade", 403),
        (b"h2c\r\nUpgrade: websocket", b"Upgrade", 403),
        (b"websocket/13", b"Upgrade", 403),
        (b"connect-udp", b"close", 404),
        (b"websocket\r\nContent-Length: 1", b"Upgrade", 400),
        (b"websocket\r\nTransfer-Encoding: chunked", b"Upgrade", 400),
    ],
)
def test_no_other_protocol_than_websocket_is_passed_on(upgrade, connection, status):
    with pytest.raises(Refused) as refused:
        head_of(b"Connection: " + connection, b"Upgrade: " + upgrade)
    assert refused.value.status == status


@pytest.mark.parametrize(
    "lines",
    [
        [b"Connection: Upgrade, HTTP2-Settings", b"Upgrade: h2c", b"HTTP2-Settings: AAMA"],
        [b"Connection: close", b"Upgrade: foo"],
        [b"Upgrade: websocket"],
    ],
)
def test_an_upgrade_that_is_not_offered_or_not_meant_is_ignored(lines):
    head = head_of(*lines)
    assert (head.upgrade, head.lines) == (b"", b"Host: a\r\n")


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
    b"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"\rGET / HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"\nGET / HTTP/1.1\r\nHost: a\r\n\r\n": 400,
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
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n": 501,
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: gzip, chunked\r\n\r\n0\r\n\r\n": 501,
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: identity\r\n\r\n": 501,
    b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nxyz\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nExpect: tea\r\n\r\n": 417,
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: host\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: ,: a\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, :PATH\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close, Host\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Forwarded-Proto\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\nConnection: " + b"x," * MOST_NAMED + b"x\r\n\r\n": 400,
    b"QUERY / HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"M-SEARCH / HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"get / HTTP/1.1\r\nHost: a\r\n\r\n": 400,
    b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * MAX_HEADERS + b"\r\n": 431,
    b"GET / HTTP/1.1\r\nHost: a\r\nX: " + b"y" * MAX_HEAD_BYTES + b"\r\n\r\n": 431,
}


@pytest.mark.parametrize(("data", "status"), REFUSED.items(), ids=range(len(REFUSED)))
def test_what_another_reader_could_understand_otherwise_is_refused(data, status):
    assert status_of(data) == status


@pytest.mark.parametrize(
    "data", [b"\x16\x03\x01", b"\x80", b"G\x00", b"g", b"GET:", b"A" * 17, b"\rG", b"\r\n\r", b"\n", b"GET\t"]
)
def test_what_cannot_become_a_request_is_not_waited_for(data):
    assert status_of(data) == 400


@pytest.mark.parametrize(
    "data", [b"G", b"GET", b"GET ", b"UNSUBSCRIBE /", b"GET / HTTP/1.1\r", b"GET / HTTP/1.1\r\nHo"]
)
def test_what_may_become_one_is(data):
    assert status_of(data) == 0


class Watched(bytes):
    """Counts the bytes that are searched."""

    searched = 0

    def __add__(self, other):
        return Watched(bytes(self) + other)

    def count(self, what, start=0, end=None):
        end = len(self) if end is None else end
        Watched.searched += end - start
        return bytes.count(self, what, start, end)


def test_a_head_that_comes_byte_by_byte_is_looked_through_once():
    data = b"GET / HTTP/1.1\r\n" + b"X: y\r\n" * 90 + b"Y: " + b"z" * 20_000
    reader, Watched.searched = RequestReader(), 0
    for at in range(len(data)):
        reader.feed(Watched(data[at : at + 1]))
        assert reader.head() is None
    assert type(reader.rest) is Watched
    assert Watched.searched < 8 * len(data)


@pytest.mark.parametrize("size", [1, 2, 3, 7])
@pytest.mark.parametrize(
    ("data", "status"),
    [
        (b"GET / HTTP/1.1\nHost", 400),
        (b"GET / HTTP/1.1\r\nHost: a\nX", 400),
        (b"GET / HTTP/1.1\r\nHost: a\rX", 400),
        (b"GET / HTTP/1.1\r\r", 400),
        (b"GET / HTTP/.1\r\n", 400),
        (b"GET / HTTP/1.0\r\n", 426),
        (b"GET /\r\nHo", 400),
        (b"GET \xc4 HTTP/1.1\r\nHo", 400),
        (b"BGET / HTTP/1.1\r\nHo", 400),
        (b"GET  HTTP/1.1\r\nHo", 400),
        (b"GET @a HTTP/1.1\r\nHo", 400),
        (b"GET javascript:a HTTP/1.1\r\nHo", 400),
        (b"GET /a#b HTTP/1.1\r\nHo", 400),
        (b"OPTIONS * HTTP/1.1\r\nHo", 0),
        (b"CONNECT a:1 HTTP/1.1\r\nHo", 0),
        (b"GET http://sh\xc3op/ HTTP/1.1\r\nHo", 400),
        (b"GET /\x01 HTTP/1.1\r\nHo", 400),
        (b"GET http://shop/\xc3 HTTP/1.1\r\nHo", 0),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX\x00Y: z\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\n X: y\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: y\x01\r\n", 400),
        (b"\r\nGET / HTTP/1.1\r\nHost:a\r\nX:\r\nY: \xff\t z\r\n", 0),
        (b"GET / HTTP/1.1\r\nHost: a\r\r\n", 400),
        (b"GET / HTTP/1.1\r\nHost: a\r\nX: y\r", 0),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 99, 0),
        (b"GET / HTTP/1.1\r\nHost: a\r\n" + b"X: y\r\n" * 101, 431),
    ],
)
def test_a_head_that_is_not_whole_is_refused_however_it_comes(data, status, size):
    reader = RequestReader()
    found = 0
    for at in range(0, len(data), size):
        reader.feed(data[at : at + size])
        try:
            assert reader.head() is None
        except Refused as refused:
            found = refused.status
            break
    assert found == status


@given(
    st.lists(
        st.sampled_from(
            ["Accept", "X-Request-ID", "x-forwarded-proto", "X-Envoy-A", "x-hosts", "te-x", "Content-Type", "xte"]
        ),
        max_size=8,
    )
)
def test_lines_that_somebody_looks_for_are_found_in_one_pass(names):
    lines = [f"{name}: application/grpc" for name in ["Host", *names]]
    reader = RequestReader()
    reader.feed(("GET / HTTP/1.1\r\n" + "".join(f"{line}\r\n" for line in lines) + "\r\n").encode())
    head = reader.head()
    assert head is not None
    wanted = ("host:", "x-request-id:", "x-forwarded-proto:", "x-envoy-", "content-type: application/grpc")
    assert list(head.special) == [each.encode() for line in lines for each in wanted if line.lower().startswith(each)]


def test_what_is_found_is_what_goes_further():
    reader = RequestReader()
    reader.feed(b"GET / HTTP/1.1\r\nHost: a\r\nConnection: X-Request-Id\r\nX-Request-Id: 1\r\n\r\n")
    head = reader.head()
    assert head is not None
    assert head.special == [b"host:"]


HEAD = b"GET /a HTTP/1.1\r\nHost: a\r\nX: y\r\n\r\n"


@pytest.mark.parametrize(
    "behind",
    [
        b"",
        b"\r\n",
        b"\r\n\r\n",
        b"\n\r\n\r\n",
        b"\r\n\r\n\r\n\r\n",
        HEAD,
        HEAD + HEAD,
        b"\r\n" + HEAD,
        b"GET\r\n\r\n",
        b"X: y\r\n\r\n",
    ],
)
def test_a_head_is_the_same_whatever_has_come_behind_it(behind):
    """Most come alone, and are looked at as a whole: nothing of what follows may become a part of one."""
    reader = RequestReader()
    reader.feed(HEAD + behind)
    head = reader.head()
    assert (head.method, head.target, head.lines, head.host) == (b"GET", b"/a", b"Host: a\r\nX: y\r\n", b"a")
    assert head.lower == b"\r\nhost: a\r\nx: y\r\n"
    assert reader.ended
    assert reader.rest == behind


@pytest.mark.parametrize(
    "more", [b"Content-Length: 11\r\n", b"Transfer-Encoding: chunked\r\n", b"Connection: close\r\n"]
)
def test_a_head_with_a_body_that_ends_like_a_head_is_not_taken_for_one(more):
    body = b"GET / H\r\n\r\n" if b"Length" not in more else b"abcdefg\r\n\r\n"
    reader = RequestReader()
    reader.feed(b"POST / HTTP/1.1\r\nHost: a\r\n" + more + b"\r\n" + body)
    head = reader.head()
    assert head.target == b"/"
    assert (head.length, head.close) == (
        11 if b"Length" in more else None if b"chunked" in more else 0,
        b"close" in more,
    )
    assert reader.rest == body


def test_a_head_that_was_more_than_one_leaves_the_parser_as_new():
    reader = RequestReader()
    for _ in range(3):
        reader.feed(HEAD + HEAD)
        assert reader.head().target == b"/a"
        assert reader.head().target == b"/a"
        assert reader.head() is None


@pytest.mark.parametrize(
    "line", [b"Connection: keep-alive\r\n", b"connection: Keep-Alive\r\n", b"CONNECTION:  keep-alive \r\n"]
)
@pytest.mark.parametrize("at", [0, 1, 2])
def test_a_connection_that_is_to_be_kept_alive_is_nobody_elses_business(line, at):
    lines = [b"Host: a\r\n", b"X-Request-Id: 7\r\n"]
    lines.insert(at, line)
    reader = RequestReader()
    for _ in range(2):
        reader.feed(b"GET / HTTP/1.1\r\n" + b"".join(lines) + b"\r\n")
        head = reader.head()
        assert (head.lines, head.lower) == (b"Host: a\r\nX-Request-Id: 7\r\n", b"\r\nhost: a\r\nx-request-id: 7\r\n")
        assert (head.host, sorted(head.special), head.close) == (b"a", [b"host:", b"x-request-id:"], False)
        assert reader.rest == b""


@pytest.mark.parametrize(
    "other", [b"Connection: x-mine\r\n", b"Connection: close\r\n", b"Keep-Alive: 5\r\n", b"TE: trailers\r\n"]
)
def test_what_else_is_said_of_the_connection_is_heard_beside_keep_alive(other):
    reader = RequestReader()
    reader.feed(b"GET / HTTP/1.1\r\nHost: a\r\nX-Mine: 1\r\nConnection: keep-alive\r\n" + other + b"\r\n")
    head = reader.head()
    assert head.close == (b"close" in other)
    assert (b"x-mine" in head.lower) == (b"x-mine" not in other)
    assert b"connection" not in head.lower
    assert b"keep-alive" not in head.lower


@pytest.mark.parametrize("last", [b"Connection: close", b"Proxy-Connection: close"])
def test_what_follows_the_last_request_is_none_whether_it_came_with_it_or_not(last: bytes) -> None:
    first = b"GET / HTTP/1.1\r\nHost: a\r\n%b\r\n\r\n" % last
    second = b"GET /second HTTP/1.1\r\nHost: a\r\n\r\n"
    for pieces in ([first + second], [first, second], [first, second[:5], second[5:]]):
        reader = RequestReader()
        reader.feed(pieces[0])
        head = reader.head()
        assert head is not None
        assert head.close
        for piece in pieces[1:]:
            reader.feed(piece)
        with pytest.raises(Refused):
            reader.head()
