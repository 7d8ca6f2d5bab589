"""Rounds in which proxies take turns, and rows made of them: medians of the ratios of paired rounds, with their spread."""

from __future__ import annotations

import contextlib
import statistics
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from benchmarks.measure import Row
from benchmarks.proxy_load import Load
from benchmarks.proxy_processes import BASE, ENVOY, MESHLIB, Proxy

LOOK = 0.25


@dataclass(frozen=True)
class Taken:
    """One round of one proxy. ``cpu``: microseconds a request; ``busy`` and ``waited``: shares of the round's time in which it
    ran, and in which it was ready to run and others had its core; ``memory``: the most MB it had in the round."""

    load: Load
    cpu: float
    busy: float
    waited: float
    memory: float


@dataclass(frozen=True)
class Figure:
    """What a row tells. ``of``: the value of a round; ``unit``: of the values, for the details; ``must`` (None: not
    asked for) and ``stretch`` are ratios to Envoy's."""

    name: str
    of: Callable[[Taken], float]
    unit: str
    must: float | None
    stretch: float | None = None
    lower_is_better: bool = True


Rounds = dict[str, list[Taken]]


def take_turns(proxies: Sequence[Proxy], rounds: int, once: Callable[[Proxy, int], Load]) -> Rounds:
    """``once`` is one round of one proxy, given its number, which no two rounds share; the first of each is not counted."""
    taken: Rounds = {proxy.name: [] for proxy in proxies}
    number = 0
    for proxy in proxies:
        once(proxy, number)
        number += 1
    for turn in range(rounds):
        # who begins changes, as who comes second meets a warmer machine
        for proxy in proxies if turn % 2 == 0 else reversed(proxies):
            number += 1
            cpu, waited, began = proxy.cpu(), proxy.waited(), time.monotonic()
            with watched(proxy) as memory:
                load = once(proxy, number)
                spent, took = proxy.cpu() - cpu, time.monotonic() - began
            waited = proxy.waited() - waited
            taken[proxy.name].append(Taken(load, spent / load.requests * 1e6, spent / took, waited / took, max(memory)))
    return taken


@contextlib.contextmanager
def watched(proxy: Proxy) -> Iterator[list[float]]:
    """MB that the proxy has, looked at every ``LOOK`` seconds while the block lasts."""
    seen, over = [proxy.memory()], threading.Event()

    def look() -> None:
        while not over.wait(LOOK):
            seen.append(proxy.memory())

    thread = threading.Thread(target=look)
    thread.start()
    try:
        yield seen
    finally:
        over.set()
        thread.join()
        seen.append(proxy.memory())


def row(figure: Figure, rounds: Rounds, of: str = MESHLIB, to: str = ENVOY) -> Row:
    """The median of the ratios of paired rounds."""
    ours, theirs = rounds[of], rounds[to]
    value, low, high = spread([figure.of(a) / figure.of(b) for a, b in zip(ours, theirs, strict=True)])
    mine, other = statistics.median(map(figure.of, ours)), statistics.median(map(figure.of, theirs))
    details = f"{low:.2f} to {high:.2f} in {len(ours)} rounds; {mine:.4g} against {other:.4g} {figure.unit}"
    if figure.stretch is not None:
        good = value <= figure.stretch if figure.lower_is_better else value >= figure.stretch
        details += f"; stretch {figure.stretch:g} {'met' if good else 'missed'}"
    waited = statistics.median([each.waited for each in [*ours, *theirs]])
    if waited > 0.1:
        details += f"; NOT AN IDLE MACHINE: waited for its core {waited:.0%} of the time"
    extra = {"low": low, "high": high, "ours": mine, "theirs": other}
    name = f"proxy, {figure.name}, {of} / {to}"
    return Row(name, value, "x", figure.must if to == ENVOY else None, figure.lower_is_better, details, extra)


def rows(figures: Sequence[Figure], rounds: Rounds) -> list[Row]:
    """One a figure; and beside them those against another tree, where it was measured as well."""
    made = []
    for figure in figures:
        made.append(row(figure, rounds))
        if BASE in rounds:
            made.append(row(figure, rounds, to=BASE))
    return made


def spread(ratios: Sequence[float]) -> tuple[float, float, float]:
    """(median, lowest, highest)."""
    return statistics.median(ratios), min(ratios), max(ratios)


def not_measured(name: str, why: Exception) -> Row:
    """Says so, and is not counted: it has no target."""
    return Row(f"proxy, {name}", 0.0, "", details=f"not measured: {why}")
