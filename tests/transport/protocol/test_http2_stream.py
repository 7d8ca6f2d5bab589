"""One request on an HTTP/2 connection and what the server sends for it, without a connection."""

from __future__ import annotations

import pytest

from meshlib.transport.protocol import http2_stream
from meshlib.transport.protocol.heads_seen import HeadsSeen
from meshlib.transport.protocol.http1 import MAX_HEAD_BYTES, MAX_HEADERS
from meshlib.transport.protocol.http2 import Http2Session
from meshlib.transport.protocol.http2_codec import Whole
from meshlib.transport.protocol.http2_stream import Stream
from meshlib.transport.protocol.shortcuts import PLAIN

OK = (b":status", b"200")


@pytest.fixture(autouse=True)
def nothing_seen(monkeypatch):
    """Whether heads are remembered goes by how many others this process has met."""
    monkeypatch.setattr(http2_stream, "_proper", HeadsSeen())
    monkeypatch.setattr(http2_stream, "_few", HeadsSeen())


def stream(head_request: bool = False) -> Stream:
    return Stream(1, head_request, False, lambda: None)


def taken_whole(one: Stream, head: Whole, data: bytes, trailers: Whole | None) -> int:
    """Of a session that the stream is on, which is over with its request."""
    session = Http2Session(0.0)
    session.streams[1] = one
    one.sent = True
    (weight,) = session.on_wholes((1,), (head,), (data,), (trailers,))
    assert (1 in session.streams) is (weight == 0)
    return weight


def test_a_whole_response_is_taken():
    one = stream()
    assert one.take_head((OK, (b"x", b"1"), (b"content-length", b"3"))) is None
    assert (one.status, one.headers, one.length) == (200, [(b"x", b"1"), (b"content-length", b"3")], 3)
    assert one.take_data(b"a") is None
    assert one.take_data(b"bc") is None
    assert one.take_trailers(((b"t", b"1"),)) is None
    assert not one.settled
    assert one.take_end() is None
    assert (one.settled, one.chunks, one.trailers) == (True, [b"a", b"bc"], [(b"t", b"1")])


@pytest.mark.parametrize("status", [b"", b"20", b"0200", b"099", b"2x0", b"-20", "\u0662\u0660\u0660".encode()])
def test_a_status_is_three_digits(status):
    problem = stream().take_head(((b":status", status),))
    assert problem == f"the status of the response is {status!r}"


@pytest.mark.parametrize("value", [b"a\r\nb: c", b"a\nb", b"a\0"])
def test_a_line_break_in_a_value_is_told_with_its_header(value):
    problem = stream().take_head((OK, (b"fine", b"1"), (b"x", value)))
    assert problem == "the value of the response's header b'x' holds a line break"
    assert stream().take_trailers(((b"x", value),)) == "a trailer of the response holds a line break"


@pytest.mark.parametrize(
    ("lengths", "wrong"),
    [
        ([b"x"], b"x"),
        ([b""], b""),
        ([b"+1"], b"+1"),
        ([b"9" * 19], b"9" * 19),
        ([b"1", b"2"], b"2"),
        ([b"1", b"1", b" 1"], b" 1"),
        ([b"x", b"1"], b"x"),
    ],
)
def test_a_length_that_is_none_or_another(lengths, wrong):
    problem = stream().take_head((OK, *[(b"content-length", length) for length in lengths]))
    assert problem == f"the response's content-length is {wrong[:20]!r}"


def test_trailers_that_are_few_and_small_end_a_response_in_one_step():
    for _ in range(2):  # its head is not known at first
        one = stream()
        one.take_head((OK, (b"content-length", b"3")))
        one.take_data(b"abc")
        kept = one.trailers
        assert one.take_last_trailers(((b"grpc-status", b"0"),))
        assert (one.complete, one.trailers) == (True, [(b"grpc-status", b"0")])
        assert kept is one.trailers


