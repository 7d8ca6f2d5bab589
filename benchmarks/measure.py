"""Timing that compares: rounds are interleaved (A, B, A, B ...), so that noise of the machine hits all alike, and medians
are taken over all of them."""

from __future__ import annotations

import asyncio
import json
import statistics
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

UNIT_TEXT = '{"a":1,"b":[1,2,3]}'


class Unit:
    """What costs are told in, so that machines compare: one ``json.loads`` of ``UNIT_TEXT``, the best of many rounds, each
    taken beside a round of what is measured."""

    __slots__ = ("us",)

    def __init__(self) -> None:
        self.us = float("inf")

    def take(self, calls: int = 1_000) -> None:
        """One round."""
        loads, text, clock = json.loads, UNIT_TEXT, time.perf_counter
        began = clock()
        for _ in range(calls):
            loads(text)
        self.us = min(self.us, (clock() - began) / calls * 1e6)


@dataclass
class Row:
    """One figure: ``value`` against ``target`` (``lower`` is better unless said), with what it was made of. ``json``: what is
    measured in ``json.loads`` of the same run (``Unit``)."""

    name: str
    value: float
    unit: str
    target: float | None = None
    lower_is_better: bool = True
    details: str = ""
    extra: dict[str, float] = field(default_factory=dict)
    json: float | None = None

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


def best_median_us(samples: Sequence[float], rounds: int) -> float:
    """The median of the best of the rounds that interleaved samples consist of, in microseconds: what is told in ``Unit``s."""
    calls = len(samples) // rounds
    return min(median_us(samples[n * calls : (n + 1) * calls]) for n in range(rounds))


def latency_row(
    name: str, plain: list[float], through: list[float], target: float | None, unit: Unit, rounds: int
) -> Row:
    """The median of ``through`` over that of ``plain``."""
    bare, mesh = median_us(plain), median_us(through)
    details = f"p50 {mesh:.0f} us against {bare:.0f} us; p99 {percentile_us(through, 99):.0f} / {percentile_us(plain, 99):.0f}"
    extra = {"bare_us": bare, "mesh_us": mesh, "bare_json": best_median_us(plain, rounds) / unit.us}
    return Row(name, mesh / bare, "x", target, True, details, extra, best_median_us(through, rounds) / unit.us)


def interleaved(
    callables: Sequence[Callable[[], object]], rounds: int, calls: int, warm_up: int = 50, unit: Unit | None = None
) -> list[list[float]]:
    """Samples (seconds a call) of each, taken in turn, and ``unit`` with them."""
    samples: list[list[float]] = [[] for _ in callables]
    for call in callables:
        for _ in range(warm_up):
            call()
    clock = time.perf_counter
    for _ in range(rounds):
        if unit is not None:
            unit.take()
        for call, taken in zip(callables, samples, strict=True):
            for _ in range(calls):
                began = clock()
                call()
                taken.append(clock() - began)
    return samples


async def interleaved_async(
    callables: Sequence[Callable[[], Awaitable[object]]],
    rounds: int,
    calls: int,
    warm_up: int = 50,
    unit: Unit | None = None,
) -> list[list[float]]:
    """The same for coroutines, one at a time."""
    samples: list[list[float]] = [[] for _ in callables]
    for call in callables:
        for _ in range(warm_up):
            await call()
    clock = time.perf_counter
    for _ in range(rounds):
        if unit is not None:
            unit.take()
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


@dataclass(frozen=True)
class Cost:
    """``us``: microseconds a call, the median round; ``json``: the best round in ``Unit``s."""

    us: float
    json: float


def cost_of(call: Callable[[], object], calls: int, rounds: int = 7, per: int = 1) -> Cost:
    """The cost of one call, by rounds of a tight loop; ``per``: of so many things that one call does."""
    unit, taken = Unit(), []
    for _ in range(rounds):
        unit.take()
        began = time.perf_counter()
        for _ in range(calls):
            call()
        taken.append((time.perf_counter() - began) / calls / per)
    return Cost(median_us(taken), min(taken) * 1e6 / unit.us)


async def cost_of_async(call: Callable[[], Awaitable[object]], calls: int, rounds: int = 7) -> Cost:
    """The same for a coroutine."""
    unit, taken = Unit(), []
    for _ in range(rounds):
        unit.take()
        began = time.perf_counter()
        for _ in range(calls):
            await call()
        taken.append((time.perf_counter() - began) / calls)
    return Cost(median_us(taken), min(taken) * 1e6 / unit.us)
