"""The headers of a response as bytes: what goes on of them, and heads that are not passed on."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.transport.protocol import received_head
from meshlib.transport.protocol.http1_response import keeping, response_head
from meshlib.transport.protocol.received_head import ReceivedHead, received


def head_of(*lines):
    return ReceivedHead(b"".join(line + b"\r\n" for line in lines))


@pytest.mark.parametrize(
    ("lines", "passed"),
    [
        ([b"Server: a", b"X: b"], b"Server: a\r\nX: b\r\n"),
        ([b"A: a", b"Connection: keep-alive", b"B: b"], b"A: a\r\nB: b\r\n"),
        ([b"A: a", b"Connection: Close", b"Content-Length: 3"], b"A: a\r\nContent-Length: 3\r\n"),
        ([b"Connection: close", b"Connection: x-mine", b"X-Mine: 1"], b""),
        ([b"connection: Keep-Alive"], b""),
        ([b"Connection: keep-alive", b"Keep-Alive: timeout=5", b"B: b"], b"B: b\r\n"),
        ([b"Connection: x-mine, close", b"X-Mine: 1", b"B: b"], b"B: b\r\n"),
        ([b"Connection: content-length", b"Content-Length: 3"], b"Content-Length: 3\r\n"),
        ([b"Transfer-Encoding: chunked", b"Trailer: x", b"B: b"], b"B: b\r\n"),
    ],
)
def test_what_was_for_the_upstreams_connection_goes_no_further(lines, passed):
    assert head_of(*lines).passed == passed


def test_a_line_more_is_at_the_end_and_changes_nothing_else():
    head = head_of(b"Connection: keep-alive", b"Content-Length: 3").plus(b"x", b"1")
    assert (head.passed, head.sized, head.coded) == (b"Content-Length: 3\r\nx: 1\r\n", True, False)
    assert list(head) == [(b"Connection", b"keep-alive"), (b"Content-Length", b"3"), (b"x", b"1")]


@pytest.mark.parametrize(
    "connection", [b"", b"Connection: keep-alive\r\n", b"Connection: server, x-a, new\r\nX-A: 1\r\n"]
)
@pytest.mark.parametrize("first", [b"", b"Server: a\r\n", b"SERVER: a\r\nserver: b\r\n"])
@pytest.mark.parametrize("last", [b"", b"B: server:\r\n", b"x-server: 1\r\nServer: c\r\n"])
def test_lines_in_place_of_others_are_those_taken_away_and_then_added(first, connection, last):
    added = b"server: me\r\nnew: 1\r\n"
    for head in (ReceivedHead(first + connection + last), ReceivedHead(first + connection).with_lines(last)):
        wanted = head.without(b"server").without(b"none").with_lines(added)
        found = head.instead((b"\r\nserver:", b"\r\nnone:"), added)
        assert (found.lines, found.passed, found.shape.special) == (
            wanted.lines,
            wanted.passed,
            wanted.shape.special,
        )
        assert (found.sized, found.coded, found.size, list(found)) == (
            wanted.sized,
            wanted.coded,
            wanted.size,
            list(wanted),
        )
        assert found.without(b"b").lines == wanted.without(b"b").lines


SHAPES = ["Server", "Date", "Content-Length", "Connection"]


@pytest.mark.parametrize("names", list(itertools.permutations(SHAPES)) + list(itertools.permutations(SHAPES[:3])))
def test_of_usual_heads_the_server_is_replaced_at_one_look_whatever_their_order(names):
    values = {"Server": "a", "Date": "d", "Content-Length": "3", "Connection": "keep-alive"}
    head = head_of(
        *[f"{name}: {values[name]}".encode() for name in ("A", *names, "B") if (values.setdefault(name, "x"))]
    )
    found, wanted = head.served(b"server: me\r\n"), head.instead((b"\r\nserver:",), b"server: me\r\n")
    assert found is not None
    assert (found.lines, found.passed, found.shape) == (wanted.lines, wanted.passed, wanted.shape)
    assert (found.size, list(found), found.says(b"server")) == (wanted.size, list(wanted), True)


@pytest.mark.parametrize(
    "more",
    [
        [b"Server: b"],
        [b"Date: e"],
        [b"Connection: close"],
        [b"Connection: keep-alive, x"],
        [b"Connection: keep-alive", b"Keep-Alive: timeout=5"],
        [b"Transfer-Encoding: chunked"],
        [b"Content-Length: 4"],
        [b"X-Envoy-Upstream-Service-Time: 3"],
    ],
)
def test_a_head_that_asks_for_more_is_not_usual(more):
    usual = [b"Server: a", b"Date: d", b"Content-Length: 3"]
    assert head_of(*usual).shape.usual
    assert not head_of(*usual, *more).shape.usual


def test_a_usual_head_that_was_changed_is_looked_through_again():
    head = head_of(b"Server: a", b"Date: d", b"Content-Length: 3")
    assert head.with_lines(b"Server: b\r\n").served(b"") is None
    assert head.instead((b"\r\nserver:",), b"").served(b"") is None
    assert not head.without(b"date").shape.usual


NAMES = st.sampled_from(
    [b"Connection", b"Keep-Alive", b"X-A", b"Content-Length", b"transfer-encoding", b"Te", b"Upgrade"]
)
VALUES = st.sampled_from([b"keep-alive", b"close", b"x-a", b"X-A, keep-alive", b"3", b"chunked", b"te"])


@given(
    st.lists(st.tuples(NAMES, VALUES), max_size=6),
    st.sampled_from([200, 204]),
    st.booleans(),
    st.sampled_from([None, 0, 3]),
)
def test_it_is_written_as_a_list_of_the_same_headers_is(pairs, status, to_head, whole):
    head = head_of(*[b"%b: %b" % pair for pair in pairs])
    ours = response_head(status, b"", head, to_head, whole)
    lists = response_head(status, b"", pairs, to_head, whole)
    assert (keeping(ours), ours.chunked, ours.bodiless) == (keeping(lists), lists.chunked, lists.bodiless)


@pytest.mark.parametrize(
    "lines", [b"A: b\nC: d\r\n", b"A: b\rC: d\r\n", b"A: \x01\r\n", b"A: b\r\n c\r\n", b"A: b\r\n\tc\r\n"]
)
def test_what_can_be_read_in_two_ways_is_not_passed_on_where_the_parser_lets_it_through(lines, monkeypatch):
    monkeypatch.setattr(received_head, "REFUSES_ODD_RESPONSES", False)
    assert received(b"HTTP/1.1 200 OK\r\n" + lines + b"\r\n") is None
    assert received(b"HTTP/1.1 200 OK\r\nA: b\r\n\r\n").lines == b"A: b\r\n"


def test_a_head_without_one_header_and_with_another_still_knows_what_goes_on() -> None:
    found = received(b"HTTP/1.1 200 OK\r\nServer: a\r\nTE: b\r\nX: c\r\n\r\n")
    assert found is not None
    changed = found.without(b"server").plus(b"server", b"d").without(b"te")
    assert changed.passed == b"X: c\r\nserver: d\r\n"
