"""Retries (VirtualService ``retries``): which results are tried again, how long to wait before.

Conditions and their meaning are Envoy's ``x-envoy-retry-on`` and ``x-envoy-retry-grpc-on``; defaults are Istio's.
"""

from __future__ import annotations

import functools
import random
from collections.abc import Callable
from dataclasses import dataclass, replace
from operator import itemgetter
from typing import TYPE_CHECKING

from meshlib.policy.unsigned import milliseconds, unsigned

if TYPE_CHECKING:
    from tenacity import RetryCallState, Retrying

    from meshlib.policy.header_ops import Headers, RawHeaders

CONNECT_FAILURE = 1
REFUSED_STREAM = 2
RESET = 4
RESET_BEFORE_REQUEST = 8
GATEWAY_ERROR = 16
ANY_5XX = 32
RETRIABLE_4XX = 64
STATUS_CODES = 128
ENVOY_RATELIMITED = 256
RETRIABLE_HEADERS = 512
HTTP3_POST_CONNECT_FAILURE = 1024
GRPC_CANCELLED = 1 << 16
GRPC_DEADLINE_EXCEEDED = 1 << 17
GRPC_INTERNAL = 1 << 18
GRPC_RESOURCE_EXHAUSTED = 1 << 19
GRPC_UNAVAILABLE = 1 << 20

HTTP_CONDITIONS = {
    "connect-failure": CONNECT_FAILURE,
    "refused-stream": REFUSED_STREAM,
    "reset": RESET,
    "reset-before-request": RESET_BEFORE_REQUEST,
    "gateway-error": GATEWAY_ERROR,
    "5xx": ANY_5XX,
    "retriable-4xx": RETRIABLE_4XX,
    "retriable-status-codes": STATUS_CODES,
    "envoy-ratelimited": ENVOY_RATELIMITED,
    "retriable-headers": RETRIABLE_HEADERS,
    "http3-post-connect-failure": HTTP3_POST_CONNECT_FAILURE,
}
GRPC_CONDITIONS = {
    "cancelled": GRPC_CANCELLED,
    "deadline-exceeded": GRPC_DEADLINE_EXCEEDED,
    "internal": GRPC_INTERNAL,
    "resource-exhausted": GRPC_RESOURCE_EXHAUSTED,
    "unavailable": GRPC_UNAVAILABLE,
}
CONDITIONS = {**HTTP_CONDITIONS, **GRPC_CONDITIONS}
_GRPC_BIT_OF_STATUS = {
    b"1": GRPC_CANCELLED,
    b"4": GRPC_DEADLINE_EXCEEDED,
    b"8": GRPC_RESOURCE_EXHAUSTED,
    b"13": GRPC_INTERNAL,
    b"14": GRPC_UNAVAILABLE,
}
_name = itemgetter(0)
_GRPC_BITS = GRPC_CANCELLED | GRPC_DEADLINE_EXCEEDED | GRPC_INTERNAL | GRPC_RESOURCE_EXHAUSTED | GRPC_UNAVAILABLE
BELOW_500 = _GRPC_BITS | RETRIABLE_4XX | STATUS_CODES
"""Conditions that a response below 500 may meet."""

_ANY_RESET = ANY_5XX | GATEWAY_ERROR | RESET
_BITS_OF_FAILURE = {
    "CONNECT_FAILED": CONNECT_FAILURE | _ANY_RESET | RESET_BEFORE_REQUEST,
    "CONNECT_TIMEOUT": CONNECT_FAILURE | _ANY_RESET | RESET_BEFORE_REQUEST,
    "RESET": _ANY_RESET,
    "PROTOCOL_ERROR": _ANY_RESET,
    "REFUSED": REFUSED_STREAM | _ANY_RESET,
    "TIMEOUT": _ANY_RESET,  # an expired perTryTimeout; the route's own timeout is never retried
}
"""The conditions that each failure meets, by the engine's name for it. Others (overflow, the caller's own) meet none."""


