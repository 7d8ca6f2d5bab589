"""gRPC as a proxy sees it."""

from __future__ import annotations

import struct

import pytest

from meshlib.engine import replies
from meshlib.engine.outcome import Outcome
from meshlib.proxy.grpc import MessageCount, local_reply, status_in, status_of


def test_a_reply_of_the_mesh_is_a_head_with_a_status_to_a_caller_of_grpc():
    made = local_reply(replies.no_healthy_upstream())
    assert (made.status, made.whole, made.grpc_status) == (200, b"", 14)
    assert made.headers == [
        (b"content-type", b"application/grpc"),
        (b"grpc-status", b"14"),
        (b"grpc-message", b"no healthy upstream"),
    ]


def test_other_headers_of_the_reply_stay():
    assert (b"x-envoy-overloaded", b"true") in local_reply(replies.overflow()).headers


def test_a_fault_may_name_its_status():
    assert local_reply(replies.fault_abort(200, 5)).grpc_status == 5


def test_a_reply_without_a_text_has_no_message():
    assert local_reply(replies.no_route()).headers == [
        (b"content-type", b"application/grpc"),
        (b"grpc-status", b"12"),
    ]


def test_a_message_is_escaped():
    made = local_reply(Outcome(status=503, whole="50% of ü\n".encode()))
    assert dict(made.headers)[b"grpc-message"] == b"50%25 of %C3%BC%0A"


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([(b"Grpc-Status", b"5")], 5),
        ([(b"x", b"y")], None),
        ([(b"grpc-status", b"five")], None),
        ([(b"grpc-status", b"1" * 20)], None),
        (None, None),
    ],
)
def test_the_status_that_headers_say(headers, status):
    assert status_in(headers) == status


@pytest.mark.parametrize(
    ("outcome", "ended", "status"),
    [
        (Outcome(status=200, trailers=[(b"grpc-status", b"0")]), True, 0),
        (Outcome(status=200, headers=[(b"grpc-status", b"7")], trailers=[]), True, 7),
        (Outcome(status=200), True, 2),
        (Outcome(status=503), True, 14),
        (Outcome(status=200), False, None),
    ],
)
def test_the_status_of_a_call(outcome, ended, status):
    assert status_of(outcome, ended) == status


@pytest.mark.parametrize("piece", [1, 2, 3, 4, 5, 6, 7, 100])
def test_messages_are_counted_wherever_the_pieces_end(piece):
    sizes = (0, 3, 0, 12, 1)
    data = b"".join(struct.pack(">BI", 0, size) + b"x" * size for size in sizes)
    count = MessageCount()
    for at in range(0, len(data), piece):
        count.feed(data[at : at + piece])
    assert count.seen() == (len(sizes), sum(sizes))


def test_a_message_that_was_cut_counts_from_its_length_on():
    assert MessageCount(struct.pack(">BI", 0, 100)).count == 1
    assert MessageCount(b"\0\0\0\0").count == 0
    assert MessageCount().seen() == (0, 0)
