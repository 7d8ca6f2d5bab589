"""What a run of the benchmark measured, as data: written as JSON, read by ``meshlib bench compare``, drawn by the report.

The law of this file: it holds and computes, and knows nothing of how anything was measured or is shown.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from meshlib.problems import MeshError

FORMAT = 1
GROUPS = ("library", "grpc", "proxy", "servers", "scale", "mechanisms")
"""What a row is of: ``meshlib bench --only`` takes them, ``mechanisms`` aside (those are a developer's)."""

CLOSED = "closed"
"""The load of a row whose callers wait for a response before they send again. Any other is ``open RATE/s``."""

P50, P90, P99, P999 = "p50", "p90", "p99", "p99.9"
"""Latencies, in ms."""
RATE = "requests/s"
CPU = "cpu/1000"
"""CPU seconds that 1,000 requests take, of every process that is named in the row, the load generator's as well; what Istio
publishes as vCPU per 1,000 requests/s is the same figure."""
MEMORY = "pss"
"""Proportional set size of every process that is named in the row, in MB (10^6 bytes)."""
LOAD, COMPILE, HELD, LOOK_UP, STALL = "load", "compile", "memory", "look-up", "stall"
"""Of rows of scale: ms of CPU time until resources are read and checked, and until they are a snapshot; MB that it holds; us of
CPU time that the policy of a call takes; and ms of CPU time that a reload takes while a call waits, the longest such."""


class UnreadableReport(MeshError):
    """A file is not a report of ``meshlib bench``, or of a format that this version does not read: what, where, what to do."""


@dataclass(frozen=True, slots=True)
class Measure:
    """What one thing took, once for each round. ``values`` are in the order in which they were measured, at least one."""

    unit: str
    values: tuple[float, ...]
    higher_is_better: bool = False

    @property
    def median(self) -> float:
        return quantile(self.values, 0.5)

    @property
    def low(self) -> float:
        """The first quartile."""
        return quantile(self.values, 0.25)

    @property
    def high(self) -> float:
        """The third quartile."""
        return quantile(self.values, 0.75)

    @property
    def spread(self) -> float:
        """The distance of the quartiles as a part of the median; 0 where that is 0."""
        return (self.high - self.low) / abs(self.median) if self.median else 0.0


@dataclass(frozen=True, slots=True)
class Row:
    """One thing measured under one load.

    ``baseline`` is the ``name`` of the row of the same group and load that it is told against (None: it is one itself);
    ``world`` is how callers run (sync, asyncio, grpc-threads ...); ``body`` is in bytes; ``load`` is ``closed`` or
    ``open RATE/s``. ``axis`` (services, endpoints, rules) and ``size`` say what a row of group ``scale`` grows in, and how
    far. ``latencies``: how many requests took no longer than so many ms and longer than the one before, all rounds together.
    ``processes`` names those whose CPU time and memory are counted.
    """

    group: str
    name: str
    baseline: str | None
    world: str
    in_flight: int
    body: int
    tls: bool
    rules: int
    load: str
    measures: Mapping[str, Measure]
    latencies: tuple[tuple[float, int], ...] = ()
    processes: tuple[str, ...] = ()
    axis: str = ""
    size: int = 0

    @property
    def key(self) -> tuple[str, str, str, int, int, bool, int, str, str, int]:
        """What makes two rows of two reports the same one."""
        return (
            self.group, self.name, self.world, self.in_flight, self.body, self.tls, self.rules, self.load, self.axis,
            self.size,
        )  # fmt: skip

    @property
    def conditions(self) -> str:
        """All but the name, for people: ``asyncio, 32 in flight, 1 kB, mTLS, 100 rules``."""
        if self.axis:
            return f"{self.size:,} {self.axis}"
        parts = [self.world] if self.world else []
        if self.in_flight:
            parts += [f"{self.in_flight} in flight", size_of(self.body), "mTLS" if self.tls else "plain"]
        if self.rules:
            parts.append("1 rule" if self.rules == 1 else f"{self.rules:,} rules")
        if self.load != CLOSED:
            parts.append(self.load)
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Report:
    """A run. ``at`` is when it began (ISO 8601, UTC), ``seconds`` how long it took, ``machine`` what it ran on, ``notes`` what
    was left out, is not to be trusted or was lost, and why."""

    version: str
    commit: str
    at: str
    seconds: float
    quick: bool
    machine: Mapping[str, str | int | float]
    notes: tuple[str, ...]
    rows: tuple[Row, ...]
    format: int = FORMAT

    def to_json(self) -> str:
        """A JSON text of one line a row, so that two can be compared by people, too."""
        head = {
            "format": self.format, "version": self.version, "commit": self.commit, "at": self.at, "seconds": self.seconds,
            "quick": self.quick, "machine": dict(self.machine), "notes": list(self.notes),
        }  # fmt: skip
        lines = [json.dumps(_row_of(row), ensure_ascii=False, allow_nan=False) for row in self.rows]
        rows = ",\n".join(f"  {line}" for line in lines)
        body = json.dumps(head, ensure_ascii=False, allow_nan=False, indent=1)
        return f'{body[:-2]},\n "rows": [\n{rows}\n ]\n}}\n' if rows else f'{body[:-2]},\n "rows": []\n}}\n'

    @classmethod
    def from_json(cls, text: str, file: str = "report") -> Report:
        """What ``to_json`` wrote. ``file`` is what errors call it.

        Raises:
            UnreadableReport: it is not JSON, not a report, or of another format
        """
        try:
            found = json.loads(text)
        except ValueError as error:
            raise UnreadableReport(
                f"{file} is not JSON: {error}; name a file that meshlib bench --json has written"
            ) from None
        except RecursionError:
            raise UnreadableReport(
                f"{file} is JSON that is nested too deep for a report; name a file that meshlib bench --json has written"
            ) from None
        read = _Reader(file)
        report = read.typed(found, dict, "")
        number = report.get("format")
        if number != FORMAT or isinstance(number, bool):
            raise UnreadableReport(
                f"{file} is a report of format {number!r}, and this version of meshlib reads format {FORMAT}; "
                "measure again with this version, or compare with the version that wrote it"
                if "format" in report
                else f"{file} has no field format: it is not a report; name a file that meshlib bench --json has written"
            )
        return read.report(report)


def quantile(values: tuple[float, ...], part: float) -> float:
    """That of a sample, between neighbours in proportion; ``part`` from 0 to 1. ValueError: there are no values."""
    if not values:
        raise ValueError("a measure without values has no quantiles")
    ordered = sorted(values)
    place = part * (len(ordered) - 1)
    below = math.floor(place)
    above = min(below + 1, len(ordered) - 1)
    # not by the difference of the two: that may be more than a float holds
    return ordered[below] * (1 - (place - below)) + ordered[above] * (place - below)


def size_of(count: int) -> str:
    """Bytes for people: 0 B, 1 kB, 64 kB, 1 MB; powers of 1,024, as bodies are made."""
    for unit, size in (("MB", 1 << 20), ("kB", 1 << 10)):
        if count >= size:
            return f"{count / size:g} {unit}"
    return f"{count} B"


def _row_of(row: Row) -> dict[str, Any]:
    measures = {
        name: {"unit": each.unit, "values": list(each.values)}
        | ({"higher_is_better": True} if each.higher_is_better else {})
        for name, each in row.measures.items()
    }
    return {
        "group": row.group, "name": row.name, "baseline": row.baseline, "world": row.world, "in_flight": row.in_flight,
        "body": row.body, "tls": row.tls, "rules": row.rules, "load": row.load, "axis": row.axis, "size": row.size,
        "processes": list(row.processes), "measures": measures, "latencies": [list(each) for each in row.latencies],
    }  # fmt: skip


MOST = 10**12
"""Requests that a row can have made."""


@dataclass(slots=True)
class _Reader:
    """Reads values that anybody may have written: each is what it has to be, or the error names its place."""

    file: str

    def wrong(self, where: str, expected: str, value: object) -> UnreadableReport:
        shown = repr(value)
        shown = shown if len(shown) <= 60 else f"{shown[:57]}..."
        place = f", field {where}" if where else ""
        return UnreadableReport(
            f"{self.file}{place}: expected {expected}, and it is {shown}; measure again with meshlib bench --json"
        )

    def typed(self, value: object, kind: type, where: str) -> Any:
        named = {dict: "an object", list: "a list", str: "a string", int: "an integer", bool: "true or false"}
        if not isinstance(value, kind) or (kind is int and isinstance(value, bool)):
            raise self.wrong(where, named[kind], value)
        if isinstance(value, str) and not value.isascii():
            try:
                value.encode()
            except UnicodeEncodeError:  # half of a surrogate pair, which JSON can say and no page can
                raise self.wrong(where, "text", value) from None
        return value

    def number(self, value: object, where: str) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float):
            raise self.wrong(where, "a number", value)
        try:
            made = float(value)
        except OverflowError:
            made = math.inf
        if not math.isfinite(made):
            raise self.wrong(where, "a finite number", value)
        return made

    def of(self, found: Mapping[str, Any], name: str, kind: type, where: str) -> Any:
        """A field that has to be there."""
        place = f"{where}.{name}" if where else name
        if name not in found:
            raise UnreadableReport(f"{self.file}: field {place} is missing; measure again with meshlib bench --json")
        return self.typed(found[name], kind, place)

    def report(self, found: Mapping[str, Any]) -> Report:
        machine = self.of(found, "machine", dict, "")
        for name, value in machine.items():
            self.typed(name, str, "machine")
            if isinstance(value, str):
                self.typed(value, str, f"machine.{name}")
            else:
                self.number(value, f"machine.{name}")
        notes = self.of(found, "notes", list, "")
        return Report(
            version=self.of(found, "version", str, ""),
            commit=self.of(found, "commit", str, ""),
            at=self.of(found, "at", str, ""),
            seconds=self.number(found.get("seconds"), "seconds"),
            quick=self.of(found, "quick", bool, ""),
            machine=dict(machine),
            notes=tuple(self.typed(note, str, f"notes[{n}]") for n, note in enumerate(notes)),
            rows=tuple(self.row(row, f"rows[{n}]") for n, row in enumerate(self.of(found, "rows", list, ""))),
        )

    def row(self, found: object, where: str) -> Row:
        row = self.typed(found, dict, where)
        group = self.of(row, "group", str, where)
        if group not in GROUPS:
            raise self.wrong(f"{where}.group", f"one of {', '.join(GROUPS)}", group)
        baseline = row.get("baseline")
        measures = self.of(row, "measures", dict, where)
        for name in measures:
            self.typed(name, str, f"{where}.measures")
        processes = self.typed(row.get("processes", []), list, f"{where}.processes")
        buckets = self.typed(row.get("latencies", []), list, f"{where}.latencies")
        return Row(
            group=group,
            name=self.of(row, "name", str, where),
            baseline=None if baseline is None else self.typed(baseline, str, f"{where}.baseline"),
            world=self.of(row, "world", str, where),
            in_flight=self.of(row, "in_flight", int, where),
            body=self.of(row, "body", int, where),
            tls=self.of(row, "tls", bool, where),
            rules=self.of(row, "rules", int, where),
            load=self.of(row, "load", str, where),
            measures={name: self.measure(each, f"{where}.measures.{name}") for name, each in measures.items()},
            latencies=tuple(self.bucket(each, f"{where}.latencies[{n}]") for n, each in enumerate(buckets)),
            processes=tuple(self.typed(each, str, f"{where}.processes[{n}]") for n, each in enumerate(processes)),
            axis=self.typed(row.get("axis", ""), str, f"{where}.axis"),
            size=self.typed(row.get("size", 0), int, f"{where}.size"),
        )

    def measure(self, found: object, where: str) -> Measure:
        measure = self.typed(found, dict, where)
        values = self.of(measure, "values", list, where)
        if not values:
            raise self.wrong(f"{where}.values", "at least one value", values)
        return Measure(
            self.of(measure, "unit", str, where),
            tuple(self.number(value, f"{where}.values[{n}]") for n, value in enumerate(values)),
            self.typed(measure.get("higher_is_better", False), bool, f"{where}.higher_is_better"),
        )

    def bucket(self, found: object, where: str) -> tuple[float, int]:
        pair = self.typed(found, list, where)
        if len(pair) != 2:
            raise self.wrong(where, "a pair of milliseconds and a count", pair)
        count = self.typed(pair[1], int, f"{where}[1]")
        if not 0 <= count <= MOST:
            raise self.wrong(f"{where}[1]", "a count of requests", count)
        return self.number(pair[0], f"{where}[0]"), count
