"""``limits=`` of a client, counted. (Whole calls under them: tests/mesh/test_httpx_limits.py.)"""

from __future__ import annotations

import httpx
import pytest

from meshlib.transport.upstream.client_limits import ClientLimits


def limits(*args: int | None, **more: float | None) -> ClientLimits:
    return ClientLimits(httpx.Limits(*args, **more))


def test_none_is_no_limit():
    made = ClientLimits(httpx.Limits(max_connections=None, max_keepalive_connections=None, keepalive_expiry=None))
    assert (made.slots, made.max_idle, made.expiry) == (None, None, None)
    assert (made.waited_for, made.too_many(10**6), made.excess(10**6)) == (False, False, 0)


@pytest.mark.parametrize("most", [0, -1])
def test_a_limit_that_lets_no_call_through_is_refused(most):
    with pytest.raises(ValueError, match=f"max_connections={most} would let no call through"):
        limits(max_connections=most)


def test_what_may_be_kept_idle():
    made = limits(max_keepalive_connections=2)
    assert [made.too_many(idle) for idle in (1, 2, 3)] == [False, False, True]
    assert limits(max_keepalive_connections=0).too_many(1)


@pytest.mark.parametrize(
    ("in_use", "idle", "excess"), [(1, 0, 0), (1, 2, 0), (1, 3, 1), (3, 3, 3), (2, 3, 2), (4, 1, 1)]
)
def test_idle_connections_make_room_for_one_that_has_its_slot(in_use, idle, excess):
    made = limits(max_connections=3)
    made.slots.in_use = in_use
    assert max(0, made.excess(idle)) == excess


def test_whoever_stands_in_line_is_seen():
    made = limits(max_connections=1)
    assert made.slots.try_acquire()
    assert not made.waited_for
    made.slots.enqueue(lambda: None)
    assert made.waited_for


def test_a_forked_child_holds_nothing_of_its_parents():
    made = limits(max_connections=1)
    made.slots.try_acquire()
    made.lock.acquire()
    made.after_fork()
    assert (made.slots.in_use, made.slots.limit) == (0, 1)
    assert made.lock.acquire(blocking=False)
