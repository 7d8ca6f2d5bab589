"""Rows put together as a report shows them: what took turns, what grows along a size, where meshlib is worse than others."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from meshlib.bench.plots import Look
from meshlib.bench.result import CLOSED, CPU, MEMORY, P50, P99, RATE, Measure, Row, size_of
from meshlib.bench.svg import SHAPES
from meshlib.bench.verdict import Ratio, ratio

OURS = "meshlib"
"""Rows with this in their name are meshlib's."""
_OTHERS = (("t1", "wedge"), ("t3", "cross"), ("t6", "diamond"), ("t4", "square"))
_OF_SCALE = (
    ("t0", "circle"),
    ("t1", "square"),
    ("t2", "triangle"),
    ("t3", "diamond"),
    ("t4", "wedge"),
    ("t5", "cross"),
)


@dataclass(frozen=True, slots=True)
class Loss:
    """In ``measure``, ``ours`` is worse than ``other`` by ``found`` in the worst of the conditions where it is: ``worse`` of
    the ``all`` that have both."""

    ours: str
    other: str
    measure: str
    found: Ratio
    conditions: str
    worse: int
    all: int


def looks(rows: Iterable[Row]) -> dict[str, Look]:
    """By name, the same in all plots: meshlib, its proxy, Envoy and what has no mesh have tones of their own. Two of a group
    never look alike, as long as there are shapes."""
    found: dict[str, Look] = {}
    taken: set[tuple[str, Look]] = set()
    others = scaled = 0
    for row in rows:
        name, low = row.name, row.name.lower()
        if name in found:
            continue
        if row.group in ("scale", "mechanisms"):
            look = Look(*_OF_SCALE[scaled % len(_OF_SCALE)], scaled >= len(_OF_SCALE))
            scaled += 1
        elif OURS in low:
            look = Look("t5", "square", "2 " in low) if "prox" in low else Look("t0", "circle")
        elif "envoy" in low:
            look = Look("t2", "triangle", "2 " in low)
        elif row.baseline is None:
            look = Look("t7", "diamond")
        else:
            look = Look(*_OTHERS[others % len(_OTHERS)], others >= len(_OTHERS))
            others += 1
        # the same with tracing, say: its tone, another shape
        free = (Look(look.tone, shape, look.dashed) for shape in (look.shape, *SHAPES))
        found[name] = next((each for each in free if (row.group, each) not in taken), look)
        taken.add((row.group, found[name]))
    return found


def scenes(rows: Iterable[Row]) -> dict[str, list[Row]]:
    """By conditions: rows of one list took turns, and are compared."""
    found: dict[str, list[Row]] = defaultdict(list)
    for row in rows:
        found[row.conditions].append(row)
    return dict(found)


@dataclass(frozen=True, slots=True)
class Growth:
    """Rows that differ in ``axis`` alone, by name and then size; ``fixed`` says what they share."""

    axis: str
    fixed: str
    rows: dict[str, list[tuple[int, Row]]]


def growths(rows: Sequence[Row], axis: str) -> list[Growth]:
    """What there is along ``in_flight``, ``body`` or ``rules``: for each world the rows that share all else, those with
    the most sizes where there are several; none with fewer than two sizes."""
    shared: dict[tuple[object, ...], list[Row]] = defaultdict(list)
    for row in rows:
        rest = {"in_flight": row.in_flight, "body": row.body, "rules": row.rules, "tls": row.tls, "load": row.load}
        del rest[axis]
        shared[(row.world, *rest.values())].append(row)
    best: dict[str, list[Row]] = {}
    for key, found in shared.items():
        world, sizes = str(key[0]), {getattr(row, axis) for row in found}
        if len(sizes) >= 2 and len(sizes) > len({getattr(row, axis) for row in best.get(world, [])}):
            best[world] = found
    return [_growth(axis, found) for found in best.values()]


def _growth(axis: str, rows: Sequence[Row]) -> Growth:
    by_name: dict[str, list[tuple[int, Row]]] = defaultdict(list)
    for row in rows:
        by_name[row.name].append((getattr(row, axis), row))
    return Growth(axis, _fixed(axis, rows[0]), {name: found for name, found in by_name.items() if len(found) >= 2})


def _fixed(axis: str, row: Row) -> str:
    said = {
        "world": row.world, "in_flight": f"{row.in_flight} in flight", "body": size_of(row.body),
        "tls": "mTLS" if row.tls else "plain", "rules": f"{row.rules:,} {'rule' if row.rules == 1 else 'rules'}",
        "load": "" if row.load == CLOSED else row.load,
    }  # fmt: skip
    return ", ".join(part for name, part in said.items() if part and name != axis)


def against(row: Row, other: Row, measure: str) -> Ratio | None:
    """What ``row`` takes of ``measure`` for each that ``other`` takes, by rounds that were neighbours; None: one has none, or
    no ratio is of it."""
    mine, theirs = row.measures.get(measure), other.measures.get(measure)
    if mine is None or theirs is None or min(mine.values) <= 0:
        return None
    return ratio(mine.values, theirs.values)


def losses(rows: Sequence[Row], measures: Sequence[str] = (CPU, P50, P99, RATE, MEMORY)) -> list[Loss]:
    """Where meshlib is worse than anything else that took turns with it, the greatest first. What the spread does not tell
    apart is neither a loss nor a win."""
    seen: dict[tuple[str, str, str], int] = defaultdict(int)
    lost: dict[tuple[str, str, str], list[tuple[float, Ratio, str]]] = defaultdict(list)
    for conditions, together in scenes(rows).items():
        for ours in (row for row in together if OURS in row.name):
            for other in (row for row in together if OURS not in row.name and row.group == ours.group):
                for measure in measures:
                    found = against(ours, other, measure)
                    if found is None:
                        continue
                    key = (ours.name, other.name, measure)
                    seen[key] += 1
                    worse = found.median < 1 if ours.measures[measure].higher_is_better else found.median > 1
                    if worse and found.told_apart:
                        size = max(found.median, 1 / found.median)
                        lost[key].append((size, found, f"{ours.group}: {conditions}"))
    made = []
    for key, found_all in lost.items():
        _, found, conditions = max(found_all, key=lambda each: each[0])
        made.append(Loss(*key, found, conditions, len(found_all), seen[key]))
    return sorted(made, key=lambda loss: -max(loss.found.median, 1 / loss.found.median))


def measured(rows: Iterable[Row], measure: str) -> list[tuple[Row, Measure]]:
    """Those that have it."""
    return [(row, row.measures[measure]) for row in rows if measure in row.measures]
