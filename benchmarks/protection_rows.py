"""What a server's own protection costs a request."""

from __future__ import annotations

from benchmarks.measure import Row, cost_of
from meshlib.clock import SystemClock
from meshlib.compiler.inbound_protection import Protection, RateLimit
from meshlib.engine.inbound_admission import Tally
from meshlib.engine.inbound_limits import BoundLimit, RateLimits
from meshlib.engine.inbound_request import InboundRequest
from meshlib.policy.request_key import RequestKey
from meshlib.policy.token_bucket import Limiter, Rate

PLENTY = Rate(10**9, 1.0, 10**9)


def rate_limits(quick: bool) -> list[Row]:
    """A take from one of 10,000 buckets, and a whole limit by a header as a check."""
    calls = 5_000 if quick else 50_000
    limiter = Limiter(PLENTY)
    for number in range(10_000):
        limiter.take(f"user-{number}", 0.0)
    take = cost_of(lambda: limiter.take("user-5000", 1.0), calls)
    limit = RateLimit("bench", "rateLimits", (), RequestKey("header", "x-api-key"), PLENTY)
    bound = BoundLimit(limit, "BASE", limiter, None)
    (check,) = RateLimits(Protection("bench"), [bound], SystemClock(), Tally("", None)).checks
    request = InboundRequest("GET", "/", [("x-api-key", "user-5000")])
    checked = cost_of(lambda: check(request), calls)
    return [
        Row("rate limit: a take, 10,000 keys / json.loads", take.json, "x", 0.5, details=f"{take.us:.2f} us"),
        Row("rate limit: the check by a header / json.loads", checked.json, "x", details=f"{checked.us:.2f} us"),
    ]
