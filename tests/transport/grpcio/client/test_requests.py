"""Request messages that are kept, replayed and followed."""

from __future__ import annotations

import threading

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.transport.grpcio.client.requests import Kept, ReplayIterator


def test_each_attempt_gets_all_messages_from_the_first():
    requests = ReplayIterator(iter(["a", "b"]), str.encode)
    assert list(requests.attempt()) == [b"a", b"b"]
    assert list(requests.attempt()) == [b"a", b"b"]
    assert requests.whole
    assert requests.replayable


@given(st.lists(st.binary(max_size=4), max_size=12), st.lists(st.integers(0, 12), max_size=5), st.booleans())
def test_attempts_broken_off_anywhere_lose_nothing(messages, stops, commits):
    requests = ReplayIterator(iter(messages), None)
    for stop in stops:
        reader = requests.attempt()
        got = [m for _, m in zip(range(stop), reader, strict=False)]
        assert got == messages[:stop]
    last = requests.attempt()
    first = next(last, None)
    if commits:
        requests.commit()
    assert ([] if first is None else [first, *last]) == messages


def test_a_reader_of_a_broken_attempt_ends():
    requests = ReplayIterator(iter([b"a", b"b"]), None)
    old = requests.attempt()
    assert next(old) == b"a"
    new = requests.attempt()
    assert next(new) == b"a"
    assert list(old) == []
    assert next(new) == b"b"


def test_a_message_that_an_old_reader_was_waiting_for_goes_to_the_new_one():
    come = threading.Event()

    def source():
        yield b"a"
        come.wait(60)
        yield b"b"

    requests = ReplayIterator(source(), None)
    old, got = requests.attempt(), []
    thread = threading.Thread(target=lambda: got.extend(old))
    thread.start()
    new = requests.attempt()
    come.set()
    assert list(new) == [b"a", b"b"]
    thread.join(30)
    assert got in ([], [b"a"])


def test_what_the_callers_iterator_raises_is_raised_to_every_attempt():
    def source():
        yield b"a"
        raise ZeroDivisionError

    requests = ReplayIterator(source(), None)
    for _ in range(2):
        reader = requests.attempt()
        assert next(reader) == b"a"
        with pytest.raises(ZeroDivisionError):
            next(reader)
    assert isinstance(requests.error, ZeroDivisionError)


def test_too_many_messages_are_not_kept():
    kept = Kept(limit=10)
    kept.append(b"x" * 6)
    assert kept.replayable
    kept.append(b"x" * 6)
    assert not kept.replayable
    assert kept.get(0) == b"x" * 6
    assert kept.get(1) == b"x" * 6
    assert len(kept) == 2
    assert kept._messages == []


def test_after_the_commit_nothing_is_kept():
    requests = ReplayIterator(iter([b"a", b"b", b"c"]), None)
    reader = requests.attempt()
    next(reader)
    requests.commit()
    assert [*reader] == [b"b", b"c"]
    assert requests.kept._messages in ([], [b"a"])


def test_a_follower_gets_what_was_sent_and_what_is_to_come():
    requests = ReplayIterator(iter([b"a", b"b", b"c"]), None)
    reader = requests.attempt()
    next(reader)
    follower = requests.copy()
    late = follower.attempt()
    assert next(late) == b"a"
    assert list(reader) == [b"b", b"c"]
    assert list(late) == [b"b", b"c"]
    assert list(requests.copy().attempt()) == [b"a", b"b", b"c"]


def test_a_follower_ends_with_the_call_and_when_it_falls_behind():
    requests = ReplayIterator(iter([b"a"] + [b"x" * 700_000] * 3), None)
    reader = requests.attempt()
    next(reader)
    follower = requests.copy()
    assert len(list(reader)) == 3
    assert len(list(follower.attempt())) == 2
    other = ReplayIterator(iter([b"a", b"b"]), None)
    next(other.attempt())
    ending = other.copy()
    other.over()
    assert list(ending.attempt()) == [b"a"]
