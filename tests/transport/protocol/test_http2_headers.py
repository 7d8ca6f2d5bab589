"""Request heads as HTTP/2 writes them."""

from __future__ import annotations

import pytest

from meshlib.transport.protocol.http2_codec import SecretHeader
from meshlib.transport.protocol.http2_headers import CONNECTION_SPECIFIC, hidden, request_head
from meshlib.transport.protocol.request_head import InvalidHead


def head(*headers: tuple[bytes, bytes], method: bytes = b"GET") -> list[tuple[bytes, bytes]]:
    return request_head(method, b"/p?q", headers, b"http")


def test_host_becomes_the_authority_and_names_are_lower_case():
    assert head((b"Host", b" reviews:80 "), (b"X-User", b"\tjo ")) == [
        (b":method", b"GET"),
        (b":scheme", b"http"),
        (b":authority", b"reviews:80"),
        (b":path", b"/p?q"),
        (b"x-user", b"jo"),
    ]


def test_without_a_host_there_is_no_authority():
    assert [name for name, _ in head()] == [b":method", b":scheme", b":path"]


@pytest.mark.parametrize("name", sorted(CONNECTION_SPECIFIC - {b"transfer-encoding"}))
def test_what_belongs_to_a_connection_is_left_out(name):
    assert head((name.title(), b"a"), (b"x", b"1"))[3:] == [(b"x", b"1")]


def test_what_connection_nominates_goes_too_but_te_trailers_stays():
    made = head((b"Connection", b"X-Hop, te"), (b"x-hop", b"1"), (b"te", b"trailers"), (b"x", b"1"))
    assert made[3:] == [(b"te", b"trailers"), (b"x", b"1")]
    assert head((b"te", b"gzip"))[3:] == []


@pytest.mark.parametrize(
    ("name", "value", "secret"),
    [
        (b"Authorization", b"Bearer x" * 9, True),
        (b"proxy-authorization", b"x", True),
        (b"cookie", b"a" * 19, True),
        (b"cookie", b"a" * 20, False),
        (b"x-user", b"a", False),
    ],
)
def test_what_could_be_guessed_stays_out_of_the_compression_table(name, value, secret):
    (made,) = head((name, value))[3:]
    assert made == (name.lower(), value)
    assert isinstance(made, SecretHeader) is secret


@pytest.mark.parametrize(
    ("headers", "method", "said"),
    [
        ([(b"host", b"a"), (b"Host", b"a")], b"GET", "two Host headers"),
        ([], b"CONNECT", "CONNECT"),
        ([(b"x", b"a\r\nb: c")], b"GET", "[xX]"),
        ([(b"x y", b"a")], b"GET", "[xX]"),
        ([], b"GE T", "GE T"),
    ],
)
def test_what_could_be_read_in_two_ways_is_refused(headers, method, said):
    with pytest.raises(InvalidHead, match=said):
        head(*headers, method=method)


def test_secrets_among_headers_that_came_over_http2_are_hidden_and_nothing_else():
    came = [
        (b"a", b"1"),
        (b"authorization", b"x"),
        (b"cookie", b"a=b"),
        (b"cookie", b"c" * 20),
        (b"proxy-authorization", b"y"),
    ]
    assert hidden(came) == came
    assert [pair[1] for pair in hidden(came) if type(pair) is SecretHeader] == [b"x", b"a=b", b"y"]
