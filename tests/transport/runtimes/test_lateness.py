"""How late a loop runs, measured on a loop that is played: its time is moved by hand."""

from __future__ import annotations

import asyncio

import pytest

from meshlib.transport.runtimes.lateness import BEAT, IDLE, Latenesses, LoopLateness


class PlayedLoop:
    """Calls what is planned when its time is moved there, or later: it was blocked."""

    def __init__(self) -> None:
        self.now = 100.0
        self.planned: list[tuple[float, object]] = []

    def time(self) -> float:
        return self.now

    def call_at(self, when, callback) -> None:
        self.planned.append((when, callback))

    def run(self, seconds: float, blocked: float = 0.0) -> None:
        """So long, on time; then ``blocked`` seconds in which nothing is called."""
        until = self.now + seconds
        while self.planned and self.planned[0][0] <= until:
            when, callback = self.planned.pop(0)
            self.now = when
            callback()
        self.now = until + blocked

    def catch_up(self) -> None:
        when, callback = self.planned.pop(0)
        self.now = max(self.now, when)
        callback()


def test_a_loop_on_time_is_not_late():
    loop = PlayedLoop()
    late = LoopLateness(loop)
    assert late.seconds() == 0.0
    loop.run(0.5)
    assert late.seconds() == pytest.approx(0.0)


def test_a_handler_that_blocks_is_seen_at_once_and_for_one_window_more():
    loop = PlayedLoop()
    late = LoopLateness(loop)
    late.seconds()
    loop.run(0.25, blocked=0.3)
    assert late.seconds() == pytest.approx(0.3, abs=BEAT), "before the loop has measured itself"
    loop.catch_up()
    assert late.seconds() == pytest.approx(0.3, abs=BEAT)
    loop.run(0.05)
    assert late.seconds() == pytest.approx(0.3, abs=BEAT)
    loop.run(0.3)
    assert late.seconds() == pytest.approx(0.0)


def test_a_loop_without_requests_is_let_alone_and_measured_again_later():
    loop = PlayedLoop()
    late = LoopLateness(loop)
    late.seconds()
    loop.run(IDLE + 0.1)
    assert loop.planned == []
    loop.now += 50
    assert late.seconds() == 0.0
    assert len(loop.planned) == 1


def test_each_loop_has_its_own_and_without_one_nothing_is_late():
    latenesses = Latenesses()
    assert latenesses.here() == 0.0

    async def asked() -> float:
        return latenesses.here()

    assert asyncio.run(asked()) == 0.0
    assert asyncio.run(asked()) == 0.0
    assert len(latenesses._by_loop) == 1, "of those that are closed none is kept"
