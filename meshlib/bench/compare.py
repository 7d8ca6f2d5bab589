"""Two reports beside each other: for each measure of each row that both have, what became of it, as far as noise lets tell.

A verdict is one of four. *Better* or *worse*: the interval of the change (``meshlib.bench.spread``) leaves out "no change",
and the change is larger than the margin. *Same*: the whole interval is within the margin. *Cannot tell*: anything else, with
the number of rounds that would.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from meshlib.bench.result import Measure, Report, Row
from meshlib.bench.spread import CONFIDENCE, Change, change, rounds_needed

MARGIN = 0.02
"""A change that is smaller is none that matters: of a median, as a part of it."""
LESS_OR_MORE = frozenset({"MB", "B", "s", "%"})
"""Units of what is used up, which gets less or more; the others are of how soon and how often."""
OF_THE_RUN = frozenset({"free memory (MB)", "load (1 min)"})
"""Facts of the machine that differ from one minute to the next."""


class Verdict(StrEnum):
    """What became of a measure."""

    BETTER = "better"
    WORSE = "worse"
    SAME = "same"
    CANNOT_TELL = "cannot tell"


@dataclass(frozen=True, slots=True)
class Comparison:
    """One measure of a row. ``more_rounds``: how many more on each side would tell (None where nothing is to be told, or no
    number would do)."""

    row: Row
    measure: str
    before: Measure
    after: Measure
    found: Change
    verdict: Verdict
    more_rounds: int | None = None

    @property
    def word(self) -> str:
        """The verdict in the measure's own words: faster, slower, less, more."""
        if self.verdict is Verdict.BETTER:
            return "less" if self.before.unit in LESS_OR_MORE else "faster"
        if self.verdict is Verdict.WORSE:
            return "more" if self.before.unit in LESS_OR_MORE else "slower"
        return str(self.verdict)

    @property
    def why(self) -> str:
        """What a verdict that is none is for want of."""
        if self.verdict is not Verdict.CANNOT_TELL:
            return ""
        if self.more_rounds is None:
            return "the spread is far larger than the difference: no number of rounds that is worth it would tell"
        return f"{self.more_rounds} more {'round' if self.more_rounds == 1 else 'rounds'} of each might tell"

    def to_dict(self) -> dict[str, Any]:
        """For programs."""
        return {
            "group": self.row.group, "name": self.row.name, "conditions": self.row.conditions, "measure": self.measure,
            "unit": self.before.unit, "before": self.before.median, "after": self.after.median, "ratio": self.found.ratio,
            "low": self.found.low, "high": self.found.high, "verdict": str(self.verdict), "more_rounds": self.more_rounds,
        }  # fmt: skip


@dataclass(frozen=True, slots=True)
class Comparisons:
    """All of two reports. ``warnings``: what makes them hard to compare; ``only_before``, ``only_after``: rows that the other
    has not; ``not_compared``: what both have, and no ratio is of, and why."""

    compared: tuple[Comparison, ...]
    warnings: tuple[str, ...]
    only_before: tuple[Row, ...]
    only_after: tuple[Row, ...]
    not_compared: tuple[str, ...] = ()

    @property
    def counts(self) -> Mapping[Verdict, int]:
        """How many comparisons ended in each verdict; all four are there."""
        counted = Counter(each.verdict for each in self.compared)
        return {verdict: counted[verdict] for verdict in Verdict}

    @property
    def by_chance(self) -> float:
        """How many of them are told apart though nothing differs, on average, if in truth nothing does at all."""
        told = sum(each.found.low is not None for each in self.compared)
        return told * (1 - CONFIDENCE)


def compare(
    before: Report, after: Report, margin: float = MARGIN, measures: frozenset[str] = frozenset()
) -> Comparisons:
    """Each measure of each row that both have, in the order of ``after``; with ``measures`` only those."""
    earlier = {row.key: row for row in before.rows}
    compared: list[Comparison] = []
    odd: list[str] = []
    for row in after.rows:
        old = earlier.get(row.key)
        for name, measure in row.measures.items() if old is not None else ():
            was = old.measures.get(name) if old is not None else None
            if was is None or (measures and name not in measures):
                continue
            place = f"{row.name} ({row.conditions}), {name}"
            if was.unit != measure.unit:
                odd.append(f"{place}: measured in {was.unit} and in {measure.unit}")
            elif min(was.values) <= 0 or min(measure.values) <= 0:
                odd.append(f"{place}: a value of it is 0 or below, of which there is no ratio")
            else:
                compared.append(judge(row, name, was, measure, margin))
    later = {row.key for row in after.rows}
    return Comparisons(
        tuple(compared),
        tuple(_warnings(before, after)),
        tuple(row for row in before.rows if row.key not in later),
        tuple(row for row in after.rows if row.key not in earlier),
        tuple(odd),
    )


def judge(row: Row, name: str, before: Measure, after: Measure, margin: float = MARGIN) -> Comparison:
    """One measure. ValueError: a value of it is not above 0."""
    found = change(before.values, after.values)
    verdict, more = Verdict.CANNOT_TELL, None
    if found.low is not None and found.high is not None:
        if 1 / (1 + margin) <= found.low and found.high <= 1 + margin:
            verdict = Verdict.SAME
        elif (found.low > 1 and found.ratio > 1 + margin) or (found.high < 1 and found.ratio < 1 / (1 + margin)):
            verdict = Verdict.BETTER if (found.ratio > 1) is after.higher_is_better else Verdict.WORSE
    if verdict is Verdict.CANNOT_TELL:
        more = rounds_needed(len(before.values), len(after.values), found, margin)
    return Comparison(row, name, before, after, found, verdict, more)


def _warnings(before: Report, after: Report) -> list[str]:
    made = []
    names = [name for name in {**before.machine, **after.machine} if name not in OF_THE_RUN]
    differing = [name for name in names if before.machine.get(name) != after.machine.get(name)]
    if differing:
        told = "; ".join(
            f"{n}: {before.machine.get(n, 'not told')} and {after.machine.get(n, 'not told')}" for n in differing
        )
        made.append(
            f"the machines differ ({told}): a difference below may be theirs. Measure both on one, in turn (A, B, A, B)"
        )
    if before.quick is not after.quick:
        made.append("one is of a quick run, which has fewer rounds and less load: measure both alike")
    if before.commit == after.commit and before.at == after.at:
        made.append("the two are of the same run: they cannot differ")
    return made
