"""A report of the benchmark as a whole run makes it: all groups, all kinds of plots, figures that are made up with a seed."""

from __future__ import annotations

import functools
import math
from random import Random

from meshlib.bench.result import (
    CLOSED,
    COMPILE,
    CPU,
    HELD,
    LOOK_UP,
    MEMORY,
    P50,
    P90,
    P99,
    P999,
    RATE,
    STALL,
    Measure,
    Report,
    Row,
)

WAYS = {
    "bare httpx": 1.0,
    "bare aiohttp": 0.35,
    "httpx, tenacity, pybreaker, prometheus by hand": 1.35,
    "httpx through meshlib": 0.55,
    "httpx through 1 Envoy": 1.25,
    "httpx through 2 Envoys": 1.6,
    "httpx through 1 meshlib proxy": 1.5,
    "httpx through 2 meshlib proxies": 2.1,
}
GRPC = {"bare grpcio": 0.4, "gRPC through meshlib": 0.42, "gRPC through 1 Envoy": 0.7}
EDGES = tuple(0.01 * 1.1**n for n in range(110))


@functools.cache
def made_up(seed: int = 1, rounds: int = 7, quick: bool = False) -> Report:
    """Always the same for a seed."""
    random = Random(seed)
    rows: list[Row] = []
    for group, ways in (("library", WAYS), ("grpc", GRPC)):
        for world in ("asyncio",) if group == "library" else ("sync",):
            loads = [(n, 1024, False, 1) for n in ((1, 32) if quick or group == "grpc" else (1, 8, 32, 128))]
            if not quick and group == "library":
                loads += [(32, 0, False, 1), (32, 1 << 20, False, 1), (32, 1024, True, 1)]
                loads += [(32, 1024, False, 100), (32, 1024, False, 10_000)]
            for load in loads:
                rows += [
                    _row(random, group, world, name, cost, load, rounds, next(iter(ways)))
                    for name, cost in ways.items()
                ]
    if not quick:
        rows += _scale(random)
    machine: dict[str, str | int | float] = {
        "processor": "a made-up one",
        "cores": 2,
        "python": "CPython 3.12",
        "memory, MB": 24105,
    }
    notes = ("grpcio xds:/// is left out: it needs a control plane", "the machine was busy <before> the run & after")
    return Report("0.1.0", "1da966d1", "2026-11-26T22:00:00Z", 754.0, quick, machine, notes, tuple(rows))


def _row(
    random: Random,
    group: str,
    world: str,
    name: str,
    cost: float,
    load: tuple[int, int, bool, int],
    rounds: int,
    base: str,
) -> Row:
    in_flight, body, tls, rules = load
    cpu = cost * (1 + body / (1 << 19)) * (1.3 if tls else 1) * (1 + math.log10(rules) / 40)

    def measure(unit: str, value: float, spread: float = 0.04, higher: bool = False) -> Measure:
        return Measure(unit, tuple(value * random.lognormvariate(0, spread) for _ in range(rounds)), higher)

    p50 = cpu * in_flight**0.95
    latencies = _latencies(random, p50)
    measures = {
        CPU: measure("s", cpu), P50: measure("ms", p50), P90: measure("ms", p50 * 1.5, 0.1), P99: measure("ms", p50 * 2.6, 0.2),
        P999: measure("ms", p50 * 4, 0.3), RATE: measure("1/s", in_flight / p50 * 1000, higher=True),
        MEMORY: measure("MB", 40 + 30 * cost, 0.01),
    }  # fmt: skip
    baseline = None if name == base else base
    return Row(group, name, baseline, world, in_flight, body, tls, rules, CLOSED, measures, latencies, ("client",))


def _latencies(random: Random, p50: float) -> tuple[tuple[float, int], ...]:
    counts = [0] * len(EDGES)
    for _ in range(2_000):
        value = p50 * random.lognormvariate(0, 0.3) * (4 if random.random() < 0.02 else 1)
        counts[min(len(EDGES) - 1, max(0, math.ceil(math.log(value / 0.01) / math.log(1.1))))] += 1
    return tuple((edge, n) for edge, n in zip(EDGES, counts, strict=True) if n)


def _scale(random: Random) -> list[Row]:
    made = []
    for axis, name, sizes in (
        ("services", "services", (10, 100, 1000, 10_000)),
        ("endpoints", "endpoints of one service", (10, 100, 1000, 10_000, 100_000)),
        ("rules", "exact paths", (10, 100, 1000, 10_000, 50_000)),
        ("rules", "regular expressions", (10, 100, 1000, 10_000, 50_000)),
    ):
        for size in sizes:
            costs = {
                COMPILE: ("ms", 1 + size * 0.12),
                HELD: ("MB", 0.1 + size * 0.004),
                LOOK_UP: ("us", 4 + math.log10(size)),
            }
            if axis == "services":
                costs[STALL] = ("ms", 0.4 + size * 0.0009)
            measures = {
                key: Measure(unit, tuple(value * random.lognormvariate(0, 0.05) for _ in range(5)))
                for key, (unit, value) in costs.items()
            }
            made.append(Row("scale", name, None, "", 0, 0, False, 0, CLOSED, measures, axis=axis, size=size))
    return made
