"""The end of the proxy: what it still accepts, and when it is over."""

from __future__ import annotations

import pytest

from meshlib.proxy.drain import Drain, Phase
from meshlib.testing import FakeClock


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def test_it_serves_until_it_is_told(clock: FakeClock) -> None:
    drain = Drain(5.0, clock.monotonic)
    clock.advance(1e6)
    assert drain.phase(0) is Phase.SERVING
    assert not drain.draining


def test_it_accepts_for_three_fifths_then_lets_what_is_under_way_end(clock: FakeClock) -> None:
    drain = Drain(5.0, clock.monotonic)
    drain.begin()
    assert drain.draining
    assert drain.ending
    assert drain.phase(0) is Phase.DRAINING, "those who call it do not know yet"
    clock.advance(2.9)
    assert drain.phase(3) is Phase.DRAINING
    clock.advance(0.2)
    assert drain.phase(3) is Phase.CLOSING
    clock.advance(1.8)
    assert drain.phase(1) is Phase.CLOSING
    clock.advance(0.2)
    assert drain.phase(1) is Phase.OVER, "the deadline"


def test_it_ends_early_when_nothing_is_left_after_its_listeners_closed(clock: FakeClock) -> None:
    drain = Drain(5.0, clock.monotonic)
    drain.begin()
    clock.advance(3.0)
    assert drain.phase(0) is Phase.OVER


def test_told_twice_it_ends_at_once(clock: FakeClock) -> None:
    drain = Drain(5.0, clock.monotonic)
    drain.begin()
    drain.begin()
    assert drain.phase(100) is Phase.OVER


def test_without_a_drain_it_ends_at_once(clock: FakeClock) -> None:
    drain = Drain(0.0, clock.monotonic)
    drain.begin()
    assert drain.phase(1) is Phase.OVER


def test_exit_on_zero_waits_for_the_last_connection_however_long(clock: FakeClock) -> None:
    drain = Drain(5.0, clock.monotonic, on_zero=True, minimum=2.0)
    drain.begin()
    assert drain.phase(0) is Phase.DRAINING, "MINIMUM_DRAIN_DURATION"
    clock.advance(2.0)
    assert drain.phase(1) is Phase.CLOSING
    clock.advance(3600.0)
    assert drain.phase(1) is Phase.CLOSING
    assert drain.phase(0) is Phase.OVER


def test_draining_the_listeners_alone_does_not_end_the_process(clock: FakeClock) -> None:
    drain = Drain(5.0, clock.monotonic)
    drain.close_listeners()
    clock.advance(3600.0)
    assert drain.draining
    assert not drain.ending
    assert drain.phase(0) is Phase.CLOSING
    drain.begin()
    assert drain.phase(1) is Phase.CLOSING, "they stay closed"
    clock.advance(5.0)
    assert drain.phase(1) is Phase.OVER


def test_a_clock_that_jumps_back_does_not_end_it(clock: FakeClock) -> None:
    now = [100.0]
    drain = Drain(5.0, lambda: now[0])
    drain.begin()
    now[0] = 0.0
    assert drain.phase(1) is Phase.DRAINING
