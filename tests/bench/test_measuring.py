"""Rounds of calls: how many there are, what a latency counts from, and what is told of them."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import pytest

from meshlib.bench import measuring
from meshlib.bench.measuring import Asked, Taken, in_threads, on_a_loop


class Time:
    """Stands still but for calls and sleeps."""

    def __init__(self) -> None:
        self.now = 100.0

    def perf_counter(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.now += seconds


@pytest.fixture
def time(monkeypatch: pytest.MonkeyPatch) -> Time:
    made = Time()
    monkeypatch.setattr(measuring, "time", made)
    return made


@pytest.fixture(params=["threads", "loop"])
def one_round(request: pytest.FixtureRequest, time: Time, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Taken]:
    """Of calls that take so many seconds, one after the other."""

    def run(asked: Asked, *takes: float) -> Taken:
        left = list(takes)

        def call() -> None:
            time.now += left.pop(0) if left else 0.001

        async def awaited() -> None:
            call()

        async def slept(seconds: float) -> None:
            time.now += seconds

        if request.param == "threads":
            return in_threads(call, asked)

        async def main() -> Taken:
            with monkeypatch.context() as patched:
                patched.setattr(measuring.asyncio, "sleep", slept)
                return await on_a_loop(awaited, asked)

        return asyncio.run(main())

    return run


def test_in_a_closed_loop_a_stall_is_met_once(one_round: Callable[..., Taken]) -> None:
    taken = one_round(Asked(1, 0, seconds=1.0), 0.9)
    assert len([each for each in taken.latencies if each > 0.1]) == 1
    assert taken.late == []


def test_a_caller_that_comes_late_makes_a_call_nevertheless(one_round: Callable[..., Taken]) -> None:
    """A thread may have to wait for its core for longer than a round is."""
    assert len(one_round(Asked(3, 0, seconds=0.0)).latencies) == 3


def test_in_an_open_loop_a_stall_counts_for_every_call_that_was_due_meanwhile(one_round: Callable[..., Taken]) -> None:
    taken = one_round(Asked(1, 0, seconds=1.0, rate=10), 0.55)
    assert [round(each, 3) for each in taken.latencies[:6]] == [0.55, 0.451, 0.352, 0.253, 0.154, 0.055]
    assert len(taken.latencies) == 10
    assert round(max(taken.late), 3) == 0.45


def test_in_an_open_loop_calls_are_as_many_as_are_due(one_round: Callable[..., Taken]) -> None:
    assert len(one_round(Asked(1, 0, seconds=0.5, rate=40)).latencies) == 20


def test_threads_share_what_is_due_and_raise_what_a_call_raised() -> None:
    made: list[int] = []
    assert len(in_threads(lambda: made.append(1), Asked(4, 0, seconds=0.05, rate=200)).latencies) == len(made) == 10

    def broken() -> None:
        raise ValueError("no")

    with pytest.raises(ValueError, match="no"):
        in_threads(broken, Asked(3, 0, seconds=5))


def test_a_coroutine_that_fails_ends_the_round_and_is_told_as_itself() -> None:
    async def broken() -> None:
        raise ValueError("no  such\nthing")

    with pytest.raises(BaseExceptionGroup) as failed:
        asyncio.run(on_a_loop(broken, Asked(3, 0, seconds=5)))
    assert measuring.told(failed.value) == {"failed": "ValueError: no such thing"}


def test_a_summary_has_percentiles_by_rank_and_every_call_in_a_bucket() -> None:
    told = measuring.summary(Taken([n / 1000 for n in range(1, 1001)]), wall=2.0, cpu=0.5)
    assert (told["calls"], told["wall"], told["cpu"]) == (1000, 2.0, 0.5)
    assert told["ms"] == pytest.approx({"p50": 500, "p90": 900, "p99": 990, "p99.9": 999})
    assert sum(count for _, count in told["buckets"]) == 1000


@pytest.mark.parametrize("ms", [0.0, 0.001, 0.01, 0.0101, 1.0, 3.7, 12345.6])
def test_a_bucket_holds_its_latency_and_is_a_tenth_wide(ms: float) -> None:
    bucket = measuring.bucket_of(ms)
    assert measuring.upper_ms(bucket) >= ms * (1 - 1e-6)
    assert bucket == 0 or measuring.upper_ms(bucket - 1) < ms


def test_no_call_is_no_percentile() -> None:
    assert measuring.summary(Taken(), 1.0, 0.0)["ms"] == {}
