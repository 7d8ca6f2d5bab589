"""Rounds of calls in a client's process: closed loop and open loop, on asyncio and in threads, with latencies and CPU time.

Closed loop: so many callers, each waits for a response before it calls again, and makes one call at least. A server that
stalls is then asked less, and the stall counts once (coordinated omission). Open loop: calls are due at a fixed rate, whatever
became of those before; a latency counts from when its call was due, so that a stall counts for every call that fell into it.
"""

from __future__ import annotations

import asyncio
import json
import math
import sys
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

BUCKET = 1.1
"""Latencies are counted in buckets, each so many times as wide as the one before."""
FLOOR_MS = 0.01
PERCENTILES = {"p50": 50.0, "p90": 90.0, "p99": 99.0, "p99.9": 99.9}

AsyncCall = Callable[[], Awaitable[None]]
Call = Callable[[], None]


@dataclass(frozen=True)
class Asked:
    """A round. ``rate``: calls due in a second, 0 for a closed loop."""

    in_flight: int
    body: int
    seconds: float
    rate: float = 0.0


@dataclass
class Taken:
    """Seconds of each call, and how many seconds after it was due it began (open loop)."""

    latencies: list[float] = field(default_factory=list)
    late: list[float] = field(default_factory=list)


async def on_a_loop(call: AsyncCall, asked: Asked) -> Taken:
    """A round of coroutines."""
    taken, clock = Taken(), time.perf_counter
    began = clock()
    until = began + asked.seconds
    note, numbers = taken.latencies.append, 0

    async def closed() -> None:
        now = clock()
        while True:
            await call()
            after = clock()
            note(after - now)
            if after >= until:
                return
            now = after

    async def opened() -> None:
        nonlocal numbers
        while True:
            due = began + numbers / asked.rate
            numbers += 1
            if due >= until:
                return
            if (left := due - clock()) > 0:
                await asyncio.sleep(left)
            taken.late.append(clock() - due)
            await call()
            note(clock() - due)

    async with asyncio.TaskGroup() as group:
        for _ in range(asked.in_flight):
            group.create_task(opened() if asked.rate else closed())
    return taken


def in_threads(call: Call, asked: Asked) -> Taken:
    """A round of blocking calls, a thread for each that is in flight (this one alone for one)."""
    taken, clock, lock = Taken(), time.perf_counter, threading.Lock()
    failures: list[BaseException] = []
    began = clock()
    until = began + asked.seconds
    note, numbers = taken.latencies.append, 0

    def closed() -> None:
        now = clock()
        while True:
            call()
            after = clock()
            note(after - now)
            if after >= until:
                return
            now = after

    def opened() -> None:
        nonlocal numbers
        while True:
            with lock:
                due = began + numbers / asked.rate
                numbers += 1
            if due >= until:
                return
            if (left := due - clock()) > 0:
                time.sleep(left)
            taken.late.append(clock() - due)
            call()
            note(clock() - due)

    work = opened if asked.rate else closed
    if asked.in_flight == 1:
        work()
        return taken

    def kept() -> None:
        try:
            work()
        except Exception as error:  # noqa: BLE001 (told by the thread that waits)
            failures.append(error)

    threads = [threading.Thread(target=kept) for _ in range(asked.in_flight)]
    for each in threads:
        each.start()
    for each in threads:
        each.join()
    if failures:
        raise failures[0]
    return taken


def summary(taken: Taken, wall: float, cpu: float) -> dict[str, Any]:
    """What the parent is told of a round: seconds of the clock and of CPU, percentiles in ms, counts by bucket."""
    ordered = sorted(taken.latencies)
    counts: dict[int, int] = {}
    for each in ordered:
        bucket = bucket_of(each * 1e3)
        counts[bucket] = counts.get(bucket, 0) + 1
    return {
        "calls": len(ordered),
        "wall": wall,
        "cpu": cpu,
        "ms": {name: percentile(ordered, percent) * 1e3 for name, percent in PERCENTILES.items()} if ordered else {},
        "buckets": sorted(counts.items()),
        "late_ms": percentile(sorted(taken.late), 99.0) * 1e3 if taken.late else 0.0,
    }


