"""What came of attempts at each endpoint, by the names of Envoy's host statistics. Counted where somebody asked for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.policy.grpc_status import NUMBERS, http_of_grpc

if TYPE_CHECKING:
    from collections.abc import Iterable

    from meshlib.engine.explanation import Attempt

MOST = 10_000
"""Endpoints that are counted one by one; addresses beyond that, which callers name, are counted together."""
CONNECT = frozenset(("connect_failed", "connect_timeout"))
NOT_SENT = frozenset(("pool_timeout", "overflow", "invalid_request", "closed"))
OTHERS = ("", "")


class EndpointCount:
    """``rq_total`` attempts that were sent, ``rq_success`` those with a response that is no error of the server, ``rq_error``
    all others, those for which no connection could be made (``cx_connect_fail``) among them, ``rq_timeout`` those that had
    no response in time."""

    __slots__ = ("cx_connect_fail", "rq_error", "rq_success", "rq_timeout", "rq_total")

    def __init__(self) -> None:
        self.cx_connect_fail = self.rq_error = self.rq_success = self.rq_timeout = self.rq_total = 0

    def facts(self) -> dict[str, int]:
        """By name."""
        return {name: getattr(self, name) for name in self.__slots__}


class EndpointCounts:
    """By cluster and endpoint."""

    __slots__ = ("_found",)

    def __init__(self) -> None:
        self._found: dict[tuple[str, str], EndpointCount] = {}

    def note(self, cluster: str, attempts: Iterable[Attempt]) -> None:
        """Attempts of one call. Counts of threads that end at the same moment may be one too low: none of them waits."""
        for attempt in attempts:
            failure = attempt.failure
            if failure in NOT_SENT:
                continue
            count = self._of(cluster, attempt.endpoint)
            if failure in CONNECT:
                count.cx_connect_fail += 1
                count.rq_error += 1
                continue
            count.rq_total += 1
            if failure == "timeout":
                count.rq_timeout += 1
            if _is_error(failure, attempt.status):
                count.rq_error += 1
            else:
                count.rq_success += 1

    def of(self, cluster: str, endpoint: str) -> EndpointCount | None:
        """Those of an endpoint; None when it has had no attempt."""
        return self._found.get((cluster, endpoint))

    def _of(self, cluster: str, endpoint: str) -> EndpointCount:
        found = self._found.get((cluster, endpoint))
        if found is not None:
            return found
        key = (cluster, endpoint) if len(self._found) < MOST else OTHERS
        return self._found.setdefault(key, EndpointCount())


def _is_error(failure: str, status: int) -> bool:
    if not failure:
        return status >= 500
    grpc = NUMBERS.get(failure.upper())
    return grpc is None or http_of_grpc(grpc) >= 500
