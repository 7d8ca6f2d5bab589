"""What every scenario is given, and how it says what it saw."""

from __future__ import annotations

from dataclasses import dataclass

from meshlib.demo.report import Report, Row, verdict
from meshlib.demo.shop.play.customer import Customer
from meshlib.demo.shop.play.processes import Shop


@dataclass(frozen=True, slots=True)
class Stage:
    """The shop, its customer, where to report, and how many calls a count takes."""

    shop: Shop
    customer: Customer
    report: Report
    calls: int

    def begin(self, title: str, rule: str, asked: str) -> None:
        """A new scenario; ``rule`` is the name of the rule of routes.yaml that it is about."""
        self.report.begin(title, f"routes.yaml, rule {rule}" if rule else "", asked)

    def saw(self, who: str, expected: str, observed: str, why: list[str]) -> None:
        """One observation; ``why`` is what contradicts the expectation."""
        self.report.row(Row(who, expected, observed, verdict(why), tuple(why)))


def differs(name: str, found: object, wanted: object) -> list[str]:
    """A sentence when two values are not the same."""
    return [] if found == wanted else [f"{name}: {found!r}, expected {wanted!r}"]
