"""Responses made here instead of upstream: Envoy's status, body, headers and flag for each cause."""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.engine.outcome import Failure, Outcome
from meshlib.policy.header_ops import RawHeaders

if TYPE_CHECKING:
    from meshlib.engine.explanation import Exchange

_PREFIX = "upstream connect error or disconnect/reset before headers. reset reason: "
_RETRIED = "upstream connect error or disconnect/reset before headers. retried and the latest reset reason: "
_TEXT = (b"content-type", b"text/plain")

FLAG_OF_FAILURE = {
    Failure.CONNECT_FAILED: "UF",
    Failure.CONNECT_TIMEOUT: "UF",
    Failure.RESET: "UC",
    Failure.REFUSED: "UR",
    Failure.PROTOCOL_ERROR: "UPE",
    Failure.TIMEOUT: "UT",
    Failure.OVERFLOW: "UO",
    Failure.POOL_TIMEOUT: "DC",
    Failure.WRITE_TIMEOUT: "DC",
    Failure.CLOSED: "UC",
}


def reply(status: int, body: str = "", extra: RawHeaders | None = None, detail: str = "", lack: str = "") -> Outcome:
    """A whole response with Envoy's headers for local replies. ``lack``: of what has no endpoints, the sentence that is the
    response's reason phrase, which ``raise_for_status`` shows; the body is Envoy's."""
    data = body.encode()
    headers: RawHeaders = [(b"content-length", b"%d" % len(data)), _TEXT] if data else [(b"content-length", b"0")]
    reason = "".join(c if " " <= c <= "~" else "?" for c in lack).encode("ascii") if lack else b""
    return Outcome(status=status, reason=reason, headers=[*(extra or []), *headers], whole=data, detail=detail)


def no_route() -> Outcome:
    """A virtual host, and no rule that matches: 404, flag NR."""
    return reply(404, detail="route_not_found")


def blocked() -> Outcome:
    """A host outside the registry under REGISTRY_ONLY: 502."""
    return reply(502, detail="direct_response")


def no_cluster(lack: str = "") -> Outcome:
    """The destination's host, subset or port does not exist: 503, flag NC."""
    return reply(503, detail="cluster_not_found", lack=lack)


def no_healthy_upstream(lack: str = "") -> Outcome:
    """The cluster has no usable endpoint: 503, flag UH."""
    return reply(503, "no healthy upstream", detail="no_healthy_upstream", lack=lack)


def overflow() -> Outcome:
    """A connection-pool limit is reached: 503, flag UO."""
    return reply(503, _PREFIX + "overflow", [(b"x-envoy-overloaded", b"true")], "overflow")


def preflight(headers: RawHeaders) -> Outcome:
    """A cross-origin preflight, allowed (or not: then without any permission): 200."""
    return reply(200, extra=headers, detail="cors_response")


_REFUSALS = {
    "circuitBreaker": "circuit breaker open",
    "bulkhead": "bulkhead full",
    "adaptiveConcurrency": "reached concurrency limit",  # Envoy's words
}


def refused(mechanism: str) -> Outcome:
    """A ResiliencePolicy does not let the call through: 503, flag UO, as an overload that the caller should respect."""
    return reply(503, _REFUSALS[mechanism], [(b"x-envoy-overloaded", b"true")], mechanism)


def refused_to_connect(record: Exchange, why: str) -> Outcome:
    """The TLS that a policy requires cannot be established, and plaintext is not allowed: a connect failure, flag UF."""
    record.add_flag("UF")
    return Outcome(Failure.CONNECT_FAILED, why)


def fault_abort(status: int, grpc_status: int | None = None) -> Outcome:
    """An injected fault, flag FI; ``grpc_status`` for callers that speak gRPC, where the fault names one."""
    made = reply(status, "fault filter abort", detail="fault_filter_abort")
    made.grpc_status = grpc_status
    return made


_RESET_REASON = {
    Failure.CONNECT_FAILED: "remote connection failure",
    Failure.CONNECT_TIMEOUT: "connection timeout",
    Failure.RESET: "connection termination",
    Failure.REFUSED: "remote refused stream reset",
    Failure.PROTOCOL_ERROR: "protocol error",
}


def for_failure(outcome: Outcome, retried: bool = False) -> Outcome:
    """What Envoy would have answered for a failure of the network (``local_replies="respond"``)."""
    failure = outcome.failure
    prefix = _RETRIED if retried else _PREFIX
    if failure is Failure.TIMEOUT:
        return reply(504, "upstream request timeout", detail=outcome.detail)
    if failure is Failure.OVERFLOW:
        return overflow()
    if failure is Failure.PROTOCOL_ERROR:
        return reply(502, prefix + _RESET_REASON[failure], detail=outcome.detail)
    if failure is Failure.INVALID_REQUEST:  # no upstream has had a part in it
        return reply(503, "invalid request", detail=outcome.detail)
    text = _RESET_REASON.get(failure, "connection termination") if failure is not None else ""
    return reply(503, prefix + text, detail=outcome.detail)
