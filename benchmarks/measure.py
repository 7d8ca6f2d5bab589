"""Timing that compares: rounds are interleaved (A, B, A, B ...), so that noise of the machine hits all alike, and medians
are taken over all of them."""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field


@dataclass
class Row:
    """One figure: ``value`` against ``target`` (``lower`` is better unless said), with what it was made of."""

    name: str
    value: float
    unit: str
    target: float | None = None
    lower_is_better: bool = True
    details: str = ""
    extra: dict[str, float] = field(default_factory=dict)

    @property
    def met(self) -> bool | None:
        if self.target is None:
            return None
        return self.value <= self.target if self.lower_is_better else self.value >= self.target


def median_us(samples: Sequence[float]) -> float:
    """Median of seconds, in microseconds."""
    return statistics.median(samples) * 1e6


def percentile_us(samples: Sequence[float], percent: float) -> float:
    """A percentile of seconds (nearest rank), in microseconds."""
    ordered = sorted(samples)
    rank = max(0, min(len(ordered) - 1, round(percent / 100 * (len(ordered) - 1))))
    return ordered[rank] * 1e6


def interleaved(
    callables: Sequence[Callable[[], object]], rounds: int, calls: int, warm_up: int = 50
) -> list[list[float]]:
    """Samples (seconds a call) of each, taken in turn."""
    samples: list[list[float]] = [[] for _ in callables]
    for call in callables:
        for _ in range(warm_up):
            call()
    clock = time.perf_counter
    for _ in range(rounds):
        for call, taken in zip(callables, samples, strict=True):
            for _ in range(calls):
                began = clock()
                call()
                taken.append(clock() - began)
    return samples


async def interleaved_async(
    callables: Sequence[Callable[[], Awaitable[object]]], rounds: int, calls: int, warm_up: int = 50
) -> list[list[float]]:
    """The same for coroutines, one at a time."""
    samples: list[list[float]] = [[] for _ in callables]
    for call in callables:
        for _ in range(warm_up):
            await call()
    clock = time.perf_counter
    for _ in range(rounds):
        for call, taken in zip(callables, samples, strict=True):
            for _ in range(calls):
                began = clock()
                await call()
                taken.append(clock() - began)
    return samples


async def requests_per_second(call: Callable[[], Awaitable[object]], total: int, in_flight: int) -> float:
    """Throughput with ``in_flight`` calls at a time."""

    async def work() -> None:
        for _ in range(total // in_flight):
            await call()

    began = time.perf_counter()
    await asyncio.gather(*(work() for _ in range(in_flight)))
    return (total // in_flight * in_flight) / (time.perf_counter() - began)


def best_us(call: Callable[[], object], calls: int, rounds: int = 7) -> float:
    """Microseconds a call: the median round of a tight loop."""
    taken = []
    for _ in range(rounds):
        began = time.perf_counter()
        for _ in range(calls):
            call()
        taken.append((time.perf_counter() - began) / calls)
    return statistics.median(taken) * 1e6
