"""``envoy.filters.http.ratelimit`` on the way in, as EnvoyFilters configure it: a rate-limit service counts for a fleet."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from meshlib.compiler.envoy_rate_limits import ALL, Fraction, Say, fraction_of, headers_of, rate_limits_of
from meshlib.compiler.envoy_values import Message, NotActedOn
from meshlib.policy.rate_limit_actions import RateLimitActions

RATELIMIT = "envoy.filters.http.ratelimit"
TYPE = "envoy.extensions.filters.http.ratelimit.v3.RateLimit"
TIMEOUT = 0.02
"""Seconds, Envoy's default."""

Place = tuple[str, int]
"""Host and port of a rate-limit service."""


@dataclass(frozen=True, slots=True)
class RateLimitFilter:
    """One at work on a port. ``deny``: requests are refused with ``error_status`` when the service does not say, in ``timeout``
    seconds."""

    first: bool
    domain: str
    place: Place
    actions: tuple[RateLimitActions, ...]
    timeout: float = TIMEOUT
    deny: bool = False
    enabled: Fraction = ALL
    enforced: Fraction = ALL
    status: int = 429
    error_status: int = 500
    resource_exhausted: bool = False
    response_headers: tuple[tuple[bytes, bytes], ...] = ()
    tells: bool = True  # x-envoy-ratelimited
    x_headers: bool = False


def global_rate_limit(
    config: Message,
    first: bool,
    of_route: tuple[RateLimitActions, ...],
    of_host: tuple[RateLimitActions, ...],
    clusters: Mapping[str, Place],
    say: Say,
) -> RateLimitFilter | None:
    """The filter; None where no request is counted. Raises ``NotActedOn``."""
    for name in ("stat_prefix", "metadata_namespace"):
        config.has(name)
    if config.text("request_type", "both") not in ("", "both"):
        raise NotActedOn("request_type: there is no telling internal from external requests here")
    domain = config.text("domain")
    service = config.message("rate_limit_service")
    if not domain or service is None:
        raise NotActedOn("domain and rate_limit_service are needed")
    service.has("transport_api_version")
    grpc = service.message("grpc_service")
    envoy = None if grpc is None else grpc.message("envoy_grpc")
    if envoy is None:
        raise NotActedOn("rate_limit_service.grpc_service.envoy_grpc names no cluster")
    place = place_of(envoy.text("cluster_name"), clusters)
    stage = config.whole("stage", 0, 0, 10)
    own = rate_limits_of(config, say)
    actions = own or of_route or of_host
    status, on_error = config.message("rate_limited_status"), config.message("status_on_error")
    code = 429 if status is None else status.whole("code", 429, 0, 599)
    timeout = config.seconds("timeout")
    if config.message("failure_mode_deny_percent") is not None:
        say("failure_mode_deny_percent: failure_mode_deny decides for all requests")
    made = RateLimitFilter(
        first,
        domain,
        place,
        tuple(limit for limit in actions if own or limit.stage == stage),
        timeout or TIMEOUT,
        config.flag("failure_mode_deny"),
        fraction_of(config, "filter_enabled", ALL),
        fraction_of(config, "filter_enforced", ALL),
        code if code >= 400 else 429,
        500 if on_error is None else on_error.whole("code", 500, 0, 599),
        config.flag("rate_limited_as_resource_exhausted"),
        headers_of(config, "response_headers_to_add", say),
        not config.flag("disable_x_envoy_ratelimited_header"),
        config.choice("enable_x_ratelimit_headers", ("OFF", "DRAFT_VERSION_03")) != "OFF",
    )
    rest = config.rest()
    if rest:
        say(f"{', '.join(rest)} of RateLimit")
    return made if made.actions and made.enabled[0] else None


def place_of(cluster: str, clusters: Mapping[str, Place]) -> Place:
    """Where a cluster leads: of Istio's own (``outbound|8081||ratelimit.default.svc.cluster.local``), or one that a patch of
    CLUSTER adds. Raises ``NotActedOn``."""
    parts = cluster.split("|")
    if len(parts) == 4 and parts[0] == "outbound" and parts[1].isdigit() and parts[3]:
        return parts[3].lower(), int(parts[1])
    if cluster not in clusters:
        raise NotActedOn(f"cluster {cluster!r} is neither Istio's (outbound|PORT||HOST) nor added by a CLUSTER patch")
    return clusters[cluster]


def added_cluster(value: Message) -> tuple[str, Place]:
    """Name and place of a Cluster that a patch adds. Raises ``NotActedOn``."""
    assignment = value.message("load_assignment")
    for locality in [] if assignment is None else assignment.messages("endpoints"):
        for entry in locality.messages("lb_endpoints"):
            endpoint = entry.message("endpoint")
            address = None if endpoint is None else endpoint.message("address")
            socket = None if address is None else address.message("socket_address")
            if socket is not None:
                return value.text("name"), (socket.text("address"), socket.whole("port_value", 0, 1, 65535))
    raise NotActedOn("a cluster without an endpoint that has an address and a port")
