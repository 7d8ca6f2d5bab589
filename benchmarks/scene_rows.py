"""The rows of ``meshlib bench``, in the same scenes and by the same runner: with ``--quick`` its quick points, else all."""

from __future__ import annotations

import functools
import sys
from collections.abc import Callable

from benchmarks.measure import Row
from meshlib.bench import plan
from meshlib.bench.result import CPU, P50, RATE
from meshlib.bench.rounds import Runner


def scene_rows(group: str, quick: bool) -> list[Row]:
    """Of one group (``plan.ONLY``): CPU of a call, of its client and every proxy. What was left out is a row that says so."""
    runner = Runner(plan.QUICK if quick else plan.FULL, _said, lambda seconds: None)
    for part in (plan.quick if quick else plan.full)(group):
        runner.measure(part)
    rows = []
    for row in runner.rows:
        found = {name: row.measures[name].median for name in (CPU, P50, RATE) if name in row.measures}
        if CPU in found:
            name = f"{row.name}, {row.conditions}"
            details = f"p50 {found[P50]:.2f} ms, {found[RATE]:,.0f} calls/s"
            rows.append(Row(f"{group}: {name}", found[CPU] * 1e3, "us", details=details))
    return rows + [Row(group, 0.0, "", details=f"not measured: {sentence}") for sentence in runner.notes]


def _said(sentence: str) -> None:
    sys.stderr.write(f"{sentence}\n")


SCENE_ROWS: dict[str, Callable[[bool], list[Row]]] = {
    f"bench-{group}": functools.partial(scene_rows, group) for group in plan.ONLY
}
