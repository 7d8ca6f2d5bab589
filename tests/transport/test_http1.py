"""The HTTP/1.1 reader and encoder: no socket, any split of the bytes gives the same answer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlib.transport.http1 import InvalidHead, ResponseReader, encode_head

token = st.from_regex(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]{1,12}", fullmatch=True)
value = st.binary(max_size=30).filter(lambda v: not any((c < 32 and c != 9) or c == 127 for c in v))


@given(token, st.from_regex(rb"/[!-~]{0,20}", fullmatch=True), st.lists(st.tuples(token, value), max_size=8))
def test_a_head_is_written_exactly_as_given(method, target, headers):
    head = encode_head(method, target, headers)
    lines = head.split(b"\r\n")
    assert lines[0] == method + b" " + target + b" HTTP/1.1"
    assert lines[1:-2] == [name + b": " + text for name, text in headers]
    assert head.endswith(b"\r\n\r\n" if headers else b"HTTP/1.1\r\n\r\n")


@given(st.binary(min_size=1, max_size=20), st.binary(max_size=20), st.binary(max_size=20), st.binary(max_size=20))
def test_whatever_is_written_is_one_request_with_those_headers_and_no_more(method, target, name, text):
    try:
        head = encode_head(method, target, [(name, text)])
    except InvalidHead:
        return
    assert head.count(b"\n") == 3
    assert head.count(b"\r\n") == 3
    assert head.split(b" ")[1] == target


@pytest.mark.parametrize(
    ("method", "target", "headers", "words"),
    [
        (b"GE T", b"/", [], "method"),
        (b"", b"/", [], "method"),
        (b"GET", b"/a b", [], "target"),
        (b"GET", b"", [], "target"),
        (b"GET", b"/\r\nx: 1", [], "target"),
        (b"GET", b"/", [(b"a:b", b"1")], "header name"),
        (b"GET", b"/", [(b"a", b"1\r\nb: 2")], "header a"),
    ],
)
def test_what_is_wrong_is_named(method, target, headers, words):
    with pytest.raises(InvalidHead, match=words):
        encode_head(method, target, headers)


def read(data: bytes, cuts: list[int], eof: bool, head_request: bool = False) -> tuple:
    reader = ResponseReader()
    reader.begin(head_request)
    body = b""
    start = 0
    for cut in [*sorted(cuts), len(data)]:
        if cut > start:
            reader.feed(data[start:cut])
            body += reader.take()
            start = cut
    proper_end = reader.feed_eof() if eof else None
    if reader.error:
        return ("error",)
    return (reader.status, reader.headers, body, reader.complete, reader.trailers, proper_end)


ANSWERS = [
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\nA: 1\r\na: 2\r\n\r\nhello",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\nt: 1\r\n\r\n",
    b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\nHTTP/1.1 204 No Content\r\n\r\n",
    b"HTTP/1.1 200 OK\r\n\r\nuntil the end",
    b"HTTP/1.0 404 Not Found\r\ncontent-length: 0\r\n\r\n",
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\n\r\nhel",
    b"HTTP/1.1 200 OK\r\ncontent-length: 5\r\ncontent-length: 6\r\n\r\nhello!",
    b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nzz\r\n",
    b"nonsense",
]


@settings(max_examples=300)
@given(st.sampled_from(ANSWERS), st.lists(st.integers(0, 120), max_size=12), st.booleans())
def test_any_split_of_the_bytes_gives_the_same_answer(answer, cuts, eof):
    cuts = [c for c in cuts if c < len(answer)]
    assert read(answer, cuts, eof) == read(answer, [], eof)


@settings(max_examples=300)
@given(st.binary(max_size=200), st.lists(st.integers(0, 200), max_size=6))
def test_no_bytes_make_the_reader_raise(data, cuts):
    read(data, [c for c in cuts if c < len(data)], True)
    read(b"HTTP/1.1 200 OK\r\n" + data, [c for c in cuts if c < len(data)], True)


def test_a_reader_reads_one_answer_after_another():
    reader = ResponseReader()
    for n in range(3):
        reader.begin(False)
        reader.feed(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\n\r\n%d" % n)
        assert (reader.take(), reader.complete, reader.reusable) == (b"%d" % n, True, True)


def test_an_answer_without_length_is_complete_only_at_the_end_of_the_connection():
    reader = ResponseReader()
    reader.begin(False)
    reader.feed(b"HTTP/1.1 200 OK\r\n\r\nabc")
    assert not reader.complete
    assert reader.feed_eof()
    assert reader.complete
    assert not reader.reusable


def test_a_second_answer_in_the_same_bytes_poisons_the_connection():
    reader = ResponseReader()
    reader.begin(False)
    one = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    reader.feed(one + one)
    assert reader.complete
    assert not reader.reusable
