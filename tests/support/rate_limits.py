"""EnvoyFilters' patches that limit rates, as people write them."""

from __future__ import annotations

from typing import Any

LOCAL = "envoy.filters.http.local_ratelimit"
LOCAL_TYPE = "type.googleapis.com/envoy.extensions.filters.http.local_ratelimit.v3.LocalRateLimit"
ALL = {"runtime_key": "all", "default_value": {"numerator": 100, "denominator": "HUNDRED"}}


def bucket(tokens: int, each: str = "60s") -> dict[str, Any]:
    return {"max_tokens": tokens, "fill_interval": each}


def local(default: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"stat_prefix": "x", "token_bucket": default, "filter_enabled": ALL, "filter_enforced": ALL, **more}


def insert(
    config: dict[str, Any],
    operation: str = "INSERT_BEFORE",
    neighbour: str | None = None,
    *,
    context: str = "SIDECAR_INBOUND",
    name: str = LOCAL,
    kind: str = LOCAL_TYPE,
) -> dict[str, Any]:
    """A patch of HTTP_FILTER."""
    manager: dict[str, Any] = {"name": "envoy.filters.network.http_connection_manager"}
    if neighbour is not None:
        manager["subFilter"] = {"name": neighbour}
    return {
        "applyTo": "HTTP_FILTER",
        "match": {"context": context, "listener": {"filterChain": {"filter": manager}}},
        "patch": {"operation": operation, "value": {"name": name, "typed_config": {"@type": kind, **config}}},
    }


def route(
    config: dict[str, Any] | None,
    rate_limits: list[dict[str, Any]],
    *,
    vhost: str | None = None,
    name: str = "",
    operation: str = "MERGE",
    apply_to: str = "HTTP_ROUTE",
    extra: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """A patch of HTTP_ROUTE or VIRTUAL_HOST."""
    match: dict[str, Any] = {"context": "SIDECAR_INBOUND"}
    if vhost is not None or name:
        host: dict[str, Any] = {"route": {"action": "ANY", **({"name": name} if name else {})}}
        match["routeConfiguration"] = {"vhost": {**host, **({"name": vhost} if vhost else {})}}
    value: dict[str, Any] = {**(extra or {})}
    if rate_limits:
        value.update(
            {"route": {"rate_limits": rate_limits}} if apply_to == "HTTP_ROUTE" else {"rate_limits": rate_limits}
        )
    if config is not None:
        value["typed_per_filter_config"] = {LOCAL: {"@type": LOCAL_TYPE, **config}}
    return {"applyTo": apply_to, "match": match, "patch": {"operation": operation, "value": value or {"name": "x"}}}
