"""Heads that were met before: bounded, and off where each head is another."""

from __future__ import annotations

import pytest

from meshlib.transport.protocol import heads_seen
from meshlib.transport.protocol.heads_seen import FEW_MISSES, LONGEST_HEAD, MOST_HEADS, SELDOM, HeadsSeen
from meshlib.transport.protocol.http2_headers import request_head
from meshlib.transport.protocol.http2_stream import Stream
from meshlib.transport.protocol.request_head import InvalidHead


@pytest.fixture(autouse=True)
def _shortcuts(monkeypatch):
    monkeypatch.setattr(heads_seen, "PLAIN", False)


def head(number: int):
    return ((b"x-number", b"%d" % number),)


def test_a_head_is_known_once_it_was_learned():
    seen: HeadsSeen[int] = HeadsSeen()
    assert seen.of(head(1)) is None
    seen.learn(head(1), 7)
    assert (seen.of(head(1)), seen.of(head(2))) == (7, None)


def test_where_each_head_is_another_hardly_any_is_remembered():
    seen: HeadsSeen[int] = HeadsSeen()
    for number in range(FEW_MISSES + 100 * SELDOM):
        seen.learn(head(number), number)
    kept = [number for number in range(FEW_MISSES + 100 * SELDOM) if seen.of(head(number)) is not None]
    assert len(kept) <= MOST_HEADS
    assert len([number for number in kept if number >= FEW_MISSES]) <= 100


def test_what_others_can_make_this_process_hold_is_bounded():
    seen: HeadsSeen[int] = HeadsSeen()
    long = ((b"x", b"a" * LONGEST_HEAD),)
    seen.learn(long, 1)
    assert seen.of(long) is None


def test_plain_turns_it_off(monkeypatch):
    monkeypatch.setattr(heads_seen, "PLAIN", True)
    seen: HeadsSeen[int] = HeadsSeen()
    seen.learn(head(1), 1)
    assert seen.of(head(1)) is None


def test_known_headers_do_not_let_a_bad_method_or_target_through():
    headers = [(b"Host", b"reviews"), (b"Accept", b"*/*")]
    first = request_head(b"GET", b"/", headers, b"http")
    assert request_head(b"GET", b"/", headers, b"http") == first
    assert request_head(b"PUT", b"/b", headers, b"https")[:4] == [
        (b":method", b"PUT"),
        (b":scheme", b"https"),
        (b":authority", b"reviews"),
        (b":path", b"/b"),
    ]
    for method, target in ((b"GET", b"/ b"), (b"GET", b""), (b"GET", b"/\n"), (b"G T", b"/"), (b"CONNECT", b"reviews")):
        with pytest.raises(InvalidHead):
            request_head(method, target, headers, b"http")


def test_a_known_head_of_a_response_is_its_own_each_time():
    received = [(b":status", b"200"), (b"content-length", b"3"), (b"x", b"1")]
    streams = [Stream(number, number == 5, False, lambda: None) for number in (1, 3, 5)]
    for stream in streams:
        assert stream.take_head(received) is None
    assert [stream.length for stream in streams] == [3, 3, None]  # the last one is in response to HEAD
    streams[0].headers.append((b"more", b"1"))
    assert streams[1].headers == streams[2].headers == [(b"content-length", b"3"), (b"x", b"1")]


def test_a_head_that_is_not_proper_is_not_learned():
    bad = [(b":status", b"200"), (b"content-length", b"3, 4")]
    for _ in range(2):
        assert "content-length" in (Stream(1, False, False, lambda: None).take_head(bad) or "")
