"""How costs grow: services, endpoints and rules by powers of ten, each size in a process of its own (``scale_probe``)."""

from __future__ import annotations

import sys
import tempfile
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

from meshlib.bench.fit import power_law
from meshlib.bench.processes import Died, Process
from meshlib.bench.result import CLOSED, COMPILE, HELD, LOAD, LOOK_UP, STALL, Measure, Row
from meshlib.bench.scale_probe import ENDPOINTS, HASHED, KINDS, SERVICES
from meshlib.bench.svg import number

GROUP = "scale"
UNITS = {LOAD: "ms", COMPILE: "ms", HELD: "MB", LOOK_UP: "us", STALL: "ms"}
LONG = 1800.0
"""Seconds that the largest size may take on a busy machine."""
QUICK_ROUNDS, ROUNDS = 4, 5
MOST_OF_QUICK = 1_000
"""The largest size of a quick run."""


@dataclass(frozen=True)
class Step:
    """One size along an axis; ``name`` says what grows, ``seconds`` how long it takes, about, on an idle machine."""

    axis: str
    name: str
    size: int
    rounds: int

    @property
    def seconds(self) -> float:
        each = {"services": 0.006, "endpoints": 0.00015, "rules": 0.0006}[self.axis]
        return 1.0 + self.size * each * self.rounds


def steps(quick: bool) -> list[Step]:
    """10 to 10,000 services, to 100,000 endpoints, to 50,000 rules; a quick run leaves out what is above 1,000."""
    grown: list[tuple[str, str, tuple[int, ...]]] = [("services", SERVICES, (10, 100, 1_000, 10_000))]
    grown += [("endpoints", name, (10, 100, 1_000, 10_000, 100_000)) for name in (ENDPOINTS, HASHED)]
    grown += [("rules", name, (10, 100, 1_000, 10_000, 50_000)) for name in KINDS]
    return [
        Step(axis, name, size, QUICK_ROUNDS if quick else ROUNDS)
        for axis, name, sizes in grown
        for size in sizes
        if not quick or size <= MOST_OF_QUICK
    ]


def measure(step: Step) -> Row:
    """A size's row. Raises Died: its process ended by itself; the error has the end of what it said."""
    with tempfile.TemporaryDirectory(prefix="meshlib-bench-") as folder:
        arguments = [step.name, str(step.size), str(step.rounds)]
        name = f"{step.size:,} {step.axis} ({step.name})"
        command = [sys.executable, "-m", "meshlib.bench.scale_probe", *arguments]
        process = Process(name, command, Path(folder) / "log", talks=True)
        try:
            found: dict[str, list[float]] = process.reply(LONG)
        finally:
            process.end()
    measures = {name: Measure(UNITS[name], tuple(values)) for name, values in found.items()}
    return Row(GROUP, step.name, None, "", 0, 0, False, 0, CLOSED, measures, axis=step.axis, size=step.size)


def run(
    wanted: Sequence[Step], said: Callable[[str], None], advanced: Callable[[float], None], add: Callable[[Row], None]
) -> list[str]:
    """All steps, each handed to ``add`` as soon as it is measured; what could not be measured, in sentences."""
    failed = []
    for step in wanted:
        said(f"scale: {step.size:,} {step.axis} ({step.name})")
        try:
            add(measure(step))
        except Died as error:
            failed.append(f"{step.size:,} {step.axis} ({step.name}) were not measured: {error}")
        advanced(step.seconds)
    return failed


def growth(rows: Iterable[Row]) -> list[str]:
    """How each figure grows, in sentences, with the power law that was fitted: what a report says of them."""
    found: dict[tuple[str, str, str], list[tuple[int, float]]] = {}
    for row in rows:
        if row.group == GROUP:
            for name, measure in row.measures.items():
                found.setdefault((row.axis, row.name, name), []).append((row.size, measure.median))
    made = []
    for (axis, name, measured), points in found.items():
        fit = power_law([size for size, _ in points], [value for _, value in points])
        if fit is not None:
            made.append(f"{measured} along {axis} ({name}): {fit}")
    return made


COLUMNS = ("", "size", "load ms", "compile ms", "memory MB", "policy of a call us", "stall ms")
LEGEND = (
    "load: resources read and checked; compile: a snapshot made of them; memory: of that snapshot; policy of a call: rule, "
    "cluster, endpoint and bookkeeping; stall: what one change's reload does while calls of another thread wait. All times are "
    "CPU time, medians of rounds."
)


def cells(row: Row) -> tuple[str, ...]:
    """Of ``COLUMNS``."""
    figures = (row.measures.get(name) for name in (LOAD, COMPILE, HELD, LOOK_UP, STALL))
    return (row.name, f"{row.size:,}", *("-" if each is None else number(each.median) for each in figures))
