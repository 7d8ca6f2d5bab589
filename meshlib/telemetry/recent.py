"""The last calls of a mesh, made and served, attempt by attempt: for a person who looks into a running process.

Kept only where somebody asked for it (``admin=``). Nothing of a header but the host and no query is kept, texts are cut, and
as many calls as ``KEPT`` says: at most some 2 MB.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, NamedTuple, TypedDict

from meshlib.telemetry.endpoint_counts import EndpointCounts

if TYPE_CHECKING:
    from meshlib.engine.call import Call
    from meshlib.engine.explanation import Exchange
    from meshlib.engine.inbound import InboundCall

KEPT = 512
LONGEST_PATH = 200
LONGEST_NAME = 100
LONGEST_WORDS = 300
_HEX = frozenset("0123456789abcdef")
MOST_ATTEMPTS = 20
"""Of one call, the last ones."""


class RecentAttempt(TypedDict):
    """``at``: milliseconds after the call began, None where that is not known (a try that lost to a hedge); ``ms``: to the
    head of the response; ``detail``: why there was a ``failure``, in words."""

    endpoint: str
    status: int
    failure: str
    detail: str
    at: float | None
    ms: float


class RecentCall(TypedDict):
    """``at`` is when it was over, in seconds since 1970, ``ms`` how long it took. ``direction`` is "made" or "served".
    ``path`` ends in ``?...`` when there was a query. ``route`` is the VirtualService with the rule's position, ``rule_name``
    the rule's ``http[].name``, "" where it has none; ``principal`` is the caller's of a call that was served, "" of others;
    ``detail`` says why there was no endpoint, or why it was refused; ``trace_id`` is
    of the span, or of the trace context that the request came with, "" without either."""

    number: int
    at: float
    ms: float
    direction: str
    protocol: str
    method: str
    authority: str
    path: str
    route: str
    rule_name: str
    host: str
    subset: str
    endpoint: str
    principal: str
    status: int
    grpc_status: int | None
    flags: str
    detail: str
    trace_id: str
    config_version: str
    attempts: list[RecentAttempt]


class _Kept(NamedTuple):
    number: int
    at: float
    ms: float
    direction: str
    protocol: str
    method: str
    authority: str
    path: str
    resource: str
    rule: int | None
    rule_name: str
    host: str
    subset: str
    endpoint: str
    principal: str
    status: int
    grpc_status: int | None
    flags: str
    detail: str
    trace_id: str
    version: str
    attempts: tuple[tuple[str, int, str, str, float | None, float], ...]


class Recent:
    """``time`` tells seconds since 1970. ``made`` and ``served`` are told of calls that are over; any thread may."""

    __slots__ = ("_kept", "_number", "_time", "endpoints")

    def __init__(self, time: Callable[[], float], kept: int = KEPT) -> None:
        self._time = time
        self._kept: deque[_Kept] = deque(maxlen=kept)
        self._number = 0
        self.endpoints = EndpointCounts()
        """What came of the attempts at each endpoint, since the mesh was made."""

    def made(self, call: Call, now: float, trace_id: str = "") -> None:
        """A call that this process has made is over since ``now``, by the mesh's monotonic clock. ``trace_id``: of its span, ""
        without one."""
        record, request = call.record, call.request
        attempts, started, destination = record.attempts, record.started, record.destination
        if destination is not None and attempts:
            self.endpoints.note(destination.cluster, attempts)
        self._number = number = self._number + 1
        self._kept.append(
            _Kept(
                number,
                self._time(),
                (now - started) * 1000.0,
                "made",
                request.protocol,
                request.method[:LONGEST_NAME],
                request.authority.rpartition("@")[2][:LONGEST_NAME],
                _path(request.path, request.query),
                record.resource,
                record.rule,
                record.rule_name,
                record.host,
                record.subset,
                record.endpoint,
                "",
                record.status,
                record.grpc_status,
                record.flags,
                record.lack[:LONGEST_WORDS],
                trace_id or _trace_of(request.header),
                record.version,
                _attempts(record),
            )
        )

    def served(self, call: InboundCall, now: float, trace_id: str = "") -> None:
        """A call that this process has served is over. Behind a proxy it has the attempts of the hop to the application."""
        request, refusal, hop = call.request, call.refusal, call.hop
        self._number = number = self._number + 1
        self._kept.append(
            _Kept(
                number,
                self._time(),
                (now - call.started) * 1000.0,
                "served",
                request.protocol,
                request.method[:LONGEST_NAME],
                request.authority.rpartition("@")[2][:LONGEST_NAME],
                _path(request.path, request.query),
                call.route[:LONGEST_PATH],
                None,
                "",
                call.inbound.service,
                "",
                "" if hop is None else hop.record.endpoint,
                request.principal,
                call.status,
                call.grpc_status,
                call.flags,
                "" if refusal is None else refusal.detail[:LONGEST_WORDS],
                trace_id or _trace_of(request.header),
                "",
                () if hop is None else _attempts(hop.record),
            )
        )

    def calls(self) -> Iterator[RecentCall]:
        """The newest first."""
        for kept in reversed(self._kept.copy()):
            route = kept.resource if kept.rule is None else f"{kept.resource or 'default route'} http[{kept.rule}]"
            if kept.rule == -1:
                route = "default route"
            yield {
                "number": kept.number,
                "at": round(kept.at, 3),
                "ms": round(kept.ms, 3),
                "direction": kept.direction,
                "protocol": kept.protocol,
                "method": kept.method,
                "authority": kept.authority,
                "path": kept.path,
                "route": route,
                "rule_name": "" if kept.rule == -1 else kept.rule_name,
                "host": kept.host,
                "subset": kept.subset,
                "endpoint": kept.endpoint,
                "principal": kept.principal,
                "status": kept.status,
                "grpc_status": kept.grpc_status,
                "flags": kept.flags,
                "detail": kept.detail,
                "trace_id": kept.trace_id,
                "config_version": kept.version,
                "attempts": [
                    {
                        "endpoint": endpoint,
                        "status": status,
                        "failure": failure,
                        "detail": detail,
                        "at": None if at is None else round(max(0.0, at), 3),
                        "ms": round(ms, 3),
                    }
                    for endpoint, status, failure, detail, at, ms in kept.attempts
                ],
            }

    def after_fork(self) -> None:
        """In a forked child: the calls are the parent's."""
        self._kept = deque(maxlen=self._kept.maxlen)
        self._number = 0
        self.endpoints = EndpointCounts()


def _attempts(record: Exchange) -> tuple[tuple[str, int, str, str, float | None, float], ...]:
    started = record.started
    return tuple(
        (
            each.endpoint,
            each.status,
            each.failure,
            each.detail[:LONGEST_WORDS],
            (each.ended - started) * 1000.0 - each.ms if each.ended else None,
            each.ms,
        )
        for each in record.attempts[-MOST_ATTEMPTS:]
    )


def _path(path: str, query: str) -> str:
    shown = path if len(path) <= LONGEST_PATH else f"{path[:LONGEST_PATH]}..."
    return f"{shown}?..." if query else shown


def _trace_of(header: Callable[[str], str | None]) -> str:
    """Of the W3C or B3 context of a request: anybody may have written it."""
    _, _, rest = (header("traceparent") or "").partition("-")
    found = rest.partition("-")[0] or header("x-b3-traceid") or (header("b3") or "").partition("-")[0]
    return found if len(found) in (16, 32) and _HEX.issuperset(found) else ""