def percentile(ordered: Sequence[float], percent: float) -> float:
    """By the nearest rank."""
    return ordered[max(0, math.ceil(percent * len(ordered) / 100 - 1e-9) - 1)]


def bucket_of(ms: float) -> int:
    return max(0, math.ceil(math.log(max(ms, FLOOR_MS) / FLOOR_MS, BUCKET) - 1e-9))


def upper_ms(bucket: int) -> float:
    """The longest latency that a bucket counts."""
    return FLOOR_MS * BUCKET**bucket


def reply(found: dict[str, Any]) -> None:
    """To the parent."""
    sys.stdout.write(json.dumps(found) + "\n")
    sys.stdout.flush()


def told(error: BaseException) -> dict[str, Any]:
    """Of a round that failed: why, in a line."""
    while isinstance(error, BaseExceptionGroup):
        error = error.exceptions[0]
    return {"failed": " ".join(f"{type(error).__name__}: {error}".split())[:400]}


def asked_by(line: str) -> Asked:
    """A line of the parent's."""
    return Asked(**json.loads(line))


GENERATOR = "generator"
"""Of an open loop: seconds of CPU a call that are the load generator's, which is in the client's process: timers, and the
wake-ups for what is due."""
GENERATORS_SHARE = 0.5
"""Of the time of a round, for which calls are due that do nothing."""


def _nothing() -> None:
    """A call."""


async def _nothing_awaited() -> None:
    """A call."""


def serve_rounds(calls_of: Callable[[Asked], Call]) -> None:
    """Rounds in threads as the parent asks for them, until its end of the pipe closes."""
    reply({"ready": True})
    for line in sys.stdin:
        asked = asked_by(line)
        try:
            call = calls_of(asked)
            began, cpu = time.perf_counter(), time.process_time()
            taken = in_threads(call, asked)
            found = summary(taken, time.perf_counter() - began, time.process_time() - cpu)
            if asked.rate:
                idle, cpu = _idle(asked), time.process_time()
                found[GENERATOR] = _each(in_threads(_nothing, idle), cpu)
            reply(found)
        except Exception as error:  # noqa: BLE001 (what the round met, which the parent tells)
            reply(told(error))


async def serve_rounds_on_a_loop(calls_of: Callable[[Asked], AsyncCall]) -> None:
    """The same on this loop."""
    await serve_taken(lambda asked: on_a_loop(calls_of(asked), asked), lambda asked: on_a_loop(_nothing_awaited, asked))


async def serve_taken(
    take: Callable[[Asked], Awaitable[Taken]], without_calls: Callable[[Asked], Awaitable[Taken]] | None = None
) -> None:
    """The same of whoever takes a round by itself. ``without_calls``: takes one of which the load generator is all."""
    loop = asyncio.get_running_loop()
    reply({"ready": True})
    while line := await loop.run_in_executor(None, sys.stdin.readline):
        asked = asked_by(line)
        try:
            began, cpu = time.perf_counter(), time.process_time()
            taken = await take(asked)
            found = summary(taken, time.perf_counter() - began, time.process_time() - cpu)
            if asked.rate and without_calls is not None:
                idle, cpu = _idle(asked), time.process_time()
                found[GENERATOR] = _each(await without_calls(idle), cpu)
            reply(found)
        except Exception as error:  # noqa: BLE001 (what the round met, which the parent tells)
            reply(told(error))


def _idle(asked: Asked) -> Asked:
    return replace(asked, seconds=asked.seconds * GENERATORS_SHARE)


def _each(taken: Taken, began: float) -> float:
    """CPU a call since ``began``."""
    return (time.process_time() - began) / max(1, len(taken.latencies))
