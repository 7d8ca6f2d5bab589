"""What became of what authorizers were asked, by provider: for ``mesh.status()``, and for whoever is woken at night."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypedDict


class AuthorizerFacts(TypedDict):
    """``failing``: the last question came to nothing, for the reason ``why``. ``let_in``: requests that failOpen let in."""

    allowed: int
    denied: int
    failed: int
    let_in: int
    failing: bool
    why: str


class Record:
    """Of one provider, counted without a lock: what is lost of a count in a race of threads matters to nobody."""

    __slots__ = ("allowed", "denied", "failed", "let_in", "why")

    def __init__(self) -> None:
        self.allowed = self.denied = self.failed = self.let_in = 0
        self.why = ""

    def facts(self) -> AuthorizerFacts:
        return {
            "allowed": self.allowed,
            "denied": self.denied,
            "failed": self.failed,
            "let_in": self.let_in,
            "failing": bool(self.why),
            "why": self.why,
        }


class Authorizers:
    """Of one mesh, as long as it lives. ``report`` (set by whoever can log) is told when a provider begins to fail, and when it
    decides again (with "")."""

    __slots__ = ("_records", "report")

    def __init__(self) -> None:
        self._records: dict[str, Record] = {}
        self.report: Callable[[str, str], None] | None = None

    def of(self, provider: str) -> Record:
        """What is known of a provider; there are as many as a MeshConfig names."""
        return self._records.setdefault(provider, Record())

    def decided(self, provider: str, *, allowed: bool) -> None:
        """It has decided."""
        record = self.of(provider)
        if allowed:
            record.allowed += 1
        else:
            record.denied += 1
        if record.why:
            record.why = ""
            if self.report is not None:
                self.report(provider, "")

    def failed(self, provider: str, why: str, *, let_in: bool) -> None:
        """It has not. ``why`` has nothing of the request in it."""
        record = self.of(provider)
        record.failed += 1
        record.let_in += let_in
        before, record.why = record.why, why
        if not before and self.report is not None:
            self.report(provider, why)

    def facts(self) -> dict[str, AuthorizerFacts]:
        """By name."""
        return {name: record.facts() for name, record in sorted(self._records.items())}
