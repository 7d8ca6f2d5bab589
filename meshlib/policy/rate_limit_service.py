"""Envoy's rate-limit service: ``envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit``. The numbers of fields are those
of Envoy's rls.proto and ratelimit.proto."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from meshlib.policy.ext_authz import FRAMING, Change, what_is_wrong
from meshlib.policy.protobuf import Message, message, number, text
from meshlib.policy.rate_limit_actions import Descriptor
from meshlib.policy.token_bucket import Rate

METHOD = "/envoy.service.ratelimit.v3.RateLimitService/ShouldRateLimit"
OK, OVER_LIMIT = 1, 2
UNITS = {1.0: 1, 60.0: 2, 3600.0: 3, 86400.0: 4}
"""By seconds, the units of a rate. Those of what the service says also have 5, a month, 6, a year, and 7, a week."""
_SECONDS = {1: 1, 2: 60, 3: 3600, 4: 86400, 5: 2_592_000, 6: 31_536_000, 7: 604_800}
MOST_BODY = 64 * 1024


@dataclass(frozen=True, slots=True)
class Status:
    """What the service says of one descriptor: ``requests`` of each ``seconds``, of which ``remaining`` are left until so many
    seconds (``reset``) from now."""

    requests: int
    seconds: int
    remaining: int
    reset: float
    over: bool
    name: str = ""


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a request is ``over`` a limit; ``statuses`` of the descriptors that have one; headers for the caller and for the
    application; the ``body`` of a refusal."""

    over: bool
    statuses: tuple[Status, ...] = ()
    for_caller: tuple[tuple[bytes, bytes], ...] = ()
    for_application: tuple[tuple[str, bytes], ...] = ()
    body: bytes = b""

    @property
    def nearest(self) -> Status | None:
        """The limit that has least left."""
        return min(self.statuses, key=lambda status: status.remaining, default=None)


def request(domain: str, descriptors: Sequence[tuple[Descriptor, int]], rate: Rate | None = None) -> bytes:
    """The RateLimitRequest. ``rate``: what the descriptors are limited to, whatever the service has configured, where one of
    the ``UNITS`` can say it."""
    limit = b""
    if rate is not None and rate.per in UNITS:
        limit = message(2, number(1, rate.requests) + number(2, UNITS[rate.per]))
    written = [
        message(2, b"".join([message(1, text(1, key) + text(2, value)) for key, value in entries]) + limit
                + (b"" if hits == 1 else message(3, number(1, hits))))
        for entries, hits in descriptors
    ]  # fmt: skip
    return text(1, domain) + b"".join(written)


def verdict(raw: bytes) -> Verdict | str:
    """What a RateLimitResponse means; as text: why it means nothing, for people."""
    try:
        said = Message(raw)
        code = said.number(1)
        if code not in (OK, OVER_LIMIT):
            return f"it says neither that the request is within its limits nor that it is not, but {code}"
        # what is not a valid header, or would change what the message is, is left out: the verdict counts all the same
        for_caller, for_application = (
            [change for pair in said.messages(field) if not what_is_wrong(change := _header(pair))] for field in (3, 4)
        )
        statuses = [_status(status) for status in said.messages(2) if status.has(2)]
        return Verdict(
            code == OVER_LIMIT,
            tuple(statuses),
            tuple((c.name.encode("latin-1"), c.value) for c in for_caller if c.name not in FRAMING),
            tuple((c.name, c.value) for c in for_application if c.name not in FRAMING and c.name != "host"),
            said.data(5)[:MOST_BODY],
        )
    except ValueError as error:
        return f"its response is not a valid RateLimitResponse: {error}"


def _header(pair: Message) -> Change:
    name = pair.data(1).decode()  # a text, which must be UTF-8
    return Change(name.encode().decode("latin-1").lower(), pair.data(2) or pair.data(3), "add")


def _status(status: Message) -> Status:
    limit, reset = status.message(2), status.message(4)
    return Status(
        limit.number(1) & 0xFFFF_FFFF,
        _SECONDS.get(limit.number(2), 0),
        status.number(3) & 0xFFFF_FFFF,
        max(0, reset.int32(1)) + max(0, reset.int32(2)) / 1e9,
        status.number(1) == OVER_LIMIT,
        limit.text(3),
    )
