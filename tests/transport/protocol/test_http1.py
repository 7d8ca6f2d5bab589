"""The HTTP/1.1 reader: no socket, any split of the bytes gives the same answer."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlib.transport.protocol.http1 import MAX_HEAD_BYTES, ResponseReader
from meshlib.transport.protocol.known_heads import known


@pytest.fixture(autouse=True)
def _no_head_is_known():
    known.clear()
    yield
    known.clear()


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


@pytest.mark.parametrize("framing", [b"content-length: 3", b"transfer-encoding: chunked"])
@pytest.mark.parametrize("more", [b"3", b"3;", b"3\r\n", b"0\r\n\r\n", b"\r\n", b"abc", b"HTTP/1.1 200 OK\r\n\r\n"])
@pytest.mark.parametrize("interim", [b"", b"HTTP/1.1 103 Early Hints\r\nlink: x\r\n\r\n"])
def test_whatever_follows_an_answer_to_head_in_the_same_bytes_poisons_the_connection(framing, more, interim):
    """A body that a broken server sends nevertheless would be read as the next answer."""
    head = interim + b"HTTP/1.1 200 OK\r\n" + framing + b"\r\n\r\n"
    for at in (0, 1, len(head) - 1, len(head)):
        reader = ResponseReader()
        reader.begin(True)
        for piece in (head[:at], head[at:] + more):
            if piece:
                reader.feed(piece)
        assert reader.complete
        assert not reader.reusable
    reader = ResponseReader()
    reader.begin(True)
    reader.feed(head)
    assert reader.reusable


def test_a_second_answer_in_the_same_bytes_poisons_the_connection():
    reader = ResponseReader()
    reader.begin(False)
    one = b"HTTP/1.1 200 OK\r\ncontent-length: 0\r\n\r\n"
    reader.feed(one + one)
    assert reader.complete
    assert not reader.reusable


# -- what a server may send that is no body ---------------------------------------------------------------------------

HEAD = b"HTTP/1.1 200 OK\r\n"
CHUNKS = HEAD + b"transfer-encoding: chunked\r\n\r\n"
BODY = CHUNKS + b"2\r\nok\r\n0\r\n"
ENDLESS = {
    "a trailer's value": (BODY + b"x-t: ", b"a"),
    "a trailer's name": (BODY, b"a"),
    "trailers": (BODY, b"a: b\r\n"),
    "a chunk extension": (CHUNKS + b"2;", b"a"),
    "the value of a chunk extension": (CHUNKS + b"2;a=", b"a"),
    "a quoted chunk extension": (CHUNKS + b'2;a="', b"a"),
    "an extension of the last chunk": (CHUNKS + b"2\r\nok\r\n0;", b"a"),
    "leading zeros of a chunk's size": (CHUNKS, b"0"),
    "chunks of one byte with an extension": (CHUNKS, b"1;" + b"e" * 2000 + b"\r\nx\r\n"),
    "chunks of one byte with zeros": (CHUNKS, b"0" * 200 + b"1\r\nx\r\n"),
    "interim heads": (b"", b"HTTP/1.1 103 Early Hints\r\nlink: </a>\r\n\r\n"),
    "interim heads without a header": (b"", b"HTTP/1.1 100 Continue\r\n\r\n"),
    "empty lines after an interim head": (b"HTTP/1.1 100 Continue\r\n\r\n", b"\r\n"),
    "a header's value": (HEAD + b"x: ", b"a"),
    "a header's name": (HEAD, b"a"),
    "a reason": (b"HTTP/1.1 200 ", b"a"),
}


@pytest.mark.parametrize("piece", [100, 65536])
@pytest.mark.parametrize("name", list(ENDLESS))
def test_what_is_no_body_ends_the_connection_at_the_bound(name, piece):
    begin, more = ENDLESS[name]
    data = more * (piece // len(more) + 1)
    reader = ResponseReader()
    reader.begin(False)
    reader.feed(begin)
    fed = 0
    while not reader.error and fed < 4_000_000:
        reader.feed(data)
        reader.take()
        fed += len(data)
    assert reader.error
    assert reader.poisoned
    assert fed <= 1.25 * MAX_HEAD_BYTES + 2 * len(data)  # chunks themselves cost nothing


def test_head_and_trailers_share_their_bounds():
    def answer(headers: bytes, trailers: bytes) -> ResponseReader:
        reader = ResponseReader()
        reader.begin(False)
        reader.feed(HEAD + headers + b"transfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n" + trailers + b"\r\n")
        return reader

    assert answer(b"h: 1\r\n" * 60, b"t: 1\r\n" * 39).complete
    assert "headers and trailers" in answer(b"h: 1\r\n" * 60, b"t: 1\r\n" * 40).error
    big = b": " + b"x" * 25_000 + b"\r\n"
    assert answer(b"h" + big, b"t" + big).complete
    assert "larger than" in answer(b"h" + big, (b"t" + big) * 2).error


@pytest.mark.parametrize("method", [b"GET", b"HEAD"])
@pytest.mark.parametrize("interim", [b"", b"HTTP/1.1 103 Early Hints\r\nlink: " + b"l" * 30_000 + b"\r\n\r\n"])
@pytest.mark.parametrize(
    ("framing", "body"),
    [
        (b"content-length: 2\r\n", b"ok"),
        (b"content-length: 0\r\n", b""),
        (b"transfer-encoding: chunked\r\n", b"1\r\nx\r\n" * 1000 + b"0\r\n\r\n"),
    ],
)
def test_a_head_over_its_bound_is_refused_though_the_whole_answer_came_in_one_piece(framing, body, interim, method):
    def answer(size: int) -> ResponseReader:
        reader = ResponseReader()
        reader.begin(method == b"HEAD")
        head = HEAD + framing + b"x: " + b"a" * (size - len(interim) - len(framing) - len(HEAD)) + b"\r\n\r\n"
        reader.feed(interim + head + (b"" if method == b"HEAD" else body))
        return reader

    assert answer(MAX_HEAD_BYTES - 100).complete
    assert not answer(MAX_HEAD_BYTES - 100).error
    assert "larger than" in answer(MAX_HEAD_BYTES + 100).error


@pytest.mark.parametrize("size", [1, 10, 1000])
def test_a_body_of_any_length_and_any_chunks_is_no_violation(size):
    reader = ResponseReader()
    reader.begin(False)
    reader.feed(HEAD + b"x: " + b"a" * 50_000 + b"\r\ntransfer-encoding: chunked\r\n\r\n")
    body = 0
    for _ in range(300):
        reader.feed(b"%04x;e\r\n%b\r\n" % (size, b"x" * size) * 100)
        body += len(reader.take())
    reader.feed(b"0\r\nt: 1\r\n\r\n")
    assert (reader.error, reader.complete, reader.reusable, body) == ("", True, True, 30_000 * size)


@given(st.lists(st.integers(0, 300_000), min_size=1, max_size=4))
@settings(max_examples=20, deadline=None)
def test_a_body_with_a_length_is_never_counted_as_something_else(sizes):
    reader = ResponseReader()
    reader.begin(False)
    reader.feed(HEAD + b"content-length: %d\r\n\r\n" % sum(sizes))
    for size in sizes:
        reader.feed(bytes(size))
    assert (reader.error, reader.complete, len(reader.take())) == ("", True, sum(sizes))


CODINGS = [
    b"transfer-encoding: chunked, chunked",
    b"transfer-encoding: chunked\r\ntransfer-encoding: chunked",
    b"transfer-encoding: gzip, chunked",
    b"transfer-encoding: gzip",
    b"transfer-encoding: identity",
    b"transfer-encoding: xchunked",
    b"transfer-encoding: chunked\t",
    b"transfer-encoding: ",
]


@pytest.mark.parametrize("coding", CODINGS)
def test_any_coding_but_chunked_once_is_a_violation_as_in_envoy(coding):
    assert read(HEAD + coding + b"\r\n\r\n2\r\nok\r\n0\r\n\r\n", [], True) == ("error",)


@pytest.mark.parametrize("coding", [b"chunked", b"Chunked", b" chunked "])
def test_chunked_is_read_whatever_its_case(coding):
    status, _, body, complete, *_ = read(
        HEAD + b"Transfer-Encoding: " + coding + b"\r\n\r\n2\r\nok\r\n0\r\n\r\n", [], False
    )
    assert (status, body, complete) == (200, b"ok", True)


@pytest.mark.parametrize("status", [b"000", b"001", b"099", b"99", b"1000", b"20x", b"-20"])
def test_a_status_is_three_digits_from_100_on(status):
    assert read(b"HTTP/1.1 " + status + b" X\r\ncontent-length: 0\r\n\r\n", [], False) == ("error",)


@pytest.mark.parametrize("before", [b"\r\n", b"\n", b"\r\n\r\n", b" "])
def test_nothing_stands_before_the_status_line(before):
    for cuts in ([], [1]):
        assert read(before + ANSWERS[0], cuts, False) == ("error",)


def test_chunks_of_http_1_0_are_read_and_the_connection_is_not_trusted_further():
    reader = ResponseReader()
    reader.begin(False)
    reader.feed(b"HTTP/1.0 200 OK\r\nconnection: keep-alive\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n")
    assert (reader.complete, reader.take(), reader.reusable) == (True, b"ok", False)


# -- interim answers --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("status", [100, 102, 103])
@pytest.mark.parametrize("framing", [b"content-length: 5", b"transfer-encoding: chunked", b"transfer-encoding: gzip"])
def test_framing_headers_of_an_interim_answer_say_nothing_of_the_final_one(status, framing):
    interim = b"HTTP/1.1 %d X\r\n%b\r\n\r\n" % (status, framing)
    # the final one has neither length nor chunks: it lasts until the connection ends
    found = read(interim + b"HTTP/1.1 200 OK\r\nx: 1\r\n\r\nall of it", [], True)
    assert found == (200, [(b"x", b"1")], b"all of it", True, [], True)
    # ... or it is cut, for it has a length
    assert read(interim + b"HTTP/1.1 200 OK\r\ncontent-length: 50\r\n\r\ncut", [], True)[-1] is False
    # ... or it is in chunks, once
    chunked = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\nok\r\n0\r\n\r\n"
    assert read(interim + chunked, [], False)[2:4] == (b"ok", True)


def test_a_server_that_has_sent_an_interim_answer_has_begun():
    reader = ResponseReader()
    reader.begin(False)
    assert not reader.begun
    reader.feed(b"HTTP/1.1 100 Continue\r\n\r\n")
    assert reader.begun  # the request must not be taken for one that was never seen, and sent again


# -- interrupts -------------------------------------------------------------------------------------------------------

CALLBACKS = ["message_begin", "status", "header", "headers_complete", "body", "message_complete"]


@pytest.mark.parametrize("interrupt", [KeyboardInterrupt, SystemExit, MemoryError])
@pytest.mark.parametrize("callback", CALLBACKS)
def test_an_interrupt_while_parsing_is_raised_as_it_is_and_poisons_the_connection(callback, interrupt):
    def raise_it(*_args: object) -> None:
        raise interrupt

    reader = type("Interrupted", (ResponseReader,), {f"on_{callback}": raise_it})()
    with pytest.raises(interrupt):
        reader.feed(ANSWERS[0])
    assert reader.poisoned
    assert not reader.reusable
