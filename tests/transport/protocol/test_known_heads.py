"""Response heads that were read before: the same response, with or without them."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlib.transport.protocol import http1, known_heads
from meshlib.transport.protocol.http1 import ResponseReader
from meshlib.transport.protocol.known_heads import LONGEST_HEAD, MOST_HEADS, known

PLAIN = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nA: 1\r\na: 2\r\n\r\nhello"


@pytest.fixture(autouse=True)
def _none_is_known(monkeypatch):
    monkeypatch.setattr(known_heads, "PLAIN", False)
    known.clear()
    yield
    known.clear()


def state(reader: ResponseReader) -> tuple[object, ...]:
    return (
        reader.status,
        reader.reason,
        reader.http_version,
        list(reader.headers),
        reader.trailers,
        reader.take(),
        reader.complete,
        reader.reusable,
        reader.poisoned,
        reader.error,
        reader.begun,
        reader.head_done,
        reader.continue_seen,
    )


def responses(data: bytes, times: int = 3, head_request: bool = False) -> list[tuple[object, ...]]:
    reader, found = ResponseReader(), []
    for _ in range(times):
        reader.begin(head_request)
        reader.feed(data)
        found.append(state(reader))
        if not reader.reusable:
            break
    return found


def test_a_head_that_was_read_before_is_not_parsed_again(monkeypatch):
    first, *others = responses(PLAIN)
    assert len(known) == 1
    assert others == [first, first]
    monkeypatch.setattr(ResponseReader, "on_header", None)
    assert responses(PLAIN) == [first] * 3


def test_responses_do_not_share_a_list_of_headers():
    reader = ResponseReader()
    lists = []
    for _ in range(3):
        reader.begin(False)
        reader.feed(PLAIN)
        reader.headers.append((b"mine", b"alone"))
        lists.append(reader.headers)
        reader.take()
    assert [len(headers) for headers in lists] == [4, 4, 4]


@pytest.mark.parametrize(
    "data",
    [
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nConnection: close\r\n\r\nok",
        b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\nConnection: keep-alive\r\n\r\nok",
        b"HTTP/1.1 304 Not Modified\r\nContent-Length: 2\r\n\r\n",
        b"HTTP/1.1 204 No Content\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nokay",
        b"HTTP/1.1 200 OK\r\nX: " + bytes([120]) * LONGEST_HEAD + b"\r\nContent-Length: 2\r\n\r\nok",
    ],
)
def test_what_is_special_is_not_remembered(data):
    responses(data)
    assert not known


def test_a_response_to_head_neither_learns_nor_is_taken_from_what_is_known():
    head = PLAIN.removesuffix(b"hello")
    responses(head, head_request=True)
    assert not known
    responses(PLAIN)
    assert all(found[5:8] == (b"", True, True) for found in responses(head, head_request=True))


@settings(max_examples=200)
@given(st.lists(st.tuples(st.sampled_from([0, 1]), st.integers(0, 3), st.integers(-3, 3)), min_size=1, max_size=6))
def test_each_response_is_read_as_if_none_had_been_before(plan):
    known.clear()
    reader = ResponseReader()
    for head_request, size, more in plan:
        data = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * max(0, size + more)
        reader.begin(bool(head_request))
        reader.feed(data)
        alone = ResponseReader()
        alone._misses = 1  # does not look
        alone.begin(bool(head_request))
        before, http1.FEW_MISSES = http1.FEW_MISSES, 0
        try:
            alone.feed(data)
        finally:
            http1.FEW_MISSES = before
        assert state(reader) == state(alone)
        if not reader.reusable:
            reader = ResponseReader()


def test_what_is_held_is_bounded_and_a_connection_whose_heads_all_differ_is_asked_about_rarely():
    reader = ResponseReader()
    for number in range(10 * MOST_HEADS):
        reader.begin(False)
        reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Id: %d\r\n\r\n" % number)
        assert reader.reusable
    assert len(known) < http1.FEW_MISSES + 10 * MOST_HEADS / http1.SELDOM + 1
    for number in range(2 * MOST_HEADS):  # of many connections
        reader = ResponseReader()
        reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Id: -%d\r\n\r\n" % number)
        assert len(known) <= MOST_HEADS


def test_a_server_whose_heads_repeat_again_is_noticed():
    reader = ResponseReader()
    for number in range(2 * http1.FEW_MISSES):
        reader.begin(False)
        reader.feed(b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\nX-Id: %d\r\n\r\n" % number)
    for _ in range(2 * http1.SELDOM):
        reader.begin(False)
        reader.feed(PLAIN)
        reader.take()
    assert reader._misses == 0
