"""The head of a response, as HTTP/2 writes it."""

from __future__ import annotations

import pytest

from meshlib.transport.protocol.http2_response import fields, response_head, written_head
from meshlib.transport.protocol.http2_stream import ProperHead


def test_names_are_written_in_lower_case_behind_the_status():
    assert response_head(200, [(b"Content-Type", b"text/plain"), (b"X-Two", b" b \t")]) == [
        (b":status", b"200"),
        (b"content-type", b"text/plain"),
        (b"x-two", b"b"),
    ]


def test_a_head_may_be_only_a_status():
    assert response_head(204, []) == [(b":status", b"204")]
    assert response_head(204, [(b"Content-Length", b"2")]) == [(b":status", b"204")]


@pytest.mark.parametrize(
    "name", [b"Connection", b"Keep-Alive", b"Proxy-Connection", b"Transfer-Encoding", b"Upgrade", b"TE", b"Trailer"]
)
def test_what_belongs_to_a_connection_of_http1_is_left_out(name):
    assert fields([(name, b"close"), (b"x", b"y")]) == [(b"x", b"y")]


def test_what_connection_names_is_left_out_too_but_not_the_length():
    headers = [(b"Connection", b"X-Hop , content-length"), (b"x-hop", b"1"), (b"content-length", b"3")]
    assert fields(headers) == [(b"content-length", b"3")]


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\nb", b"a\0b", b"a\x7fb"])
def test_a_value_that_could_end_a_line_is_left_out(value):
    assert fields([(b"bad", value), (b"x", b"y")]) == [(b"x", b"y")]


@pytest.mark.parametrize("name", [b":status", b"", b"a b", b"a:b"])
def test_what_is_no_header_is_left_out(name):
    assert fields([(name, b"1"), (b"grpc-status", b"0")]) == [(b"grpc-status", b"0")]


def test_a_head_that_came_over_http2_is_written_once():
    known = ProperHead(200, [(b"a", b"1"), (b"te", b"trailers")], None, 12)
    written = written_head(known)
    assert written == [(b":status", b"200"), (b"a", b"1")]
    assert written_head(known) is written
