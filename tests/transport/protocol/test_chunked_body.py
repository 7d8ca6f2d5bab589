"""A request's body in chunks: the bytes in it, its end to the byte, and what is refused."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.transport.protocol.chunked_body import MAX_LINE, MAX_TRAILERS, ChunkedBody, InvalidChunk


def read(pieces):
    """Body, what is left behind it, and whether it has ended, of bytes that come in ``pieces``."""
    body, rest, ended, chunks = b"", b"", False, ChunkedBody()
    for piece in pieces:
        rest += piece
        if not ended:
            taken, rest, ended = chunks.take(rest)
            body += taken
    return body, rest, ended


def chunked(parts, extension=b"", trailers=b""):
    return b"".join(b"%x%b\r\n%b\r\n" % (len(part), extension, part) for part in parts) + b"0\r\n" + trailers + b"\r\n"


@given(
    st.lists(st.binary(min_size=1, max_size=40), max_size=6),
    st.sampled_from([b"", b";a=b", b" ;a", b';a="b c"']),
    st.sampled_from([b"", b"a: b\r\n", b"a: b\r\nc:\r\n"]),
    st.binary(max_size=20),
    st.lists(st.integers(0, 400), max_size=8),
)
def test_however_it_is_cut_the_body_and_what_follows_it_are_the_same(parts, extension, trailers, after, cuts):
    whole = chunked(parts, extension, trailers) + after
    places = sorted({0, len(whole), *[cut for cut in cuts if cut < len(whole)]})
    pieces = [whole[a:b] for a, b in itertools.pairwise(places)]
    assert read(pieces) == (b"".join(parts), after, True)
    assert read([whole[i : i + 1] for i in range(len(whole))]) == (b"".join(parts), after, True)


@given(st.lists(st.binary(min_size=1, max_size=40), min_size=1, max_size=4), st.data())
def test_without_its_last_byte_it_has_not_ended(parts, data):
    whole = chunked(parts)
    cut = data.draw(st.integers(0, len(whole) - 1))
    body, _, ended = read([whole[:cut]])
    assert not ended
    assert b"".join(parts).startswith(body)


@pytest.mark.parametrize(
    "text",
    [
        b"g\r\n", b"-1\r\n", b"+1\r\n", b" 1\r\n", b"0x1\r\n", b"1 \r\nab", b"\r\n", b";a\r\n", b"1_0\r\n",
        b"11111111111111111\r\n",
        b"1\na\n", b"1\r\nab\r\n", b"1\r\na\nb", b"1\r\na\rb", b"1;a\rb\r\na\r\n", b"1;\0\r\na\r\n", b"1;" + b"a" * MAX_LINE,
        b"0\r\na\r\n\r\n", b"0\r\n: a\r\n\r\n", b"0\r\na : b\r\n\r\n", b"0\r\n a: b\r\n\r\n", b"0\r\na: b\n\r\n",
        b"0\r\na: \0\r\n\r\n", b"0\r\na,b: c\r\n\r\n", b"0\r\na b: c\r\n\r\n", b"0\r\na(: c\r\n\r\n", b"0\r\na\xe9: c\r\n\r\n",
        b"0\r\na\rb: c\r\n\r\n", b"0\r\na: " + b"b" * MAX_TRAILERS,
    ],
)  # fmt: skip
def test_what_can_be_read_in_two_ways_is_refused(text):
    with pytest.raises(InvalidChunk):
        read([text])
    with pytest.raises(InvalidChunk):
        read([text[i : i + 1] for i in range(len(text))])
