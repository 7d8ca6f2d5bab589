"""The framing of request bodies, without I/O: decided from the headers and the body, then held to."""

from __future__ import annotations

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.transport.protocol.framing import Chunked, FalseFraming, NoBody, Sized, framing_of
from meshlib.transport.protocol.request_body import ReplayBody
from meshlib.transport.protocol.request_head import InvalidHead, encode_head

HOST = (b"Host", b"reviews")
CHUNKS = (b"Transfer-Encoding", b"chunked")


def stream(*pieces: bytes) -> ReplayBody:
    return ReplayBody(iter(pieces))


def length(value: bytes) -> tuple[bytes, bytes]:
    return (b"Content-Length", value)


def written(headers: list, body: bytes | ReplayBody | None) -> bytes:
    """What goes on the wire over HTTP/1.1."""
    framing = framing_of(headers, body)
    out = encode_head(b"POST", b"/first", framing.headers)
    if isinstance(framing, NoBody):
        return out
    if isinstance(framing.body, bytes):
        return out + framing.whole(framing.body)
    for chunk in framing.body:
        out += framing.piece(chunk)
    return out + framing.end()


def read_by_h11(data: bytes) -> list[tuple[bytes, list, bytes]]:
    """The requests that a strict server makes of the bytes. Raises when they are not whole requests."""
    peer, found = h11.Connection(h11.SERVER), []
    peer.receive_data(data)
    while True:
        event = peer.next_event()
        if isinstance(event, h11.Request):
            found.append((event.target, list(event.headers), b""))
        elif isinstance(event, h11.Data):
            target, headers, body = found.pop()
            found.append((target, headers, body + bytes(event.data)))
        elif isinstance(event, h11.EndOfMessage):
            peer.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
            peer.send(h11.EndOfMessage())
            if not peer.trailing_data[0]:
                return found
            peer.start_next_cycle()
        else:
            raise AssertionError(f"the server waits for more: {event}")


# -- what is decided --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("headers", "body", "kind"),
    [
        ([HOST], None, NoBody),
        ([HOST, length(b"0")], None, NoBody),
        ([HOST, length(b"3")], b"abc", Sized),
        ([HOST, length(b" 3\t")], b"abc", Sized),
        ([HOST, length(b"003")], b"abc", Sized),
        ([HOST, (b"content-LENGTH", b"3")], stream(b"abc"), Sized),
        ([HOST, CHUNKS], b"abc", Chunked),
        ([HOST, (b"transfer-encoding", b" Chunked ")], stream(b"abc"), Chunked),
        ([HOST, CHUNKS], None, Chunked),
        ([HOST, CHUNKS, length(b"3")], b"abc", Chunked),
        ([HOST], b"abc", Chunked),
        ([HOST], stream(b"abc"), Chunked),
    ],
)
def test_the_framing_is_what_the_headers_declare_or_chunks(headers, body, kind):
    assert type(framing_of(headers, body)) is kind


@pytest.mark.parametrize(
    ("headers", "body", "words"),
    [
        ([length(b"3")], b"abcdef", "Content-Length is 3, its body has 6"),
        ([length(b"50")], b"abc", "Content-Length is 50, its body has 3"),
        ([length(b"0")], b"abc", "Content-Length is 0"),
        ([length(b"3")], None, "its body has 0"),
        ([length(b"abc")], b"abc", "not a valid length"),
        ([length(b"")], None, "not a valid length"),
        ([length(b"-3")], b"abc", "not a valid length"),
        ([length(b"+3")], b"abc", "not a valid length"),
        ([length(b"0x3")], b"abc", "not a valid length"),
        ([length(b"3_0")], b"a" * 30, "not a valid length"),
        ([length(b"3, 3")], b"abc", "not a valid length"),
        ([length("٣".encode())], b"abc", "not a valid length"),
        ([length(b"\xb2")], b"ab", "not a valid length"),
        ([length(b"3" * 5000)], b"abc", "not a valid length"),
        ([length(b"3"), length(b"6")], b"abcdef", "two Content-Length"),
        ([length(b"3"), (b"content-length", b"3")], b"abc", "two Content-Length"),
        ([(b"Transfer-Encoding", b"identity")], b"abc", "only chunked"),
        ([(b"Transfer-Encoding", b"gzip")], b"abc", "only chunked"),
        ([(b"Transfer-Encoding", b"gzip, chunked")], b"abc", "only chunked"),
        ([(b"Transfer-Encoding", b"chunked, chunked")], b"abc", "only chunked"),
        ([(b"Transfer-Encoding", b"xchunked")], None, "only chunked"),
        ([(b"Transfer-Encoding", b"\x0bchunked")], None, "only chunked"),
        ([(b"Transfer-Encoding", b"")], None, "only chunked"),
        ([CHUNKS, CHUNKS], b"abc", "two Transfer-Encoding"),
        ([CHUNKS, length(b"4")], b"abc", "its body has 3"),
        ([HOST, (b"host", b"other")], None, "two Host"),
        ([HOST, HOST], b"abc", "two Host"),
    ],
)
def test_headers_that_are_not_true_of_the_body_are_refused(headers, body, words):
    with pytest.raises(FalseFraming, match=words):
        framing_of(headers, body)
    assert issubclass(FalseFraming, InvalidHead)


