"""A response as HTTP/1.1 writes it for a client: its head, and how its body is framed."""

from __future__ import annotations

import pytest

from meshlib.transport.protocol.http1_response import closing, keeping, response_head

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
