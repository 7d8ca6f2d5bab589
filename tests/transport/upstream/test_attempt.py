"""The limits of one attempt: the strictest of all who have a say."""

from __future__ import annotations

import pytest

from meshlib.engine.call import CallerTimeouts
from meshlib.transport.upstream.attempt import Attempt
from meshlib.transport.upstream.target import Target


def attempt(head: float | None = None, connect: float | None = None, pool: float | None = None) -> Attempt:
    target = Target("127.0.0.1", 80, connect_timeout=10.0)
    return Attempt(b"GET", b"/", [], None, target, head, caller=CallerTimeouts(connect=connect, pool=pool))


@pytest.mark.parametrize(
    ("head", "connect", "limit"), [(None, None, 10), (None, 3, 3), (None, 30, 10), (2, 3, 2), (20, None, 10), (0, 3, 0)]
)
def test_a_connect_is_bounded_by_target_caller_and_what_is_left(head, connect, limit):
    assert attempt(head, connect).connect_limit == limit


@pytest.mark.parametrize(
    ("head", "pool", "limit"), [(None, None, None), (5, None, 5), (None, 3, 3), (5, 3, 3), (2, 3, 2)]
)
def test_the_wait_for_a_slot_is_bounded_by_caller_and_what_is_left(head, pool, limit):
    assert attempt(head, pool=pool).slot_limit == limit


def test_without_limits_of_a_caller_there_are_none():
    made = Attempt(b"GET", b"/", [], None, Target("127.0.0.1", 80))
    assert (made.caller.read, made.caller.write, made.deadline, made.trace, made.watch) == (None,) * 5