def test_a_request_without_a_body_is_written_with_the_headers_it_has():
    headers = [HOST, (b"Accept", b"*/*"), (b"Expect", b"100-continue"), length(b"0")]
    assert framing_of(headers, None).headers is headers


def test_length_and_chunks_are_never_both_written():
    framing = framing_of([length(b"3"), CHUNKS, HOST], b"abc")
    assert framing.headers == [CHUNKS, HOST]


def test_the_one_coding_is_written_in_its_usual_spelling():
    assert framing_of([(b"TRANSFER-encoding", b"\tCHUNKED")], b"a").headers == [(b"TRANSFER-encoding", b"chunked")]


def test_a_body_that_nothing_declares_goes_in_chunks_and_says_so():
    assert framing_of([HOST], b"abc").headers == [HOST, CHUNKS]
    assert written([HOST], b"abc").endswith(b"\r\n\r\n3\r\nabc\r\n0\r\n\r\n")


def test_chunks_without_a_body_are_ended():
    assert written([HOST, CHUNKS], None).endswith(b"\r\n\r\n0\r\n\r\n")


def test_what_the_body_waits_for_is_known():
    expecting = [HOST, length(b"1"), (b"expect", b"100-Continue")]
    assert framing_of(expecting, b"a").expects_continue
    assert framing_of([CHUNKS, *expecting], b"a").expects_continue
    assert not framing_of([HOST, length(b"1")], b"a").expects_continue


# -- what is counted --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("more", [[], [CHUNKS]])
def test_a_stream_that_yields_too_much_is_stopped_before_the_piece_that_breaks_it(more):
    framing = framing_of([length(b"5"), *more], stream(b"abc", b"def"))
    framing.piece(b"abc")
    with pytest.raises(FalseFraming, match="longer than its Content-Length of 5"):
        framing.piece(b"def")


@pytest.mark.parametrize("more", [[], [CHUNKS]])
def test_a_stream_that_ends_too_early_has_no_end(more):
    framing = framing_of([length(b"5"), *more], stream(b"abc"))
    framing.piece(b"abc")
    with pytest.raises(FalseFraming, match="ended after 3 bytes; its Content-Length is 5"):
        framing.end()


name = st.sampled_from([b"Content-Length", b"content-length", b"Transfer-Encoding", b"Host", b"Expect", b"X-A"])
value = st.one_of(
    st.integers(0, 12).map(lambda n: b"%d" % n),
    st.sampled_from(
        [b"chunked", b"Chunked", b"gzip", b"chunked, chunked", b"reviews", b"3, 3", b"", b"+3", b"100-continue"]
    ),
    st.binary(max_size=6),
)
pieces = st.lists(st.binary(min_size=1, max_size=8), max_size=4)


@given(st.lists(st.tuples(name, value), max_size=5), pieces, st.booleans())
def test_a_strict_server_reads_the_one_request_that_was_declared_or_nothing_is_written(headers, body, whole):
    headers = [HOST, *headers]
    content = (b"".join(body) or None) if whole else stream(*body)
    try:
        data = written(headers, content)
    except InvalidHead:
        return
    ((target, seen, got),) = read_by_h11(data)  # one request and no bytes after it
    assert (target, got) == (b"/first", b"".join(body))
    declared = [pair for pair in headers if pair[0].lower() == b"content-length"]
    assert all(int(number) == len(got) for _, number in declared)
    if any(lower == b"transfer-encoding" for lower, _ in seen):
        assert not any(lower == b"content-length" for lower, _ in seen)


@given(pieces, st.integers(0, 30))
def test_a_stream_is_written_whole_exactly_when_it_is_as_long_as_declared(body, declared):
    size = sum(map(len, body))
    headers = [HOST, length(b"%d" % declared)]
    if size == declared:
        assert read_by_h11(written(headers, stream(*body)))[0][2] == b"".join(body)
    else:
        with pytest.raises(FalseFraming):
            written(headers, stream(*body))