@pytest.mark.parametrize(
    ("head", "trailers"),
    [
        ((OK, (b"content-length", b"4")), ((b"a", b"1"),)),
        ((OK,), ((b"a", b"1"),) * 9),
        ((OK,), ((b"a", b"1" * 1024),)),
        ((OK,), ((b"a", b"1\r\n"),)),
        ((OK, (b"x", b"1" * (MAX_HEAD_BYTES // 2))), ((b"a", b"1"),)),
        ((OK, *((b"x", b"1"),) * (MAX_HEADERS // 2 + 1)), ((b"a", b"1"),)),
    ],
)
def test_others_are_looked_at_one_by_one_and_nothing_of_them_is_taken_before(head, trailers):
    one = stream()
    assert one.take_head(head) is None
    one.take_data(b"abc")
    assert not one.take_last_trailers(trailers)
    assert (one.complete, one.trailers) == (False, [])


def test_a_length_may_be_told_twice_if_it_is_the_same():
    one = stream()
    assert one.take_head((OK, (b"content-length", b"3"), (b"content-length", b"03"))) is None
    assert one.length == 3


@pytest.mark.parametrize(("status", "head_request"), [(b"204", False), (b"304", False), (b"200", True)])
def test_a_length_without_a_body_binds_nobody(status, head_request):
    one = stream(head_request)
    assert one.take_head(((b":status", status), (b"content-length", b"5"))) is None
    assert (one.length, one.take_end(), one.complete) == (None, None, True)


def test_a_body_is_as_long_as_its_length():
    one = stream()
    one.take_head((OK, (b"content-length", b"3")))
    assert one.take_data(b"abcd") == "the response's body is longer than its content-length of 3"
    other = stream()
    other.take_head((OK, (b"content-length", b"3")))
    assert other.take_data(b"ab") is None
    assert other.take_end() == "the response's body ended after 2 of 3 bytes"
    assert not other.complete


def test_the_answer_to_head_has_no_body():
    one = stream(head_request=True)
    one.take_head((OK,))
    assert one.take_data(b"x") == "the server sent a body in response to HEAD"


def test_heads_and_trailers_are_bounded_in_bytes_and_number():
    large = (b"x", bytes(MAX_HEAD_BYTES - 5).replace(b"\0", b"v"))  # and 4 for the pair
    assert stream().take_head((OK, large)) is None
    assert "larger than" in str(stream().take_head((OK, large, (b"y", b""))))
    many = [(b"x", b"v")] * MAX_HEADERS
    one = stream()
    assert one.take_head((OK, *many)) is None
    assert "more than" in str(one.take_trailers(((b"y", b"1"),)))
    assert "more than" in str(stream().take_head((OK, *many, (b"y", b"1"))))
    other = stream()
    other.take_head((OK, large))
    assert "larger than" in str(other.take_trailers(((b"y", b"1"),)))


def test_interim_heads_are_not_the_response():
    one = stream()
    assert one.take_interim(((b":status", b"103"),)) is None
    assert not one.continue_seen
    assert one.take_interim(((b":status", b"100"),)) is None
    assert (one.continue_seen, one.begun, one.head_done) == (True, True, False)
    assert "101" in str(one.take_interim(((b":status", b"101"),)))


def test_the_last_piece_of_a_body_is_taken_at_once_only_when_it_is_as_long_as_the_head_says() -> None:
    def begun(length: bytes = b"5", head_request: bool = False) -> Stream:
        stream = Stream(1, head_request, False, lambda: None)
        assert stream.take_head([(b":status", b"200"), (b"content-length", length)]) is None
        return stream

    whole = begun()
    assert whole.take_data(b"ab") is None
    assert whole.take_last(b"cde")
    assert (whole.complete, whole.chunks, whole.unread, whole.received) == (True, [b"ab", b"cde"], 5, 5)
    for stream, data in (
        (begun(), b"abcd"),
        (begun(), b"abcdef"),
        (begun(b"0"), b""),
        (begun(head_request=True), b"abcde"),
        (Stream(1, False, False, lambda: None), b"a"),  # no head has come
    ):
        assert not stream.take_last(data)
        assert (stream.complete, stream.chunks, stream.unread) == (False, [], 0)


@pytest.mark.skipif(PLAIN, reason="nothing is known then")
@pytest.mark.parametrize("trailers", [None, ((b"grpc-status", b"0"),)])
def test_a_response_whose_head_is_known_is_taken_at_once(trailers):
    head = (OK, (b"taken", b"whole" if trailers else b"alone"), (b"content-length", b"3"))
    first = stream()
    assert not taken_whole(first, head, b"abc", trailers)
    assert not first.begun
    first.take_head(head)
    one = stream()
    assert taken_whole(one, head, b"abc", trailers)
    assert (one.status, one.headers, one.length) == (200, [*head[1:]], 3)
    assert (one.complete, one.head_done, one.begun, one.unread) == (True, True, True, 3)
    assert (one.rest(), one.trailers) == (b"abc", list(trailers or ()))
    one.headers.append((b"x", b"changed"))
    again = stream()
    assert taken_whole(again, head, b"abc", trailers)
    assert again.headers == [*head[1:]]


@pytest.mark.skipif(PLAIN, reason="nothing is known then")
@pytest.mark.parametrize("trailers", [None, ((b"grpc-status", b"0"),)])
def test_to_who_takes_it_so_it_is_all_in_one_and_elsewhere_when_it_is_unfolded(trailers):
    head = (OK, (b"compact", b"whole" if trailers else b"alone"))
    stream().take_head(head)
    one = stream()
    one.compact = True
    one.unfolded()  # of nothing
    assert taken_whole(one, head, b"abc", trailers)
    assert one.head is not None
    assert (one.head.headers, one.whole, one.few and one.few.headers) == (
        [*head[1:]],
        b"abc",
        trailers and [*trailers],
    )
    assert (one.complete, one.head_done, one.chunks, one.headers, one.trailers) == (True, False, [], [], [])
    for _ in range(2):
        one.unfolded()
        assert (one.status, one.headers, one.chunks, one.unread) == (200, [*head[1:]], [b"abc"], 3)
        assert (one.whole, one.head_done, one.trailers) == (b"", True, [*(trailers or ())])


@pytest.mark.parametrize(
    ("status", "data", "trailers"),
    [
        (b"200", b"abcd", None),
        (b"200", b"", None),
        (b"204", b"abc", None),
        (b"200", b"abc", ((b"a", b"1"),) * 9),
        (b"200", b"abc", ((b"a", b"1" * 1024),)),
        (b"200", b"abc", ((b"a", b"1\n"),)),
    ],
)
def test_one_that_is_not_as_its_head_says_is_not(status, data, trailers):
    head = ((b":status", status), (b"content-length", b"3"))
    stream().take_head(head)
    one = stream()
    assert not taken_whole(one, head, data, trailers)
    assert (one.begun, one.complete, one.chunks, one.trailers) == (False, False, [], [])


@pytest.mark.parametrize("trailers", [None, ((b"grpc-status", b"0"),)])
def test_nor_is_one_without_a_body(trailers):
    head = (OK, (b"empty", b"1"))
    stream().take_head(head)
    one = stream()
    assert not taken_whole(one, head, b"", trailers)
    assert (one.begun, one.complete, one.trailers) == (False, False, [])


@pytest.mark.skipif(PLAIN, reason="nothing is known then")
def test_nor_are_trailers_that_its_head_may_leave_no_room_for():
    head = (OK, *((b"%d" % number, b"") for number in range(MAX_HEADERS // 2 + 1)))
    stream().take_head(head)
    one = stream()
    assert not taken_whole(one, head, b"abc", ((b"grpc-status", b"0"),))
    assert not one.begun
    assert taken_whole(one, head, b"abc", None)


def test_nor_is_one_to_head_or_after_something_else():
    head = (OK, (b"content-length", b"3"))
    stream().take_head(head)
    assert not taken_whole(stream(head_request=True), head, b"abc", None)
    one = stream()
    one.take_interim(((b":status", b"103"),))
    assert not taken_whole(one, head, b"abc", None)


def test_of_a_head_it_is_known_what_decides():
    for head, silent in (
        ((OK, (b"a", b"1")), True),
        ((OK, (b"grpc-status", b"0")), False),
        (((b":status", b"201"),), False),
    ):
        one = stream()
        one.take_head(head)
        assert one.head is not None
        assert one.head.silent is silent
        assert one.head.size == sum(len(name) + len(value) for name, value in head[1:])
