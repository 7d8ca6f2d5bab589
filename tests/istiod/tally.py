"""What the judges found, by class, and whether it is good enough: pure, so that it can be tested without istiod's answers."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

SHOWN = 4
"""Kinds of differences named in a row of the table."""


@dataclass(frozen=True)
class Accepted:
    """``accepted.txt``: the deviations that docs/parity.md describes, and the share of differences (percent) that a class may
    have beside them. A class that is not named may have none."""

    deviations: frozenset[str]
    ceilings: dict[str, float]

    @classmethod
    def read(cls, path: Path) -> Accepted:
        """Raises ``ValueError`` for a line that is neither of the two."""
        deviations, ceilings = set(), {}
        for number, line in enumerate(path.read_text().splitlines(), 1):
            match line.partition("#")[0].split():
                case []:
                    pass
                case ["deviation", name]:
                    deviations.add(name)
                case ["ceiling", name, percent]:
                    ceilings[name] = float(percent)
                case _:
                    raise ValueError(
                        f"{path.name}:{number}: neither 'deviation NAME' nor 'ceiling CLASS PERCENT': {line}"
                    )
        return cls(frozenset(deviations), ceilings)


@dataclass
class Class:
    """The answers of one class (routes) or kind (verdicts)."""

    judged: int = 0
    equal: int = 0
    documented: Counter[str] = field(default_factory=Counter)
    different: Counter[str] = field(default_factory=Counter)

    @property
    def share(self) -> float:
        """Differences that nothing accounts for, in percent."""
        return 100.0 * self.different.total() / self.judged if self.judged else 0.0


class Tally:
    """Counts by class. ``examples`` names the first few differences, for ``--mesh``."""

    def __init__(self) -> None:
        self.classes: defaultdict[str, Class] = defaultdict(Class)
        self.examples: list[str] = []

    def equal(self, name: str) -> None:
        row = self.classes[name]
        row.judged += 1
        row.equal += 1

    def documented(self, name: str, deviation: str) -> None:
        row = self.classes[name]
        row.judged += 1
        row.documented[deviation] += 1

    def different(self, name: str, how: str, example: str) -> None:
        row = self.classes[name]
        row.judged += 1
        row.different[how] += 1
        self.examples.append(f"{name}: {how}: {example}")

    def add(self, other: Tally) -> None:
        """What another process counted."""
        for name, theirs in other.classes.items():
            row = self.classes[name]
            row.judged += theirs.judged
            row.equal += theirs.equal
            row.documented += theirs.documented
            row.different += theirs.different
        self.examples += other.examples

    def over(self, accepted: Accepted) -> list[str]:
        """What is wrong, a sentence each; empty when everything is equal or accepted."""
        wrong = []
        for name, row in sorted(self.classes.items()):
            ceiling = accepted.ceilings.get(name, 0.0)
            if row.share > ceiling:
                wrong.append(
                    f"{name}: {row.different.total()} of {row.judged} differ ({row.share:.2f} %; {ceiling:g} % are accepted)"
                )
            for deviation in sorted(set(row.documented) - accepted.deviations):
                wrong.append(f"{name}: deviation {deviation} is not in accepted.txt")
        return wrong

    def table(self) -> Iterable[str]:
        """A line a class, the largest first, and the sum."""
        head = f"{'class':22s} {'judged':>7s} {'equal':>7s} {'doc.':>6s} {'diff.':>6s} {'diff. %':>8s}"
        yield f"{head}  most frequent differences"
        for name, row in sorted(self.classes.items(), key=lambda item: (-item[1].judged, item[0])):
            top = "; ".join(f"{how} {count}" for how, count in row.different.most_common(SHOWN))
            counts = f"{row.judged:7d} {row.equal:7d} {row.documented.total():6d} {row.different.total():6d}"
            yield f"{name:22s} {counts} {row.share:8.2f}  {top}".rstrip()
        deviations: Counter[str] = sum((row.documented for row in self.classes.values()), Counter())
        if deviations:
            yield "documented: " + ", ".join(f"{name} {count}" for name, count in deviations.most_common())
        judged, equal = sum(r.judged for r in self.classes.values()), sum(r.equal for r in self.classes.values())
        yield (
            f"{equal} of {judged} equal ({100.0 * equal / (judged or 1):.2f} %), {deviations.total()} documented, "
            + (f"{sum(r.different.total() for r in self.classes.values())} different")
        )
