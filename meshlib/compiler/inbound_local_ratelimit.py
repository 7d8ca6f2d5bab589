"""``envoy.filters.http.local_ratelimit`` on the way in, as EnvoyFilters configure it."""

from __future__ import annotations

from dataclasses import dataclass

from meshlib.compiler.envoy_rate_limits import Fraction, Say, fraction_of, headers_of, rate_limits_of
from meshlib.compiler.envoy_values import Message, NotActedOn
from meshlib.policy.local_rate_limit import DescriptorBucket, LocalRateLimit
from meshlib.policy.rate_limit_actions import RateLimitActions
from meshlib.policy.regex import wire
from meshlib.policy.token_bucket import Rate

LOCAL_RATELIMIT = "envoy.filters.http.local_ratelimit"
TYPE = "envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
LEAST_INTERVAL = 0.05


@dataclass(frozen=True, slots=True)
class LocalRateLimitFilter:
    """One at work on a port: ``first``: it stands where it is not known yet who asks. ``enabled``: of so many requests so many
    are counted; ``enforced``: of those that are too many so many are refused."""

    first: bool
    limits: LocalRateLimit
    actions: tuple[RateLimitActions, ...]
    enabled: Fraction
    enforced: Fraction
    status: int = 429
    resource_exhausted: bool = False
    response_headers: tuple[tuple[bytes, bytes], ...] = ()
    request_headers: tuple[tuple[bytes, bytes], ...] = ()
    x_headers: bool = False
    per_connection: bool = False


def local_rate_limit(
    config: Message,
    first: bool,
    of_route: tuple[RateLimitActions, ...],
    of_host: tuple[RateLimitActions, ...],
    say: Say,
) -> LocalRateLimitFilter | None:
    """The filter; None when it limits nothing. ``of_route`` and ``of_host`` are the rate limits that routes have beside it.
    Raises ``NotActedOn``."""
    config.has("stat_prefix")
    enabled = fraction_of(config, "filter_enabled", (0, 100))
    enforced = fraction_of(config, "filter_enforced", (0, 100))
    bucket = config.message("token_bucket")
    descriptors = tuple(map(_descriptor, config.messages("descriptors")))
    if len({d.entries for d in descriptors}) < len(descriptors):
        raise NotActedOn("two of its descriptors are the same, which Envoy refuses")
    status = config.message("status")
    code = 429 if status is None else status.whole("code", 429, 0, 599)
    stage = config.whole("stage", 0, 0, 10)
    own = rate_limits_of(config, say)
    vh = config.choice("vh_rate_limits", ("OVERRIDE", "INCLUDE", "IGNORE"))
    if own:
        actions = own
    elif vh == "INCLUDE":
        actions = of_route + of_host
    else:
        actions = of_route or (of_host if vh == "OVERRIDE" else ())
    if config.message("local_cluster_rate_limit") is not None:
        say("local_cluster_rate_limit: each process has all tokens, none knows how many there are")
    made = LocalRateLimitFilter(
        first,
        LocalRateLimit(
            None if bucket is None else rate_of(bucket),
            descriptors,
            config.flag("always_consume_default_token_bucket", True),
            config.whole("max_dynamic_descriptors", 20),
        ),
        tuple(limit for limit in actions if own or limit.stage == stage) if descriptors else (),
        enabled,
        enforced,
        code if code >= 400 else 429,
        config.flag("rate_limited_as_resource_exhausted"),
        headers_of(config, "response_headers_to_add", say),
        headers_of(config, "request_headers_to_add_when_not_enforced", say),
        config.choice("enable_x_ratelimit_headers", ("OFF", "DRAFT_VERSION_03")) != "OFF",
        config.flag("local_rate_limit_per_downstream_connection"),
    )
    rest = config.rest()
    if rest:
        say(f"{', '.join(rest)} of LocalRateLimit")
    if not enabled[0] or (bucket is None and not descriptors):
        return None
    return made


def _descriptor(message: Message) -> DescriptorBucket:
    entries = tuple((wire(e.text("key")), wire(e.text("value"))) for e in message.messages("entries"))
    bucket = message.message("token_bucket")
    if not entries or bucket is None:
        raise NotActedOn(f"{message.where} needs entries and token_bucket")
    return DescriptorBucket(entries, rate_of(bucket), message.flag("shadow_mode"))


def rate_of(bucket: Message) -> Rate:
    """A TokenBucket. Raises ``NotActedOn``."""
    most, each = bucket.whole("max_tokens"), bucket.whole("tokens_per_fill", 1)
    interval = bucket.seconds("fill_interval")
    if interval is None or interval < LEAST_INTERVAL:
        raise NotActedOn(f"{bucket.where}.fill_interval is at least 50ms, for Envoy too")
    return Rate(each, interval, most)
