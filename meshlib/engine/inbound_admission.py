"""Who is let in while a server has much to do (``spec.inbound`` of a ResiliencePolicy: loadShedding, maxConcurrent,
adaptiveConcurrency, priorities, and the deadline of requests), before anything else is asked of a request.

A request that is admitted is counted until its exchange ends, whichever way that is; ``leave`` tells once. Mechanisms in shadow
do all of it, are counted, and touch nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from threading import RLock
from typing import TYPE_CHECKING, Protocol

from meshlib.policy.adaptive_concurrency import GradientLimit
from meshlib.policy.deadline import read
from meshlib.policy.load_shedding import is_late, may_join, share_of
from meshlib.policy.rate_limit_headers import OVERLOADED
from meshlib.policy.refusal import Refusal
from meshlib.policy.request_match import compile_matches

if TYPE_CHECKING:
    from meshlib.compiler.inbound_protection import Protection
    from meshlib.engine.inbound_request import InboundRequest
    from meshlib.policy.path_spellings import Normalization
    from meshlib.policy.request_match import Test

Report = Callable[[str, str, str, str], None]
"""Is called with what mechanisms decide: the service, the mechanism, its mode and the verdict."""

SHED = Refusal(503, "overloaded", None, "UO", "overload", OVERLOADED)
FULL = Refusal(503, "reached concurrency limit", None, "UO", "reached_concurrency_limit", OVERLOADED)
BUSY = frozenset((429, 503, 504))
BUSY_GRPC = frozenset((4, 8, 14))
TOOK_TOO_LONG = "max_duration_timeout"
"""Envoy's response code details of a request whose time has passed."""


class Served(Protocol):
    """A call that may be admitted. ``admitted`` changes in one step with the count; ``late`` and ``queued``: seconds that what
    serves it runs late, and that it stood in line for a thread."""

    admitted: Active | None
    joined: int
    late: float
    queued: float
    started: float
    status: int
    grpc_status: int | None
    refusal: Refusal | None

    @property
    def request(self) -> InboundRequest: ...


class Active:
    """The requests of a workload that are being served, with the lock of all that is decided by them: a reload makes another
    ``Admission``, and requests leave the count that they joined. The lock is re-entrant: the garbage collector may end an
    abandoned exchange while this thread is inside."""

    __slots__ = ("count", "lock")

    def __init__(self) -> None:
        self.count = 0
        self.lock = RLock()


class Tally:
    """What mechanisms of a server decided, counted and reported. The labels are few: never a key."""

    __slots__ = ("_report", "counts", "service")

    def __init__(self, service: str, report: Report | None) -> None:
        self.service = service
        self.counts: Counter[tuple[str, str]] = Counter()
        self._report = report

    def note(self, mechanism: str, verdict: str, shadow: bool) -> bool:
        """One more; gives whether it is acted on."""
        self.counts[mechanism, f"would have {verdict}" if shadow else verdict] += 1
        if self._report is not None:
            self._report(self.service, mechanism, "shadow" if shadow else "enforce", verdict)
        return not shadow


class Admission:
    """One policy at work."""

    __slots__ = ("_is_health_check", "_priorities", "_tally", "active", "adaptive", "settings")

    def __init__(
        self,
        settings: Protection,
        normalization: Normalization,
        tally: Tally,
        active: Active,
        adaptive: GradientLimit | None,
    ) -> None:
        self.settings = settings
        self.active = active
        self.adaptive = adaptive
        self._tally = tally
        self._is_health_check = compile_matches(settings.health_checks, normalization)
        self._priorities: list[tuple[Test, float | None]] = [
            (test, share_of(priority))
            for match, priority in settings.priorities
            if (test := compile_matches((match,), normalization)) is not None
        ]

    def enter(self, call: Served) -> Refusal | None:
        """The refusal of a request that is one too many; None, and it is counted until it leaves."""
        share = self._share(call.request)
        active = self.active
        with active.lock:
            refusal = None if share is None else self._refusal(call, share)
            if refusal is None:
                call.joined = active.count
                active.count, call.admitted = active.count + 1, active
        return refusal

    @property
    def looks_at_lag(self) -> bool:
        """Whether it matters how late an event loop is."""
        shedding = self.settings.shedding
        return shedding is not None and shedding.max_lag is not None

    @property
    def looks_at_queue(self) -> bool:
        """Whether it matters how long a request stood in line for a thread."""
        shedding = self.settings.shedding
        return shedding is not None and shedding.max_queue_time is not None

    def leave(self, call: Served, now: float) -> None:
        """The request is over. Nothing if it has left already, or was never in."""
        active = call.admitted
        if active is None:
            return
        with active.lock:
            if call.admitted is not active:
                return
            active.count, call.admitted = active.count - 1, None
            adaptive = self.adaptive
            if adaptive is not None:
                refusal = call.refusal
                if refusal is None and call.status:
                    busy = call.status in BUSY or call.grpc_status in BUSY_GRPC
                    adaptive.record(now - call.started, call.joined, busy)
                elif refusal is not None and refusal.detail == TOOK_TOO_LONG:
                    adaptive.record(now - call.started, call.joined, True)
                # what checks and limits refuse says nothing of how long serving takes
        self._watch_deadline(call, now)

    def deadline(self, request: InboundRequest, now: float, deadline: float | None) -> float | None:
        """When a request that came ``now`` must be over, of one whose transport says ``deadline``."""
        settings = self.settings.deadline
        if settings is None or settings.shadow:
            return deadline
        left = self._left(request)
        if left is None:
            return deadline
        return now + left if deadline is None else min(deadline, now + left)

    def _left(self, request: InboundRequest) -> float | None:
        settings = self.settings.deadline
        if settings is None:
            return None
        value = request.header(settings.header)
        asked = None if value is None else read(settings.header, value)
        if asked is None or settings.default is None:
            return settings.default if asked is None else asked
        return min(asked, settings.default)

    def _watch_deadline(self, call: Served, now: float) -> None:
        settings = self.settings.deadline
        if settings is not None and settings.shadow:
            left = self._left(call.request)
            if left is not None and now - call.started >= left:
                self._tally.note("deadline", "refused", True)

    def _share(self, request: InboundRequest) -> float | None:
        """How much of the limits the request may use up; None: it is not shed."""
        if self._is_health_check is not None and self._is_health_check(request):
            return None
        if not self._priorities:
            return 1.0
        for test, share in self._priorities:
            if test(request):
                return share
        return share_of("normal")

    def _refusal(self, call: Served, share: float) -> Refusal | None:
        settings, note = self.settings, self._tally.note
        shedding = settings.shedding
        if shedding is not None:
            late, queued = shedding.max_lag, shedding.max_queue_time
            if (
                (late is not None and is_late(call.late, late, share))
                or (queued is not None and is_late(call.queued, queued, share))
            ) and note("loadShedding", "refused", shedding.shadow):
                return SHED
        count = self.active.count
        if settings.max_concurrent and not may_join(count, settings.max_concurrent, share):
            note("maxConcurrent", "refused", False)
            return FULL
        adaptive = self.adaptive
        if (
            adaptive is not None
            and not may_join(count, int(adaptive.limit), share)
            and note("adaptiveConcurrency", "refused", settings.adaptive_shadow)
        ):
            return FULL
        return None
