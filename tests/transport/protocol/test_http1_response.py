"""A response as HTTP/1.1 writes it for a client: its head, and how its body is framed."""

from __future__ import annotations

import random

import pytest

from meshlib.transport.protocol.http1_response import LAST_CHUNK, chunk, closing, keeping, response_head
from meshlib.transport.protocol.raw_response import RawResponseReader

LENGTH = (b"content-length", b"2")
CHUNKS = (b"Transfer-Encoding", b"chunked")


def test_headers_are_passed_on_as_they_came():
    head = response_head(200, b"Fine", [(b"X-A", b"1"), (b"x-a", b"2"), LENGTH], False, 2)
    assert keeping(head) == b"HTTP/1.1 200 Fine\r\nX-A: 1\r\nx-a: 2\r\ncontent-length: 2\r\n\r\n"
    assert not head.chunked


def test_the_last_response_says_so():
    assert closing(response_head(200, b"", [LENGTH], False, 2)).endswith(b"connection: close\r\n\r\n")


def test_a_status_without_a_phrase_gets_its_own():
    assert keeping(response_head(404, b"", [LENGTH], False, 2)).startswith(b"HTTP/1.1 404 Not Found\r\n")
    assert keeping(response_head(599, b"", [LENGTH], False, 2)).startswith(b"HTTP/1.1 599 \r\n")


def test_what_was_for_the_upstreams_connection_goes_no_further():
    headers = [
        (b"Connection", b"x-mine, keep-alive"),
        (b"X-Mine", b"1"),
        (b"Keep-Alive", b"5"),
        (b"X-Yours", b"2"),
        LENGTH,
    ]
    assert (
        keeping(response_head(200, b"OK", headers, False, 2))
        == b"HTTP/1.1 200 OK\r\nX-Yours: 2\r\ncontent-length: 2\r\n\r\n"
    )


def test_connection_does_not_take_the_length_away():
    assert b"content-length: 2" in keeping(
        response_head(200, b"", [(b"Connection", b"content-length"), LENGTH], False, 2)
    )


@pytest.mark.parametrize(
    ("status", "headers", "to_head", "whole", "chunked", "bodiless", "framing"),
    [
        (200, [LENGTH], False, None, False, False, b"content-length: 2"),
        (200, [CHUNKS], False, None, True, False, b"transfer-encoding: chunked"),
        (200, [CHUNKS], False, 5, True, False, b"transfer-encoding: chunked"),
        (200, [], False, None, True, False, b"transfer-encoding: chunked"),  # one that ends with its connection
        (200, [], False, 0, False, False, b"content-length: 0"),
        (200, [LENGTH], True, 0, False, True, b"content-length: 2"),
        (200, [CHUNKS], True, 0, False, True, b"transfer-encoding: chunked"),
        (200, [], True, 0, False, True, b""),
        (204, [], False, 0, False, True, b""),
        (204, [LENGTH], False, 2, False, True, b""),
        (304, [LENGTH], False, 0, False, True, b"content-length: 2"),
    ],
)
def test_how_its_body_is_framed(status, headers, to_head, whole, chunked, bodiless, framing):
    head = response_head(status, b"", headers, to_head, whole)
    text = keeping(head)
    assert (head.chunked, head.bodiless) == (chunked, bodiless)
    assert framing in text
    assert text.count(b"content-length") + text.count(b"transfer-encoding") == bool(framing)


LINES = [
    b"HTTP/1.1 200 OK\r\n", b"HTTP/1.1 204 N\r\n", b"HTTP/1.1 304 N\r\n", b"HTTP/1.1 103 H\r\n\r\n", b"HTTP/1.0 200 OK\r\n",
    b"Content-Length: 3\r\n", b"content-length:0\r\n", b"Transfer-Encoding: chunked\r\n", b"transfer-encoding:\tchunked\r\n",
    b"Connection: close\r\n", b"Connection: Content-Length\r\n", b"Connection: Transfer-Encoding, x\r\n", b"X: y\r\n",
    b"X : y\r\n", b" folded\r\n", b"\r\n", b"abc", b"3\r\nabc\r\n0\r\n\r\n", b"0\r\nT: 1\r\n\r\n", b"\n",
]  # fmt: skip


def test_what_is_written_is_read_as_what_was_read():
    """Whatever an upstream sends: one response, with the same body, and nothing behind it."""
    rng, taken = random.Random(1), 0
    for _ in range(4000):
        lines = [LINES[rng.randrange(5)], *rng.choices(LINES[5:15], k=rng.randrange(4)), b"\r\n"]
        data = b"".join([*lines, *rng.choices(LINES, k=rng.randrange(3))])
        to_head = rng.random() < 0.25
        came = _read(data, to_head)
        if came.error or not (came.complete or came.feed_eof()):
            continue
        taken += 1
        body = came.take()
        head = response_head(came.status, came.reason, came.headers, to_head, len(body))
        framed = (chunk(body) if body else b"") + LAST_CHUNK if head.chunked else body
        again = _read(keeping(head) + (b"" if head.bodiless else framed), to_head)
        assert (again.error, again.complete, again.poisoned, again.status) == ("", True, False, came.status), data
        assert again.take() == (b"" if head.bodiless else body), data
    assert taken > 500


def _read(data, to_head):
    reader = RawResponseReader()
    reader.begin(to_head)
    reader.feed(data)
    return reader
