"""What happens at a cluster seldom enough to be counted where it happens: everything but an attempt that gets a response.

Those are what is left when these are taken from all attempts, so that a call which goes well pays for none of this.
"""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

from meshlib.engine.outcome import LOCAL_ORIGIN

if TYPE_CHECKING:
    from meshlib.engine.outcome import Outcome

RESPONSE = "response"
SERVER_ERROR = "server_error"
CONNECT_FAILED = "connect_failed"
RESET = "reset"
TIMEOUT = "timeout"
STALE = "stale"
ABANDONED = "abandoned"
RESULTS = (RESPONSE, SERVER_ERROR, CONNECT_FAILED, RESET, TIMEOUT, STALE, ABANDONED)
"""What came of an attempt: a response below 500; one that is an error of the server (gRPC: a status that stands for one);
no connection; a connection that broke, in the body too; no response in time; a kept connection that the server had closed,
replaced unseen; none of these, because the caller had gone, lost interest or could not send its request."""

RESULT_OF_KIND = {"connect": CONNECT_FAILED, "reset": RESET, "timeout": TIMEOUT}
"""By what outlier detection calls failures."""

REQUESTS = "requests"
PENDING = "pending"
RETRIES = "retries"
LIMITS = (REQUESTS, PENDING, RETRIES)
"""Limits that refuse calls, or retries: http2MaxRequests; http1MaxPendingRequests; maxRetries and retryBudget."""


def result_of(outcome: Outcome | None) -> str:
    """What came of an attempt, None: it has none, because nobody waited for it."""
    if outcome is None:
        return ABANDONED
    if outcome.failure is None:
        return SERVER_ERROR if outcome.health_status >= 500 else RESPONSE
    return RESULT_OF_KIND.get(LOCAL_ORIGIN.get(outcome.failure, ""), ABANDONED)


class Tally:
    """One cluster's. ``results`` has attempts by what came of them, without RESPONSE; ``overflows`` what limits refused;
    ``ejections`` counts by trigger; ``no_endpoint`` calls that found no usable endpoint."""

    __slots__ = ("_responses", "ejections", "no_endpoint", "overflows", "results")

    def __init__(self) -> None:
        self.results: Counter[str] = Counter()
        self.overflows: Counter[str] = Counter()
        self.ejections: Counter[str] = Counter()
        self.no_endpoint = 0
        self._responses = 0

    def note(self, result: str) -> None:
        """One attempt came to this. (Of responses there is nothing to note.)"""
        if result != RESPONSE:
            self.results[result] += 1

    def attempts(self, ended: int) -> dict[str, int]:
        """Attempts by result, of which ``ended`` are over. What is known of one whose body is still under way counts
        already, so the number of responses may lag behind for as long; it never shrinks, as a counter must not."""
        results = self.results
        self._responses = max(self._responses, ended - sum(results.values()))
        return {RESPONSE: self._responses, **{each: results.get(each, 0) for each in RESULTS[1:]}}
