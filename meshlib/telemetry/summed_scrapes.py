"""The scrapes of several processes as one: what the parent of workers shows for all of them.

Counters and histograms are added up, and those of a worker that has ended stay in the sum: a counter that fell would look like
a restart, and Prometheus would take all that is left for new. Gauges are added up or the worst counts, by the rules of
``written_state``. Text in, text out (Prometheus' format 0.0.4): nothing here knows a registry.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from meshlib.telemetry.written_state import ADDED_UP, LEAST

ADDED = frozenset({
    *(family.name for family in ADDED_UP),
    "process_open_fds",
    "process_resident_memory_bytes",
    "process_virtual_memory_bytes",
    "meshlib_proxy_downstream_connections_active",
})  # fmt: skip
"""Gauges of which each worker has a part."""
SMALLEST = frozenset({*(family.name for family in LEAST), "process_start_time_seconds"})
"""Gauges of which the least counts; of the others the greatest does."""
SUMS = frozenset(["counter", "histogram", "summary"])


class Series(NamedTuple):
    """One line: the text before its number, and the number."""

    key: str
    value: float


class Family:
    """What the lines of a family are below. ``kind``: as its TYPE says."""

    __slots__ = ("kind", "name", "series", "text")

    def __init__(self, name: str) -> None:
        self.name = name
        self.kind = "untyped"
        self.text = ""  # HELP and TYPE
        self.series: list[Series] = []


class Ended(NamedTuple):
    """What workers that have ended had counted in a family."""

    kind: str
    text: str
    counted: dict[str, float]


class ScrapeSums:
    """Holds what workers that have ended had counted."""

    def __init__(self) -> None:
        self._last: dict[int, dict[str, Family]] = {}
        self._ended: dict[str, Ended] = {}

    def combined(self, scrapes: Mapping[int, str | None]) -> str:
        """One scrape of the workers that there are now, by their pids; None: it did not respond, and its last scrape
        counts. Whose pid is missing has ended."""
        for pid in [each for each in self._last if each not in scrapes]:
            self._retire(self._last.pop(pid))
        for pid, text in scrapes.items():
            if text is not None:
                self._last[pid] = parsed(text)
        return "".join(self._written())

    def _retire(self, families: Mapping[str, Family]) -> None:
        for family in families.values():
            if family.kind in SUMS:
                kept = self._ended.setdefault(family.name, Ended(family.kind, family.text, {})).counted
                for key, value in family.series:
                    kept[key] = kept.get(key, 0.0) + value

    def _written(self) -> Iterator[str]:
        shown = {name: (ended.kind, ended.text) for name, ended in self._ended.items()}
        for families in self._last.values():
            for name, family in families.items():
                shown[name] = family.kind, family.text
        for name, (kind, text) in shown.items():
            ended = self._ended.get(name)
            found = dict(ended.counted) if ended is not None and kind in SUMS else {}
            for families in self._last.values():
                theirs = families.get(name)
                if theirs is not None and theirs.kind == kind:
                    merge(found, theirs.series, theirs)
            yield text
            yield from (f"{key} {number(value)}\n" for key, value in found.items())


def merge(found: dict[str, float], series: Iterable[Series], family: Family) -> None:
    """Add one worker's series to those of the others."""
    adds = family.kind in SUMS or family.name in ADDED
    least = family.name in SMALLEST
    for key, value in series:
        before = found.get(key)
        if before is None or before != before:
            found[key] = value
        elif adds and not key.partition("{")[0].endswith("_created"):
            found[key] = before + value
        elif value == value:  # NaN says nothing
            found[key] = min(before, value) if least else max(before, value)


def parsed(text: str) -> dict[str, Family]:
    """The families of a scrape, by name. Lines that are not series are left out."""
    families: dict[str, Family] = {}
    current = Family("")
    for line in text.splitlines():
        if line.startswith("#"):
            words = line.split(None, 3)
            if len(words) < 3 or words[1] not in ("HELP", "TYPE"):
                continue
            current = families.setdefault(words[2], Family(words[2]))
            current.text += f"{line}\n"
            if words[1] == "TYPE" and len(words) > 3:
                current.kind = words[3].strip()
        elif line and (series := _series(line)) is not None:
            if not current.name:
                current = families.setdefault("", Family(""))
            current.series.append(series)
    return families


def _series(line: str) -> Series | None:
    """Of ``name{labels} value``; label values may have spaces and braces in them. (Nobody here writes times.)"""
    key, _, value = line.rpartition(" ")
    try:
        return Series(key, float(value)) if key else None
    except ValueError:
        return None


def number(value: float) -> str:
    """As Prometheus reads it."""
    if value == float("inf"):
        return "+Inf"
    if value == float("-inf"):
        return "-Inf"
    return "NaN" if value != value else repr(float(value))
