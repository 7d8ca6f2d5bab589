"""The rate limits and quotas of a server (``spec.inbound`` of a ResiliencePolicy), and the sizes that it takes, as checks.

Limits are asked after who asks is known and let in: they count by principals and claims. A limit whose storage does not say in
time lets the request through, and is counted.
"""

from __future__ import annotations

from collections.abc import Generator, Iterable
from typing import TYPE_CHECKING, Protocol, TypeAlias

from meshlib.engine.effects import Peek
from meshlib.policy.rate_limit_headers import RATE_LIMITED, retry_after, x_ratelimit
from meshlib.policy.refusal import Refusal
from meshlib.policy.request_match import compile_matches

if TYPE_CHECKING:
    from meshlib.clock import Clock
    from meshlib.compiler.inbound_protection import Protection, RateLimit
    from meshlib.engine.body_source import BodySource
    from meshlib.engine.check import Asking, Check
    from meshlib.engine.effects import Step
    from meshlib.engine.inbound_admission import Tally
    from meshlib.engine.inbound_request import InboundRequest
    from meshlib.engine.plain_request import PlainRequest
    from meshlib.policy.path_spellings import Normalization
    from meshlib.policy.token_bucket import Limiter, Taken

    Counting: TypeAlias = Generator[Step[PlainRequest], None, Taken | None]


class SharedCounter(Protocol):
    """What counts for a fleet. None: it does not say, in time or at all."""

    def count(self, limit: RateLimit, key: str) -> Counting: ...


TOO_LARGE = Refusal(413, "Payload Too Large", None, "", "request_payload_too_large")
HEADERS_TOO_LARGE = Refusal(431, "Request Header Fields Too Large", None, "", "request_headers_too_large")
RESOURCE_EXHAUSTED = 8


class BoundLimit:
    """One limit at work: ``limiter`` in this process, or ``shared``."""

    __slots__ = ("key", "limiter", "settings", "shared", "test")

    def __init__(
        self,
        settings: RateLimit,
        normalization: Normalization,
        limiter: Limiter | None,
        shared: SharedCounter | None,
    ) -> None:
        self.settings = settings
        self.test = compile_matches(settings.matches, normalization)
        self.key = settings.key.compile()
        self.limiter = limiter
        self.shared = shared


def whole_body_check(max_body: int) -> Check:
    """Where nobody can count a body as it streams, and it does not say how long it is: up to what may come is read before the
    application is called."""

    def check(request: InboundRequest) -> Asking | None:
        source = request.body_source
        return None if source is None else peeked(source)

    def peeked(source: BodySource) -> Asking:
        peek = Peek(source, max_body + 1)
        yield peek
        return None if peek.ended and len(peek.head) <= max_body else TOO_LARGE

    return check


class RateLimits:
    """Limits at work, asked in order; those in this process first: they cost nothing, and what they refuse nobody else is asked
    about."""

    __slots__ = ("_clock", "_grpc_status", "_local", "_shared", "_tally", "_told")

    def __init__(self, settings: Protection, limits: Iterable[BoundLimit], clock: Clock, tally: Tally) -> None:
        self._local = [limit for limit in limits if limit.shared is None]
        self._shared = [limit for limit in limits if limit.shared is not None]
        self._clock = clock
        self._tally = tally
        self._grpc_status = RESOURCE_EXHAUSTED if settings.resource_exhausted else None
        self._told = settings.x_headers

    @property
    def checks(self) -> tuple[Check, ...]:
        """What to ask of a request."""
        checks: list[Check] = [self.here] if self._local else []
        return (*checks, self.elsewhere) if self._shared else tuple(checks)

    @property
    def asks_others(self) -> bool:
        """Whether there is something to ask beside ``here``."""
        return bool(self._shared)

    def here(self, request: InboundRequest, key: str | None = None) -> Refusal | None:
        """What limits in this process say; ``key`` in place of those that they read of the request."""
        now = self._clock.monotonic()
        for limit in self._local:
            if limit.test is None or limit.test(request):
                assert limit.limiter is not None
                taken = limit.limiter.take(limit.key(request) if key is None else key, now)
                refusal = self._verdict(limit, taken, request)
                if refusal is not None:
                    return refusal
        return None

    def elsewhere(self, request: InboundRequest, key: str | None = None) -> Asking:
        """What those say that count for a fleet."""
        for limit in self._shared:
            if limit.test is None or limit.test(request):
                assert limit.shared is not None
                taken = yield from limit.shared.count(limit.settings, limit.key(request) if key is None else key)
                if taken is None:
                    self._tally.note(limit.settings.kind, "failed open", limit.settings.shadow)
                    continue
                refusal = self._verdict(limit, taken, request)
                if refusal is not None:
                    return refusal
        return None

    def _verdict(self, limit: BoundLimit, taken: Taken, request: InboundRequest) -> Refusal | None:
        wanted, told = limit.settings, self._told
        if not taken.allowed and self._tally.note(wanted.kind, "refused", wanted.shadow):
            untell(request.for_caller)
            headers = (retry_after(taken.retry_after), *RATE_LIMITED)
            if told:
                headers += x_ratelimit(taken, wanted.rate)
            detail = f"rate_limited[{wanted.name}]"
            body = "local_rate_limited" if limit.shared is None else ""
            return Refusal(429, body, self._grpc_status, "RL", detail, headers)
        if told and not wanted.shadow:
            _tell(request.for_caller, taken, wanted)
        return None


def _tell(for_caller: list[tuple[bytes, bytes]], taken: Taken, limit: RateLimit) -> None:
    """The caller is told of the limit that he is nearest to."""
    for at, (name, value) in enumerate(for_caller):
        if name == b"x-ratelimit-remaining":
            if int(value) <= taken.remaining:
                return
            del for_caller[at - 1 : at + 2]
            break
    for_caller += x_ratelimit(taken, limit.rate)


def untell(for_caller: list[tuple[bytes, bytes]]) -> None:
    """Who is refused is told of the limit that refuses him, and of no other."""
    for_caller[:] = [pair for pair in for_caller if not pair[0].startswith(b"x-ratelimit-")]


def size_check(settings: Protection) -> Check | None:
    """Refuses a request whose header is too large, or that says its body is; None where there is no limit. What a body comes to
    as it streams is counted by ``InboundCall.received``."""
    max_header, max_body = settings.max_header, settings.max_body
    if not max_header and max_body is None:
        return None

    def check(request: InboundRequest) -> Refusal | None:
        if max_header and request.header_bytes() > max_header:
            return HEADERS_TOO_LARGE
        if max_body is not None:
            length = request.header("content-length")
            if length is not None and length.isascii() and length.isdigit() and int(length[:20]) > max_body:
                return TOO_LARGE
        return None

    return check