@dataclass(frozen=True, slots=True)
class RetryOn:
    """A parsed ``retryOn``: condition bits and the HTTP codes listed among them."""

    bits: int
    codes: frozenset[int] = frozenset()

    @property
    def text(self) -> str:
        names = [name for name, bit in CONDITIONS.items() if bit & self.bits and bit != STATUS_CODES]
        return ",".join([*names, *(str(code) for code in sorted(self.codes))])


@functools.lru_cache(maxsize=256)
def parse_retry_on(text: str) -> RetryOn:
    """``"5xx,reset,503"`` -> RetryOn. Raises ValueError naming an unknown condition."""
    bits = 0
    codes = set()
    for raw in text.split(","):
        token = raw.strip()
        if not token:
            continue
        code = unsigned(token.removeprefix("+"))
        if code is not None:
            codes.add(code)
            bits |= STATUS_CODES
        elif token in CONDITIONS:
            bits |= CONDITIONS[token]
        else:
            raise ValueError(f"unknown retry condition {token!r}; known: {', '.join(CONDITIONS)} or an HTTP status")
    return RetryOn(bits, frozenset(codes))


ISTIO_DEFAULT = parse_retry_on("connect-failure,refused-stream,unavailable,cancelled")


@dataclass(frozen=True, slots=True)
class RetryPolicy:
    """``attempts`` counts retries, not tries. Times in seconds. Backoff before retry N is uniform in
    [0, min(backoff_base * 2**(N-1), backoff_max))."""

    attempts: int = 2
    retry_on: RetryOn = ISTIO_DEFAULT
    per_try_timeout: float | None = None
    backoff_base: float = 0.025
    backoff_max: float = 0.25
    ignore_previous_hosts: bool = True
    remote_localities: bool = False

    @property
    def text(self) -> str:
        """For people: ``2 retries on connect-failure,refused-stream``."""
        if not self.attempts:
            return "no retries"
        text = f"{self.attempts} retr{'y' if self.attempts == 1 else 'ies'} on {self.retry_on.text}"
        return text if self.per_try_timeout is None else f"{text}, {self.per_try_timeout:g} s per try"


NO_RETRY = RetryPolicy(attempts=0, retry_on=RetryOn(0))
"""A route without a retry policy: nothing is tried again, unless the caller's own headers ask for it."""


_NONE: RawHeaders = []


def should_retry(
    policy: RetryPolicy,
    *,
    failure: str | None,
    status: int,
    headers: Headers = _NONE,
    global_timeout: bool = False,
) -> bool:
    """Whether the policy's conditions ask for another try after this result; the caller counts tries and budgets.

    ``failure`` is the engine's name of a failure, or None with an HTTP ``status`` and its raw ``headers``.
    """
    if failure is not None:
        return not global_timeout and bool(policy.retry_on.bits & _BITS_OF_FAILURE.get(failure, 0))
    return asks_for_retry(policy, status, headers)


def asks_for_retry(policy: RetryPolicy, status: int, headers: Headers) -> bool:
    """The same of a response."""
    conditions = policy.retry_on
    bits = conditions.bits
    if status >= 500:
        if bits & (ANY_5XX | GATEWAY_ERROR):
            hit = bool(bits & ANY_5XX) or status in (502, 503, 504)
            if hit and (bits & ENVOY_RATELIMITED or not _has(headers, b"x-envoy-ratelimited")):
                return True
    elif status == 409 and bits & RETRIABLE_4XX:
        return True
    if bits & _GRPC_BITS:
        # trailers-only responses carry grpc-status among the headers; a status in real trailers comes too late to retry
        if isinstance(headers, list):
            if not headers:  # of most calls of gRPC
                return bits & STATUS_CODES != 0 and status in conditions.codes
            names = list(map(bytes.lower, map(_name, headers)))  # no step of bytecode a header
            if b"grpc-status" in names:
                value = headers[names.index(b"grpc-status")][1]
                if bits & _GRPC_BIT_OF_STATUS.get(value.strip(), 0):
                    return True
        elif (said := headers.values(b"grpc-status")) and bits & _GRPC_BIT_OF_STATUS.get(said[0], 0):
            return True
    return bits & STATUS_CODES != 0 and status in conditions.codes


