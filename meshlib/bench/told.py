"""What a report says, in cells of tables and plain sentences."""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence

from meshlib.bench.plan import COMPARED, NO_PROXY, Pace, parts_of_a_round
from meshlib.bench.result import CLOSED, CPU, MEMORY, P50, P99, RATE, Report, Row
from meshlib.bench.rounds import GENERATOR_CPU
from meshlib.bench.verdict import LEAST, MANY, Ratio, ratio

COLUMNS = ("", "CPU us", "x baseline", "p50 ms", "p99 ms", "calls/s", "MB")
KEPT = 0.97
"""Of a rate that was asked for: less is not kept."""
LEGEND = (
    "CPU: of a call, by the caller's process and all proxies, the backend aside; of proxies and servers by themselves, where a "
    "load generator calls, without it, as in an open loop without that in the caller; medians of rounds. "
    "x baseline: the median of the ratios of paired rounds, and where it "
    "is with nine chances in ten; ~ where that does not tell it from 1. MB: proportional set size of the same processes."
)


def by_conditions(rows: Sequence[Row]) -> dict[str, list[Row]]:
    """Rows that took turns, which have in common what is told here."""
    found: dict[str, list[Row]] = {}
    for row in rows:
        found.setdefault(f"{row.group}: {row.conditions}", []).append(row)
    return found


def cells(row: Row, rows: Sequence[Row]) -> tuple[str, ...]:
    """Of ``COLUMNS``; ``rows`` are those that took turns with it."""
    base = next((each for each in rows if each.name == row.baseline), None)
    found = cpu_ratio(row, base) if base is not None else None
    told = "-" if found is None else _told(found)
    if row.baseline is None:
        told = "1" if CPU in row.measures else "-"
    return (
        row.name,
        _number(row, CPU, 1000),
        told,
        *(_number(row, name) for name in (P50, P99, RATE, MEMORY)),
    )


def cpu_ratio(of: Row, to: Row) -> Ratio | None:
    """None: one of them has no CPU time."""
    here, there = of.measures.get(CPU), to.measures.get(CPU)
    return None if here is None or there is None else ratio(here.values, there.values)


def _number(row: Row, name: str, scale: float = 1.0) -> str:
    measure = row.measures.get(name)
    if measure is None:
        return "-"
    value = measure.median * scale
    return f"{value:,.0f}" if value >= 100 else f"{value:.3g}"


def _told(found: Ratio) -> str:
    return f"{'' if found.told_apart else '~'}{found.median:.2f} ({found.low:.2f} to {found.high:.2f})"


def sentences(report: Report, pace: Pace) -> list[str]:
    """What follows: ratios of CPU time of those that one asks about, or that nothing does."""
    made = []
    for where, rows in by_conditions(report.rows).items():
        named = {row.name: row for row in rows}
        for of, to in COMPARED:
            if of in named and to in named:
                found = cpu_ratio(named[of], named[to])
                if found is not None:
                    parts = parts_of_a_round(rows[0].group)
                    made.append(f"{where}: {sentence(of, to, found, len(rows) * pace.seconds, parts)}")
    return made


def sentence(of: str, to: str, found: Ratio, seconds: float, parts: int = 1) -> str:
    """``seconds``: that a round of all that took turns takes, which was ``parts`` rounds of the row."""
    interval = f"{found.low:.2f} to {found.high:.2f}, {found.rounds} round{'s' if found.rounds > 1 else ''}"
    if found.told_apart:
        return f"{of} takes {found.median:.2f} times the CPU of {to} ({interval})."
    if found.rounds < LEAST:
        return f"no conclusion on the CPU of {of} and {to} ({interval}): too few rounds, it takes {LEAST} at least."
    if found.rounds_needed >= MANY:
        return f"no conclusion on the CPU of {of} and {to} ({interval}): no run of reasonable length would tell the two apart."
    asked = math.ceil(found.rounds_needed / parts)
    return (
        f"no conclusion on the CPU of {of} and {to} ({interval}): the spread is larger than the difference. About "
        f"{found.rounds_needed} rounds ({asked * seconds / 60:.1f} min) would tell: --rounds {asked}."
    )


def limits(rows: Iterable[Row]) -> list[str]:
    """What the load generator makes by itself."""
    alone = [row for row in rows if row.name == NO_PROXY.name and row.load == CLOSED and GENERATOR_CPU in row.measures]
    if not alone:
        return []
    best = max(alone, key=lambda row: row.measures[RATE].median)
    spent = best.measures[GENERATOR_CPU].median * 1000
    return [
        f"the load generator's own limit on this machine is {best.measures[RATE].median:,.0f} requests/s (row {best.name!r}, "
        f"{best.in_flight} in flight, {spent:.0f} us of CPU a request): rates of rows that come near are its own"
    ]


def noise(rows: Iterable[Row]) -> list[str]:
    """How much rounds differed, and what could not keep its rate."""
    rows, made = list(rows), []
    spread = sorted(row.measures[CPU].spread for row in rows if CPU in row.measures)
    if spread:
        made.append(
            f"noise: the quartiles of CPU a call are {spread[len(spread) // 2]:.0%} of the median apart in the middle row, "
            f"{spread[-1]:.0%} in the worst"
        )
    behind: dict[str, list[str]] = {}
    for row in rows:
        if row.load != CLOSED and RATE in row.measures:
            asked, reached = float(row.load.split()[1].removesuffix("/s")), row.measures[RATE].median
            if reached < KEPT * asked:
                behind.setdefault(f"{row.group}, {row.conditions}", []).append(f"{row.name} ({reached:.0f}/s)")
    return made + [
        f"{where}: the rate was not kept by {', '.join(names)}; their latencies grow with the length of the run"
        for where, names in behind.items()
    ]
