"""What guards the calls to one service (ResiliencePolicy), with its state: breaker, bulkhead, limits, budgets, latencies.

The exchange asks ``admit`` before a call, ``may_retry`` before a retry, ``hedge_wait`` before an attempt, and tells how it
went. A mechanism in shadow mode does all of it, is counted, and touches nothing.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Sequence
from threading import RLock
from typing import TYPE_CHECKING, Protocol

from meshlib.policy.adaptive_concurrency import GradientLimit
from meshlib.policy.balancer import PeakEwma, observe_latency
from meshlib.policy.circuit_limits import Slots
from meshlib.policy.latency import Latencies
from meshlib.policy.windowed_budget import WindowedBudget

if TYPE_CHECKING:
    from pybreaker import CircuitBreakerStorage

    from meshlib.compiler.resilience import Resilience
    from meshlib.engine.facts import ResilienceFacts
    from meshlib.policy.breaker import Breaker, BreakerSettings
    from meshlib.policy.endpoint import EndpointState

Storage = Callable[["BreakerSettings", str], "CircuitBreakerStorage | None"]
Report = Callable[[str, str, str, str], None]
PEAK_EWMA = PeakEwma()
OVERLOADED = frozenset((429, 503))


class Entered(Protocol):
    """A call that may be past the guard. ``entered`` changes in one step with the count."""

    entered: bool


class Calls:
    """The calls of a service that are under way, and the lock of everything that its guards share: a reload makes a new
    guard, and calls end on the guard that they began with."""

    __slots__ = ("active", "lock")

    def __init__(self) -> None:
        self.active = 0
        self.lock = RLock()


class Guard:
    """One service's guard. ``report(host, mechanism, mode, verdict)`` is called for everything a mechanism did or, in shadow,
    would have done; ``counts`` holds the same for status."""

    __slots__ = (
        "_dice",
        "_report",
        "_watch_balancer",
        "adaptive",
        "breaker",
        "budget",
        "bulkhead",
        "calls",
        "counts",
        "latencies",
        "settings",
    )

    def __init__(
        self,
        settings: Resilience,
        previous: Guard | None = None,
        storage: Storage | None = None,
        report: Report | None = None,
    ) -> None:
        self.settings = settings
        self._report = report
        self._watch_balancer = settings.peak_ewma is not None and not settings.enforces("loadBalancer")
        self._dice = random.Random(0)  # a shadow must not take from the mesh's own random numbers
        self.calls = Calls()
        self.counts: Counter[tuple[str, str]] = Counter()
        self.latencies = Latencies()
        self.breaker: Breaker | None = None
        self.bulkhead: Slots | None = None
        self.budget: WindowedBudget | None = None
        self.adaptive: GradientLimit | None = None
        if previous is not None:
            self._take_over(previous)
        self._make_what_lacks(storage)

    def _take_over(self, previous: Guard) -> None:
        """A reload made this one: calls under way, and mechanisms whose settings have not changed, go on."""
        before, now = previous.settings, self.settings
        self.calls, self.counts, self.latencies = previous.calls, previous.counts, previous.latencies
        if before.breaker == now.breaker:
            self.breaker = previous.breaker
        if before.bulkhead == now.bulkhead:
            self.bulkhead = previous.bulkhead
        if before.retry_budget == now.retry_budget:
            self.budget = previous.budget
        if before.adaptive == now.adaptive:
            self.adaptive = previous.adaptive

    def _make_what_lacks(self, storage: Storage | None) -> None:
        settings = self.settings
        if self.breaker is None and settings.breaker is not None:
            from meshlib.policy.breaker import Breaker

            kept = None if storage is None else storage(settings.breaker, settings.host)
            self.breaker = Breaker(settings.breaker, kept)
        if self.bulkhead is None and settings.bulkhead is not None:
            self.bulkhead = Slots(*settings.bulkhead)
        if self.budget is None and settings.retry_budget is not None:
            self.budget = WindowedBudget(settings.retry_budget)
        if self.adaptive is None and settings.adaptive is not None:
            self.adaptive = GradientLimit(settings.adaptive)

    @property
    def active(self) -> int:
        """How many calls are under way."""
        return self.calls.active

    def after_fork(self) -> None:
        """In a forked child: calls under way are the parent's."""
        self.calls = Calls()
        if self.settings.bulkhead is not None:
            self.bulkhead = Slots(*self.settings.bulkhead)

    def note(self, mechanism: str, verdict: str) -> bool:
        """Count what a mechanism decided; True when it acts on it."""
        enforced = self.settings.enforces(mechanism)
        with self.calls.lock:
            self.counts[mechanism, verdict if enforced else f"would have {verdict}"] += 1
        if self._report is not None:
            self._report(self.settings.host, mechanism, "enforce" if enforced else "shadow", verdict)
        return enforced

    # -- a call -----------------------------------------------------------------------------------------------------

    def admit(self, now: float, wall: float, call: Entered) -> str:
        """The mechanism that refuses the call, "" when it may go on; then ``leave`` must follow. (The bulkhead, which may
        let it wait, is asked by the exchange.)"""
        calls = self.calls
        with calls.lock:
            adaptive, breaker = self.adaptive, self.breaker
            if (
                adaptive is not None
                and not adaptive.allows(calls.active)
                and self.note("adaptiveConcurrency", "refused")
            ):
                return "adaptiveConcurrency"
            calls.active += 1
            call.entered = True  # before the breaker: a trial that it lets through must be recorded or abandoned
            if breaker is not None and not breaker.admit(wall) and self.note("circuitBreaker", "refused"):
                calls.active -= 1
                call.entered = False
                return "circuitBreaker"
            if self.budget is not None:
                self.budget.call(now)
        return ""

    def leave(self, call: Entered, success: bool | None, wall: float, seconds: float, active: int, status: int) -> None:
        """The call is over: ``success`` None when there is no verdict on the service (cancelled, the caller's doing). Nothing
        if it has left already."""
        calls = self.calls
        changed = ""
        with calls.lock:
            if not call.entered:
                return
            breaker = self.breaker
            if breaker is not None:
                before = breaker.state
                if success is None:
                    breaker.abandon()
                else:
                    breaker.record(success, wall)
                after = breaker.state
                if after != before:
                    changed = after
            if self.adaptive is not None and success is not None:
                self.adaptive.record(seconds, active, dropped=status in OVERLOADED or (not success and not status))
            calls.active -= 1
            call.entered = False
        if changed:  # not under the lock: what is called may write to a disk
            self.note("circuitBreaker", changed)

    def observe(self, endpoint: EndpointState, seconds: float, now: float) -> None:
        """An attempt was answered after ``seconds``."""
        with self.calls.lock:
            if self.settings.hedging is not None:
                self.latencies.record(seconds, now)
            if self.settings.peak_ewma is not None:
                observe_latency(endpoint, seconds, now, self.settings.peak_ewma)

    def picked(self, endpoint: EndpointState, usable: Sequence[EndpointState]) -> None:
        """The balancer in use chose ``endpoint``; the one in shadow says whether it would have."""
        if self._watch_balancer and len(usable) > 1 and PEAK_EWMA.pick(usable, self._dice, True) is not endpoint:
            self.note("loadBalancer", "chosen another endpoint")

    # -- a connection whose bytes nobody reads -------------------------------------------------------------------------

    def admits_connection(self, wall: float) -> bool:
        """Whether the breaker lets one through; ``connected`` must follow then. What else a policy says is of calls."""
        with self.calls.lock:
            breaker = self.breaker
            return breaker is None or breaker.admit(wall) or not self.note("circuitBreaker", "refused")

    def connected(self, success: bool | None, wall: float) -> None:
        """It was made, or was not; None: nobody waited for it, or the failure is not the service's."""
        with self.calls.lock:
            breaker = self.breaker
            if breaker is None:
                return
            before = breaker.state
            if success is None:
                breaker.abandon()
            else:
                breaker.record(success, wall)
            changed = breaker.state if breaker.state != before else ""
        if changed:
            self.note("circuitBreaker", changed)

    # -- retries and hedges -----------------------------------------------------------------------------------------

    def may_retry(self, now: float) -> bool:
        """Whether the budget has a retry left; takes it."""
        budget = self.budget
        if budget is None:
            return True
        with self.calls.lock:
            if not budget.allows(now) and self.note("retryBudget", "refused"):
                return False
            budget.retry(now)
        return True

    def hedge_wait(self, method: str, now: float) -> float | None:
        """Seconds after which this attempt gets company; None: never."""
        hedging = self.settings.hedging
        if hedging is None or not hedging.may(method):
            return None
        with self.calls.lock:
            return hedging.wait(self.latencies, now)

    @property
    def text(self) -> str:
        """For explain: each mechanism with what it stands at."""
        settings, parts = self.settings, []
        if self.breaker is not None:
            parts.append(("circuitBreaker", self.breaker.state))
        if self.bulkhead is not None and settings.bulkhead is not None:
            parts.append(("bulkhead", f"{self.bulkhead.in_use} of {settings.bulkhead[0]}"))
        if self.adaptive is not None:
            parts.append(("adaptiveConcurrency", f"{self.active} of {int(self.adaptive.limit)}"))
        parts += [
            (name, "")
            for name, there in (
                ("retryBudget", settings.retry_budget),
                ("hedging", settings.hedging),
                ("deadline", settings.deadline),
                ("fallback", settings.fallback),
                ("loadBalancer", settings.peak_ewma),
            )
            if there is not None
        ]
        words = []
        for name, stands in parts:
            shadow = "" if settings.enforces(name) else "(shadow)"
            words.append(" ".join(filter(None, (name, stands, shadow))))
        return ", ".join(words)

    def status(self, now: float | None = None) -> ResilienceFacts:
        """For ``mesh.status()``; with ``now`` also what goes by time."""
        settings = self.settings
        found: ResilienceFacts = {
            "resource": settings.resource,
            "host": settings.host,
            "shadow": sorted(settings.shadow),
            "active": self.active,
            "counts": {f"{mechanism}: {verdict}": n for (mechanism, verdict), n in sorted(self.counts.items())},
        }
        if self.breaker is not None:
            found["circuit_breaker"] = self.breaker.state
        if self.bulkhead is not None:
            found["bulkhead"] = {"in_use": self.bulkhead.in_use, "waiting": self.bulkhead.pending}
        if self.adaptive is not None:
            found["concurrency_limit"] = int(self.adaptive.limit)
        if self.budget is not None and now is not None:
            with self.calls.lock:
                retries, allowed = self.budget.standing(now)
            found["retry_budget"] = {"retries": retries, "allowed": allowed}
        return found