def _has(headers: Headers, wanted: bytes) -> bool:
    if not isinstance(headers, list):
        return bool(headers.values(wanted))
    return any(name.lower() == wanted for name, _ in headers)


def merge_request_headers(policy: RetryPolicy, header: Callable[[str], str | None]) -> RetryPolicy:
    """The policy with what the caller's x-envoy-* request headers add to it (Envoy's internal-request rules):
    conditions are OR-ed in, x-envoy-max-retries replaces the count."""
    on = header("x-envoy-retry-on")
    grpc_on = header("x-envoy-retry-grpc-on")
    most = header("x-envoy-max-retries")
    codes = header("x-envoy-retriable-status-codes")
    if on is None and grpc_on is None and most is None and codes is None:
        return policy
    bits = policy.retry_on.bits
    wanted = set(policy.retry_on.codes)
    for text in (on, grpc_on):
        for token in (text or "").split(","):  # Envoy ignores conditions that it does not know here
            bits |= CONDITIONS.get(token.strip(), 0)
    wanted.update(code for text in (codes or "").split(",") if (code := unsigned(text)) is not None)
    attempts = policy.attempts
    asked = unsigned(most)
    if asked is not None and bits:
        attempts = asked
    elif on is not None or grpc_on is not None:
        attempts = max(attempts, 1)
    return replace(policy, attempts=attempts, retry_on=RetryOn(bits, frozenset(wanted)))


ASKED = (
    "x-envoy-retry-on",
    "x-envoy-retry-grpc-on",
    "x-envoy-max-retries",
    "x-envoy-retriable-status-codes",
    "x-envoy-upstream-rq-timeout-ms",
    "x-envoy-upstream-rq-per-try-timeout-ms",
)
"""Request headers that are for the proxy and go no further."""


def asked_timeouts(header: Callable[[str], str | None]) -> tuple[float | None, float | None]:
    """Seconds for the whole call and for one try, as the caller's request headers ask (Envoy's
    x-envoy-upstream-rq-timeout-ms and -per-try-timeout-ms); None where they do not."""
    whole = milliseconds(header("x-envoy-upstream-rq-timeout-ms"))
    return whole, milliseconds(header("x-envoy-upstream-rq-per-try-timeout-ms"))


def backoff(
    policy: RetryPolicy, retry: int, rng: random.Random, wait: Callable[[RetryCallState], float] | None
) -> float:
    """Seconds to wait before retry number ``retry`` (from 1). ``wait`` is a tenacity strategy that replaces the route's
    own; without one, the ceiling is tenacity's ``wait_exponential`` and the jitter ours, so that a seed replays it."""
    state = _call_state(retry)
    if wait is not None:
        return max(0.0, float(wait(state)))
    return rng.uniform(0.0, _ceiling(policy.backoff_base, policy.backoff_max)(state))


@functools.lru_cache(maxsize=256)
def _ceiling(base: float, most: float) -> Callable[[RetryCallState], float]:
    from tenacity import wait_exponential  # 27 ms to import: only a process that retries pays

    return wait_exponential(multiplier=base, exp_base=2, max=most)


def _call_state(attempt: int) -> RetryCallState:
    from tenacity import RetryCallState

    state = RetryCallState(retry_object=_retrying(), fn=None, args=(), kwargs={})
    state.attempt_number = attempt
    return state


@functools.cache
def _retrying() -> Retrying:
    from tenacity import Retrying

    return Retrying()
